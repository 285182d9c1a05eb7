# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel acct`: the table, JSON and XML, rates, files, and the exchange of files with the real nfacct."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nflowlevel import cli
from nflowlevel.accounting.objects import Accounting
from nflowlevel.accounting.table import Counter
from nflowlevel.cli import acct
from tests.fix_acct import count_udp, environment, make_objects
from tests.fix_debian import need
from tests.fix_netns import Netns, Pair
from tests.fix_terminal import Screen, read_to_the_end


class _Command:
    def __init__(self, netns: Netns, capsys: pytest.CaptureFixture[str]) -> None:
        self.netns, self._capsys = netns, capsys
        self.accounting = Accounting(netns.name)

    def __call__(self, *arguments: str, says: str = "") -> str:
        """Return what the command prints; it must succeed, and say `says` besides."""
        assert cli.main(["acct", "--netns", self.netns.name, *arguments]) == 0
        output, errors = self._capsys.readouterr()
        assert errors == says
        return output

    def fails(self, *arguments: str, status: int = 1) -> str:
        """Return what it says when it fails."""
        assert cli.main(["acct", "--netns", self.netns.name, *arguments]) == status
        output, errors = self._capsys.readouterr()
        assert not output
        return errors


@pytest.fixture
def command(netns: Netns, capsys: pytest.CaptureFixture[str]) -> Iterator[_Command]:
    made = _Command(netns, capsys)
    yield made
    made.accounting.close()


# -- showing ------------------------------------------------------------------------------------------------------


def test_table(command: _Command) -> None:
    assert command() == "name  packets  bytes  quota  rules\n"
    command.accounting.create("ipv4.http", packets=23, bytes=1288)
    command.accounting.create("guests", packet_quota=1000)
    command.accounting.create("\x1b[1mbold")
    count_udp(command.netns, "guests")
    expected = (
        "name         packets  bytes         quota  rules\n"
        "ipv4.http         23   1288                    0\n"
        "guests             0      0  1000 packets      1\n"
        "\\x1b[1mbold        0      0                    0\n"
    )
    assert command() == command("list") == expected
    assert command("list", "--netns", command.netns.name) == expected
    assert command("list", "--only", "packet-quota").count("\n") == 2


def test_json(command: _Command) -> None:
    command.accounting.create("a", packets=2**64 - 1, bytes=5)
    command.accounting.create("q", byte_quota=7)
    command.accounting.create("\udcff")
    shown = [
        {"name": "a", "packets": 2**64 - 1, "bytes": 5, "rules": 0},
        {"name": "q", "packets": 0, "bytes": 0, "quota": 7, "quota_unit": "bytes", "over_quota": False, "rules": 0},
        {"name": "\udcff", "packets": 0, "bytes": 0, "rules": 0},
    ]
    for words in (["--json"], ["--json", "list"], ["list", "-j"]):
        assert json.loads(command(*words)) == shown
    assert json.loads(command("get", "q", "-j")) == shown[1:2]


def test_xml_is_that_of_nfacct(command: _Command) -> None:
    need("nfacct")
    make_objects(command.accounting, 5)
    assert command("list", "--xml") == command.netns.run("nfacct", "list", "xml").stdout
    name = command.accounting.list()[2].name
    ours, theirs = command("get", name, "--xml"), command.netns.run("nfacct", "get", name, "xml").stdout
    assert ours == theirs
    command.accounting.create("<&>")
    assert ElementTree.fromstring(command("--xml").encode())[-1][0].text == "<&>"


def test_reset(command: _Command) -> None:
    command.accounting.create("a", packets=5)
    command.accounting.create("b", packets=6)
    assert "5" in command("get", "a", "--reset")
    assert [each.packets for each in command.accounting.list()] == [0, 6]
    assert [each["packets"] for each in json.loads(command("list", "--json", "--reset"))] == [0, 6]
    assert [each.packets for each in command.accounting.list()] == [0, 0]


