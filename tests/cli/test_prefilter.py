# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel prefilter` from end to end: what is loaded works on after the command, and no state is a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nflowlevel import Group, cli
from nflowlevel.binding import bpf, nftmatch
from nflowlevel.binding.bpf import VerifierError
from nflowlevel.cli import prefilter
from nflowlevel.firewall.ruleset import Unseen
from nflowlevel.prefilter import attach, generation, pins, users
from nflowlevel.prefilter.conditions import FIXED, PrefilterOptions
from nflowlevel.prefilter.prefilter import Prefilter
from tests.fix_group import collect, packets_in
from tests.fix_lines import wait_for
from tests.fix_netns import Netns, Pair
from tests.fix_nobody import run_as_nobody
from tests.fix_prefilter import needs_bpf
from tests.fix_program import bpffs

__all__ = ["bpffs"]

pytestmark = [pytest.mark.kernel, needs_bpf]

GROUP = 7
_ROOT = Path(__file__).parents[2]


class Command:
    """The command, with a BPF file system of the test's own."""

    def __init__(self, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.bpffs, self._capsys = bpffs, capsys
        self.errors = ""

    def __call__(self, action: str, *words: object, status: int = 0) -> str:
        """Return what it prints; `errors` has the rest."""
        assert cli.main(["prefilter", "--bpffs", str(self.bpffs), action, *map(str, words)]) == status
        output, self.errors = self._capsys.readouterr()
        assert not status or not output
        return output

    def fails(self, action: str, *words: object, status: int = 1) -> str:
        """Return what it says when it fails."""
        self(action, *words, status=status)
        return self.errors

    def counted(self, name: str = "ssh") -> dict[str, int]:
        """Return what became of the UDP packets."""
        row = json.loads(self("counters", name, "--json"))["protocols"]["udp"]
        return {total: count["packets"] for total, count in row.items() if count["packets"]}

    def shown(self, name: str = "ssh") -> dict[str, object]:
        """Return what `show` knows."""
        shown: dict[str, object] = json.loads(self("show", name, "--json"))
        return shown

    def rules(self, name: str = "ssh") -> dict[str, object]:
        rules = self.shown(name)["rules"]
        assert isinstance(rules, dict)
        return rules


@pytest.fixture
def command(bpffs: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(bpffs, capsys)


@contextmanager
def rule_of_iptables(netns: Netns, path: str, variant: str = "legacy") -> Iterator[None]:
    """A rule that asks what is pinned at `path`."""
    rule = f"INPUT -m bpf --object-pinned {path} -j NFLOG --nflog-group {GROUP}"
    netns.run(f"iptables-{variant}", "-w", "60", "-A", *rule.split())
    yield
    # By its number: by its words it cannot be found once the pin is gone.
    netns.run(f"iptables-{variant}", "-w", "60", "-D", "INPUT", "1")


# -- from end to end --------------------------------------------------------------------------------------------------


def test_loaded_attached_changed_and_removed(pair: Pair, command: Command) -> None:
    """Each step is a command that ends; the kernel goes on."""
    words = ["--dports", "9", "--attach", "input", "--group", GROUP, "--prefix", "p: ", "--netns", pair.fw.name]
    output = command("load", "ssh", *words)
    assert output.splitlines() == [
        "nftables table inet nflowlevel-ssh asks it at input",
        f"prefilter ssh is pinned at {command.bpffs}/nflowlevel/ssh/prog",
    ]
    with Group(GROUP, netns=pair.fw.path) as group:
        pair.send_udp(count=11, port=19)
        pair.send_udp(count=23)
        batches = collect(group, 23)
        assert {prefix for batch in batches for prefix in batch.values("oob.prefix")} == {"p: "}
        assert command.counted() == {"seen": 34, "logged": 23, "filtered": 11}
        assert "dports=19" in command("update", "ssh", "--dports", "19")
        pair.send_udp(count=13, port=19)
        pair.send_udp(count=7)
        collect(group, 13)
        assert command.counted() == {"seen": 54, "logged": 36, "filtered": 18}
        command("remove", "ssh")
        pair.send_udp(count=5, port=19)
        group.stop()
        assert packets_in(group.batches()) == 0
    assert nftmatch.tables(pair.fw.path) == []
    assert Prefilter.pinned(bpffs=command.bpffs) == []


@pytest.mark.parametrize("variant", ["legacy", "nft"])
def test_behind_the_rules_it_prints(pair: Pair, command: Command, variant: str) -> None:
    output = command("load", "ssh", "--dports", "9")
    assert "nflowlevel prefilter rule ssh --group N" in output
    lines = command("rule", "ssh", "--group", GROUP, "--prefix", "it's: ").splitlines()
    line = next(line for line in lines if line.startswith("iptables "))
    pair.fw.run("sh", "-c", line.replace("iptables ", f"iptables-{variant} -w 60 ", 1))
    with Group(GROUP, netns=pair.fw.path) as group:
        pair.send_udp(count=11, port=19)
        pair.send_udp(count=23)
        collect(group, 23)
    assert command.counted() == {"seen": 34, "logged": 23, "filtered": 11}


def test_marks(pair: Pair, command: Command) -> None:
    pair.fw.nft("""table inet t {
        counter marked { }
        chain c { type filter hook input priority 0; meta mark and 0x100 == 0x100 counter name marked; }
    }""")
    command("load", "ssh", "--dports", "9", "--attach", "input", "--mark", "0x100", "--netns", pair.fw.name)
    pair.send_udp(count=11, port=19)
    pair.send_udp(count=23)
    assert pair.fw.counter("marked") == 23
    lines = command("rule", "ssh", "--group", "7", "--mark", "0x100", "--hook", "forward").splitlines()
    assert lines[-1].endswith("add rule inet logging forward meta mark and 0x100 == 0x100 counter log group 7'")
    pair.fw.run("sh", "-c", lines[-1])
    assert "log group 7" in pair.fw.run("nft", "list", "chain", "inet", "logging", "forward").stdout
    command("remove", "ssh")


def test_attached_later_and_anew(netns: Netns, command: Command) -> None:
    command("load", "ssh")
    for number in (3, 5):
        command("update", "ssh", "--attach", "input,output", "--group", number, "--netns", netns.name)
        assert f"log group {number}" in netns.run("nft", "list", "ruleset").stdout
    assert len(nftmatch.tables(netns.path)) == 1
    command("remove", "ssh")


# -- rules ------------------------------------------------------------------------------------------------------------


def test_every_rule_can_be_given(command: Command) -> None:
    given = {
        "ignore": "10.0.0.0/8,fd00::/8",
        "only": "0.0.0.0/0,::/0",
        "ignore_dst": "192.0.2.1",
        "only_dst": "198.51.100.0/24",
        "protocols": "tcp,17",
        "sports": "1024-65535",
        "dports": "22,8000-8100",
        "tcp_flags": "!rst",
        "sample": 3,
        "first_of_flow": 0.5,
        "rate": 100.0,
        "burst": 20,
        "rate_prefix4": 24,
        "rate_prefix6": 56,
        "global_rate": 1e6,
        "global_burst": 1000,
        "top": True,
        "sources": 100,
        "flows": 200,
        "on_exit": "no-match",
    }
    assert {*given} == {*PrefilterOptions.__struct_fields__}
    words = [word for name, value in given.items() for word in _words(name, value)]
    command("load", "ssh", *words)
    assert command.rules() == given
    # What is changed is changed, all else stays.
    changes = {name: value for name, value in given.items() if name not in FIXED} | {"burst": 30, "top": False}
    command("remove", "ssh")
    command("load", "ssh")
    command("update", "ssh", *[word for name, value in changes.items() for word in _words(name, value)])
    command("update", "ssh", "--sample", "5")
    kept = {name: getattr(PrefilterOptions(), name) for name in FIXED} | {"on_exit": "keep"}
    assert command.rules() == {**changes, **kept, "sample": 5}


def _words(name: str, value: object) -> list[str]:
    if value is True:
        return [f"--{name}"]
    return [f"--{name.replace('_', '-')}", "no" if value is False else str(value)]


def test_lists_from_a_file(command: Command, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("lists") / "networks"  # tmp_path is the BPF file system
    file.write_text("10.1.0.0/16  # office\n\n# guests\nfd00::/8\n")
    command("load", "ssh", "--ignore", f"@{file}")
    assert command.rules()["ignore"] == "10.1.0.0/16,fd00::/8"
    assert "read /nowhere: No such file" in command.fails("load", "web", "--ignore", "@/nowhere")
    file.write_bytes(b"\xff")
    assert f"read {file}: " in command.fails("load", "web", "--ignore", f"@{file}")


def test_what_update_cannot_change(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    command("load", "ssh")
    for name in FIXED:
        with pytest.raises(SystemExit) as info:
            command("update", "ssh", f"--{name.replace('_', '-')}", "1")
        assert info.value.code == 2
    assert f"unknown option '--{FIXED[-1].replace('_', '-')}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rate", "-1"], "rate=-1: must be 0 to 1000000000"),
        (["--sample", "x"], "sample=x: not a whole number; must be 1 to 4294967295"),
        (["--dports", "99999"], "dports: '99999': must be 0 to 65535"),
        (["--protocols", "tpc"], "did you mean 'tcp'?"),
        (["--ignore", "10.0.0.1/8"], "has bits set after its prefix"),
        (["--attach", "imput", "--group", "1"], "did you mean 'input'?"),
        (["--attach", "input"], "give either a group to log to or a mark to set, not both"),
        (["--attach", "input", "--group", "1", "--on-exit", "no-match"], "--on-exit keep"),
        (["--group", "1"], "--group and --mark need an attached prefilter: add --attach HOOKS"),
        (["--attach", "input", "--group", "1", "--netns", "nowhere"], "enter network namespace nowhere"),
    ],
)
def test_what_is_wrong_changes_nothing(command: Command, words: list[str], says: str) -> None:
    said = command.fails("load", "ssh", *words, status=1 if "nowhere" in words else 2)
    assert said.startswith("nflowlevel prefilter: ")
    assert says in said
    assert Prefilter.pinned(bpffs=command.bpffs) == []


