# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel migrate`: what it reads, prints and writes; the conversion is in tests/firewall/test_migration.py."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import nflowlevel as nfl
from nflowlevel import cli
from tests.fix_netns import Netns

_RULES = b'*filter\n:INPUT ACCEPT [1:2]\n[3:4] -A INPUT -j LOG --log-prefix "x \xff\xe2\x80\xa8"\r\nCOMMIT\n'
_GROUP = b'-j NFLOG --nflog-prefix "x \xff\xe2\x80\xa8" --nflog-group %d --nflog-size 256'
_CONF = """\
[global]
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU

[log1]
group=1

[emu1]
file="/var/log/ulog/syslogemu.log"
"""


def converted(group: int = 1) -> bytes:
    """Return the rules with a group."""
    return _RULES.replace(_RULES[_RULES.index(b"-j") : _RULES.index(b"\r")], _GROUP % group)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.v4"
    path.write_bytes(_RULES)
    return path


def run(
    *arguments: str | Path, status: int = 0, stdin: bytes | None = None, netns: Netns | None = None
) -> tuple[bytes, str]:
    """Return what the command prints, and what it says."""
    command = [sys.executable, "-m", "nflowlevel", "migrate", *map(str, arguments)]
    command = netns.command(*command) if netns else command
    given = subprocess.DEVNULL if stdin is None else None
    done = subprocess.run(command, input=stdin, stdin=given, capture_output=True)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr.decode()


def test_rules_alone_are_the_same_bytes_but_for_what_logs(rules: Path) -> None:
    output, said = run("--rules", rules)
    assert output == converted()
    assert said == f"nflowlevel migrate: {rules}: line 3 now logs to group 1\n"


def test_the_configuration_alone(rules: Path) -> None:
    assert run("--conf", rules)[0].decode() == _CONF
    output, _ = run("--conf", "--group", "9", "--file", "/x.log", "--by-level", rules)
    assert b"group=9\n" in output
    assert b'file="/x-warning.log"' in output