def test_a_list_that_is_not_complete(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command.accounting.create("a", packets=5)
    zeroed = Accounting.dump_and_zero

    def half(accounting: Accounting, only: str | None) -> object:
        table = zeroed(accounting, only)
        table.error = "Cannot allocate memory"
        return table

    monkeypatch.setattr(Accounting, "dump_and_zero", half)
    assert cli.main(["acct", "--netns", command.netns.name, "list", "--reset"]) == 1
    output, errors = command._capsys.readouterr()
    assert "a " in output, "what was zeroed is shown"
    assert "the list is incomplete: Cannot allocate memory; objects that are missing were not set to zero" in errors


def test_the_reader_of_a_long_list_may_leave(netns: Netns) -> None:
    with Accounting(netns.name) as accounting:
        make_objects(accounting, 3000)
    words = [sys.executable, "-m", "nflowlevel", "acct"]
    child = netns.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert child.stdout
    assert child.stdout.readline().split()[0] == b"name"
    child.stdout.close()
    assert child.wait(20) == 0
    assert child.stderr
    assert child.stderr.read() == b""


# -- rates --------------------------------------------------------------------------------------------------------


def test_rates() -> None:
    before = [Counter("a", 10, 100), Counter("b", 5, 5), Counter("gone", 1, 1), Counter("zeroed", 100, 1000)]
    now = [Counter("a", 14, 300), Counter("b", 5, 5), Counter("new", 9, 9), Counter("zeroed", 6, 60)]
    rates = acct.rates(before, now, 2.0)
    assert [(rate.counter.name, rate.packets, rate.bytes) for rate in rates] == [
        ("a", 2.0, 100.0),
        ("zeroed", 3.0, 30.0),
        ("b", 0.0, 0.0),
        ("new", 0.0, 0.0),
    ]


def test_watch_shows_what_comes_per_second(command: _Command) -> None:
    command.accounting.create("quiet")
    command.accounting.create("busy", packets=1000)
    rounds = command("list", "--watch", "0.1", "-n", "2").rstrip().split("\n\n")
    assert len(rounds) == 2
    for lines in rounds:
        assert lines.splitlines()[0].split() == ["name", "packets", "bytes", "quota", "rules", "packets/s", "bytes/s"]
        assert lines.splitlines()[1].split() == ["quiet", "0", "0", "0", "0", "0"]
    (line,) = command("list", "-w", "0.1", "-n", "1", "--json", "--only", "plain").splitlines()
    assert json.loads(line)[1]["packets_per_second"] == 0.0


def test_watch_counts_packets(pair: Pair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Accounting(pair.fw.name) as accounting:
        accounting.create("udp")
        count_udp(pair.fw, "udp")
        monkeypatch.setattr("nflowlevel.cli.terminal.time.sleep", lambda secs: pair.send_udp(100))
        cli.main(["acct", "--netns", pair.fw.name, "list", "-w", "5", "-n", "3", "--json"])
    rows = [json.loads(line)[0] for line in capsys.readouterr().out.splitlines()]
    assert [row["packets"] for row in rows] == [100, 200, 300]
    for row in rows:
        assert row["bytes_per_second"] == pytest.approx(48 * row["packets_per_second"])
        assert row["packets_per_second"] > 100


def test_watch_on_a_terminal_stays_on_one_page(netns: Netns) -> None:
    with Accounting(netns.name) as accounting:
        for number in range(30):
            accounting.create(f"c{number}")
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "nflowlevel", "acct", "list", "-w", "0.1", "-n", "1"]
    child = netns.popen(*words, stdout=slave, stdin=slave, env=environment() | {"LINES": "10", "COLUMNS": "80"})
    os.close(slave)
    text = read_to_the_end(master)
    assert child.wait(20) == 0
    assert text.startswith(b"\x1b[H\x1b[2Jname")
    assert text.decode().splitlines()[-1] == "… and 23 with less"
    assert len(text.splitlines()) == 9


def test_numbers_are_short() -> None:
    shown = [acct._si(number) for number in (0, 0.4, 9999, 12345, 9_999_600, 3e9, 123e12, 5e17)]
    assert shown == ["0", "0", "9999", "12k", "10M", "3000M", "123T", "500000T"]


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--watch", "--reset"], "--watch and --reset cannot be combined"), (["--watch", "--xml"], "use --json")],
)
def test_what_does_not_go_together(command: _Command, words: list[str], says: str) -> None:
    assert says in command.fails("list", *words, status=2)


@pytest.mark.parametrize("secs", ["0", "nan", "-1", "soon", "1e9"])
def test_an_interval_is_a_number_of_seconds(secs: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["acct", "list", f"--watch={secs}"])


# -- changing -----------------------------------------------------------------------------------------------------


def test_add(command: _Command) -> None:
    assert command("add", "a") == ""
    command("add", "p", "--packet-quota", "5", "--packets", "1", "--bytes", "2")
    command("add", "b", "--byte-quota", "7")
    assert command.accounting.list() == [Counter("a", 0, 0), Counter("p", 1, 2, 5, 1), Counter("b", 0, 0, 7, 2)]
    with pytest.raises(SystemExit):
        cli.main(["acct", "add", "x", "--byte-quota", "7", "--packet-quota", "5"])


def test_delete(command: _Command) -> None:
    for name in "abc":
        command("add", name)
    command("delete", "a", "c")
    assert [each.name for each in command.accounting.list()] == ["b"]


