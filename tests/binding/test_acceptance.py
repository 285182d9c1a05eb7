# SPDX-License-Identifier: GPL-2.0-or-later
"""Which flows are wanted: the same answer from C, from the kernel's filters and from plain Python, for every list."""

from __future__ import annotations

import ipaddress
import random

import pytest

from nflowlevel.binding._lib import ffi
from nflowlevel.binding.acceptance import Accept, network, protocol
from nflowlevel.binding.conntrack import EventSocket, TableSocket, mapped
from tests.fix_watched import Watched

LISTS = (
    {"sources": ["10.77.0.0/24"]},
    {"sources": ["fd77::/64"]},
    {"sources": ["10.0.0.0/8", "fd77::2/128"]},
    {"targets": ["10.77.0.1/32"]},
    {"targets": ["::/0"]},
    {"targets": ["0.0.0.0/0"], "protocols": ["udp"]},
    {"protocols": [6, "17"]},
    {"protocols": ["ipv6-icmp"]},
    {"sources": ["10.77.0.2", "192.0.2.0/31"], "targets": ["10.77.0.0/27", "fd00::/7"], "protocols": ["tcp", "udp"]},
    {"sources": ["192.0.2.0/24"]},
    {"sources": [f"192.0.{n >> 8}.{n & 255}/32" for n in range(300)] + ["10.77.0.2/31"]},
)


def wanted(accept: Accept, source: str, target: str, protocol_: int) -> bool:
    """The rule, as the manual states it."""

    def within(networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], text: str) -> bool:
        address = ipaddress.ip_address(text)
        return not networks or any(address.version == net.version and address in net for net in networks)

    protocols = accept.protocols
    return (
        within(accept.sources, source) and within(accept.targets, target) and (not protocols or protocol_ in protocols)
    )


def test_in_c_it_is_the_rule() -> None:
    chance = random.Random(1)
    for _ in range(300):
        six = chance.random() < 0.5
        addresses = [
            str(
                ipaddress.ip_address(chance.getrandbits(128 if six else 32)).__class__(
                    chance.getrandbits(128 if six else 32)
                )
            )
            for _ in range(2)
        ]
        number = chance.choice((1, 6, 17, 58, 132))
        lists = [
            [f"{chance.choice([address, '2001:db8::', '198.51.100.0'])}/{chance.choice((0, 1, 7, 8, 9, 31, 32))}"
             for _ in range(chance.randrange(3))]
            for address in addresses
        ]  # fmt: skip
        accept = Accept(*lists, chance.choice(((), (6,), (number, 1))))
        records = ffi.new("struct nfl_flow[2]")
        records[0].oob_family = 10 if six else 2
        records[0].orig_ip_protocol = number
        for field, text in zip(("orig_ip_saddr", "orig_ip_daddr"), addresses, strict=True):
            packed = ipaddress.ip_address(text).packed
            ffi.memmove(getattr(records[0], field), packed, len(packed))
        assert accept.select(records, 1) == wanted(accept, *addresses, number), (accept, addresses, number)


@pytest.mark.parametrize("lists", LISTS, ids=str)
def test_the_kernel_filters_what_c_filters(watched: Watched, lists: dict[str, list[str]]) -> None:
    """The program for events and the request for dumps leave out nothing wanted; the program lets nothing else pass."""
    accept = Accept(**lists)
    table = TableSocket(accept, watched.fw.path)
    # What the kernel lets pass: C takes all.
    events = EventSocket(("destroy",), accept, watched.fw.path)
    events.listen()
    try:
        watched.send_udp(1, source_port=5001)
        watched.send_udp(1, source=watched.PEER6, source_port=5002)
        watched.tcp(1, 1)
        watched.echo(2, count=1, size=8)
        watched.echo(10, count=1, size=8)
        flows = [
            (watched.PEER4, watched.FW4, 17),
            (watched.PEER6, watched.FW6, 17),
            (watched.PEER4, watched.FW4, 6),
            (watched.PEER4, watched.FW4, 1),
            (watched.PEER6, watched.FW6, 58),
        ]
        count = sum(wanted(accept, *flow) for flow in flows)
        mapping = mapped(1 << 22)
        records = ffi.from_buffer("struct nfl_flow[]", mapping)
        table.begin()
        listed = 0
        while not table.done:
            listed += table.receive(records, len(records))
        assert listed == count
        watched.flush()
        assert events.receive() == count
        assert events.state.received == count
        if lists in ({"targets": ["10.77.0.1/32"]}, {"targets": ["0.0.0.0/0"], "protocols": ["udp"]}):
            assert table.state.received == count  # CTA_FILTER did it
    finally:
        table.close()
        events.close()


def test_a_list_that_is_too_long_for_the_kernel_is_filtered_in_c() -> None:
    accept = Accept(sources=[f"10.{n >> 8}.{n & 255}.0/24" for n in range(2000)])
    assert accept.program() == b""
    records = ffi.new("struct nfl_flow[2]")
    for number, last in enumerate((7, 8)):
        records[number].oob_family = 2
        ffi.memmove(records[number].orig_ip_saddr, bytes((10, last, 207, 1)), 4)
    assert accept.select(records, 2) == 1
    assert bytes(records[0].orig_ip_saddr[0:4]) == bytes((10, 7, 207, 1))


def test_no_condition() -> None:
    assert not Accept()
    assert Accept().program() == Accept().asks() == b""
    assert Accept().select(ffi.NULL, 5) == 5
    assert repr(Accept(sources=["10.0.0.1/8"], protocols=["tcp"])) == "Accept(sources=['10.0.0.0/8'], protocols=['6'])"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.0/33", r"'10\.0\.0\.0/33' is no network such as 10\.0\.0\.0/8 or fd00::/8"),
        ("host", "'host' is no network"),
        ("x" * 5000, "too long"),
        ("", "is no network"),
    ],
)
def test_wrong_networks(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        network(text)
    assert len(str(caught.value)) < 300


def test_protocols() -> None:
    assert [protocol(value) for value in ("tcp", "UDP", "58", 132, "icmpv6", "ipv6-icmp", "0")] == [
        6, 17, 58, 132, 58, 58, 0,
    ]  # fmt: skip
    for value in ("no-such", "256", -1, "99999999999", "²"):
        with pytest.raises(ValueError, match="protocol"):
            protocol(value)
