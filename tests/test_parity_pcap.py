# SPDX-License-Identifier: GPL-2.0-or-later
"""Our capture files against those of the real ulogd2, record by record, over every nft family and the whole corpus.

Rules log each packet to a group that ulogd2 reads and to one that our daemon reads, both configured alike. A record is
the same in both files, or it differs as docs/from-ulogd2.md says: see `Difference`.
"""

from __future__ import annotations

import enum
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import oracle
from tests.corpus import Frame, frames
from tests.fix_netns import Bridge, Netns, Pair, mac_bytes
from tests.fix_nflog import NflogReader
from tests.fix_pcap import Written, head_of, records_of
from tests.test_parity import open_tun
from tests.ulogd2 import Nflowlevel, Ulogd2

_THEIRS, _OURS, _WITNESS = 1, 2, 3
_PATIENCE_SECS = 20


class Difference(enum.Enum):
    """How a record may differ on purpose."""

    NOT_IP = "D-K04: it is none of IP, and left out"
    TAGGED = "a VLAN tag or an Ethernet header stands before the packet: it is left out"
    LENGTH = "the original length is that of the header also in the families bridge and netdev"
    CUT = "it is that of the header also where not all of the header was captured"
    SHORT = "the original length is never below the captured one"


class Stage:
    """Lets packets happen while both read, again and again, and compares the files."""

    def __init__(self, directory: Path) -> None:
        self.compared = 0
        self.met: set[Difference] = set()
        self._directory = directory

    def play(
        self,
        netns: Netns,
        chain: str,
        send: Callable[[], Any],
        names: Sequence[str],
        *,
        match: str = "",
        snaplen: int = 0,
        policy: str = "drop",
    ) -> None:
        """Log what `send` does, one packet for each of `names`, from a chain such as "inet prerouting"."""
        directory = self._directory / f"run{self.compared}"
        directory.mkdir()
        family, _, hook = chain.partition(" ")
        log = f'{match} log prefix "parity: "' + (f" snaplen {snaplen}" if snaplen else "")
        rules = "\n".join(f"{log} group {group}" for group in (_THEIRS, _OURS, _WITNESS))
        options: dict[str, Any] = {"filters": ("BASE",), "output": "PCAP"}
        with (
            Ulogd2(netns, directory, group=_THEIRS, **options) as theirs,
            Nflowlevel(netns, directory, group=_OURS, **options) as ours,
            NflogReader(netns, _WITNESS) as witness,
        ):
            hooked = f"type filter hook {hook} priority 0; policy {policy};"
            netns.nft(f"table {family} parity {{\nchain c {{\n{hooked}\n{rules}\n}}\n}}\n")
            send()
            messages = witness.messages(len(names))
            end = time.monotonic() + _PATIENCE_SECS
            while len(_so_far(theirs.output)) < len(names):
                assert time.monotonic() < end, f"{chain}: ulogd2 has {len(_so_far(theirs.output))} of {len(names)}"
                time.sleep(0.005)
        netns.nft(f"delete table {family} parity")
        # Nothing but the zone, which is right in UTC.
        assert head_of(ours.output) == head_of(theirs.output)
        self._compare(chain, names, messages, records_of(ours.output), records_of(theirs.output))

    def _compare(
        self, chain: str, names: Sequence[str], messages: list[bytes], ours: list[Written], theirs: list[Written]
    ) -> None:
        rest = iter(ours)
        for name, message, their in zip(names, messages, theirs, strict=True):
            keys = oracle.decode(message)
            assert keys is not None
            ethertype, packet, _ = oracle.network(int(keys["oob.family"]), {"raw.pkt": b"", **keys})
            self.compared += 1
            if ethertype not in (oracle.ETH_IPV4, oracle.ETH_IPV6):
                self.met.add(Difference.NOT_IP)
                continue
            our = next(rest, None)
            assert our, f"{chain}: {name} is missing"
            assert abs(our.sec + our.usec / 1e6 - their.sec - their.usec / 1e6) < 1, f"{chain}: {name}: another time"
            if our.data != their.data:
                assert their.data.endswith(our.data), f"{chain}: {name}: {our} but {their}"
                assert our.data == packet
                self.met.add(Difference.TAGGED)
            if our.original != their.original:
                self._explain(f"{chain}: {name}", int(keys["oob.family"]), _told_length(ethertype, packet), our, their)
        assert next(rest, None) is None, f"{chain}: there are more records than packets"

    def _explain(self, what: str, family: int, told: int, our: Written, their: Written) -> None:
        assert our.original == max(told, len(our.data)), f"{what}: {our} but {their}"
        if family in (oracle.INET, oracle.INET6):
            is_cut = len(their.data) < (20 if family == oracle.INET else 40) and their.original < our.original
            assert is_cut or their.original < len(their.data), f"{what}: {our} but {their}"
            self.met.add(Difference.CUT if is_cut else Difference.SHORT)
        else:
            assert their.original == len(their.data), f"{what}: {our} but {their}"
            self.met.add(Difference.LENGTH)


