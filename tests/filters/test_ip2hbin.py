# SPDX-License-Identifier: GPL-2.0-or-later
"""IP2HBIN: IPv4 addresses as numbers; other forms of a batch are compared in tests/records."""

from __future__ import annotations

import ipaddress

import pytest

from nflowlevel.filters.ip2hbin import IP2HBIN
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.records.flow import FLOW
from nflowlevel.records.keys import published_by
from nflowlevel.records.packet import PACKET
from nflowlevel.records.render import CopyPlan
from tests.corpus import by_name, frames
from tests.fix_decoder import decode
from tests.flows import SNAT, TCP6, flow_batch
from tests.messages import message_of

PUBLISHED = tuple((key.name, key) for key in published_by("IP2HBIN") if key in PACKET)
OF_FLOWS = tuple((key.name, key) for key in published_by("IP2HBIN") if key in FLOW)


@pytest.mark.parametrize(
    ("frame", "row"),
    [
        ("udp4", [str(0x0A4D0002), str(0x0A4D0001), None, None]),
        # A number with the highest bit set is no negative one.
        ("ip4-to-broadcast", [str(0x0A4D0002), str(0xFFFFFFFF), None, None]),
        ("arp-reply", [None, None, str(0x0A4D0001), str(0x0A4D0002)]),
        # D-S4: ulogd2 stores a part of a memory address here.
        ("udp6", [None, None, None, None]),
        ("ip6-from-mapped", [None, None, None, None]),
        ("ether-pppoe", [None, None, None, None]),
    ],
)
def test_a_row_has_the_number_or_null(frame: str, row: list[str | None]) -> None:
    plugin = IP2HBIN("ip2hbin1", NoOptions())
    plugin.open()
    batch = decode([message_of(by_name(frame))]).batch
    assert plugin.process(batch) is batch
    (rendered,) = CopyPlan(PUBLISHED).render(batch.raw, {})
    fields = rendered[0].decode().removesuffix("\n").split("\t")
    assert [None if field == "\\N" else field for field in fields] == row
    plugin.close()


def test_every_address_is_the_one_that_the_packet_has() -> None:
    batch = decode([message_of(frame) for frame in frames()]).batch
    for name, _ in PUBLISHED:
        address = name.replace(".h", ".")
        wanted = [None if text is None or ":" in text else int(ipaddress.IPv4Address(text))
                  for text in batch.values(address)]  # fmt: skip
        assert batch.values(name) == wanted
        assert any(wanted), name
        assert None in wanted, name


def test_a_filter_takes_the_number_for_the_address_that_it_is() -> None:
    batch = decode([message_of(frame) for frame in frames()]).batch
    wanted = batch.where("ip.saddr == 10.77.0.2").to_dicts()
    assert wanted
    assert batch.where("ip.hsaddr == 10.77.0.2").to_dicts() == wanted
    assert batch.where("ip.hsaddr == 172818434").to_dicts() == wanted


def test_flows_of_ipv4_have_the_numbers_of_both_directions() -> None:
    """D-S4: of IPv6 ulogd2 stores parts of memory addresses; of the last it stores nothing at all (D-S3)."""
    batch = flow_batch(SNAT, TCP6)
    names = [name for name, _ in OF_FLOWS]
    assert names == ["orig.ip.hsaddr", "orig.ip.hdaddr", "reply.ip.hsaddr", "reply.ip.hdaddr"]
    numbers = [int(ipaddress.IPv4Address(text)) for text in ("10.0.0.5", "203.0.113.9", "203.0.113.9", "198.51.100.7")]
    assert batch.rows(*names) == [tuple(numbers), (None,) * 4]
    (rendered,) = CopyPlan(OF_FLOWS).render(batch.raw, {})
    assert rendered[0].decode() == "\t".join(map(str, numbers)) + "\n" + "\t".join(["\\N"] * 4) + "\n"
