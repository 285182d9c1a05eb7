# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor on the real kernel: each reason why nothing arrives is brought about, and named."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import nflowlevel
from nflowlevel import cli
from nflowlevel.firewall import nf_log
from nflowlevel.prefilter.prefilter import Prefilter
from nflowlevel.readers.group import open_group
from tests.fix_daemon import Daemon, config
from tests.fix_netns import Netns
from tests.fix_nobody import CLONE_NEWNET, enter_network_namespace, enter_user_namespace, open_to_all, run_as_nobody
from tests.fix_prefilter import needs_bpf
from tests.fix_terminal import Screen

__all__ = ["open_to_all"]

_COUNT = 23


class Answer(NamedTuple):
    status: int
    lines: list[str]

    def of(self, status: str) -> list[str]:
        return [line.removeprefix(status).strip() for line in self.lines if line.startswith(status)]

    def has(self, status: str, *parts: str) -> bool:
        """Tell whether a line of that status has all the parts."""
        return any(all(part in line for part in parts) for line in self.of(status))


class Doctor:
    """Asks the command, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Answer:
        self._capsys.readouterr()
        status = cli.main(["doctor", *map(str, arguments)])
        output, errors = self._capsys.readouterr()
        assert not errors
        lines = output.splitlines()
        assert all(line.startswith(("ok       ", "problem  ", "hint     ")) for line in lines)
        assert status == any(line.startswith("problem") for line in lines)
        return Answer(status, lines)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(capsys)


def _load(netns: Netns, *rules: str) -> None:
    body = "\n".join(rules)
    netns.nft(f"table inet t {{\nchain c {{\ntype filter hook input priority 0\n{body}\n}}\n}}")


def _send(netns: Netns, count: int = _COUNT) -> None:
    with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for _ in range(count):
            udp.sendto(b"x", ("127.0.0.1", 9))


@contextmanager
def _tcpdump(netns: Netns, group: int, to: Path = Path("/dev/null")) -> Iterator[int]:
    """A reader that is not ours; yields its pid."""
    command = ("tcpdump", "-i", f"nflog:{group}", "-w", to.name, "-Z", "root")
    child = netns.popen(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=to.parent)
    assert child.stderr
    for line in child.stderr:
        if "listening on" in line:
            break
    else:
        raise AssertionError("tcpdump did not start")
    yield child.pid


# -- rules and readers -----------------------------------------------------------------------------------------------


def test_nothing_is_wrong(netns: Netns, ask: Doctor) -> None:
    _load(netns, 'udp dport 9 counter log prefix "nine" group 2')
    with open_group(2, netns=netns.name):
        _send(netns)
        answer = ask("--netns", netns.name, "--group", 2)
    assert answer.status == 0
    assert answer.has("ok", "the kernel has nfnetlink_log")
    assert answer.has("ok", "CAP_NET_ADMIN is held in the initial user namespace")
    assert answer.has("ok", "nft inet t c handle 2 ('nine') has logged 23 packets to group 2")
    assert answer.has("ok", "group 2 is read by process", str(os.getpid()))
    assert len(answer.lines) == 4


def test_no_rule(netns: Netns, ask: Doctor) -> None:
    _load(netns, "counter log group 3")
    with open_group(2, netns=netns.name):
        answer = ask("--netns", netns.name, "--group", 2)
    (problem,) = answer.of("problem")
    text, _, remedy = problem.partition(" — ")
    assert text == "no rule logs to group 2; rules log to group 3"
    assert remedy == "add one, such as: nft add rule inet t c limit rate 10/second counter log group 2"


def test_no_group_at_all(netns: Netns, ask: Doctor) -> None:
    answer = ask("--netns", netns.name)
    assert len(answer.of("problem")) == 1
    assert answer.has("problem", "no rule logs to any group, and no process reads one")
    # No chain could take a rule, so the command brings its own.
    _, _, command = answer.of("problem")[0].partition("add one, such as: ")
    netns.run("sh", "-c", command)
    assert ask("--netns", netns.name).has("hint", "nft inet logging input handle 2 logs to group 1")


def test_rule_not_hit(netns: Netns, ask: Doctor) -> None:
    _load(netns, "udp dport 10 counter log group 2", "udp dport 11 log group 2")
    with open_group(2, netns=netns.name):
        _send(netns)
        untold = ask("--netns", netns.name, "--group", 2)
        netns.run("nft", "delete", "rule", "inet", "t", "c", "handle", "3")
        never = ask("--netns", netns.name, "--group", 2)
    assert untold.status == 0
    assert untold.has("hint", "handle 2 logs to group 2, but never matched")
    assert untold.has("hint", "handle 3", "whether it ever matched is unknown", "write `counter` before `log`")
    assert never.has("hint", "handle 2 logs to group 2, but never matched", "if such packets have come")
    assert never.status == 0


def test_rule_nothing_leads_to(netns: Netns, ask: Doctor) -> None:
    netns.nft("table inet t { chain c { counter log group 2; }; }")
    with open_group(2, netns=netns.name):
        answer = ask("--netns", netns.name, "--group", 2)
    assert answer.has("problem", "no hook and no other rule leads to its chain")


def test_hit_but_nobody_reads(netns: Netns, ask: Doctor) -> None:
    _load(netns, "udp dport 9 counter log group 2")
    _send(netns)
    answer = ask("--netns", netns.name, "--group", 2)
    assert answer.has("ok", "has logged 23 packets to group 2")
    assert [line.partition(" — ")[0] for line in answer.of("problem")] == [
        "no process reads group 2 and what rules log to it is lost"
    ]
    assert answer.has("problem", "nflowlevel tail --group 2")


def test_without_a_group_all_are_looked_at(netns: Netns, ask: Doctor) -> None:
    _load(netns, "udp dport 9 counter log group 2", "udp dport 9 counter log group 3", "log")
    _send(netns)
    with open_group(2, netns=netns.name), open_group(4, netns=netns.name):
        answer = ask("--netns", netns.name)
    assert answer.has("ok", "group 2 is read")
    assert answer.has("problem", "no process reads group 3")
    assert answer.has("problem", "no rule logs to group 4; rules log to groups 2, 3")
    assert answer.has("hint", "handle 4 logs without a group")


def test_group_without_data_and_small_snaplen(netns: Netns, ask: Doctor) -> None:
    _load(netns, "udp dport 9 counter log group 2 snaplen 20 queue-threshold 1")
    with open_group(2, netns=netns.name, copy_mode="meta"):
        _send(netns)
        answer = ask("--netns", netns.name, "--group", 2)
    assert answer.status == 0
    assert answer.has("hint", "cuts packets to 20 bytes (snaplen)")
    assert answer.has("hint", "sends after 1 packets (queue-threshold)")
    assert answer.has("hint", "copy_mode meta")


def test_overrun(netns: Netns, ask: Doctor) -> None:
    _load(netns, "udp dport 9 counter log group 2")
    with open_group(2, netns=netns.name, profile="latency", socket_buffer=2048, max_socket_buffer=2048):
        _send(netns, 500)
        answer = ask("--netns", netns.name, "--group", 2)
    assert answer.has("problem", "datagrams did not fit into its socket buffer", "netlink_socket_buffer_size")


def _only(monkeypatch: pytest.MonkeyPatch, directory: Path, *namespaces: Netns) -> None:
    """Let no other namespaces of this machine be seen."""
    for each in namespaces:
        (directory / each.name).symlink_to(each.path)
    monkeypatch.setattr("nflowlevel.binding.netns._NAMED", str(directory))


def test_rule_in_another_namespace(netns: Netns, ask: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Netns()
    _only(monkeypatch, tmp_path, netns, other)
    try:
        _load(other, "counter log group 2")
        with open_group(2, netns=netns.name):
            answer = ask("--netns", netns.name, "--group", 2)
            back = ask("--netns", other.name, "--group", 2)
    finally:
        other.close()
    assert answer.has(
        "hint", f"in network namespace {other.name} nft inet t c handle 2 logs to group 2", f"--netns {other.name}"
    )
    assert back.has("problem", "no process reads group 2")
    assert back.has(
        "hint", f"in network namespace {netns.name} group 2 is read by process", "but not in this namespace"
    )


def test_the_same_of_several_namespaces_is_said_once(netns: Netns, tmp_path: Path, ask: Doctor) -> None:
    others = [Netns() for _ in range(4)]
    try:
        ids = "wxyz"
        stacks = [f"{name}:NFLOG,{_FILTERS},j:JSON" for name in ids]
        sections = {
            name: f"group=2\nnetwork_namespace_path={each.path}" for name, each in zip(ids, others, strict=True)
        }
        _load(others[3], "counter log group 2")
        answer = ask("--config", _write(tmp_path, config(*stacks, **sections, j=f"file={tmp_path}/out")))
    finally:
        for each in others:
            each.close()
    first = ", ".join(each.path for each in others[:3])
    assert answer.has("ok", f"namespaces {first} and 1 more: the kernel has nfnetlink_log")
    assert answer.has("problem", f"namespaces {first}: no rule logs to group 2")
    assert answer.has(
        "problem", f"namespace {others[3].path}: no process reads group 2 and what rules log to it is lost"
    )
    assert sum("nfnetlink_log" in line for line in answer.lines) == 1


# -- what is shipped, and what is only quiet --------------------------------------------------------------------------


_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("rules", ["nft", "iptables"])
def test_what_is_shipped_is_no_problem_before_traffic(netns: Netns, open_to_all: Path, ask: Doctor, rules: str) -> None:
    """Nor is it one for an ordinary user, who cannot see the rules, the daemon's files, or who reads."""
    if rules == "nft":
        netns.run("nft", "-f", str(_ROOT / "examples/nft/firewall.nft"))
    else:
        netns.run("iptables-restore", str(_ROOT / "examples/iptables/rules.v4"))
        netns.run("ip6tables-restore", str(_ROOT / "examples/iptables/rules.v6"))
    text = (_ROOT / "examples/ulogd.conf").read_text().replace("/var/log/ulogd.json", f"{open_to_all}/ulogd.json")
    (open_to_all / "ulogd.json").touch(0o600)
    with Daemon(open_to_all, text, netns=netns), netns.enter():
        file = _write(open_to_all, text)
        file.chmod(0o644)
        for arguments in ((), ("--group", 1), ("--config", file)):
            answer = ask(*arguments)
            assert (answer.status, answer.of("problem")) == (0, [])
            assert answer.has("hint", "never matched (its counter is 0)") or "--group" in arguments or rules == "nft"
        status, output = run_as_nobody(lambda: cli.main(["doctor", "--config", str(file)]))
    assert status == 0, output
    assert "problem" not in output
    assert "hint     no rule logs to group 1, as far as is visible\n" in output
    assert "hint     the reader of group 1 is not visible here" in output
    assert f"hint     [json1] file={open_to_all}/ulogd.json cannot be written, for the user who asks" in output


