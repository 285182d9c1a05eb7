# SPDX-License-Identifier: GPL-2.0-or-later
"""BASE: what it publishes; its values are compared in tests/test_decode.py."""

from __future__ import annotations

from nflowlevel.filters.base import BASE
from nflowlevel.plugin.contract import NoOptions
from tests.corpus import by_name
from tests.fix_decoder import decode, shown
from tests.messages import message_of


def test_it_makes_packets_of_raw_packets() -> None:
    assert BASE.accepts == {"raw"}
    assert BASE.provides == "packet"


def test_what_it_publishes() -> None:
    plugin = BASE("base1", NoOptions())
    plugin.open()
    batch = decode([message_of(by_name("udp4")), message_of(by_name("arp-reply"))]).batch
    assert plugin.process(batch) is batch
    keys = [key for key in plugin.published() if key.type not in ("raw", "ipaddr")]
    udp, arp = shown(batch, keys)
    assert udp["udp.dport"] == 53
    assert list(udp) == [key.name for key in keys if key.name in udp], "the order of members is the catalogue's"
    assert arp == {"oob.protocol": 0x0806, "arp.hwtype": 1, "arp.protocoltype": 0x0800, "arp.operation": 2}
    plugin.close()
