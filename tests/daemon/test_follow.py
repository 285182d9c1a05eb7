# SPDX-License-Identifier: GPL-2.0-or-later
"""A namespace that is deleted is read to its end and let go, and the next one of its name is followed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding.netns import identity, leads_to
from nflowlevel.daemon.follow import Follower
from nflowlevel.stacks.stack import Source
from tests.fix_daemon import FILTERS, Daemon, config, lines_of, log_rule, wait_for
from tests.fix_netns import Netns
from tests.fix_plugins import Feed

pytestmark = pytest.mark.kernel

_RULES = log_rule(2, hook="output")


@contextlib.contextmanager
def name() -> Iterator[str]:
    """A name for namespaces."""
    chosen = f"nfltest-{os.getpid()}-followed"
    try:
        yield chosen
    finally:
        subprocess.run(["ip", "netns", "del", chosen], check=False, capture_output=True)


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A directory in which any user may make files."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o777)
        yield Path(path)


class Named(Netns):
    """A namespace with a certain name, an interface with a certain name, and rules that log what it sends."""

    def __init__(self, name: str, interface: str = "eth7") -> None:
        self.name, self.path, self._children = name, f"/run/netns/{name}", []
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.ip(
            f"link set lo up\nlink add {interface} type veth peer name other\nlink set other up\n"
            f"link set {interface} arp off up\naddress add 10.7.7.1/24 dev {interface}"
        )
        self.nft(_RULES)

    def send(self, count: int) -> None:
        """Send UDP to port 9 out of the interface."""
        code = "import socket,sys; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        code += "for n in range(int(sys.argv[1])): s.sendto(b'x', ('10.7.7.2', 9))"
        self.run("python3", "-c", code, str(count))


def _interfaces(path: Path) -> list[Any]:
    return [record.get("oob.out") for record in lines_of(path)]


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("by_path", [False, True])
def test_packets(tmp_path: Path, everybodys: Path, user: bool, by_path: bool) -> None:
    out = everybodys / "out.json"
    with name() as chosen:
        first = Named(chosen, "eth1")
        where = first.path if by_path else chosen
        text = config(
            f"g:NFLOG,{FILTERS},j:JSON",
            g=f"group=2\nnetwork_namespace_path={where}\nnetlink_qtimeout=6000",
            j=f"file={out}",
        )
        arguments = ("-u", "nobody") if user else ()
        with Daemon(tmp_path, text, *arguments) as daemon:
            # The kernel has these when the name goes.
            first.send(23)
            first.close()
            daemon.says("was deleted, or another has its name")
            assert _interfaces(out) == ["eth1"] * 23
            second = Named(chosen, "eth2")
            daemon.says("follows the new network namespace")
            second.send(7)
            second.close()
            daemon.says("received 30")
            assert _interfaces(out) == ["eth1"] * 23 + ["eth2"] * 7
            # Deleted and made again at once.
            third = Named(chosen, "eth3")
            wait_for(lambda: daemon.stderr.count("follows the new") == 2, "it follows", lambda: daemon.stderr)
            third.close()
            fourth = Named(chosen, "eth4")
            wait_for(lambda: daemon.stderr.count("follows the new") == 3, "it follows", lambda: daemon.stderr)
            fourth.send(5)
            daemon.send(signal.SIGUSR1)
            daemon.says("unread_milliseconds")
            daemon.stop()
        assert _interfaces(out)[30:] == ["eth4"] * 5
        assert "received 35, gap 0" in daemon.stderr
        fourth.close()


def test_the_deleted_one_is_let_go(tmp_path: Path) -> None:
    """Its interfaces, and what is at their other ends, live no longer than it."""
    out = tmp_path / "out.json"
    with name() as chosen, contextlib.closing(Netns()) as other:
        first = Named(chosen)
        first.ip(f"link add pa type veth peer name pb netns {other.name}")
        text = config(f"g:NFLOG,{FILTERS},j:JSON", g=f"group=2\nnetwork_namespace_path={chosen}", j=f"file={out}")
        with Daemon(tmp_path, text) as daemon:
            first.close()
            wait_for(lambda: "pb" not in other.interfaces().values(), "the other end is gone", lambda: daemon.stderr)


def test_a_path_of_a_process(tmp_path: Path, everybodys: Path) -> None:
    """A process that ends takes its name of the namespace with it."""
    out = everybodys / "out.json"
    with name() as chosen:
        inside = Named(chosen)
        holder = inside.popen("sleep", "1000")
        wait_for(lambda: identity(f"/proc/{holder.pid}/ns/net") == identity(inside.path), "it is inside")
        text = config(
            f"g:NFLOG,{FILTERS},j:JSON", g=f"group=2\nnetwork_namespace_path=/proc/{holder.pid}/ns/net", j=f"file={out}"
        )
        with Daemon(tmp_path, text, "-u", "nobody") as daemon:
            inside.send(3)
            holder.kill()
            holder.wait()
            daemon.says("was deleted")
            assert len(lines_of(out)) == 3
        inside.close()


@pytest.mark.parametrize("plugin", ["NFTCOUNTER", "NFACCT"])
def test_accounting(tmp_path: Path, plugin: str) -> None:
    """What was counted since the last poll is read at the end: it ends with the namespace."""
    out = tmp_path / "out.json"
    with name() as chosen:
        inside = Named(chosen)

        def count(packets: int) -> None:
            if plugin == "NFACCT":
                inside.run("nfacct", "add", "c")
                inside.run(
                    "iptables", *["-A", "OUTPUT", "-p", "udp", "--dport", "9", "-m", "nfacct", "--nfacct-name", "c"]
                )
            inside.send(packets)

        text = config(
            f"a:{plugin},j:JSON",
            a=f"pollinterval=3600\nzerocounter=1\nnetwork_namespace_path={chosen}",
            j=f"file={out}",
        )
        with Daemon(tmp_path, text) as daemon:
            count(23)
            inside.close()
            daemon.says("was deleted")
            inside = Named(chosen)
            daemon.says("follows the new network namespace")
            count(5)
            inside.close()
            wait_for(lambda: daemon.stderr.count("was deleted") == 2, "it leaves again", lambda: daemon.stderr)
        counted = [record["sum.pkts"] for record in lines_of(out) if record["sum.name"].split(".")[-1] == "c"]
        assert counted == [23, 5]


def test_one_that_comes_later_is_found_at_once(tmp_path: Path) -> None:
    """Not only when stacks are tried again."""
    out = tmp_path / "out.json"
    with name() as chosen:
        text = config(
            f"g:NFLOG,{FILTERS},j:JSON",
            f"o:NFLOG,{FILTERS},k:JSON",
            g=f"group=2\nnetwork_namespace_path={chosen}",
            j=f"file={out}",
            o="group=4711",
            k=f"file={tmp_path}/other.json",
        )
        with contextlib.closing(Netns()) as home, Daemon(tmp_path, text, "-l", "3", netns=home) as daemon:
            daemon.says("cannot start")
            began = time.monotonic()
            inside = Named(chosen)
            daemon.says(f"stack=g:NFLOG,{FILTERS},j:JSON runs")
            assert time.monotonic() - began < 5, "it is tried again every 10 s"
            inside.send(3)
            wait_for(lambda: len(lines_of(out, growing=True)) == 3, "records", lambda: daemon.stderr)
            inside.close()


def test_hup_looks_at_once(tmp_path: Path) -> None:
    """Also where nothing tells that a name leads elsewhere: a mount over a mount has no event."""
    out = tmp_path / "out.json"
    path = tmp_path / "ns"
    with name() as chosen, contextlib.closing(Netns()) as second:
        first = Named(chosen)
        path.touch()
        subprocess.run(["mount", "--bind", first.path, path], check=True)
        try:
            text = config(f"g:NFLOG,{FILTERS},j:JSON", g=f"group=2\nnetwork_namespace_path={path}", j=f"file={out}")
            with Daemon(tmp_path, text) as daemon:
                subprocess.run(["mount", "--bind", second.path, path], check=True)
                daemon.reload()
                daemon.says("was deleted, or another has its name")
                daemon.says("follows the new network namespace")
        finally:
            subprocess.run(["umount", path], check=False)
            subprocess.run(["umount", path], check=True)
        first.close()


def test_where_a_name_leads(tmp_path: Path, netns: Netns) -> None:
    assert leads_to(netns.name) == leads_to(netns.path) == identity(netns.path)
    assert leads_to("no-such-netns") is None
    assert leads_to("/proc/999999999/ns/net") is None
    (tmp_path / "plain").touch()
    assert leads_to(str(tmp_path / "plain")) is None, "`ip netns add` makes a file, then mounts the namespace"


def test_without_namespaces_nothing_is_looked_at() -> None:
    follower = Follower([Source(Feed())])
    assert follower.deadline is None
    assert follower.fileno() == -1
    assert not list(follower.look())
    follower.close()


def test_it_is_told_at_once_and_looks_often_for_a_while(netns: Netns) -> None:
    feed = Feed()
    feed.netns = "nfltest-none"
    follower = Follower([Source(feed)])
    try:
        assert list(follower.look()) == []
        assert follower.deadline is not None
        assert follower.deadline - time.monotonic() > 0.5
        Netns().close()
        os.set_blocking(follower.fileno(), False)
        follower.told()
        assert follower.deadline == 0
        assert list(follower.look()) == []
        assert follower.deadline - time.monotonic() < 0.1
        with pytest.raises(BlockingIOError):
            os.read(follower.fileno(), 1)
    finally:
        follower.close()
