# SPDX-License-Identifier: GPL-2.0-or-later
"""A program in front of packet logging, in both kinds of firewall: what it matches is logged once, and nothing else."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nflowlevel import Batch, Group
from nflowlevel.binding import nftmatch
from nflowlevel.errors import KernelError
from nflowlevel.prefilter import attach
from nflowlevel.prefilter.paste import iptables_rules, nft_rules
from nflowlevel.prefilter.prefilter import Prefilter
from tests.fix_group import collect, packets_in, run_python
from tests.fix_lines import wait_for
from tests.fix_netns import Netns, Pair
from tests.fix_program import bpffs, pin, port9

__all__ = ["bpffs", "port9"]

GROUP, MARK, MASK = 7, 0x100, 0x300
#: oob.hook of a packet, by the hook's name.
HOOKS = {"input": 1, "forward": 2, "output": 3}
#: IPv4 and IPv6 packets that match, and that do not.
MATCHING, OTHERS = (23, 17), (13, 11)
#: Rules that ask a prefilter: our own table, and iptables by its two back ends.
Rules = dict[str, list[int]]
WAYS = ("table", "-legacy", "-nft")


class Road:
    """The three ways of a packet through `fw`: to it, through it, from it. Beyond it all packets vanish."""

    BEYOND4, BEYOND6 = "10.78.0.2", "fd78::2"

    def __init__(self, pair: Pair) -> None:
        self.fw = pair.fw
        self.peer = pair.peer
        pair.fw.ip(
            f"link add beyond arp off type veth peer name end netns {pair.peer.name}\n"
            "address add 10.78.0.1/24 dev beyond\n"
            "address add fd78::1/64 dev beyond nodad\n"
            "link set beyond up"
        )
        pair.peer.ip("link set end up")
        pair.peer.ip(f"route add 10.78.0.0/24 via {pair.FW4}\nroute add fd78::/64 via {pair.FW6}")
        pair.fw.sysctl("net.ipv4.ip_forward", 1)
        pair.fw.sysctl("net.ipv6.conf.all.forwarding", 1)
        self._near = pair.FW4, pair.FW6

    def send(self, hook: str) -> None:
        """Send the packets of MATCHING and OTHERS past a hook, over both families by turns."""
        targets = self._near if hook == "input" else (self.BEYOND4, self.BEYOND6)
        with (self.fw if hook == "output" else self.peer).enter():
            sockets = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
        for udp, target, matching, others in zip(sockets, targets, MATCHING, OTHERS, strict=True):
            with udp:
                for number in range(max(matching, others)):
                    if number < others:
                        # Nobody listens there: no answer may come back that would be an error of the next call.
                        udp.sendto(b"x", (target, 19))
                    if number < matching:
                        udp.sendto(b"x", (target, 9))


@pytest.fixture
def road(pair: Pair) -> Road:
    # What answers a closed port would be traffic of its own.
    pair.fw.nft("table inet quiet { chain c { type filter hook input priority 100; udp dport 19 drop; }; }")
    return Road(pair)


def logged(road: Road, hook: str, prefix: str) -> None:
    """Send, and fail unless exactly the matching packets are logged, at this hook and with this prefix."""
    with Group(GROUP, netns=road.fw.path) as group:
        road.send(hook)
        batches = collect(group, sum(MATCHING))
        group.stop()
        assert packets_in(group.batches()) == 0
    families = [family for batch in batches for family in batch.values("oob.family")]
    assert (families.count(2), families.count(10)) == MATCHING
    for key, wanted in (("oob.hook", HOOKS[hook]), ("oob.prefix", prefix), ("udp.dport", 9)):
        assert {value for batch in batches for value in batch.values(key)} == {wanted}


def nothing_logged(road: Road, hook: str) -> None:
    """Send, and fail if anything is logged. A group of its own tells that all packets have passed."""
    road.fw.nft(f"""table inet seen {{
        counter c {{ }}
        chain c {{ type filter hook {hook} priority 50; udp dport {{ 9, 19 }} counter name c; }}
    }}""")
    with Group(GROUP, netns=road.fw.path) as group:
        road.send(hook)
        wait_for(lambda: road.fw.counter("c", "inet seen") == sum(MATCHING) + sum(OTHERS))
        group.stop()
        assert packets_in(group.batches()) == 0
    road.fw.nft("delete table inet seen")


def paste(netns: Netns, commands: list[str], variant: str = "") -> None:
    """Run commands as printed; `variant` chooses the back end, and makes it wait for others who use iptables."""
    for command in commands:
        program, _, rest = command.partition(" ")
        netns.run("sh", "-c", f"{program}{variant} -w 60 {rest}" if variant else command)


def put(netns: Netns, program: int, **options: Any) -> attach.Attachment:
    return attach.attach(program, "ssh", netns=netns.path, **options)


# -- each firewall, each hook -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("variant", ["-legacy", "-nft"])
def test_iptables(road: Road, bpffs: Path, port9: int, hook: str, variant: str) -> None:
    pin(port9, bpffs / "match")
    rules = iptables_rules(f"{bpffs}/match", group=GROUP, hooks=[hook], prefix="s$h: ")
    paste(road.fw, rules, variant)
    logged(road, hook, "s$h: ")


@pytest.mark.parametrize("hook", HOOKS)
def test_own_table_logs(road: Road, port9: int, hook: str) -> None:
    with put(road.fw, port9, hooks=[hook], group=GROUP, prefix="ssh: ", queue_threshold=5) as attachment:
        assert attachment.table == "inet nflowlevel-ssh"
        assert repr(attachment).startswith(f"<Attachment inet nflowlevel-ssh at {hook}: LogTo(group=")
        logged(road, hook, "ssh: ")
    assert nftmatch.tables(road.fw.path) == []


@pytest.mark.parametrize("hook", HOOKS)
def test_own_table_marks(road: Road, port9: int, hook: str) -> None:
    road.fw.nft(f"table inet filter {{ chain {hook} {{ type filter hook {hook} priority filter; }}; }}")
    paste(road.fw, nft_rules(MARK, MASK, group=GROUP, hooks=[hook], prefix="it's: "))
    with put(road.fw, port9, hooks=[hook], mark=MARK, mask=MASK):
        logged(road, hook, "it's: ")


def test_all_hooks_in_one_table(road: Road, port9: int) -> None:
    with put(road.fw, port9, hooks=tuple(HOOKS), group=GROUP, prefix="p"):
        for hook in HOOKS:
            logged(road, hook, "p")


def test_before_the_filter_drops(road: Road, port9: int) -> None:
    road.fw.nft("table inet filter { chain c { type filter hook input priority filter; policy drop; }; }")
    with put(road.fw, port9, group=GROUP, prefix="p"):
        logged(road, "input", "p")


# -- a real prefilter behind them -------------------------------------------------------------------------------------


@contextmanager
def in_front(road: Road, pre: Prefilter, way: str, hook: str) -> Iterator[None]:
    """Put a prefilter in front of logging in one of the three ways."""
    if way == "table":
        pre.attach(hooks=[hook], group=GROUP, prefix="p", netns=road.fw.path)
        yield
        pre.detach()
        assert nftmatch.tables(road.fw.path) == []
        return
    pre.pin()
    paste(road.fw, iptables_rules(pre.path, group=GROUP, hooks=[hook], prefix="p"), way)
    yield


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("way", WAYS)
def test_prefilter_counts_what_is_logged_and_what_is_not(road: Road, bpffs: Path, way: str, hook: str) -> None:
    with Prefilter("ssh", bpffs=bpffs, dports=[9]) as pre, in_front(road, pre, way, hook):
        logged(road, hook, "p")
        counters = pre.counters()
    of_udp = {total: count.packets for total, count in counters.protocols["udp"].items()}
    assert of_udp == {
        "seen": sum(MATCHING) + sum(OTHERS),
        "logged": sum(MATCHING),
        "filtered": sum(OTHERS),
        "sampled_out": 0,
        "rate_limited": 0,
    }
    assert counters.logged == sum(MATCHING)


#: Source and destination port of a packet: both rules log it, the old ones, the new ones, none does. One that none logs
#: meets one condition of the old rules and one of the new: a mixture of them would log it.
PORTS = {"both": (3000, 7), "old": (1000, 9), "new": (2000, 8), "mix": (1000, 8), "xim": (2000, 9)}
OLD: Rules = {"sports": [1000, 3000], "dports": [9, 7]}
NEW: Rules = {"sports": [2000, 3000], "dports": [8, 7]}


class Volleys:
    """A process that sends the packets of PORTS by turns through `fw`, as often as told or until told to stop."""

    _CODE = f"""if True:
        import select, socket, sys
        sockets = {{}}
        for source, _ in {[*PORTS.values()]}:
            if source not in sockets:
                sockets[source] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sockets[source].bind(("", source))
        packets = [(sockets[source], ("{Road.BEYOND4}", port)) for source, port in {[*PORTS.values()]}]
        while line := sys.stdin.readline():
            wanted, sent = int(line), 0
            while sent < wanted or not (wanted or select.select([0], [], [], 0)[0]):
                for udp, target in packets:
                    udp.sendto(b"x", target)
                sent += 1
            wanted or sys.stdin.readline()
            print(sent, flush=True)
    """

    def __init__(self, road: Road) -> None:
        child = road.peer.popen(
            sys.executable, "-c", self._CODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdin
        assert child.stdout
        self._orders, self._answers = child.stdin, child.stdout

    def send(self, count: int) -> None:
        """Send so many volleys; the last has left when this returns."""
        self._order(f"{count}")
        assert int(self._answers.readline()) == count

    @contextmanager
    def without_end(self) -> Iterator[list[int]]:
        """Send while the block runs; the list then holds how many."""
        sent: list[int] = []
        self._order("0")
        yield sent
        self._order("stop")
        sent.append(int(self._answers.readline()))

    def _order(self, line: str) -> None:
        self._orders.write(f"{line}\n")
        self._orders.flush()


def by_ports(batches: Iterable[Batch]) -> Counter[tuple[int, int]]:
    """Count packets by source and destination port."""
    return Counter(row for batch in batches for row in batch.rows("udp.sport", "udp.dport"))


def udp_seen(pre: Prefilter) -> int:
    return pre.counters().protocols["udp"]["seen"].packets


@pytest.mark.parametrize("way", WAYS)
def test_exchange_under_traffic(road: Road, bpffs: Path, way: str) -> None:
    """Each packet sees the old rules or the new, and never a mixture, or none."""
    volleys = Volleys(road)
    with (
        Prefilter("ssh", bpffs=bpffs, protocols=["udp"], **OLD) as pre,
        Group(GROUP, netns=road.fw.path) as group,
        in_front(road, pre, way, "forward"),
    ):
        with volleys.without_end() as sent:
            wait_for(lambda: udp_seen(pre))
            for number in range(101):
                pre.update(**(OLD if number % 2 else NEW))
        wait_for(lambda: udp_seen(pre) == len(PORTS) * sent[0])
        group.stop()
        seen = by_ports(group.batches())
        assert pre.counters().logged == seen.total()
    assert seen[PORTS["both"]] == sent[0]
    assert seen.keys() == {PORTS["both"], PORTS["old"], PORTS["new"]}


def test_update_holds_when_it_returns(road: Road, bpffs: Path) -> None:
    volleys = Volleys(road)
    with Prefilter("ssh", bpffs=bpffs, protocols=["udp"], **OLD) as pre, in_front(road, pre, "table", "forward"):
        for number, (rules, chosen) in enumerate(((NEW, "new"), (OLD, "old")) * 5, 1):
            pre.update(**rules)
            with Group(GROUP, netns=road.fw.path) as group:
                volleys.send(11)
                wait_for(lambda: udp_seen(pre) == len(PORTS) * 11 * number)  # noqa: B023 - waits here and now
                group.stop()
                assert by_ports(group.batches()) == {PORTS["both"]: 11, PORTS[chosen]: 11}


# -- when the process ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_exit", ["no-match", "keep"])
def test_killed(road: Road, on_exit: str) -> None:
    code = f"""if True:
        import os, signal
        from nflowlevel.prefilter.attach import attach
        from tests.fix_program import load
        attachment = attach(load(9), "ssh", group={GROUP}, prefix="p", on_exit={on_exit!r}, netns={road.fw.path!r})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_python(code).returncode == -9
    if on_exit == "keep":
        logged(road, "input", "p")
    assert attach.detach("ssh", netns=road.fw.path) is (on_exit == "keep")
    assert nftmatch.tables(road.fw.path) == []


