# SPDX-License-Identifier: GPL-2.0-or-later
"""Our records against those of the real ulogd2, member by member, over every nft family and the whole corpus.

Three rules log each packet: to a group that ulogd2 reads, to one that we read, and to one that a bare socket reads as a
witness, so that all have what the same kernel says of the same packet. A difference has to be on the list in
parity_differences.py, and what is on the list has to be met.

Who writes our records is an argument: a context manager that reads a group of a namespace while it is open, with both
kinds of sequence numbers on, and returns as many records as it is asked for.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests import oracle
from tests.corpus import by_name, frames
from tests.fix_netns import Bridge, Netns, Pair, mac_bytes
from tests.fix_nflog import SEQ, NflogReader
from tests.forms import when
from tests.parity_differences import DIFFERENCES, Case, Difference, Record
from tests.ulogd2 import Nflowlevel, Ulogd2

_THEIRS, _OURS, _WITNESS = 1, 2, 3

#: Members whose values are not equal but related: see Stage._compare_related.
_RELATED = ("timestamp", "when", "oob.time.sec", "oob.time.usec", "oob.seq.global")


class Recorder(Protocol):
    """Somebody who reads a group."""

    def records(self, count: int) -> list[Record]:
        """Return the first `count` records, once they are there."""


#: Opens a recorder: namespace, group, a directory of its own.
Opener = Callable[[Netns, int, Path], contextlib.AbstractContextManager[Recorder]]


# -- the oracle as our side -------------------------------------------------------------------------------------------

_CIM = {
    "ip.saddr.str": "src_ip",
    "ip.daddr.str": "dest_ip",
    **{f"{layer4}.sport": "src_port" for layer4 in ("tcp", "udp", "sctp")},
    **{f"{layer4}.dport": "dest_port" for layer4 in ("tcp", "udp", "sctp")},
}


class OracleRecorder:
    """Reads with a bare socket, decodes with the oracle, and names members as the JSON output does."""

    def __init__(self, netns: Netns, reader: NflogReader) -> None:
        self._netns, self._reader = netns, reader

    def records(self, count: int) -> list[Record]:
        names = self._netns.interfaces()
        return [self._record(message, names) for message in self._reader.messages(count)]

    def _record(self, message: bytes, names: dict[int, str]) -> Record:
        now = time.time_ns() // 1000
        keys = oracle.decode(message, now=divmod(now, 1_000_000))
        assert keys is not None
        record: Record = {"timestamp": _timestamp(keys["oob.time.sec"], keys["oob.time.usec"]) + "+0000"}
        record["dvc"] = "Netfilter"
        # What HWHDR publishes anew takes the place of what was there before.
        for name, value in (keys | oracle.derive(keys, names)).items():
            if name == "oob.prefix" and isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            # Neither daemon has a form for raw bytes, nor for IP2BIN's and IP2HBIN's numbers.
            if not isinstance(value, bytes) and not name.endswith((".bin", ".hsaddr", ".hdaddr")):
                record[_CIM.get(name, name.removeprefix("HWHDR:"))] = value
        return record


@contextlib.contextmanager
def open_oracle(netns: Netns, group: int, _: Path) -> Iterator[Recorder]:
    """Read a group as the oracle would."""
    with NflogReader(netns, group) as reader:
        yield OracleRecorder(netns, reader)


# -- comparison -------------------------------------------------------------------------------------------------------


def _timestamp(sec: Any, usec: Any) -> str:
    return f"{datetime.datetime.fromtimestamp(sec, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{usec:06}"


class Stage:
    """Lets packets happen while everybody reads, again and again, and compares what they say."""

    def __init__(
        self,
        opener: Opener,
        directory: Path,
        *,
        ordered: bool,
        output: str = "JSON",
        differences: tuple[Difference, ...] = DIFFERENCES,
    ) -> None:
        self.cases = 0
        self.met: set[Difference] = set()
        self.unexplained: list[str] = []
        self._opener, self._directory, self._ordered = opener, directory, ordered
        self._output, self.differences = output, differences

    def play(
        self,
        netns: Netns,
        chain: str,
        send: Callable[[], Any],
        names: list[str],
        *,
        match: str = "",
        prefix: str = "parity: ",
        snaplen: int = 0,
        policy: str = "drop",
        held: bool = False,
    ) -> None:
        """Log what `send` does, one packet for each of `names`, from a chain such as "inet prerouting".

        With `held` the kernel keeps the packets from ulogd2 for half a second.
        """
        options = "seq_local=1\nseq_global=1" + ("\nnetlink_qtimeout=50" if held else "")
        directory = self._directory / f"run{self.cases}"
        directory.mkdir()
        family, _, hook = chain.partition(" ")
        log = f"{match} log" + (f' prefix "{prefix}"' if prefix else "") + (f" snaplen {snaplen}" if snaplen else "")
        rules = "\n".join(f"{log} group {group}" for group in (_THEIRS, _OURS, _WITNESS))
        with contextlib.ExitStack() as stack:
            ulogd2 = Ulogd2(
                netns, directory, group=_THEIRS, output=self._output, qthreshold=100 if held else 1, options=options
            )
            theirs = stack.enter_context(ulogd2)
            ours = stack.enter_context(self._opener(netns, _OURS, directory))
            witness = stack.enter_context(NflogReader(netns, _WITNESS, flags=SEQ))
            hooked = f"type filter hook {hook} priority 0; policy {policy};"
            netns.nft(f"table {family} parity {{\nchain c {{\n{hooked}\n{rules}\n}}\n}}\n")
            send()
            count = len(names)
            for name, message, our, their in zip(
                names, witness.messages(count), ours.records(count), theirs.records(count), strict=True
            ):
                keys = oracle.decode(message)
                assert keys is not None
                self._compare(Case(f"{chain}: {name}", keys, our, their))
        netns.nft(f"delete table {family} parity")

    def assert_explained(self) -> None:
        """Fail with some of the differences that are not on the list."""
        shown = "\n".join(self.unexplained[:50])
        assert not self.unexplained, f"{len(self.unexplained)} differences are not on the list, such as\n{shown}"

    def _compare(self, case: Case) -> None:
        self.cases += 1
        for member in sorted(case.ours.keys() | case.theirs.keys()):
            ours, theirs = case.ours.get(member), case.theirs.get(member)
            if member in _RELATED or ours == theirs:
                continue
            reasons = [entry for entry in self.differences if entry.explains(case, member)]
            self.met.update(reasons)
            if not reasons:
                self.unexplained.append(f"{case.name}: {member}: ours {ours!r}, theirs {theirs!r}")
        self._compare_related(case)
        # Of outputs that write a name several times, all of them.
        our, their = (getattr(record, "names", [*record]) for record in (case.ours, case.theirs))
        if self._ordered and [name for name in their if name in our] != [name for name in our if name in their]:
            self.unexplained.append(f"{case.name}: order of members: ours {our}, theirs {their}")

    def _compare_related(self, case: Case) -> None:
        """The kernel stamps and numbers each of the messages anew: ours a moment after theirs."""
        if self._output == "XML":
            # Neither side has numbers; ulogd2's time is that of writing.
            ours, theirs = when(case.ours["when"]), when(case.theirs["when"])
            if not ours or not theirs or abs((ours - theirs).total_seconds()) > 2:
                self.unexplained.append(f"{case.name}: when: ours {case.ours['when']}, theirs {case.theirs['when']}")
            return
        if case.ours["oob.seq.global"] != case.theirs["oob.seq.global"] + 1:
            self.unexplained.append(f"{case.name}: oob.seq.global is not that of the message after theirs")
        ours, theirs = (side["oob.time.sec"] + side["oob.time.usec"] / 1e6 for side in (case.ours, case.theirs))
        if abs(ours - theirs) > 1:
            self.unexplained.append(f"{case.name}: time: ours {ours}, theirs {theirs}")
        # ulogd2 leaves out the zone where it is UTC (D-J01), as it is here.
        for side, zone in ((case.ours, "+0000"), (case.theirs, "")) if self._output == "JSON" else ():
            if side["timestamp"] != _timestamp(side["oob.time.sec"], side["oob.time.usec"]) + zone:
                self.unexplained.append(f"{case.name}: timestamp {side['timestamp']!r} is not the packet's time")


@contextlib.contextmanager
def open_tun(netns: Netns, name: str) -> Iterator[int]:
    """Make a device that has no link header; what is written to the descriptor comes in by it."""
    with netns.enter():
        tun = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", name.encode(), 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        netns.ip(f"link set {name} up")
        yield tun
    finally:
        os.close(tun)


# -- the traffic ------------------------------------------------------------------------------------------------------


def _play_bridge(stage: Stage, bridge: Bridge) -> None:
    """Every frame, whole and cut at lengths that fall into every header."""
    dst, src = mac_bytes(bridge.B_MAC), mac_bytes(bridge.A_MAC)
    wires = [frame.wire(dst, src) for frame in frames()]
    for snaplen in (0, 20, 34, 47, 61):
        names = [f"snaplen {snaplen}: {frame.name}" for frame in frames()]
        stage.play(bridge.br, "bridge forward", functools.partial(bridge.inject, wires), names, snaplen=snaplen)


def _play_device(stage: Stage, pair: Pair) -> None:
    """Every frame at a device's own hooks, and what the IP stack takes in."""
    names = [frame.name for frame in frames()]
    wires = [frame.wire() for frame in frames()]
    stage.play(pair.fw, "netdev ingress device va", functools.partial(pair.inject, wires), names)
    out = [frame.wire(mac_bytes(pair.PEER_MAC), mac_bytes(pair.FW_MAC)) for frame in frames()]
    stage.play(pair.fw, "netdev egress device va", lambda: pair.fw.inject("va", out), names, policy="accept")
    valid = [frame for frame in frames() if frame.valid and frame.family in (oracle.INET, oracle.INET6)]
    wires = [frame.wire() for frame in valid]
    stage.play(pair.fw, "inet prerouting", functools.partial(pair.inject, wires), [frame.name for frame in valid])


