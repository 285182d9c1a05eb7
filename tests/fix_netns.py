# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces for the kernel tests: one alone, two joined by a veth pair, or a bridge between two ends.

They are quiet: no duplicate address detection, ARP, neighbour discovery, router solicitation or multicast report of
the kernel's own disturbs an exact packet count. A frame the test sends is the only frame there is. Interfaces are up
and usable when the constructor returns. `close()` ends the processes started inside and removes the namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_ETH_P_ALL = 3
_numbers = itertools.count()

#: After this many frames the sender lets others run: the kernel's per-CPU backlog holds only 1000.
_BURST = 128


@functools.cache
def missing() -> str:
    """Return a sentence saying what the kernel tests lack here, or an empty string."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nft", "nsenter"):
        if shutil.which(tool) is None:
            return f"the command {tool!r} is not installed"
    if not Path("/proc/net/netfilter/nfnetlink_log").exists():
        return "the kernel has no nfnetlink_log (try: modprobe nfnetlink_log)"
    return ""


def own_names() -> None:
    """Give this process names of namespaces of its own: what looks at all of them sees none of another run's tests.

    They are gone with it, also where it is killed. `nsenter --target PID --mount ip netns` lists them.
    """
    if _libc.unshare(_CLONE_NEWNS):
        error = ctypes.get_errno()
        raise OSError(error, f"unshare the mount namespace: {os.strerror(error)}")
    # What others mount is seen here, and nothing of here elsewhere.
    subprocess.run(["mount", "--make-rslave", "/"], check=True)
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "nfltest", "/run/netns"], check=True)


class Netns:
    """A network namespace with nothing but its loopback interface, which is up."""

    def __init__(self) -> None:
        self.name = f"nfltest-{os.getpid()}-{next(_numbers)}"
        self.path = f"/run/netns/{self.name}"
        self._children: list[subprocess.Popen[Any]] = []
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        # Addresses appear at once and interfaces say nothing unasked; interfaces made later inherit "default".
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv6.conf.default.accept_ra", 0)
        self.sysctl("net.ipv6.conf.default.router_solicitations", 0)
        self.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
        self.ip("link set lo up")

    def command(self, *cmd: str) -> list[str]:
        """Return the command line that runs `cmd` inside. `ip netns exec` would hide a mounted bpffs."""
        return ["nsenter", f"--net={self.path}", "--", *cmd]

    def run(
        self, *cmd: str, check: bool = True, input: str | None = None, timeout: float | None = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return it with its output; a failure shows what the command said.

        Bytes that are not UTF-8 are written as Python's surrogates ("\udcff" is 0xff), in and out.
        """
        done = subprocess.run(
            self.command(*cmd),
            input=input,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(cmd)}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def popen(self, *cmd: str, **kwargs: Any) -> subprocess.Popen[Any]:
        """Start a command inside; `close()` ends it if it still runs. nsenter execs, so the pid is the command's."""
        child = subprocess.Popen(self.command(*cmd), **kwargs)
        self._children.append(child)
        return child

    def ip(self, commands: str) -> None:
        """Run the lines of an `ip -batch` script inside."""
        self.run("ip", "-batch", "-", input=commands + "\n")

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Move the calling thread into the namespace for the block. Sockets opened inside stay inside for ever."""
        with open("/proc/thread-self/ns/net") as home, open(self.path) as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def forge(self, bus: int, message: bytes, group: int) -> None:
        """Send a netlink message to the listeners of a multicast group, as root of a namespace can."""
        with self.enter():
            forger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, bus)
        with forger:
            forger.sendto(message, (0, 1 << group - 1))

    def sysctl(self, name: str, value: int | str) -> None:
        """Set one of the namespace's net.* settings."""
        with self.enter():
            Path("/proc/sys", name.replace(".", "/")).write_text(f"{value}\n")

    def nft(self, ruleset: str) -> None:
        """Load nft commands, as one transaction."""
        self.run("nft", "-f", "-", input=ruleset)

    def counter(self, name: str, table: str = "inet t") -> int:
        """Return the packets of a named nft counter."""
        answer = json.loads(self.run("nft", "-j", "list", "counter", *table.split(), name).stdout)
        return next(int(item["counter"]["packets"]) for item in answer["nftables"] if "counter" in item)

    def link(self, interface: str) -> dict[str, Any]:
        """Return what `ip -details -statistics link show` says of an interface."""
        answer = json.loads(self.run("ip", "-json", "-details", "-statistics", "link", "show", interface).stdout)
        return dict(answer[0])

    def index(self, interface: str) -> int:
        """Return the index of an interface."""
        return int(self.link(interface)["ifindex"])

    def interfaces(self) -> dict[int, str]:
        """Return the names of all interfaces by their index."""
        return {
            int(link["ifindex"]): str(link["ifname"]) for link in json.loads(self.run("ip", "-json", "link").stdout)
        }

    def rx_packets(self, interface: str) -> int:
        """Return the number of packets an interface has received."""
        return int(self.link(interface)["stats64"]["rx"]["packets"])

    def inject(self, interface: str, frames: Iterable[bytes]) -> int:
        """Send whole link-layer frames out of an interface, as they are; return how many."""
        count = 0
        with self.enter(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((interface, 0))
            for count, frame in enumerate(frames, 1):
                raw.send(frame)
                if count % _BURST == 0:
                    os.sched_yield()
        return count

    def close(self) -> None:
        """End what was started inside, then remove the namespace. May be called twice."""
        for child in self._children:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    stream.close()
        self._children.clear()
        if os.path.exists(self.path):
            subprocess.run(["ip", "netns", "del", self.name], check=True)


def _setns(descriptor: int) -> None:
    """Move the calling thread into the network namespace of a descriptor (os.setns came with Python 3.12)."""
    if _libc.setns(descriptor, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


def _wait_until(ready: Callable[[], bool], what: str) -> None:
    """Ask until `ready`; the kernel raises a carrier asynchronously and sends through it only then."""
    deadline = time.monotonic() + 10
    while not ready():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within 10 seconds: {what}")
        time.sleep(0.001)


class Pair:
    """`va` in namespace `fw` and `vb` in namespace `peer`, joined; rules go to `fw`, traffic comes from `peer`."""

    FW4, PEER4 = "10.77.0.1", "10.77.0.2"
    FW6, PEER6 = "fd77::1", "fd77::2"
    FW_MAC, PEER_MAC = "02:77:00:00:00:01", "02:77:00:00:00:02"

    def __init__(self) -> None:
        self.fw, self.peer = Netns(), Netns()
        self.fw.ip(f"link add va type veth peer name vb netns {self.peer.name}")
        self._configure(self.fw, "va", (self.FW_MAC, self.FW4, self.FW6), (self.PEER_MAC, self.PEER4, self.PEER6))
        self._configure(self.peer, "vb", (self.PEER_MAC, self.PEER4, self.PEER6), (self.FW_MAC, self.FW4, self.FW6))
        for netns, name in ((self.fw, "va"), (self.peer, "vb")):
            _wait_until(functools.partial(self._is_up, netns, name), f"{name} is up")
        # Somebody listens on port 9 (discard): a closed port would answer, at a rate of the kernel's choice.
        self._sinks = [self._discard(family) for family in (socket.AF_INET, socket.AF_INET6)]

    def _discard(self, family: socket.AddressFamily) -> socket.socket:
        with self.fw.enter():
            sink = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        sink.bind(("", 9))
        return sink

    @staticmethod
    def _is_up(netns: Netns, name: str) -> bool:
        return bool(netns.link(name)["operstate"] == "UP")

    @staticmethod
    def _configure(netns: Netns, name: str, own: tuple[str, str, str], other: tuple[str, str, str]) -> None:
        """Give an end its addresses and its neighbour. Without "arp off" each IPv6 address sends multicast reports."""
        netns.ip(
            f"link set {name} address {own[0]} arp off\n"
            f"address add {own[1]}/24 dev {name}\n"
            f"address add {own[2]}/64 dev {name} nodad\n"
            f"link set {name} up\n"
            f"neighbour replace {other[1]} lladdr {other[0]} nud permanent dev {name}\n"
            f"neighbour replace {other[2]} lladdr {other[0]} nud permanent dev {name}"
        )

    def accept_arp(self) -> None:
        """Let `va` hear ARP, as rules of nft's arp family need; the kernel may send packets of its own from now on."""
        self.fw.ip(
            "link set va arp on\n"
            f"neighbour replace {self.PEER4} lladdr {self.PEER_MAC} nud permanent dev va\n"
            f"neighbour replace {self.PEER6} lladdr {self.PEER_MAC} nud permanent dev va"
        )

    def send_udp(
        self, count: int, port: int = 9, size: int = 20, *, source: str | None = None, source_port: int = 0
    ) -> None:
        """Send `count` datagrams with `size` payload bytes from peer to fw; an IPv6 `source` makes them IPv6.

        Port 9 swallows them; fw answers those to any other port with ICMP errors, unless a rule drops them.
        """
        family = socket.AF_INET6 if source and ":" in source else socket.AF_INET
        target = (self.FW6 if family == socket.AF_INET6 else self.FW4, port)
        payload = bytes(i & 0xFF for i in range(size))
        with self.peer.enter(), socket.socket(family, socket.SOCK_DGRAM) as udp:
            if source or source_port:
                udp.bind((source or "", source_port))
            for number in range(1, count + 1):
                # A refusal (ICMP port unreachable) of an earlier datagram is reported on the next call.
                with contextlib.suppress(ConnectionRefusedError):
                    udp.sendto(payload, target)
                if number % _BURST == 0:
                    os.sched_yield()

    def inject(self, frames: Iterable[bytes]) -> int:
        """Send whole Ethernet frames from peer (`vb`) to fw (`va`), as they are; return how many."""
        return self.peer.inject("vb", frames)

    def close(self) -> None:
        """Remove both namespaces."""
        for sink in self._sinks:
            sink.close()
        self.fw.close()
        self.peer.close()


class Bridge:
    """A bridge `br0` with ports `pa` and `pb` in namespace `br`; their other ends are `ea` in `a` and `eb` in `b`.

    Nobody has an IP address: what is injected at `ea` crosses the bridge as it is, however malformed, on its way to
    `eb`, and nft's bridge family sees it. Frames to `B_MAC` or to a multicast address are forwarded.
    """

    A_MAC, B_MAC = "02:77:00:00:00:0a", "02:77:00:00:00:0b"

    def __init__(self) -> None:
        self.br, self.a, self.b = Netns(), Netns(), Netns()
        for netns in (self.br, self.a, self.b):
            netns.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        # Where br_netfilter is loaded it drops malformed IP packets before they are forwarded.
        for call in ("iptables", "ip6tables", "arptables"):
            if Path(f"/proc/sys/net/bridge/bridge-nf-call-{call}").exists():
                self.br.sysctl(f"net.bridge.bridge-nf-call-{call}", 0)
        self.br.ip(
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
            f"link add pa type veth peer name ea netns {self.a.name} address {self.A_MAC}\n"
            f"link add pb type veth peer name eb netns {self.b.name} address {self.B_MAC}\n"
            "link set pa master br0\n"
            "link set pb master br0\n"
            "link set br0 up\n"
            "link set pa up\n"
            "link set pb up"
        )
        self.a.ip("link set ea up")
        self.b.ip("link set eb up")
        for port in ("pa", "pb"):
            _wait_until(functools.partial(self._forwards, port), f"bridge port {port} forwards")

    def _forwards(self, port: str) -> bool:
        return bool(self.br.link(port)["linkinfo"]["info_slave_data"]["state"] == "forwarding")

    def inject(self, frames: Iterable[bytes]) -> int:
        """Send whole Ethernet frames into the bridge's port `pa`; return how many."""
        return self.a.inject("ea", frames)

    def close(self) -> None:
        """Remove the three namespaces."""
        for netns in (self.a, self.b, self.br):
            netns.close()


def mac_bytes(text: str) -> bytes:
    """Return the six bytes of a MAC address."""
    return bytes.fromhex(text.replace(":", ""))


def _fixture(kind: type[Netns] | type[Pair] | type[Bridge]) -> Iterator[Any]:
    if missing():
        pytest.skip(missing())
    thing = kind()
    try:
        yield thing
    finally:
        thing.close()


@pytest.fixture
def netns() -> Iterator[Netns]:
    """A network namespace of the test's own."""
    yield from _fixture(Netns)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two namespaces joined by a veth pair."""
    yield from _fixture(Pair)


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """A bridge between two namespaces."""
    yield from _fixture(Bridge)