def test_flush(command: _Command) -> None:
    for number in range(12):
        command.accounting.create(f"c{number}")
    count_udp(command.netns, "c0")
    command("flush", says="1 object was kept because rules count into it: c0\n")
    for number in range(1, 12):
        command.accounting.create(f"c{number}")
        count_udp(command.netns, f"c{number}")
    stay = ", ".join(f"c{number}" for number in range(10))
    command("flush", says=f"12 objects were kept because rules count into them: {stay} and 2 more\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add", "ipv4.http"], "create accounting object 'ipv4.http': File exists — delete it first"),
        (["add", "x" * 32], "a name must be at most 31 bytes long, not 32"),
        (["add", ""], "must not be empty"),
        (["get", "ipv4.htp"], "did you mean 'ipv4.http'?"),
        (["delete", "ipv4.htp"], "did you mean 'ipv4.http'?"),
        (["restore", "nowhere"], "read nowhere: No such file or directory"),
        (["list", "--netns", "nowhere"], "enter network namespace nowhere"),
    ],
)
def test_errors(command: _Command, words: list[str], says: str) -> None:
    command.accounting.create("ipv4.http")
    said = command.fails(*words, status=2 if "must" in says or "at most" in says else 1)
    assert said.startswith("nflowlevel acct: ")
    assert says in said


@pytest.mark.parametrize("words", ["list", "list --xml", "get", "dump", "list --json"])
def test_names_of_others_do_nothing_to_a_terminal(command: _Command, words: str) -> None:
    name = "\x1b[2J\x9b1m\x7f\u202e\udcff"
    command.accounting.create(name)
    name_too = [name] if words == "get" else []
    shown = Screen(command.netns, 80, "acct", *words.split(), *name_too, NO_COLOR="1").shown()
    assert all(line.isprintable() for line in shown.split("\n"))
    assert r"[2J\x9b1m" in shown or r"[2J\u009b1m" in shown


# -- files --------------------------------------------------------------------------------------------------------


def lines_of(text: str) -> list[str]:
    return sorted(text.splitlines())


def test_dump_and_restore(command: _Command, tmp_path: Path) -> None:
    make_objects(command.accounting, 50)
    for name in ("a b", "c;d", "ü", "\udcff"):
        command.accounting.create(name, packets=3)
    before = command.accounting.list()
    words = [sys.executable, "-m", "nflowlevel", "acct", "dump"]
    done = subprocess.run(command.netns.command(*words), capture_output=True, check=True, env=environment())
    assert done.stderr == b"nfacct cuts these names off at the blank or semicolon: a b, c;d\n"
    (tmp_path / "f").write_bytes(done.stdout)
    command.accounting.flush()
    assert command("restore", str(tmp_path / "f")) == ""
    assert command.accounting.list() == before


def test_a_bad_line_changes_nothing(command: _Command, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("{ pkts = 1, bytes = 2 } = a;\n\n{ pkts = 1, bytes = x } = b;\n{ pkts = 1, bytes = 2 } = c;\n")
    assert command.fails("restore", str(file), status=78) == (
        f"nflowlevel acct: {file}:3: '{{ pkts = 1, bytes = x }} = b;' is not a line of `nfacct list`\n"
    )
    assert command.accounting.list() == []


def test_an_object_that_exists_changes_nothing(command: _Command, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("{ pkts = 1, bytes = 2 } = a;\n{ pkts = 1, bytes = 2 } = b;\n")
    command.accounting.create("b", packets=9)
    assert f"{file}:2: 'b' exists; delete it first, or use --skip-existing" in command.fails(
        "restore", str(file), status=78
    )
    assert command.accounting.list() == [Counter("b", 9, 0)]
    command("restore", "--skip-existing", str(file))
    assert command.accounting.list() == [Counter("b", 9, 0), Counter("a", 1, 2)]


def test_restore_reads_standard_input(command: _Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{ pkts = 1, bytes = 2 } = a;\n")))
    command("restore")
    assert command.accounting.list() == [Counter("a", 1, 2)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n")))
    assert "standard input:1: 'x'" in command.fails("restore", "-", status=78)


# -- nfacct -------------------------------------------------------------------------------------------------------


def test_a_list_of_nfacct_restores_here(command: _Command, tmp_path: Path) -> None:
    need("nfacct")
    make_objects(command.accounting, 60)
    before = command.accounting.list()
    (tmp_path / "f").write_text(command.netns.run("nfacct", "list").stdout)
    command.accounting.flush()
    command("restore", str(tmp_path / "f"))
    assert command.accounting.list() == before


def test_a_dump_of_ours_restores_with_nfacct(command: _Command) -> None:
    """Also objects with a quota, which nfacct cannot restore from its own list."""
    need("nfacct")
    make_objects(command.accounting, 60)
    before = command.accounting.list()
    text = command("dump")
    command.accounting.flush()
    command.netns.run("nfacct", "restore", input=text)
    assert command.accounting.list() == before


def test_both_see_the_same(command: _Command) -> None:
    need("nfacct")
    command.netns.run("nfacct", "add", "theirs")
    command("add", "ours", "--packets", "7")
    assert [each["name"] for each in json.loads(command("--json"))] == ["theirs", "ours"]
    assert "= 00000000000000000007, bytes" in command.netns.run("nfacct", "get", "ours").stdout
    command.netns.run("nfacct", "delete", "ours")
    command("delete", "theirs")
    assert command.netns.run("nfacct", "list").stdout == ""