def test_the_daemon_takes_the_configuration(rules: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.write_text("*filter\n-A a -j LOG --log-level 3\n-A a -j ULOG --ulog-nlgroup 7\nCOMMIT\n")
    output, _ = run("--conf", "--by-level", "--file", tmp_path / "text.log", rules, other)
    (tmp_path / "ulogd.conf").write_bytes(output)
    assert cli.main(["check-config", str(tmp_path / "ulogd.conf")]) == 0
    assert capfd.readouterr().out.endswith(": no errors; 3 stacks\n")


def test_syslog_keeps_the_levels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x"
    rules = "-A a -j LOG --log-level err\n-A a -j LOG\n-A a -j ULOG --ulog-nlgroup 7\n"
    path.write_text(f"*filter\n{rules}COMMIT\n")
    output, _ = run("--conf", "--syslog", path)
    assert [
        line for line in output.decode().split("\n") if line.startswith(("stack=", "[sys", "facility", "level"))
    ] == [
        "stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,sys1:SYSLOG",
        "stack=log2:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,sys2:SYSLOG",
        "stack=log7:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,sys7:SYSLOG",
        *("[sys1]", "facility=LOG_KERN", "level=LOG_ERR"),
        *("[sys2]", "facility=LOG_KERN", "level=LOG_WARNING"),
        *("[sys7]", "facility=LOG_KERN", "level=LOG_NOTICE"),
    ]
    (tmp_path / "ulogd.conf").write_bytes(output)
    assert cli.main(["check-config", str(tmp_path / "ulogd.conf")]) == 0
    assert capfd.readouterr().out.endswith(": no errors; 3 stacks\n")


def test_the_prefix_as_the_kernel_would_show_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('*filter\n-A a -j LOG --log-prefix "DROP: "\nCOMMIT\n')
    assert b'--nflog-prefix "DROP: " ' in run("--rules", path)[0]
    assert b'--nflog-prefix "DROP:" ' in run("--rules", "--trim-prefix", path)[0]


def test_both_together_can_be_loaded(rules: Path, netns: Netns) -> None:
    output, _ = run(rules)
    lines = _CONF.rstrip("\n").split("\n")
    comment = "".join(f"#     {line}".rstrip() + "\n" for line in lines)
    head = f"# ulogd.conf for these rules; --conf prints it alone:\n{comment}\n"
    assert output == head.encode() + converted()
    netns.run("iptables-restore", input=output.replace(b"\r", b"").decode("utf-8", "surrogateescape"))
    assert "--nflog-group 1" in netns.run("iptables-save").stdout


def test_standard_input(rules: Path) -> None:
    output, said = run("--rules", "-", stdin=_RULES)
    assert output == converted()
    assert said == "nflowlevel migrate: standard input: line 3 now logs to group 1\n"


def test_standard_input_must_be_named() -> None:
    assert "there is text on standard input: write `nflowlevel migrate -`" in run(stdin=_RULES, status=2)[1]


def test_several_files_share_groups_and_a_configuration(tmp_path: Path, rules: Path) -> None:
    other = tmp_path / "rules.v6"
    other.write_text("*filter\n-A INPUT -j LOG\n-A INPUT -j NFLOG --nflog-group 1\nCOMMIT\n")
    directory = tmp_path / "new"
    output, said = run("-o", directory, rules, other)
    assert output == b""
    assert (directory / "rules.v4").read_bytes() == converted(2)
    assert "-j NFLOG --nflog-group 2 " in (directory / "rules.v6").read_text()
    assert (directory / "ulogd.conf").read_text() == _CONF.replace("1:NFLOG", "2:NFLOG").replace(
        "emu1", "emu2"
    ).replace("group=1", "group=2").replace("[log1]", "[log2]")
    assert f"written: {directory}/ulogd.conf" in said
    assert rules.read_bytes() == _RULES

    # Nothing that is there is changed.
    (directory / "rules.v4").write_text("mine")
    (directory / "ulogd.conf").unlink()
    assert "has a file rules.v4 already" in run("-o", directory, rules, status=1)[1]
    assert sorted(path.name for path in directory.iterdir()) == ["rules.v4", "rules.v6"]
    assert (directory / "rules.v4").read_text() == "mine"

    output, _ = run(rules, other)
    assert f"# {rules}:\n".encode() in output
    assert f"# {other}:\n".encode() in output
    rules.write_bytes(_RULES.rstrip())
    assert f"\n# {other}:\n".encode() in run(rules, other)[0], "the first list has no newline at its end"
    assert run("--rules", rules)[0] == converted().rstrip()
    assert "these are several lists" in run("--rules", rules, other, status=1)[1]
    assert "two files would be called rules.v4" in run("-o", tmp_path / "x", rules, rules, status=2)[1]


def test_json(rules: Path) -> None:
    output, said = run("--json", rules)
    assert not said
    shown = json.loads(output)
    assert shown["groups"] == {"1": "all levels"}
    assert shown["configuration"] == _CONF
    (each,) = shown["rules"]
    assert each["text"] == converted().decode("utf-8", "replace")
    assert (each["name"], each["form"], each["converted"], each["left"]) == (str(rules), "save", 1, [])
    assert each["remarks"] == ["line 3 now logs to group 1"]


def test_what_cannot_be_carried_over_is_said_and_left(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("table ip t {\n chain c {\n  log level audit\n  log\n }\n}\n")
    output, said = run("--rules", path, status=1)
    assert output == b"table ip t {\n chain c {\n  log level audit\n  log group 1 snaplen 256\n }\n}\n"
    assert f"{path}: line 3: left as it is: level audit writes to the audit subsystem" in said
    assert "put `flush ruleset` before these\n" in said


@pytest.mark.parametrize("first", ["flush ruleset", "\tflush table t", "delete table ip t"])
def test_a_file_that_clears_what_is_loaded_needs_no_advice(tmp_path: Path, first: str) -> None:
    path = tmp_path / "nftables.conf"
    path.write_text(f"#!/usr/sbin/nft -f\n{first}\ntable ip t {{\n chain c {{\n  log\n }}\n}}\n")
    assert run("--rules", path)[1] == f"nflowlevel migrate: {path}: line 5 now logs to group 1\n"


def test_tables_of_iptables_are_loaded_behind_those_of_nft(tmp_path: Path) -> None:
    nft, saved = tmp_path / "x.nft", tmp_path / "rules.v4"
    nft.write_text("table ip t {\n chain c {\n  log\n }\n}\n")
    saved.write_text("*filter\n-A INPUT -j LOG\nCOMMIT\n")
    said = run("--output", tmp_path / "new", nft, saved)[1]
    assert "that empties the tables of iptables-nft, too, so load their lists behind it" in said


def test_json_of_nft_has_no_comment(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"nftables": [{"rule": {"expr": [{"log": null}]}}]}')
    assert run("--snaplen", "0", path)[0] == b'{"nftables": [{"rule": {"expr": [{"log": {"group": 1}}]}}]}'


def test_rules_without_logging(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("*filter\nCOMMIT\n")
    output, said = run(path)
    assert output == b"*filter\nCOMMIT\n"
    assert said == "nflowlevel migrate: no rule logs to the kernel's log: nothing to convert\n"
    assert run("--conf", path)[0] == b""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("/nonexistent/x",), 78, "nflowlevel migrate: /nonexistent/x: read: No such file or directory\n"),
        (("/etc/hostname",), 78, "/etc/hostname: these are no rules: neither as iptables-save"),
        (("--group", "0", "x"), 2, "must be 1 to 65535, not '0'"),
        (("--file", 'a"b', "x"), 2, "a configuration cannot hold a quote"),
        (("--netns", "blue", "x"), 2, "--netns is for the running firewall"),
        (("--netns", "nonesuch"), 1, "nonesuch"),
        (("--json", "--conf", "x"), 2, "not allowed with"),
    ],
)
def test_what_is_wrong(arguments: tuple[str, ...], status: int, said: str) -> None:
    output, errors = run(*arguments, status=status)
    assert said in errors
    assert not output