def _told_length(ethertype: int, packet: bytes) -> int:
    """Return the length that an IP header tells, as far as it is there; 0 where it does not."""
    if packet and packet[0] >> 4 != {oracle.ETH_IPV4: 4, oracle.ETH_IPV6: 6}[ethertype]:
        return 0
    if ethertype == oracle.ETH_IPV6:
        return 40 + int.from_bytes(packet[4:6] if len(packet) >= 6 else b"", "big")
    return int.from_bytes(packet[2:4] if len(packet) >= 4 else b"", "big")


def _so_far(path: Path) -> list[Written]:
    """Return the whole records of a file that is being written."""
    try:
        return records_of(path)
    except (AssertionError, ValueError):
        return []
    except Exception:  # a head that is cut (struct.error)
        return []


def _play_bridge(stage: Stage, bridge: Bridge) -> None:
    dst, src = mac_bytes(bridge.B_MAC), mac_bytes(bridge.A_MAC)
    wires = [frame.wire(dst, src) for frame in frames()]
    for snaplen in (0, 3, 20, 47):
        names = [f"snaplen {snaplen}: {frame.name}" for frame in frames()]
        stage.play(bridge.br, "bridge forward", functools.partial(bridge.inject, wires), names, snaplen=snaplen)


def _play_device(stage: Stage, pair: Pair) -> None:
    names = [frame.name for frame in frames()]
    wires = [frame.wire() for frame in frames()]
    stage.play(pair.fw, "netdev ingress device va", functools.partial(pair.inject, wires), names)
    out = [frame.wire(mac_bytes(pair.PEER_MAC), mac_bytes(pair.FW_MAC)) for frame in frames()]
    stage.play(pair.fw, "netdev egress device va", lambda: pair.fw.inject("va", out), names, policy="accept")


def _of(family: int) -> list[Frame]:
    return [frame for frame in frames() if frame.valid and frame.family == family]


def _play_ip(stage: Stage, pair: Pair) -> None:
    valid = [*_of(oracle.INET), *_of(oracle.INET6)]
    wires = [frame.wire() for frame in valid]
    for snaplen in (0, 2, 24):
        names = [f"snaplen {snaplen}: {frame.name}" for frame in valid]
        stage.play(pair.fw, "inet prerouting", functools.partial(pair.inject, wires), names, snaplen=snaplen)


def _play_arp(stage: Stage, pair: Pair) -> None:
    pair.accept_arp()
    wires = [frame.wire(dst=b"\xff" * 6) for frame in _of(oracle.ARP)]
    stage.play(pair.fw, "arp input", lambda: pair.inject(wires), [frame.name for frame in _of(oracle.ARP)])


def _play_local(stage: Stage, pair: Pair) -> None:
    sender = "import socket, sys\nfor a in sys.argv[1:]:\n s = socket.socket(10 if ':' in a else 2, 2)\n"
    sender += " s.sendto(b'local', (a, 9))\n"
    for hook in ("output", "postrouting"):
        addresses = (pair.PEER4, pair.PEER6)
        send = functools.partial(pair.fw.run, sys.executable, "-c", sender, *addresses)
        stage.play(pair.fw, f"inet {hook}", send, addresses, match="udp dport 9", policy="accept")


@pytest.mark.kernel
def test_every_record_is_ulogd2s_or_better(tmp_path: Path, bridge: Bridge, pair: Pair) -> None:
    stage = Stage(tmp_path)
    _play_bridge(stage, bridge)
    _play_device(stage, pair)
    _play_ip(stage, pair)
    _play_arp(stage, pair)
    _play_local(stage, pair)
    assert stage.compared >= 900
    assert stage.met == set(Difference), "on the list, but not met"


@pytest.mark.kernel
def test_device_without_link_header(tmp_path: Path, pair: Pair) -> None:
    stage = Stage(tmp_path)
    with open_tun(pair.fw, "tunnel") as tun:
        payloads = [frame.payload for frame in (*_of(oracle.INET), *_of(oracle.INET6))]
        stage.play(
            pair.fw,
            "inet prerouting",
            lambda: [os.write(tun, payload) for payload in payloads],
            [str(number) for number in range(len(payloads))],
        )
    assert stage.compared == len(payloads)
