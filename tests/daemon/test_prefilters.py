# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's prefilters: sections of the configuration, and packets that the real daemon thins in the kernel."""

from __future__ import annotations

import errno
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from nflowlevel.daemon.prefilters import Prefilters, Wanted, wanted
from nflowlevel.errors import KernelError
from nflowlevel.options import ConfigErrors
from nflowlevel.prefilter import pins
from nflowlevel.prefilter.prefilter import Prefilter
from nflowlevel.stacks.config import parse_text
from tests.fix_daemon import Daemon, log_rule, records, run, wait_for
from tests.fix_group import run_python
from tests.fix_netns import Netns, Pair
from tests.fix_prefilter import bpffs

__all__ = ["bpffs"]

_STACK = "[global]\nstack=n:NFLOG,b:BASE,j:JSON\n[n]\ngroup=1\n[j]\nfile=/dev/null\n"

#: A bpffs of the daemon's own, which nobody else sees; and none at all.
_OWN_BPFFS = ("unshare", "--mount", "sh", "-c", 'mount -t bpf bpf /sys/fs/bpf && exec "$@"', "sh")
_NO_BPFFS = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/bpf && exec "$@"', "sh")


def read(text: str) -> list[Wanted]:
    return wanted(parse_text(_STACK + text))


# -- sections ---------------------------------------------------------------------------------------------------------


def test_a_section_is_a_prefilter() -> None:
    (one, two) = read(
        "[prefilter1]\nname=ssh\ndports=22,8000-8100\ntcp_flags=syn\nrate=10\nattach=input,forward\ngroup=1\n"
        "[prefilter_dns]\nprotocols=udp\noptional=1\n"
    )
    assert (one.name, one.options.hooks, one.options.group) == ("ssh", ("input", "forward"), 1)
    assert (one.options.rate, one.options.dports, one.options.optional) == (10, "22,8000-8100", False)
    assert (two.name, two.options.hooks, two.options.optional) == ("prefilter_dns", (), True)