def test_a_terminal_obeys_nothing_in_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "x\x1b[2J"
    path.write_bytes(b'table ip t {\n\tchain c {\n\t\tlog prefix "\x1b[2J\x9b\xe2\x80\xae"\n\t}\n}\n')
    controller, terminal = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "nflowlevel", "migrate", path], stdout=terminal, stderr=terminal, check=True
        )
        shown = os.read(controller, 1 << 16)
    finally:
        os.close(controller)
        os.close(terminal)
    assert b"\x1b" not in shown
    assert b"\xe2\x80\xae" not in shown
    assert b'\t\tlog prefix "\\x1b[2J' in shown


# -- the running firewall ---------------------------------------------------------------------------------------------


def test_the_running_firewall(netns: Netns, tmp_path: Path) -> None:
    netns.nft(
        'table inet own { chain c { log prefix "n" level info; }; }\n'
        "table inet other { chain c { drop; }; }\n"
        "table inet groups { chain c { log group 2; }; }"
    )
    netns.run("iptables-nft", "-A", "INPUT", "-m", "comment", "--comment", "kept", "-j", "LOG", "--log-prefix", 'q"q')
    netns.run("ip6tables-legacy", "-A", "INPUT", "-j", "LOG")
    netns.run("ip6tables-legacy", "-A", "INPUT", "-j", "AUDIT", "--type", "drop")
    directory = tmp_path / "new"
    before = netns.run("nft", "list", "ruleset").stdout
    with nfl.open_group(1, netns=netns.path):
        _, said = run("-o", directory, netns=netns, status=1)
    assert netns.run("nft", "list", "ruleset").stdout == before
    # Group 1 is read, group 2 is logged to.
    files = {path.name: path.read_text() for path in directory.iterdir()}
    assert sorted(files) == ["ip6tables-legacy.rules", "iptables-nft.rules", "ruleset.nft", "ulogd.conf"]
    assert 'log prefix "n" group 3 snaplen 256' in files["ruleset.nft"]
    assert "table inet other" in files["ruleset.nft"]
    assert "table ip filter" not in files["ruleset.nft"]
    assert '-m comment --comment kept -j NFLOG --nflog-prefix "q\\"q" --nflog-group 3' in files["iptables-nft.rules"]
    assert "-j NFLOG --nflog-group 3" in files["ip6tables-legacy.rules"]
    assert "group=3" in files["ulogd.conf"]
    assert "ip6tables-legacy-save: line 7: left as it is: -j AUDIT" in said

    output, _ = run("--netns", netns.name, "--conf", status=1)
    assert f'network_namespace_path="/run/netns/{netns.name}"' in output.decode()
    # All that is written can be loaded.
    netns.run("ip6tables-legacy-restore", input=files["ip6tables-legacy.rules"])
    netns.nft("flush ruleset\n" + files["ruleset.nft"])
    netns.run("iptables-nft-restore", input=files["iptables-nft.rules"])
    assert cli.main(["migrate", "--netns", netns.name, "--json"]) == 1


def test_a_firewall_without_logging(netns: Netns) -> None:
    output, said = run(netns=netns)
    assert output == b""
    assert said == "nflowlevel migrate: no rule logs to the kernel's log: nothing to convert\n"


def test_what_could_not_be_seen(netns: Netns, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nflowlevel.firewall.ruleset._ADMIN_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["migrate", "--netns", netns.name]) == 1
