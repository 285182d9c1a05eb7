# SPDX-License-Identifier: GPL-2.0-or-later
"""IP2STR: addresses as inet_ntop(3) writes them; all forms of them are compared in tests/binding/test_render.py."""

from __future__ import annotations

import pytest

from nflowlevel.filters.ip2str import IP2STR
from nflowlevel.plugin.contract import NoOptions
from tests.corpus import by_name
from tests.fix_decoder import decode, shown
from tests.flows import SNAT, TCP6, flow_batch
from tests.messages import message_of
from tests.oracle import build_message


@pytest.mark.parametrize(
    ("frame", "texts"),
    [
        ("udp4", {"ip.saddr.str": "10.77.0.2", "ip.daddr.str": "10.77.0.1"}),
        ("udp6", {"ip.saddr.str": "fd77::2", "ip.daddr.str": "fd77::1"}),
        ("ip6-from-mapped", {"ip.saddr.str": "::ffff:10.77.0.2", "ip.daddr.str": "fd77::1"}),
        ("ip4-to-broadcast", {"ip.saddr.str": "10.77.0.2", "ip.daddr.str": "255.255.255.255"}),
        ("arp-reply", {"arp.saddr.str": "10.77.0.1", "arp.daddr.str": "10.77.0.2"}),
        ("arp-hlen-8", {}),
        ("arp-cut-27", {}),
        ("ether-pppoe", {}),
    ],
)
def test_texts(frame: str, texts: dict[str, str]) -> None:
    plugin = IP2STR("ip2str1", NoOptions())
    plugin.open()
    batch = decode([message_of(by_name(frame)), build_message(None)]).batch
    assert plugin.process(batch) is batch
    assert shown(batch, plugin.published()) == [texts, {}], "a packet without addresses has no texts of another's"
    plugin.close()


def test_both_directions_of_a_flow() -> None:
    keys = [f"{way}.ip.{end}.str" for way in ("orig", "reply") for end in ("saddr", "daddr")]
    assert IP2STR("i", NoOptions()).process(flow_batch(SNAT, TCP6)).rows(*keys) == [
        ("10.0.0.5", "203.0.113.9", "203.0.113.9", "198.51.100.7"),
        ("fd00::5", "2001:db8::9", "2001:db8::9", "fd00::5"),
    ]