def test_pinned_program_outlives_its_loader(road: Road, bpffs: Path) -> None:
    code = f"""if True:
        import os, signal
        from pathlib import Path
        from tests.fix_program import load, pin
        pin(load(9), Path({str(bpffs)!r}, "match"))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_python(code).returncode == -9
    paste(road.fw, iptables_rules(f"{bpffs}/match", group=GROUP, prefix="p"), "-legacy")
    logged(road, "input", "p")


def test_released_rules_go_or_are_kept(netns: Netns, port9: int) -> None:
    put(netns, port9, group=GROUP).release()
    assert nftmatch.tables(netns.path) == []
    put(netns, port9, group=GROUP, on_exit="keep").release()
    assert [table.prefilter for table in nftmatch.tables(netns.path)] == ["ssh"]
    # Put in its place by the next process, whatever that one wants.
    with put(netns, port9, mark=MARK) as attachment:
        assert nftmatch.tables(netns.path)[0].owner
        attachment.detach()
        attachment.release()
    assert attach.detach("ssh", netns=netns.path) is False


def test_two_prefilters_are_apart(netns: Netns, port9: int) -> None:
    ssh = attach.attach(port9, "ssh", group=GROUP, netns=netns.path)
    with attach.attach(port9, "web", group=GROUP, netns=netns.path):
        with pytest.raises(KernelError, match=r"nflowlevel-web: .* it belongs to netlink port"):
            attach.detach("web", netns=netns.path)
        ssh.detach()
        assert [table.name for table in nftmatch.tables(netns.path)] == ["nflowlevel-web"]


def emptied(bpffs: Path) -> None:
    """Wait until the kernel has emptied the slots of a process that ended; it does that later, by a work item."""
    with Prefilter.open("ssh", bpffs=bpffs) as pre:
        wait_for(lambda: not pre.active)


@pytest.mark.parametrize("variant", ["-legacy", "-nft"])
@pytest.mark.parametrize("on_exit", ["no-match", "keep"])
def test_prefilter_of_a_killed_process_behind_iptables(road: Road, bpffs: Path, on_exit: str, variant: str) -> None:
    """The rule stays as it is; what it matches until the next process comes was chosen by `on_exit`."""
    code = f"""if True:
        import os, signal
        from nflowlevel.prefilter.prefilter import Prefilter
        Prefilter("ssh", bpffs={str(bpffs)!r}, dports=[9], on_exit={on_exit!r}).load().pin()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_python(code).returncode == -9
    paste(road.fw, iptables_rules(f"{bpffs}/nflowlevel/ssh/prog", group=GROUP, prefix="p"), variant)
    if on_exit == "keep":
        logged(road, "input", "p")
    else:
        emptied(bpffs)
        nothing_logged(road, "input")
    with Prefilter.take("ssh", bpffs=bpffs, dports=[9], on_exit=on_exit):
        logged(road, "input", "p")