def test_changes_are_checked_with_what_stays(command: Command) -> None:
    """A bucket of five would take more than a century to fill up, one of one does not."""
    command("load", "ssh", "--burst", "1")
    command("update", "ssh", "--rate", "0.000000001")
    assert "more than a century" in command.fails("update", "ssh", "--burst", "5", status=2)


def test_wrong_rules_leave_the_old_ones(command: Command) -> None:
    command("load", "ssh", "--rate", "1", "--burst", "2")
    assert "rate=-1: must be 0 to" in command.fails("update", "ssh", "--rate", "-1", "--burst", "9", status=2)
    assert command.rules()["burst"] == 2


# -- states -----------------------------------------------------------------------------------------------------------


def test_the_name_is_taken(command: Command) -> None:
    command("load", "ssh", "--dports", "22")
    said = command.fails("load", "ssh", "--dports", "23")
    assert "load prefilter 'ssh': File exists — nflowlevel prefilter update ssh changes its rules" in said
    assert command.rules()["dports"] == "22"


def test_a_name_that_is_none(command: Command) -> None:
    assert "prefilter name '../ssh': must be 1 to 64 letters, digits" in command.fails("load", "../ssh", status=2)


@pytest.mark.parametrize("action", ["show", "counters", "update", "remove"])
def test_nothing_of_that_name(command: Command, action: str) -> None:
    assert "No such file or directory — pinned: none" in command.fails(action, "ssh")
    command("load", "ssh")
    assert "did you mean 'ssh'?" in command.fails(action, "shs")


