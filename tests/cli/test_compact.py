# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel compact`: what is taken of a configuration, what is said, exit statuses."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from nflowlevel import cli
from nflowlevel.cli import compact
from nflowlevel.delivery.openfile import OpenFile
from nflowlevel.records.keys import added_key
from nflowlevel.stacks.config import parse_text
from nflowlevel.stacks.stack import build
from tests.fix_archive import SECOND, log, marks, record
from tests.fix_group import run_python

CONFIGURATION = """
[global]
stack=a:NFLOG,b:BASE,j:JSON
stack=a:NFLOG,b:BASE,j:JSON
stack=a:NFLOG,b:BASE,k:JSON
stack=a:NFLOG,b:BASE,t:JSON
[a]
group=1
[j]
file={0}/u.json
[k]
file={0}/v.json
[t]
mode=tcp
file={0}/w.json
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "ulogd.conf"
    path.write_text(CONFIGURATION.format(tmp_path))
    return path


def test_what_the_outputs_were_rotated_to(
    configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "u.json").write_bytes(log(range(900, 910)))
    (tmp_path / "u.json.1").write_bytes(log(range(10)) + b"{\n")
    (tmp_path / "v-20261127.json").write_bytes(log(range(10, 20)))
    (tmp_path / "w.json.1").write_bytes(log(range(20, 30)))
    command = ["compact", "-c", str(configuration), "-o", str(tmp_path / "ar")]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.count("left as it is: it changed") == 2
    assert cli.main([*command, "--min-age", "0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/u.json.1: 10 records in 2 files, 1 damaged line kept apart; removed",
        f"{tmp_path}/v-20261127.json: 10 records in 1 file; removed",
    ]
    assert marks(tmp_path / "ar") == list(range(20))
    assert sorted(path.name for path in tmp_path.glob("*.json*")) == ["u.json", "w.json.1"]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == "there are no closed files\n"


def test_what_our_daemon_rotated_is_taken_at_once(configuration: Path, tmp_path: Path) -> None:
    (tmp_path / "u.json.1").write_bytes(log(range(10)))
    (tmp_path / "v.json.1").write_bytes(log(range(10, 20)))
    file = OpenFile(str(tmp_path / "u.json"))
    try:
        assert cli.main(["compact", "-c", str(configuration), "-o", str(tmp_path / "ar")]) == 0
    finally:
        file.close()
    assert marks(tmp_path / "ar") == list(range(10))
    assert (tmp_path / "v.json.1").exists()


def test_files_and_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(log(range(10)))
    command = ["compact", str(path), "-o", str(tmp_path / "ar"), "--dvc", "fw9", "--keep", "--min-age", "0"]
    assert cli.main(command) == 0
    assert cli.main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 10 records in 1 file",
        f"{path}: was in the archive already",
    ]
    assert os.listdir(tmp_path / "ar" / "kind=packets") == ["dvc=fw9"]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(log(range(10)))
    command = ["compact", f"{tmp_path}/a.json", str(path), "-o", f"{tmp_path}/ar", "--min-age", "0"]
    assert cli.main(command) == 1
    assert capsys.readouterr().err == f"nflowlevel compact: {tmp_path}/a.json: No such file or directory\n"
    assert marks(tmp_path / "ar") == list(range(10))


def test_retention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(record(1) + record(2, **{"oob.time.sec": SECOND + 40 * 365 * 86_400}))
    command = ["compact", str(path), "-o", f"{tmp_path}/ar", "--min-age", "0", "--keep-days", "1"]
    assert cli.main(command) == 0
    assert "1 file of the archive was removed, " in capsys.readouterr().out
    assert marks(tmp_path / "ar") == [2]
    assert cli.main(["compact", str(tmp_path / "x"), "-o", f"{tmp_path}/ar", "--keep-bytes", "0"]) == 1
    assert marks(tmp_path / "ar") == []


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["x.json"], 2, "name the archive for these files: -o DIRECTORY"),
        (["--keep-bytes", "many"], 2, "must be a size such as 500M or 20G, not 'many'"),
        (["--keep-days", "0"], 2, "must be 1 to"),
        (["-u", "no-such-user"], 2, "must be the name of a user"),
    ],
)
def test_wrong_arguments(words: list[str], status: int, message: str) -> None:
    done = run_python(f"import sys; from nflowlevel import cli; sys.exit(cli.main(['compact', *{words!r}]))")
    assert done.returncode == status
    assert message in done.stderr


def test_a_configuration_without_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.conf").write_text("[global]\nstack=a:NFLOG,b:BASE,s:SQLITE3\n[a]\ngroup=1\n[s]\ndb=/x\n")
    assert cli.main(["compact", "-c", f"{tmp_path}/c.conf", "-o", f"{tmp_path}/ar"]) == 78
    assert "no stack ends with JSON in mode file" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("7", 7), ("2k", 2048), ("3M", 3 << 20), ("1T", 1 << 40)])
def test_sizes(text: str, expected: int) -> None:
    assert compact.size(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1.5G", "M", "1MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a size"):
        compact.size(text)


def test_columns_of_plugins_are_those_that_no_key_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = build(parse_text("[global]\nstack=a:NFLOG,b:BASE,w:PWSNIFF,j:JSON\n[a]\ngroup=1\n[j]\nfile=/x\n"))
    assert compact._added(stacks) == ()
    key = added_key("geo.asn", "uint32", "Number of the network.")
    monkeypatch.setattr(type(stacks[0].filters[0]), "adds", (key, key))
    assert compact._added(stacks) == (key,)