@pytest.mark.parametrize("on_exit", ["no-match", "keep"])
def test_prefilter_of_a_killed_process_in_our_table(road: Road, bpffs: Path, on_exit: str) -> None:
    code = f"""if True:
        import os, signal
        from nflowlevel.prefilter.prefilter import Prefilter
        pre = Prefilter("ssh", bpffs={str(bpffs)!r}, dports=[9], on_exit={on_exit!r}).load()
        pre.pin()
        pre.attach(group={GROUP}, prefix="p", netns={road.fw.path!r})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_python(code).returncode == -9
    if on_exit == "keep":
        logged(road, "input", "p")
    else:
        emptied(bpffs)
        nothing_logged(road, "input")
    taken = Prefilter.take("ssh", bpffs=bpffs, dports=[9], on_exit=on_exit)
    with taken as pre:
        pre.attach(group=GROUP, prefix="q", netns=road.fw.path)
        logged(road, "input", "q")
    assert attach.detach("ssh", netns=road.fw.path) is (on_exit == "keep")


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give either a group to log to or a mark to set, not both"),
        ({"group": 1, "mark": 1}, "not both"),
        ({"group": 65536}, "group 65536: must be 0 to 65535"),
        ({"group": 1, "snaplen": -1}, "snaplen -1"),
        ({"group": 1, "queue_threshold": 65536}, "queue_threshold 65536"),
        ({"group": 1, "prefix": "ö" * 64}, "at most 127 bytes"),
        ({"group": 1, "prefix": "a\0b"}, "without a NUL byte"),
        ({"group": 1, "hooks": ["imput"]}, "did you mean 'input'"),
        ({"group": 1, "hooks": []}, "must be one or more of input, forward, output"),
        ({"group": 1, "hooks": ["input", "input"]}, "at most once"),
        ({"group": 1, "on_exit": "kep"}, "did you mean 'keep'"),
        ({"mark": 0}, "mask 0: must be 1 to"),
        ({"mark": 1 << 32}, "mark 4294967296"),
        ({"mark": 0x300, "mask": 0x100}, "0x300 has bits that its mask 0x100 does not have"),
        ({"group": 1, "priority": 1 << 31}, "priority 2147483648"),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        attach.attach(-1, "ssh", **options)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a;b", "x" * 65, "ö", "a\n"])
def test_names_that_nft_would_not_take(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        attach.table_name(name)


@pytest.mark.parametrize("name", ["a", "-", "A_b-0", "x" * 64])
def test_names_that_nft_takes(netns: Netns, port9: int, name: str) -> None:
    with attach.attach(port9, name, group=GROUP, netns=netns.path) as attachment:
        assert "xt match bpf" in netns.run("nft", f"list table {attachment.table}").stdout


def test_longest_prefix(netns: Netns, port9: int) -> None:
    with put(netns, port9, group=GROUP, prefix="x" * 127):
        assert f'log prefix "{"x" * 127}" group 7' in netns.run("nft", "list", "ruleset").stdout


def test_hooks_given_as_a_word() -> None:
    with pytest.raises(TypeError, match=r"as \['input'\]"):
        attach.attach(-1, "ssh", hooks="input", group=1)
