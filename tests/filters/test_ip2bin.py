# SPDX-License-Identifier: GPL-2.0-or-later
"""IP2BIN: addresses as 128-bit numbers; the forms are compared in tests/binding/test_render.py."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from nflowlevel.filters.ip2bin import IP2BIN
from nflowlevel.plugin.contract import NoOptions
from tests.corpus import by_name, frames
from tests.fix_decoder import decode, shown
from tests.flows import SNAT, TCP6, flow_batch
from tests.messages import message_of
from tests.oracle import build_message

IPV4 = "0x00000000000000000000ffff"


@pytest.mark.parametrize(
    ("frame", "numbers"),
    [
        ("udp4", {"ip.saddr.bin": IPV4 + "0a4d0002", "ip.daddr.bin": IPV4 + "0a4d0001"}),
        ("udp6", {"ip.saddr.bin": "0xfd77" + "0" * 27 + "2", "ip.daddr.bin": "0xfd77" + "0" * 27 + "1"}),
        ("ip6-from-mapped", {"ip.saddr.bin": IPV4 + "0a4d0002", "ip.daddr.bin": "0xfd77" + "0" * 27 + "1"}),
        ("ip4-to-broadcast", {"ip.saddr.bin": IPV4 + "0a4d0002", "ip.daddr.bin": IPV4 + "ffffffff"}),
        ("arp-reply", {}),
        ("ether-pppoe", {}),
    ],
)
def test_numbers(frame: str, numbers: dict[str, str]) -> None:
    plugin = IP2BIN("ip2bin1", NoOptions())
    plugin.open()
    batch = decode([message_of(by_name(frame)), build_message(None)]).batch
    assert plugin.process(batch) is batch
    assert shown(batch, plugin.published()) == [numbers, {}], "a packet without addresses has no numbers of another's"
    plugin.close()


def test_every_address_is_the_one_that_the_packet_has() -> None:
    """ulogd2 2.0.9 and later write the first eight bytes only: every IPv4 address is 0."""
    batch = decode([message_of(frame) for frame in frames()]).batch
    numbers = shown(batch, IP2BIN.published(IP2BIN("ip2bin1", NoOptions())))
    for got, packet in zip(numbers, batch.to_dicts(), strict=True):
        assert got == {f"{key}.bin": mapped(packet[key]) for key in ("ip.saddr", "ip.daddr") if key in packet}


def mapped(text: Any) -> str:
    address = ipaddress.ip_address(text)
    number = int(address) + (0xFFFF << 32 if address.version == 4 else 0)
    return f"0x{number:032x}"


def test_both_directions_of_a_flow() -> None:
    """D-S3: ulogd2 has no last one."""
    batch = flow_batch(SNAT, TCP6)
    ends = ("orig.ip.saddr", "orig.ip.daddr", "reply.ip.saddr", "reply.ip.daddr")
    wanted = [tuple(map(mapped, row)) for row in batch.rows(*ends)]
    assert batch.rows(*(f"{end}.bin" for end in ends)) == wanted
    assert wanted[0][3] == IPV4 + "c6336407"