def test_an_instance_of_a_stack_is_none() -> None:
    text = "[global]\nstack=prefilter1:NFLOG,b:BASE,j:JSON\n[prefilter1]\ngroup=1\n[j]\nfile=/dev/null\n"
    assert wanted(parse_text(text)) == []


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("[prefilter1]\ngroup=1\n", "group and mark need attach="),
        ("[prefilter1]\nattach=input\n", "give either a group to log to or a mark to set, not both"),
        ("[prefilter1]\nattach=input\ngroup=1\nmark=1\n", "give either a group to log to or a mark to set, not both"),
        ("[prefilter1]\nattach=imput\ngroup=1\n", "unknown hook 'imput' — did you mean 'input'"),
        ("[prefilter1]\nattach=input,input\ngroup=1\n", "at most once"),
        ("[prefilter1]\nattach=,\ngroup=1\n", "must be one or more of input, forward, output"),
        ("[prefilter1]\nattach=input\nmark=0\n", "mask 0: must be 1 to"),
        ("[prefilter1]\nattach=input\nmark=0x300\nmask=0x100\n", "0x300 has bits that its mask 0x100"),
        (f"[prefilter1]\nattach=input\ngroup=1\nprefix={'ö' * 64}\n", "at most 127 bytes"),
        ("[prefilter1]\npin=0\n", "otherwise no rule could use the prefilter"),
        ("[prefilter1]\ndport=22\n", "unknown option 'dport' — did you mean 'dports'"),
        ("[prefilter1]\nignore=10.0.0.0/33\n", "10.0.0.0/33"),
        ("[prefilter1]\nrate=fast\n", "rate=fast: not a number"),
        ("[prefilter1]\nname=a/b\n", "name=a/b"),
        (
            "[prefilter1]\nname=a\n[prefilter2]\nname=a\n",
            r"\[prefilter2\] prefilter: \[prefilter1\] already has the name 'a'",
        ),
        ("[prefilter1]\nrate\n", "'rate' has no value"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(section: str, says: str) -> None:
    with pytest.raises(ConfigErrors, match=rf"ulogd.conf:\d+: .*{says}"):
        read(section)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ulogd.conf"
    wrong_stack = _STACK.replace("group=1", "group=x")
    path.write_text(wrong_stack + "[prefilter1]\nrate=fast\n[prefilter2]\nsample=0\n")
    done = run("--check-config", "-c", str(path))
    assert done.returncode == 78
    assert f"{path}:4: " in done.stderr
    assert "rate=fast" in done.stderr
    assert "sample=0" in done.stderr


# -- the daemon -------------------------------------------------------------------------------------------------------


def text(pair: Pair, out: Path, *lines: str, stacks: str = "n:NFLOG,b:BASE,j:JSON", more: str = "") -> str:
    where = f"network_namespace_path={pair.fw.path}"
    prefilter = "\n".join(("[prefilter1]", "name=test", "dports=9", "attach=input", "group=1", where, *lines))
    return f"[global]\n{more}stack={stacks}\n[n]\ngroup=1\n{where}\n[j]\nfile={out}\n{prefilter}\n"


def send(pair: Pair, matching: int, others: int) -> None:
    pair.fw.nft("table inet q { chain o { type filter hook output priority 0; icmp type 3 drop; }; }")
    pair.send_udp(matching)
    pair.send_udp(others, port=10)
    wait_for(lambda: pair.fw.rx_packets("va") >= matching + others, "packets")


def ours(netns: Netns) -> str:
    """Return the tables of prefilters."""
    return "\n".join(line for line in netns.run("nft", "list", "tables").stdout.splitlines() if "nflowlevel" in line)


def test_only_what_passes_is_logged_and_all_is_counted(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Daemon(tmp_path, text(pair, out, "pin=0")) as daemon:
        assert "table inet nflowlevel-test" in ours(pair.fw)
        send(pair, 23, 17)
        records(out, 23)
        daemon.send(signal.SIGUSR1)
        daemon.says("prefilter test: seen 40, logged 23, filtered 17, sampled out 0, rate limited 0")
    assert ours(pair.fw) == ""


def test_its_counters_are_metrics(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stacks = "n:NFLOG,b:BASE,j:JSON\nstack=n:NFLOG,p:PROMETHEUS"
    port = "\n[p]\nhost=127.0.0.1\nport=0\n"
    with Daemon(tmp_path, text(pair, out, "pin=0", stacks=stacks) + port) as daemon:
        send(pair, 23, 17)
        records(out, 23)
        daemon.send(signal.SIGUSR1)
        daemon.says("serving http")
        (url,) = set(re.findall(r"serving (http://\S+)", daemon.stderr))
        with urllib.request.urlopen(url, timeout=10) as answer:
            metrics = answer.read().decode()
    labels = 'decision="{}",prefilter="test",protocol="udp",reason="{}"'
    for decision, reason, count in (("logged", "logged", 23), ("filtered", "port", 17)):
        found = re.findall(r"nflowlevel_prefilter_packets_total{([^}]*)} (\S+)", metrics)
        assert (labels.format(decision, reason), float(count)) in [
            (",".join(sorted(each.split(","))), float(value)) for each, value in found
        ]


def test_killed_it_takes_its_rules_along(pair: Pair, tmp_path: Path) -> None:
    with Daemon(tmp_path, text(pair, tmp_path / "out"), wrapper=_OWN_BPFFS) as daemon:
        assert "nflowlevel-test" in ours(pair.fw)
        daemon.send(signal.SIGKILL)
        daemon.wait()
        wait_for(lambda: not ours(pair.fw), "the table is gone")


def test_kept_it_goes_on_and_the_next_daemon_finds_it(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # One bpffs for both daemons: a mount namespace that outlives them. A process holds it: the kernel binds none to a
    # file that has a lower number than ours, and numbers do not grow with time.
    mounted = "mount -t bpf bpf /sys/fs/bpf && echo && exec sleep 600"
    other = pair.fw.popen("unshare", "--mount", "sh", "-c", mounted, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"\n"
    holder = ("nsenter", f"--target={other.pid}", "--mount")
    try:
        configured = text(pair, out, "on_exit=keep")
        with Daemon(tmp_path, configured, wrapper=holder) as daemon:
            send(pair, 23, 17)
            records(out, 23)
            daemon.send(signal.SIGKILL)
            daemon.wait()
        assert "nflowlevel-test" in ours(pair.fw)
        pair.send_udp(11)
        wait_for(lambda: pair.fw.rx_packets("va") >= 51, "packets")
        with Daemon(tmp_path, configured.replace("dports=9", "dports=10"), wrapper=holder) as daemon:
            pair.send_udp(5)
            pair.send_udp(7, port=10)
            records(out, 30)
            daemon.send(signal.SIGUSR1)
            daemon.says("prefilter test: seen 63, logged 41, filtered 22")
    finally:
        pair.fw.run("nft", "delete table inet nflowlevel-test", check=False)
        other.kill()
        other.communicate()


def test_one_that_cannot_be_loaded_ends_the_start(pair: Pair, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, text(pair, tmp_path / "out"), wrapper=_NO_BPFFS).start()
    try:
        assert daemon.wait() == 1
        assert re.search(r"prefilter test: .*(bpffs|BPF file system)", daemon.stderr)
        assert "Traceback" not in daemon.stderr
    finally:
        daemon.close()


def test_an_optional_one_is_left_out(pair: Pair, tmp_path: Path) -> None:
    with Daemon(tmp_path, text(pair, tmp_path / "out", "optional=1"), wrapper=_NO_BPFFS) as daemon:
        daemon.says("it is optional, so the daemon continues without it")
        daemon.send(signal.SIGUSR1)
        daemon.says("prefilter test: not loaded")
    assert ours(pair.fw) == ""


def test_a_daemon_that_has_become_another_user_still_counts(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Daemon(tmp_path, text(pair, out, "pin=0"), "-u", "nobody") as daemon:
        send(pair, 23, 17)
        records(out, 23)
        daemon.send(signal.SIGUSR1)
        daemon.says("prefilter test: seen 40, logged 23")
    assert ours(pair.fw) == ""


def test_counters_that_cannot_be_read_stop_nothing(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Prefilter) -> None:
        raise KernelError("read the BPF map 'counters'", errno.EPERM)

    monkeypatch.setattr(Prefilter, "counters", refuse)
    section = f"[prefilter1]\nname=test\nattach=input\ngroup=1\npin=0\nnetwork_namespace_path={netns.path}\n"
    prefilters = Prefilters(read(section))
    prefilters.open()
    try:
        assert prefilters.counters() == {}
        assert list(prefilters.status()) == ["prefilter test: its counters cannot be read (is CAP_BPF missing?)"]
    finally:
        prefilters.close()


def test_a_second_daemon_is_told_who_has_the_table(pair: Pair, tmp_path: Path) -> None:
    with Daemon(tmp_path, text(pair, tmp_path / "out", "pin=0")) as first:
        second = Daemon(tmp_path, text(pair, tmp_path / "out", "pin=0")).start()
        try:
            assert second.wait() == 1
            assert (
                "prefilter test: make nftables table inet nflowlevel-test: Device or resource busy — it belongs "
                in (second.stderr)
            )
            assert f"(process {first.pid}, " in second.stderr
        finally:
            second.close()


def test_found_again_when_the_process_was_killed(pair: Pair, tmp_path: Path, bpffs: Path) -> None:
    """With on_exit=no-match: what is pinned counts on, and is filled and attached anew."""
    out = tmp_path / "out"
    shared = ("unshare", "--mount", "sh", "-c", f'mount --bind {bpffs} /sys/fs/bpf && exec "$@"', "sh")
    try:
        with Daemon(tmp_path, text(pair, out), wrapper=shared) as daemon:
            send(pair, 23, 17)
            records(out, 23)
            daemon.send(signal.SIGKILL)
            daemon.wait()
        with Daemon(tmp_path, text(pair, out), wrapper=shared) as daemon:
            pair.send_udp(11)
            records(out, 34)
            daemon.send(signal.SIGUSR1)
            daemon.says("prefilter test: seen 51, logged 34, filtered 17")
        with Prefilter.open("test", bpffs=bpffs) as pre:
            wait_for(lambda: not pre.active, "the slots are empty")
    finally:
        pins.remove(bpffs / "nflowlevel" / "test")


#: Entered first, then what makes BPF possible is given up.
_NO_CAP_BPF = ("capsh", "--drop=cap_bpf,cap_sys_admin", "--", "-c", 'exec "$@"', "sh")


def no_capability(out: Path, *lines: str) -> str:
    prefilter = "\n".join(("[prefilter1]", "dports=9", "pin=0", "attach=input", "group=1", *lines))
    return f"[global]\nstack=n:NFLOG,b:BASE,j:JSON\n[n]\ngroup=1\n[j]\nfile={out}\n{prefilter}\n"


def test_without_capability(pair: Pair, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, no_capability(tmp_path / "out"), netns=pair.fw, wrapper=_NO_CAP_BPF).start()
    try:
        assert daemon.wait() == 1
        assert "prefilter prefilter1: " in daemon.stderr
        assert "CAP_BPF is missing; run as root; a service gets it by AmbientCapabilities=CAP_BPF" in daemon.stderr
        assert "Traceback" not in daemon.stderr
    finally:
        daemon.close()


def test_without_capability_an_optional_one_costs_nothing_else(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pair.fw.nft(log_rule(1))
    with Daemon(tmp_path, no_capability(out, "optional=1"), netns=pair.fw, wrapper=_NO_CAP_BPF) as daemon:
        pair.send_udp(23)
        records(out, 23)
        daemon.send(signal.SIGUSR1)
        daemon.says("prefilter prefilter1: not loaded (make the BPF map")


def test_a_daemon_without_imports_nothing_of_it() -> None:
    code = f"""if True:
        import sys
        import nflowlevel.daemon.main as daemon
        from nflowlevel.stacks.config import parse_text
        assert daemon._built(parse_text({_STACK!r}))[1] is None
        print(*sorted(name for name in sys.modules if "prefilter" in name or name.endswith(("bpf", "tally", "attach"))))
    """
    done = run_python(code)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
