# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `nflowlevel` itself: its help, and what becomes of errors."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import nflowlevel
from nflowlevel import cli
from nflowlevel.archive import engine
from nflowlevel.daemon import main as daemon
from nflowlevel.errors import NflowError


def command(*arguments: str, **popen: object) -> subprocess.CompletedProcess[str]:
    # Buffered as at a shell, whatever the test runs in.
    environment = {**os.environ, "PYTHONPATH": str(Path(nflowlevel.__file__).parents[1]), "PYTHONUNBUFFERED": ""}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "nflowlevel", *arguments],
        env=environment, text=True, timeout=60, check=False, stderr=subprocess.PIPE, **popen,
    )  # fmt: skip


def test_version() -> None:
    done = command("--version", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, f"nflowlevel {nflowlevel.__version__}\n")


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        cli.main(["--help"])
    assert info.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, purpose in cli.COMMANDS.items():
        assert f"{name} {purpose}" in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_its_file_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = {"import": "import_"}.get(name, name.replace("-", "_"))  # a word of Python's names no module
    module = importlib.import_module(f"nflowlevel.cli.{file}")
    assert (module.__doc__ or "").startswith(f"`nflowlevel {name}")
    with pytest.raises(SystemExit) as info:
        cli.main([name, "--help"])
    assert info.value.code == 0
    assert f"usage: nflowlevel {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("tial",), ("tail",), ("describe", "JSON", "more")])
def test_wrong_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        cli.main(arguments)
    assert info.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_only_the_command_that_is_used_is_imported() -> None:
    code = (
        "import sys; from nflowlevel import cli; cli.main(['describe', 'MARK'])\n"
        "heavy = {'nflowlevel.cli.tail', 'nflowlevel.cli.doctor', 'numpy', 'pyarrow', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _fail(error: BaseException) -> object:
    def run(options: object) -> int:
        raise error

    return run


@pytest.mark.parametrize(("error", "status"), [(NflowError("no such thing"), 1), (KeyboardInterrupt(), 130)])
def test_errors_become_a_status(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nflowlevel.cli.describe.run", _fail(error))
    assert cli.main(["describe", "MARK"]) == status
    assert capsys.readouterr().err == ("nflowlevel describe: no such thing\n" if status == 1 else "")


def test_an_interrupted_query_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(options: object) -> int:
        database = engine.connect(str(tmp_path))
        # Who runs the tests in the background ignores it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            database.execute("SELECT SUM(a.range * b.range) FROM range(1000000) AS a, range(10000) AS b")
        finally:
            signal.signal(signal.SIGINT, before)
        return 0

    monkeypatch.setattr("nflowlevel.cli.describe.run", run)
    assert cli.main(["describe", "MARK"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["JSON", "MARK"])  # more, and less, than standard output's buffer holds
def test_a_reader_that_left_is_no_error(name: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = command("describe", name, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# -- standard output that takes nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("describe JSON", "nflowlevel describe"),
        ("describe MARK", "nflowlevel describe"),
        ("--help", "nflowlevel"),
        ("--version", "nflowlevel"),
        ("tail --help", "nflowlevel tail"),
    ],
)
def test_a_full_disk(words: str, name: str) -> None:
    """One message and a failure, where Python would add its own and end with 120."""
    with open("/dev/full", "w") as full:
        done = command(*words.split(), stdout=full)
    assert (done.returncode, done.stderr) == (1, f"{name}: write to standard output: No space left on device\n")


def test_an_error_is_told_though_the_reader_left() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = command("acct", "list", "--netns", "nowhere", stdout=write)
    finally:
        os.close(write)
    assert done.returncode == 1
    assert done.stderr.startswith("nflowlevel acct: enter network namespace nowhere")


def test_a_file_that_cannot_be_read_is_no_standard_output(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = command("check-config", str(tmp_path), stdout=full)
    assert done.returncode == 78
    assert "standard output" not in done.stderr


# -- for generators ---------------------------------------------------------------------------------------------------


def test_get_parser_has_everything() -> None:
    parser = cli.get_parser()
    (commands,) = [action.choices for action in parser._actions if action.dest == "command"]
    assert [*(commands or ())] == [*cli.COMMANDS]
    assert parser.parse_args(["tail", "1", "2"]).groups == [1, 2]
    assert parser.parse_args(["prefilter", "load", "ssh", "--dports", "22"]).dports == "22"


@pytest.mark.parametrize("option", ["-c", "--config", "--configfile"])
@pytest.mark.parametrize("words", ["doctor", "check-config", "sql init", "sql check"])
def test_a_configuration_is_given_alike_everywhere(words: str, option: str) -> None:
    assert cli.get_parser().parse_args([*words.split(), option, "u.conf"]).config == "u.conf"


@pytest.mark.parametrize("option", ["-c", "--config", "--configfile"])
def test_the_daemon_too(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "u.conf"
    file.write_text("[global]\nstack=g:NFLOG,b:BASE,j:JSON\n[g]\ngroup=1\n[j]\nfile=-\n")
    assert daemon.main(["--check-config", option, str(file)]) == 0
    assert cli.main(["check-config", option, str(file)]) == 0
    assert cli.main(["check-config", str(file)]) == 0
    assert capsys.readouterr().out == 3 * f"{file}: no errors; 1 stack\n"


@pytest.mark.parametrize(
    "words",
    [
        ["tail", "1", "--netns", "a-namespace-that-is-not-there-and-has-a-long-name"],
        ["tail", "1", "--no-such-option-" + "of-any-command-" * 2],
    ],
)
def test_on_a_terminal_messages_are_broken_at_blanks(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Tty()
    monkeypatch.setattr(sys, "stderr", shown)
    with contextlib.suppress(SystemExit):
        cli.main(words)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("    ") for line in lines[-2:])