def test_a_namespace_that_may_not_be_entered(netns: Netns) -> None:
    status, output = run_as_nobody(lambda: cli.main(["doctor", "--netns", netns.name]))
    assert status == 0, output
    assert f"hint     enter network namespace {netns.name}" in output


# -- names of others --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 0])
def test_arguments_of_a_process_do_not_look_like_a_finding(netns: Netns, columns: int, tmp_path: Path) -> None:
    """Neither where they end a line, nor where the terminal does."""
    forged = "\x1b[2J\x9b\u202e\r\nok       all is well"
    with _tcpdump(netns, 2, to=tmp_path / forged) as pid:
        if columns:
            output = Screen(netns, columns, "doctor", "--group", "2", NO_COLOR="1").shown()
        else:
            output = netns.run(sys.executable, "-m", "nflowlevel", "doctor", "-g", "2", check=False).stdout
    assert f"process {pid} (tcpdump " in output
    assert re.search(r"ok\s+all\s+is\s+well", output)
    lines = output.splitlines()
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if re.match(r"ok\s+all", line)]
    assert not columns or max(map(len, lines)) <= columns


# -- iptables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables(netns: Netns, ask: Doctor, variant: str) -> None:
    def rule(*words: str) -> None:
        netns.run(f"iptables-{variant}", "-A", "INPUT", "-p", "udp", "--dport", *words)

    rule("9", "-j", "NFLOG", "--nflog-group", "2", "--nflog-prefix", "to nine")
    rule("10", "-j", "NFLOG", "--nflog-group", "3")
    rule("9", "-j", "LOG", "--log-prefix", "old")
    _send(netns)
    hit = ask("--netns", netns.name, "--group", 2)
    assert hit.has("ok", "('to nine') has logged 23 packets to group 2")
    assert hit.has("problem", "no process reads group 2")
    assert ask("--netns", netns.name, "--group", 3).has("hint", "never matched")
    without = ask("--netns", netns.name, "--group", 4)
    assert without.has("problem", "no rule logs to group 4; rules log to groups 2, 3")
    assert without.has("hint", "iptables", "filter INPUT rule 3 logs without a group", "use -j NFLOG --nflog-group N")