def test_another_layout(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pins, "LAYOUT", pins.LAYOUT + 1)
        command("load", "ssh")
    for action in ("load", "update", "counters"):
        assert f"pinned with layout {pins.LAYOUT + 1}, and this version has" in command.fails(action, "ssh")
    shown = command.shown()
    assert (shown["state"], shown["layout"], shown["rules"]) == ("other layout", pins.LAYOUT + 1, None)
    assert f"ssh: prefilter 'ssh' is pinned with layout {pins.LAYOUT + 1}" in command("show")
    command("remove", "ssh")


def test_no_bpf_file_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(tmp_path, capsys)
    for action in ("load", "update", "show", "counters", "remove"):
        said = command.fails(action, "ssh")
        assert f"found no BPF file system at {tmp_path}; needed: " in said
        assert "nflowlevel prefilter mount" in said
    assert "iptables" in command("rule", "ssh", "--group", "1")
    assert command.errors == "ssh is not pinned yet: nflowlevel prefilter load ssh\n"


def test_mount(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(tmp_path, capsys)
    assert command("mount") == f"the BPF file system is mounted at {tmp_path}\n"
    try:
        assert command("mount") == f"the BPF file system is mounted at {tmp_path} already\n"
        command("load", "ssh")
        command("remove", "ssh")
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert "there is no such directory" in Command(tmp_path / "x", capsys).fails("mount")


def test_without_capability(bpffs: Path) -> None:
    bpffs.chmod(0o777)

    def load(name: str) -> int:
        return cli.main(["prefilter", "--bpffs", str(bpffs), "load", name])

    for parent in bpffs.parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    status, output = run_as_nobody(lambda: load("ssh"))
    assert (status, output.count("\n")) == (1, 1)
    assert "Operation not permitted — CAP_BPF is missing; run as root" in output
    assert load("ssh") == 0
    status, output = run_as_nobody(lambda: cli.main(["prefilter", "--bpffs", str(bpffs), "show"]))
    assert status == 1
    assert "Permission denied — pinned objects belong to root: run as root" in output


def test_installed_without_clang(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "OBJECT", Path("/nowhere/prefilter.bpf.o"))
    assert "an installation made without clang" in command.fails("load", "ssh")
    assert Prefilter.pinned(bpffs=command.bpffs) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_refused_by_the_verifier(command: Command, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise VerifierError("load it", 13, "first\nback-edge\n")

    monkeypatch.setattr(bpf.Program, "load", refuse)
    said = command.fails("load", "ssh", *["--verifier-log"] * wanted)
    assert said.endswith("the verifier says: back-edge\n")
    assert said.startswith("first\n") is wanted


def test_empty_once_its_process_has_ended(command: Command) -> None:
    output = command("load", "ssh", "--on-exit", "no-match")
    assert "process that keeps running opens it" in output
    wait_for(lambda: command.shown()["state"] == "empty")  # the kernel does it a little later
    assert "ssh: empty: " in command("show", "ssh")
    assert "start the daemon that loads it" in command.fails("update", "ssh", "--sample", "2")
    # As the daemon does when it starts; then a command may change it.
    with Prefilter.take("ssh", bpffs=command.bpffs):
        assert command.shown()["state"] == "active"
        command("update", "ssh", "--sample", "2")
        assert command.shown()["state"] == "active"
    assert command.rules()["sample"] == 2


# -- who uses it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["legacy", "nft"])
def test_removal_is_refused_while_a_rule_uses_it(netns: Netns, command: Command, variant: str) -> None:
    command("load", "ssh")
    command("load", "web")
    path = f"{command.bpffs}/nflowlevel/ssh/prog"
    with rule_of_iptables(netns, path, variant):
        said = command.fails("remove", "ssh", status=prefilter.EXIT_USED)
        suffix = "-legacy" if variant == "legacy" else ""
        assert f"  netns {netns.name}: iptables{suffix} -t filter INPUT rule 1: -A INPUT -m bpf" in said
        assert "--force" in said
        assert os.path.exists(path)
        assert f"--object-pinned {path}" in str(command.shown()["used_by"])
        command("remove", "web")
    command("remove", "ssh")
    assert Prefilter.pinned(bpffs=command.bpffs) == []


def test_removal_by_force(netns: Netns, command: Command) -> None:
    command("load", "ssh")
    with rule_of_iptables(netns, f"{command.bpffs}/nflowlevel/ssh/prog"):
        command("remove", "ssh", "--force")
        assert Prefilter.pinned(bpffs=command.bpffs) == []


def test_removal_is_refused_while_a_process_has_attached_it(netns: Netns, command: Command) -> None:
    with Prefilter("ssh", bpffs=command.bpffs) as pre:
        pre.pin()
        pre.attach(group=GROUP, netns=netns.path)
        said = command.fails("remove", "ssh", status=prefilter.EXIT_USED)
        assert f"(process {os.getpid()}, " in said
        command("remove", "ssh", "--force")
        assert len(nftmatch.tables(netns.path)) == 1
    assert nftmatch.tables(netns.path) == []
    assert attach.detach("ssh", netns=netns.path) is False


def test_show_all(command: Command, netns: Netns) -> None:
    assert command("show") == ""
    assert command.errors == f"no prefilter is pinned at {command.bpffs}\n"
    command("load", "web", "--protocols", "tcp", "--ignore", ",".join(f"10.0.{n}.0/24" for n in range(250)))
    command("load", "ssh", "--attach", "input", "--group", GROUP, "--netns", netns.name)
    assert command("show").splitlines() == [
        "ssh: active",
        "  rules     on_exit=keep",
        f"  pinned    {command.bpffs}/nflowlevel/ssh/prog (layout {pins.LAYOUT})",
        f"  used by   netns {netns.name}: nft table inet nflowlevel-ssh, kept without an owner",
        "web: active",
        "  rules     ignore=10.0.0.0/24,10.0.1.0/24,10.0.2.0/24,10.0.3.0/24,10.0.4.0/24,10.0.5.0/24,10.0.6.0… "
        "protocols=tcp on_exit=keep",
        f"  pinned    {command.bpffs}/nflowlevel/web/prog (layout {pins.LAYOUT})",
    ]
    assert [json.loads(line)["name"] for line in command("show", "--json").splitlines()] == ["ssh", "web"]


# -- help, and others -------------------------------------------------------------------------------------------------


def test_help_has_every_rule_and_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for words in ([], ["load"], ["update"]):
        with pytest.raises(SystemExit):
            cli.main(["prefilter", *words, "--help"])
        texts[" ".join(words)] = " ".join(capsys.readouterr().out.split())
    assert f"{prefilter.EXIT_USED} `prefilter remove`: a rule still uses it" in texts[""]
    for name in PrefilterOptions.__struct_fields__:
        assert f"--{name.replace('_', '-')}" in texts["load"]
        assert (f"--{name.replace('_', '-')} " in texts["update"]) is (name not in FIXED)
    assert "or matching goes on. Default: keep." in texts["load"]


def test_users_of_others_do_nothing_to_a_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("load", "ssh")
    hostile = "x\x1b[2J\x9b\nssh: active"
    used = users.Users({None: users.PinUse((hostile,), (), ())}, (Unseen(hostile),))
    monkeypatch.setattr(users, "users", lambda *_: used)
    shown = command("show", "ssh").splitlines()
    assert r"  used by   x\x1b[2J\x9b\nssh: active" in shown
    assert all(line.isprintable() for line in shown)
    refused = command.fails("remove", "ssh", status=prefilter.EXIT_USED).splitlines()
    assert r"  x\x1b[2J\x9b\nssh: active" in refused
    assert all(line.isprintable() for line in refused)
    monkeypatch.undo()
    command("remove", "ssh")


@pytest.mark.parametrize("words", ["load ssh", "show", "counters ssh", "remove ssh", "mount", "rule ssh --group 1"])
def test_within_ip_netns_exec_it_says_what_to_do(netns: Netns, words: str) -> None:
    program = ["ip", "netns", "exec", netns.name, sys.executable, "-m", "nflowlevel", "prefilter", *words.split()]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == (0 if "rule" in words else 1)
    assert f"`ip netns exec {netns.name}`" in done.stderr
    assert f"--netns {netns.name}" in done.stderr or "rule" in words


def test_try_is_there(netns: Netns, command: Command) -> None:
    assert "in all: seen " in command("try", "udp.dport == 9", "--seconds", "0", "--netns", netns.name)


def test_the_page_of_documentation_works_when_pasted(netns: Netns, tmp_path: Path) -> None:
    """All its commands, then its Python, where the BPF file system is mounted for them alone; nothing is left."""
    page = (_ROOT / "docs/prefilter.md").read_text()
    shell, python = ("\n".join(re.findall(rf"^```{name}\n(.*?)^```$", page, re.M | re.S)) for name in ("sh", "python"))
    (tmp_path / "example.py").write_text(python)
    script = f"""set -e
        nflowlevel() {{ {sys.executable} -m nflowlevel "$@"; }}
        umount /sys/fs/bpf 2>/dev/null || true
        cd {tmp_path}
        {shell}
        {sys.executable} example.py
        nflowlevel prefilter show
    """
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    words = netns.command("unshare", "-m", "sh", "-c", script)
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "no prefilter is pinned at /sys/fs/bpf"
    assert "ignore=10.0.0.0/8,fd00::/8" in done.stdout