def _play_arp(stage: Stage, pair: Pair) -> None:
    """ARP packets, which the kernel checks before the arp family sees them."""
    pair.accept_arp()
    valid = [frame for frame in frames() if frame.valid and frame.family == oracle.ARP]
    wires = [frame.wire(dst=b"\xff" * 6) for frame in valid]
    stage.play(pair.fw, "arp input", lambda: pair.inject(wires), [frame.name for frame in valid])


#: Sends one datagram to each address, marked or not.
_SENDER = """
import socket, struct, sys
for address in sys.argv[2:]:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if sys.argv[1] != "0":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", int(sys.argv[1])))
    s.sendto(b"local", (address, 9))
"""


def _play_local(stage: Stage, pair: Pair) -> None:
    """Packets of local processes, which have an owner but no link header; and those of the loopback interface."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65533", "--clear-groups")

    def play(hook: str, addresses: tuple[str, str], mark: int, *become: str) -> None:
        command = (*become, sys.executable, "-c", _SENDER, str(mark), *addresses)
        names = [f"to {address} with mark {mark}" for address in addresses]
        send = functools.partial(pair.fw.run, *command)
        stage.play(pair.fw, f"inet {hook}", send, names, match="udp dport 9", policy="accept")

    for hook in ("output", "postrouting"):
        play(hook, (pair.PEER4, pair.PEER6), 0xDEADBEEF)
        play(hook, (pair.PEER4, pair.PEER6), 0, *nobody)
    for hook in ("output", "prerouting", "input"):
        play(hook, ("127.0.0.1", "::1"), 1)


def _play_prefixes(stage: Stage, pair: Pair) -> None:
    """Prefixes of any length and alphabet; none at all."""
    prefixes = {
        "none": "",
        "short": "x",
        "longest": "l" * 127,
        "utf-8": "grün → 漢字 🔥",
        "to be escaped": "back\\slash / tab\t control\x01\x7f",
        "latin-1": "gr\udcfcn",
        "cut character": "half \udce2\udc82",
        "surrogate": "\udced\udca0\udc80!",
        "overlong": "\udcc0\udcaf",
    }
    for name, prefix in prefixes.items():
        stage.play(pair.fw, "inet input", lambda: pair.send_udp(1), [f"prefix {name}"], prefix=prefix)


def _play_vanished_interface(stage: Stage, pair: Pair) -> None:
    """A packet whose interface is gone when it is read, after one whose interface is not."""
    pair.fw.ip(f"link add vx type veth peer name vy netns {pair.peer.name}\nlink set vx arp off up")
    pair.peer.ip("link set vy arp off up")
    wire = by_name("udp4-bad-checksum").wire(dst=b"\xff" * 6)

    def send() -> None:
        pair.inject([wire])
        pair.peer.inject("vy", [wire])
        pair.fw.ip("link del vx")

    stage.play(pair.fw, "inet prerouting", send, ["there", "vanished"], match="udp dport 53", held=True)


def agree(opener: Opener, directory: Path, bridge: Bridge, pair: Pair, *, ordered: bool = True) -> None:
    """Play all traffic; fail unless the records differ exactly as the list says."""
    play_all(Stage(opener, directory, ordered=ordered), bridge, pair)


def play_all(stage: Stage, bridge: Bridge, pair: Pair) -> None:
    """Play all traffic; fail unless the records differ exactly as the list of the stage says."""
    _play_bridge(stage, bridge)
    _play_device(stage, pair)
    _play_local(stage, pair)
    _play_prefixes(stage, pair)
    _play_vanished_interface(stage, pair)
    _play_arp(stage, pair)
    assert stage.cases >= 300
    stage.assert_explained()
    idle = [f"{entry.id} ({', '.join(entry.members)})" for entry in stage.differences if entry not in stage.met]
    assert not idle, f"on the list, but not met: {'; '.join(idle)}"


def test_oracle_agrees_with_ulogd2(tmp_path: Path, bridge: Bridge, pair: Pair) -> None:
    agree(open_oracle, tmp_path, bridge, pair, ordered=False)


@contextlib.contextmanager
def open_daemon(netns: Netns, group: int, directory: Path) -> Iterator[Recorder]:
    """Read a group with our daemon, configured as ulogd2 is."""
    with Nflowlevel(netns, directory, group=group, options="seq_local=1\nseq_global=1") as daemon:
        yield daemon


def test_daemon_agrees_with_ulogd2(tmp_path: Path, bridge: Bridge, pair: Pair) -> None:
    agree(open_daemon, tmp_path, bridge, pair)


@pytest.mark.parametrize("opener", [open_oracle, open_daemon])
def test_device_without_link_header(opener: Opener, tmp_path: Path, pair: Pair) -> None:
    if not Path("/dev/net/tun").exists():
        pytest.skip("there is no /dev/net/tun (try: modprobe tun)")
    stage = Stage(opener, tmp_path, ordered=opener is not open_oracle)
    with open_tun(pair.fw, "tunnel") as tun:
        # Reverse path filtering comes after prerouting, so any address will do.
        chosen = [frame for frame in frames() if frame.valid and frame.family in (oracle.INET, oracle.INET6)][::7]
        payloads = [frame.payload for frame in chosen]
        names = [frame.name for frame in chosen]
        stage.play(pair.fw, "inet prerouting", lambda: [os.write(tun, payload) for payload in payloads], names)
        stage.play(
            pair.fw, "netdev ingress device tunnel", lambda: [os.write(tun, payload) for payload in payloads], names
        )
    stage.assert_explained()
    assert stage.cases >= 80