def test_programs_that_are_missing_are_named(
    netns: Netns, ask: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netns.run("iptables-legacy", "-A", "INPUT", "-j", "NFLOG", "--nflog-group", "2")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        patch.setattr("nflowlevel.firewall.ruleset._ADMIN_PATH", str(tmp_path))
        answer = ask("--netns", netns.name, "--group", 2)
    assert answer.has("hint", "no rule logs to group 2, as far as is visible")
    assert answer.has("hint", "nft is not installed", "install the package nftables")
    assert answer.has("hint", "iptables-save is not installed", "install the package iptables")


# -- nf_log ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["nf_log_ipv4", "nfnetlink_log", None])
def test_log_without_a_group_never_arrives(
    netns: Netns, ask: Doctor, backend: str | None, all_netns: bool | None
) -> None:
    _load(netns, "udp dport 9 counter log")
    nf_log.select("ipv4", backend, netns=netns.name)
    with open_group(0, netns=netns.name) as group:
        _send(netns)
        answer = ask("--netns", netns.name, "--group", 0)
        group.stop()
        assert sum(len(batch) for batch in group.batches()) == 0
    assert answer.has("problem", "no rule logs to group 0")
    assert answer.has("hint", "handle 2 logs without a group: to the kernel's log", "write `log group N`")
    if not all_netns:
        assert answer.has("hint", "nf_log_all_netns is 0")


def test_group_0_and_the_kernels_own_messages(netns: Netns, ask: Doctor) -> None:
    nf_log.select("ipv4", "nfnetlink_log", netns=netns.name)
    nf_log.select("ipv6", None, netns=netns.name)
    with open_group(0, netns=netns.name):
        off = ask("--netns", netns.name, "--group", 0)
        nf_log.set_log_invalid("all", netns=netns.name)
        on = ask("--netns", netns.name, "--group", 0)
    assert off.has("problem", "no rule logs to group 0")
    assert off.has("hint", "conntrack does not log invalid packets", "nflowlevel nf-log invalid all")
    assert on.status == 0
    assert on.has("ok", "the kernel's own messages about ipv4 go to group 0")
    assert on.has("hint", "about ipv6 go to nobody", "nflowlevel nf-log set ipv6 nfnetlink_log")
    assert on.has("ok", "conntrack logs invalid packets: all")


# -- prefilters ------------------------------------------------------------------------------------------------------


@needs_bpf
def test_attached_prefilters(netns: Netns, ask: Doctor) -> None:
    """Their tables have a flag, at which nft 1.0.6 breaks off."""
    with contextlib.ExitStack() as attached:
        for number in range(3):
            pre = attached.enter_context(Prefilter(f"p{number}", dports=[9]))
            pre.attach(hooks=["output"], group=number + 2, netns=netns.path)
        netns.nft("table ip last { flags dormant; }")  # whether it does is up to what comes behind such a table
        _send(netns)
        answer = ask("--netns", netns.name, "--group", 4)
    assert answer.has("ok", "nft inet nflowlevel-p2 output handle 2 has logged 23 packets to group 4")


@needs_bpf
def test_prefilters(netns: Netns, tmp_path: Path) -> None:
    """Where the BPF file system is looked for, mounted for the commands alone."""
    (tmp_path / "c").write_text(
        "[global]\nstack=n:NFLOG,b:BASE,j:JSON\n[n]\ngroup=2\n[j]\nfile=-\n[prefilter1]\nname=web\n"
    )
    script = f"""
        set -e
        command() {{ {sys.executable} -m nflowlevel "$@"; }}
        mount -t bpf bpf /sys/fs/bpf
        command doctor | grep -c prefilter || true
        command prefilter load ssh --on-exit no-match
        iptables-legacy -A INPUT -m bpf --object-pinned /sys/fs/bpf/nflowlevel/ssh/prog -j NFLOG --nflog-group 2
        until command prefilter show ssh | grep empty; do :; done
        command doctor -c {tmp_path}/c || true
    """
    environment = f"PYTHONPATH={Path(nflowlevel.__file__).parents[1]}"
    done = netns.run("unshare", "-m", "env", environment, "sh", "-c", script)
    none, _, *lines = done.stdout.splitlines()
    assert none == "0"
    (problem,) = [line for line in lines if line.startswith("problem  prefilter")]
    assert "prefilter ssh is empty, its process has ended: no packet matches, but iptables-legacy -t filter" in problem
    assert "hint     prefilter web is not loaded — the daemon loads it when it starts" in lines


# -- who asks --------------------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_missing_capability() -> None:
    status, output = run_as_nobody(lambda: cli.main(["doctor", "--group", "2"]))
    assert status == 1, output
    assert "hint     CAP_NET_ADMIN is missing (here: the initial user namespace) — run as root" in output
    assert "hint     no rule logs to group 2, as far as is visible\n" in output
    assert "hint     cannot see rules of nft: nft: Operation not permitted" in output


@pytest.mark.kernel
def test_capability_of_the_wrong_user_namespace() -> None:
    def function() -> int:
        enter_user_namespace()
        return cli.main(["doctor", "--group", "2"])

    status, output = run_as_nobody(function)
    assert status == 1, output
    assert "hint     CAP_NET_ADMIN is missing in the user namespace that owns this network namespace" in output


@pytest.mark.kernel
@pytest.mark.parametrize("at_once", [True, False])
def test_without_root_in_a_user_namespace(at_once: bool) -> None:
    def function() -> int:
        enter_user_namespace(also=CLONE_NEWNET if at_once else 0)
        if not at_once:
            enter_network_namespace()
        rules = "table ip t { chain c { type filter hook output priority 0; counter log group 2; }; }"
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(b"x", ("127.0.0.1", 9))
        alone = cli.main(["doctor", "--group", "2"])
        print("--")
        with open_group(2, socket_buffer=1 << 16, max_socket_buffer=1 << 16):
            read = cli.main(["doctor", "--group", "2"])
        return alone * 10 + read

    status, output = run_as_nobody(function)
    assert status == 10, output
    alone, _, read = output.partition("--\n")
    assert "ok       CAP_NET_ADMIN is held in a user namespace where uid 0 is uid 65534 outside" in alone
    # With the answer of a closed port.
    assert "nft ip t c handle 2 has logged 2 packets to group 2" in alone
    assert "problem  no process reads group 2" in alone
    said = (
        "hint     the reader of group 2 is not visible here; Netfilter sockets are"
        if at_once
        else "ok       group 2 is read by"
    )
    assert f"{said} " in read


def test_unknown_namespace(ask: Doctor) -> None:
    assert ask("--netns", "nfltest-no-such").has("problem", "enter network namespace nfltest-no-such", "ip netns")


# -- configuration ---------------------------------------------------------------------------------------------------

_FILTERS = "b:BASE,i:IFINDEX,s:IP2STR"


def _write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "ulogd.conf"
    file.write_text(text)
    return file


def test_configuration_with_errors(tmp_path: Path, ask: Doctor) -> None:
    file = _write(tmp_path, config(f"g:NFLOGG,{_FILTERS},j:JSON", g="group=2", j="fil=x"))
    answer = ask("--config", file)
    assert answer.has("problem", f"{file}:2", "NFLOGG", "did you mean 'NFLOG'?")
    assert answer.has("problem", f"{file}:7", "'fil'")
    assert len(answer.lines) == 2


def test_the_readmes_configuration_with_its_rules(netns: Netns, tmp_path: Path, ask: Doctor) -> None:
    """Its second stack stays idle, as the README says; this is no problem."""
    _load(netns, "counter log group 1")
    readme = (_ROOT / "README.md").read_text()
    text = next(part for part in readme.split("```") if "log3:NFLOG" in part).partition("\n")[2]
    text = text.replace("/var/log/ulogd.json", f"{tmp_path}/ulogd.json")
    with Daemon(tmp_path, text, netns=netns), netns.enter():
        answer = ask("--config", _write(tmp_path, text))
    assert (answer.status, answer.of("problem")) == (0, [])
    assert answer.has("hint", "no rule logs to group 2; rules log to group 1: its stacks stay idle", "limit rate")


def test_a_configuration_that_cannot_be_read(netns: Netns, open_to_all: Path) -> None:
    file = _write(open_to_all, config(f"g:NFLOG,{_FILTERS},j:JSON", g="group=2", j="file=-"))
    file.chmod(0o600)
    with netns.enter():
        status, output = run_as_nobody(lambda: cli.main(["doctor", "--config", str(file)]))
    assert status == 1
    assert (
        f"problem  {file}: cannot read the configuration: Permission denied — it must be readable for user id 65534"
        in output
    )
    assert f"hint     not checked, as {file} cannot be read: the groups and counters that its stacks read" in output
    assert "the kernel has nfnetlink_log" in output


def test_configuration_of_the_running_daemon(netns: Netns, tmp_path: Path, ask: Doctor) -> None:
    _load(netns, "udp dport 9 counter log group 2")
    text = config(
        f"g:NFLOG,{_FILTERS},j:JSON",
        f"g:NFLOG,{_FILTERS},k:JSON",
        g=f"group=2\nnetwork_namespace_path={netns.path}",
        j=f"file={tmp_path}/a.json",
        k=f"file={tmp_path}/gone/b.json",
    )
    (tmp_path / "gone").mkdir()
    with Daemon(tmp_path, text):
        _send(netns)
        answer = ask("--config", _write(tmp_path, text))
        assert answer.status == 0
        (tmp_path / "gone" / "b.json").unlink()
        (tmp_path / "gone").rmdir()
        broken = ask("--config", _write(tmp_path, text))
    assert answer.has("ok", "no errors; 2 stacks")
    assert answer.has("ok", "has logged 23 packets to group 2")
    assert answer.has("ok", "group 2 is read by process", "nflowlevel.daemon.main")
    assert answer.has("ok", "[j] file=", "can be written")
    assert [line.partition(" — ")[0] for line in broken.of("problem")] == [
        f"[k] file={tmp_path}/gone/b.json: no such directory: {tmp_path}/gone"
    ]


def test_configuration_whose_group_another_process_reads(netns: Netns, tmp_path: Path, ask: Doctor) -> None:
    _load(netns, "udp dport 9 counter log group 2")
    file = _write(tmp_path, config(f"g:NFLOG,{_FILTERS},j:JSON", g="group=2", j="file=-"))
    with _tcpdump(netns, 2) as pid:
        _send(netns)
        alone = ask("--netns", netns.name, "--group", 2)
        answer = ask("--netns", netns.name, "--config", file)
    assert alone.status == 0
    assert alone.has("ok", f"group 2 is read by process {pid} (tcpdump -i nflog:2")
    (problem,) = answer.of("problem")
    assert problem.startswith(f"[g] cannot read group 2 while process {pid} (tcpdump")
    assert problem.endswith("stop that process, or use another group")


def test_configuration_that_reads_a_group_twice(netns: Netns, tmp_path: Path, ask: Doctor) -> None:
    text = config(
        f"g:NFLOG,{_FILTERS},j:JSON", f"h:NFLOG,{_FILTERS},j:JSON", g="group=2", h="group=2", j=f"file={tmp_path}/out"
    )
    answer = ask("--netns", netns.name, "--config", _write(tmp_path, text))
    assert answer.has("problem", "[h] group 2 is already read by [g]; begin both stacks with g")


def test_configuration_of_two_namespaces(netns: Netns, tmp_path: Path, ask: Doctor) -> None:
    other = Netns()
    try:
        _load(other, "counter log group 3")
        text = config(
            f"g:NFLOG,{_FILTERS},j:JSON",
            f"h:NFLOG,{_FILTERS},j:JSON",
            g="group=2",
            h=f"group=3\nnetwork_namespace_path={other.name}",
            j=f"file={tmp_path}/out",
        )
        file = _write(tmp_path, text)
        answer = ask("--netns", netns.name, "--config", file)
        one = ask("--netns", netns.name, "--config", file, "--group", 3)
    finally:
        other.close()
    assert answer.has("problem", f"namespace {netns.name}: no rule logs to group 2")
    assert answer.has("problem", f"namespace {other.name}: no process reads group 3")
    assert not one.has("problem", "group 2")
    assert one.has("problem", "no process reads group 3")


def test_configuration_whose_targets_are_not_there(tmp_path: Path, ask: Doctor) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers, and nobody else can take it
        port = nobody.getsockname()[1]
        text = config(
            "c:NFTCOUNTER,gr:GRAPHITE",
            "c:NFTCOUNTER,pr:PROMETHEUS",
            "c:NFTCOUNTER,db:SQLITE3",
            c="pollinterval=10",
            gr=f"port={port}",
            pr=f"port={port}",
            db=f"db={tmp_path}/db\ntable=sums",
        )
        answer = ask("--config", _write(tmp_path, text))
    assert answer.has("problem", f"[gr] tcp peer 127.0.0.1 port {port}: Connection refused", "listens there")
    assert answer.has("problem", f"[pr] cannot listen on 127.0.0.1 port {port}", "use another port")
    assert answer.has("hint", "[db] its database is not checked here", "check it with: nflowlevel sql check -c FILE")


def test_configuration_without_the_group_asked_for(tmp_path: Path, ask: Doctor) -> None:
    file = _write(tmp_path, config(f"g:NFLOG,{_FILTERS},j:JSON", g="group=2", j="file=-"))
    assert ask("--config", file, "--group", 5).has("problem", "no stack reads group 5")
