# SPDX-License-Identifier: GPL-2.0-or-later
"""Packet: the terms of one packet."""

from __future__ import annotations

from typing import Any

import pytest

from nflowlevel.records.batch import Batch
from tests.corpus import by_name
from tests.fix_decoder import decode
from tests.messages import FULL, message_of
from tests.oracle import build_message


def few(*names: str, **more: Any) -> Batch:
    return decode([message_of(by_name(name), **more) for name in names]).batch


def test_terms_of_a_packet() -> None:
    (packet,) = few("tcp4-all", **FULL)
    assert (packet.prefix, packet.mark, packet.hook, packet.family, packet.label) == ("full: ", 0x01020304, 2, 2, 7)
    assert (packet.indev, packet.outdev, packet.physindev, packet.physoutdev) == (2, 1, 70_000, 3)
    assert (packet.indev_name, packet.outdev_name) == ("va", "lo")
    assert (packet.uid, packet.gid, packet.seq_local, packet.seq_global) == (1000, 1001, 17, 0xFFFFFFFE)
    assert (packet.saddr, packet.daddr, packet.protocol) == ("10.77.0.2", "10.77.0.1", 6)
    assert (packet.sport, packet.dport, packet.caplen, packet.totlen) == (40000, 80, 40, 40)
    assert (packet.hw_protocol, packet.timestamp) == (0x0800, 1_795_460_084.190524)
    assert bytes(packet.payload) == by_name("tcp4-all").payload
    assert repr(packet) == "<Packet 10.77.0.2:40000 > 10.77.0.1:80 caplen 40 prefix 'full: '>"


def test_terms_of_other_packets() -> None:
    udp6, arp, lengthless = few("udp6", "arp-reply", "wrong6-payloadlen-0")
    assert udp6.totlen == len(by_name("udp6").payload) == udp6.caplen
    assert (arp.totlen, arp.saddr, arp.sport, arp.prefix) == (None, None, None, None)
    assert lengthless.totlen == 40
    assert repr(arp) == "<Packet family 3 caplen 28 prefix None>"
    (bare,) = decode([build_message(None)]).batch
    assert (bare.payload, bare.caplen) == (None, None)


def test_a_packet_does_not_change() -> None:
    (packet,) = few("udp4")
    with pytest.raises(AttributeError):
        packet.mark = 5
    assert not hasattr(packet, "no_such_key")


def test_the_names_of_its_rows_columns() -> None:
    """What a packet says under a name is what its batch says."""
    batch = few("tcp4-syn", "udp6", "arp-reply")
    for name in ("payload", "saddr", "src_ip", "sport", "tcp.dport", "tcp_dport", "oob.in", "indev_name"):
        assert [packet.get(name) for packet in batch] == batch.values(name), name
