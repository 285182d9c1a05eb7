# SPDX-License-Identifier: GPL-2.0-or-later
"""HWHDR: link-layer headers of any kind and length as text, and what the header says of the packet."""

from __future__ import annotations

from typing import Any

import pytest

from nflowlevel.filters.hwhdr import HWHDR
from nflowlevel.plugin.contract import NoOptions
from tests.fix_decoder import decode, shown
from tests.oracle import build_message

ETHERNET = bytes.fromhex("0277000000010277000000020806")
SENDER, RECEIVER = "02:77:00:00:00:02", "02:77:00:00:00:01"
LOOPBACK, PPP, VOID = 772, 512, 65535


@pytest.mark.parametrize(
    ("link", "texts"),
    [
        ({}, {"oob.protocol": 0x0800}),
        (
            {"hwheader": ETHERNET},
            {
                "raw.type": 1,
                "oob.protocol": 0x0806,
                "mac.saddr.str": SENDER,
                "mac.daddr.str": RECEIVER,
                "mac.str": f"{RECEIVER}:{SENDER}:08:06",
            },
        ),
        (
            {"hwheader": ETHERNET, "hwaddr": bytes(6)},
            {
                "raw.type": 1,
                "oob.protocol": 0x0806,
                "mac.saddr.str": "00:00:00:00:00:00",
                "mac.daddr.str": RECEIVER,
                "mac.str": f"{RECEIVER}:{SENDER}:08:06",
            },
        ),
        ({"hwaddr": ETHERNET[6:12]}, {"raw.type": VOID, "oob.protocol": 0x0800, "mac.saddr.str": SENDER}),
        ({"hwaddr": bytes(8)}, {"raw.type": VOID, "oob.protocol": 0x0800, "mac.saddr.str": ":".join(["00"] * 8)}),
        (
            {"hwheader": ETHERNET[:13]},
            {"raw.type": 1, "oob.protocol": 0x0800, "mac.str": f"{RECEIVER}:{SENDER}:08"},
        ),
        (
            {"hwheader": ETHERNET, "hwtype": LOOPBACK},
            {"raw.type": LOOPBACK, "oob.protocol": 0x0800, "mac.str": f"{RECEIVER}:{SENDER}:08:06"},
        ),
        ({"hwheader": b"", "hwtype": PPP}, {"oob.protocol": 0x0800}),
        ({"protocol": None}, {}),
        (
            {"hwheader": bytes(200), "hwtype": PPP},
            {"raw.type": PPP, "oob.protocol": 0x0800, "mac.str": ":".join(["00"] * 200)},
        ),
    ],
)
def test_texts(link: dict[str, Any], texts: dict[str, Any]) -> None:
    plugin = HWHDR("hwhdr1", NoOptions())
    plugin.open()
    batch = decode([build_message(b"", **link), build_message(b"", protocol=None)]).batch
    assert plugin.process(batch) is batch
    assert shown(batch, plugin.published()) == [texts, {}]
    plugin.close()
