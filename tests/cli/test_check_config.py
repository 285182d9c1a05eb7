# SPDX-License-Identifier: GPL-2.0-or-later
"""Mistakes in a configuration, one by one, as an administrator meets them.

The daemon refuses to start with status 78 and one message that says where, what, and what was probably meant; a check
says the very same without starting anything.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from nflowlevel import cli
from nflowlevel.daemon import main as daemon
from tests.fix_daemon import run
from tests.fix_netns import Netns
from tests.fix_nflog import bound_groups

_GOOD = """[global]
stack=g:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR,j:JSON
[g]
group=2
[j]
file=/nonexistent/out.json
"""

#: What is changed in the good one, the line that is named, and what is said.
_MISTAKES = {
    "unknown plugin": (("h:HWHDR", "h:HWHRD"), 2, "unknown plugin 'HWHRD' — did you mean 'HWHDR'?"),
    "plugin in lower case": (("j:JSON", "j:json"), 2, "unknown plugin 'json' — did you mean 'JSON'?"),
    "item without colon": (("b:BASE", "BASE"), 2, "'BASE' is not of the form id:PLUGIN"),
    "two items without comma": (("b:BASE,", "b:BASE:"), 2, "'b:BASE:i:IFINDEX' is more than one id:PLUGIN"),
    "no input": (("g:NFLOG,", ""), 2, "a stack begins with an input, but b:BASE is not one"),
    "no output": ((",j:JSON", ""), 2, "a stack ends with an output, but h:HWHDR is not one"),
    "output in the middle": (("i:IFINDEX", "x:JSON"), 2, "[x] JSON: no such section"),
    "wrong order": (("b:BASE,i:IFINDEX", "i:IFINDEX,b:BASE"), 2, "i:IFINDEX takes flow or packet but gets raw"),
    "type mismatch": (("b:BASE,", ""), 2, "i:IFINDEX takes flow or packet but gets raw; put a BASE between"),
    "unknown option": (("group=2", "gruop=2"), 4, "[g] NFLOG: unknown option 'gruop' — did you mean 'group'?"),
    "unknown option of [global]": (("[g]", "lgofile=x\n[g]"), 3, "unknown option 'lgofile' — did you mean 'logfile'?"),
    "text for a number": (("group=2", "group=two"), 4, "[g] NFLOG: group=two: not a whole number; must be 0 to 65535"),
    "number out of range": (("group=2", "group=70000"), 4, "[g] NFLOG: group=70000: must be 0 to 65535"),
    "negative number": (("group=2", "group=-1"), 4, "[g] NFLOG: group=-1: must be 0 to 65535"),
    "decimal number with a zero": (("group=2", "group=018"), 4, "a leading 0 means octal"),
    "word that is none of the choices": (("[j]", "[j]\nmode=tpc"), 6, "[j] JSON: mode=tpc: must be file, tcp, udp"),
    "bad truth value": (("[j]", "[j]\nsync=maybe"), 6, "must be 0, 1, no, yes, off, on, false or true"),
    "no number for a truth value": (("[j]", "[j]\nsync=2x"), 6, "[j] JSON: sync=2x: not a whole number; must be 0, 1"),
    "empty file name": (("/nonexistent/out.json", '""'), 6, "[j] JSON: file=: must be at least 1 character long"),
    "option without value": (("group=2", "group="), 4, "[g]: 'group' has no value"),
    "quote that is not closed": (("/nonexistent/out.json", '"/nonexistent'), 6, "[j]: a double quote is not closed"),
    "option set twice": (("group=2", "group=2\ngroup=3"), 5, "[g]: 'group' is set twice; it was first set in"),
    "section missing": (("[g]", "[gg]"), 2, "[g] NFLOG: no such section; add it, even without options — did"),
    "section of the output missing": (("[j]", "[k]"), 2, "[j] JSON: no such section; add it"),
    "section without name": (("[j]", "[]"), 5, "bad section header: it has no name; write it as [name]"),
    "no [global]": (("[global]", "[globl]"), 1, "there is no section [global], which holds the stack= lines; [globl]"),
    "no stack": (("stack=", "#stack="), 1, "[global]: there is no stack= line, so there is nothing to do"),
    "empty stack": (("stack=", 'stack=""#'), 2, "stack: it is empty; write it as id:PLUGIN,id:PLUGIN"),
    "bad log level": (("[g]", "loglevel=9\n[g]"), 3, "[global]: loglevel=9: must be 1 to 8"),
}  # fmt: skip


@pytest.mark.parametrize("name", _MISTAKES)
def test_a_mistake(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old, new), line, said = _MISTAKES[name]
    assert old in _GOOD
    file = tmp_path / "my.conf"
    file.write_text(_GOOD.replace(old, new, 1))
    done = run("-c", str(file))
    first = done.stderr.splitlines()[0]
    assert done.returncode == 78
    assert done.stdout == ""
    assert first.startswith(f"{file}:{line}: ")
    assert said in first
    # The same without starting, in both ways.
    assert cli.main(["check-config", str(file)]) == 78
    assert capsys.readouterr() == ("", done.stderr)
    assert daemon.main(["--check-config", "-c", str(file)]) == 78
    assert capsys.readouterr() == ("", done.stderr)


def test_many_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text(_GOOD.replace("group=2", "group=x\nbufsise=1").replace("[j]", "[j]\nmode=pigeon"))
    done = run("-c", str(file))
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == ["4", "5", "7"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda file: None,
            "cannot read the configuration: No such file or directory — name another with -c",
        ),
        (lambda file: file.mkdir(), "cannot read the configuration: Is a directory — name a file in it"),
        (lambda file: file.symlink_to("/dev/zero"), "is too large for a configuration file"),
        (lambda file: file.write_bytes(b"[global]\nstack=g:NFLOG\0\n"), "has a NUL byte, so it is not text"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, make: object, said: str) -> None:
    file = tmp_path / "my.conf"
    make(file)  # type: ignore[operator]
    done = run("-c", str(file))
    assert done.returncode == 78
    assert done.stderr.startswith(f"{file}:")
    assert said in done.stderr


def test_a_good_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.conf"
    file.write_text(_GOOD.replace("/nonexistent", str(tmp_path)))
    assert cli.main(["check-config", str(file)]) == 0
    assert capsys.readouterr() == (f"{file}: no errors; 1 stack\n", "")


def test_a_check_starts_nothing(netns: Netns, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    file = tmp_path / "my.conf"
    file.write_text(_GOOD.replace("/nonexistent/out.json", str(out)).replace("[g]", f"logfile={tmp_path}/log\n[g]"))
    done = run("--check-config", "-d", "-p", str(tmp_path / "pid"), "-c", str(file), netns=netns)
    assert (done.returncode, done.stderr) == (0, "")
    assert bound_groups(netns) == {}
    assert [entry.name for entry in tmp_path.iterdir()] == ["my.conf"]


def test_warnings_do_not_keep_it_from_starting(tmp_path: Path) -> None:
    """What ulogd2 passes over in silence is told, and passed over."""
    file = tmp_path / "my.conf"
    file.write_text(
        _GOOD.replace("/nonexistent", str(tmp_path))
        .replace("group=2", "group=2 really")
        .replace("[global]", "[global]\nplugin=/usr/lib/ulogd/mine.so")
        .replace("[j]", "[unused]\nfile=\n[g]\ngroup=3\n[j]")
    )
    done = run("--check-config", "-c", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: no errors; 1 stack\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert lines[0] == f"warning: {file}:2: plugin='/usr/lib/ulogd/mine.so' is not named like an ulogd2 module: ignored"
    assert lines[1].startswith(f"warning: {file}:5: 'group': text after the value is ignored; ")
    assert "(no stack uses this section)" in lines[2]
    assert lines[3] == f"warning: {file}:8: second section [g]: ignored, the one in line 4 is read"


def test_the_default_is_ulogds_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon.DEFAULT_CONFIG == "/etc/ulogd.conf"
    with pytest.raises(SystemExit):
        cli.main(["check-config", "--help"])
    assert "default /etc/ulogd.conf" in " ".join(capsys.readouterr().out.split())


# -- what this machine lacks -------------------------------------------------------------------------------------------


def needs(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the warnings about a configuration without errors, without the name of its file."""
    file = tmp_path / "my.conf"
    file.write_text(text)
    assert cli.main(["check-config", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{file}: no errors; ")
    return [line.removeprefix(f"warning: {file}:") for line in said.err.splitlines()]


def test_a_directory_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    why = "file=/nonexistent/out.json: no such directory: /nonexistent; mkdir -p /nonexistent"
    assert needs(tmp_path, _GOOD, capsys) == [f"5: j:JSON cannot start here: {why}"]


def test_a_directory_of_a_database_and_its_spool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    section = f"[j]\ndb=/nonexistent/log.db\nspool_directory={tmp_path}/file/spool\n"
    text = _GOOD.partition("[j]")[0].replace("j:JSON", "j:SQLITE3") + section
    one, two = needs(tmp_path, text, capsys)
    assert one == (
        "5: j:SQLITE3 cannot start here: db=/nonexistent/log.db: no such directory: /nonexistent; mkdir -p /nonexistent"
    )
    assert f"{tmp_path}/file/spool/j cannot be a directory: {tmp_path}/file is none" in two
    assert (
        needs(tmp_path, text.replace("/nonexistent/log.db", f"{tmp_path}/log.db").replace("/file/", "/"), capsys) == []
    )


@pytest.mark.parametrize(
    ("plugin", "module", "options"),
    [
        ("PGSQL", "psycopg", "db=x\ntable=x"),
        ("MYSQL", "pymysql", "db=x\ntable=x"),
        ("DBI", "psycopg", "db=x\ntable=x\ndbtype=pgsql"),
        ("PROMETHEUS", "prometheus_client", "port=0"),
    ],
)
def test_a_python_package_that_is_missing(
    plugin: str, module: str, options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    text = _GOOD.partition("[j]")[0].replace("j:JSON", f"j:{plugin}") + f"[j]\n{options}\n"
    assert needs(tmp_path, text, capsys) == []
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else found(name))
    (said,) = needs(tmp_path, text, capsys)
    assert said.startswith(f"5: j:{plugin} cannot start here: there is no Python module {module}; ")


def test_an_address_that_is_not_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = _GOOD.partition("[j]")[0].replace("j:JSON", "j:PROMETHEUS") + "[j]\nhost=192.0.2.1\nport=9100\n"
    (said,) = needs(tmp_path, text, capsys)
    assert said.startswith("5: j:PROMETHEUS cannot start here: cannot listen on 192.0.2.1 port 9100: ")


def test_a_namespace_and_a_capture_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = _GOOD.replace("/nonexistent", str(tmp_path))
    assert needs(tmp_path, text.replace("group=2", "group=2\nnetwork_namespace_path=none"), capsys) == [
        "3: g:NFLOG cannot start here: there is no network namespace none; ip netns add none"
    ]
    text = text.replace("g:NFLOG", "g:PCAPFILE").replace("group=2", "file=/nonexistent.pcap")
    assert needs(tmp_path, text, capsys) == [
        "3: g:PCAPFILE cannot start here: file=/nonexistent.pcap does not exist; name a capture file"
    ]


def test_a_peer_that_is_away_is_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may come later, and the stack starts without."""
    section = "[j]\nmode=tcp\nhost=127.0.0.1\nport=1\n"
    assert needs(tmp_path, _GOOD.partition("[j]")[0] + section, capsys) == []


def test_the_daemon_itself_starts_without_such_warnings(tmp_path: Path) -> None:
    """There the stack says what is wrong, when it is."""
    file = tmp_path / "my.conf"
    file.write_text(_GOOD)
    done = run("-c", str(file))
    assert done.returncode == 1
    assert "cannot start here" not in done.stderr
