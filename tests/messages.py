# SPDX-License-Identifier: GPL-2.0-or-later
"""The corpus as netlink messages: what nfnetlink_log would send of each frame. Only the standard library is used."""

from __future__ import annotations

from typing import Any

from tests import oracle
from tests.corpus import Frame, by_name, frames


def message_of(frame: Frame, family: int | None = None, **more: Any) -> bytes:
    """Return what nfnetlink_log would send for a corpus frame, as seen by `family` (default: the frame's own)."""
    family = frame.family if family is None else family
    header, payload, protocol = frame.l2header(), frame.payload, frame.ethertype
    if family in (oracle.BRIDGE, oracle.NETDEV) and frame.tags:
        # The kernel takes the outermost tag off and keeps it beside the packet; the others stay in the payload.
        more.setdefault("vlan", frame.tags[0])
        protocol, payload = oracle.be16(header, 16), header[18:] + payload
        header = header[:12] + header[16:18]
    attributes = {"protocol": protocol, "hwheader": header[:14], "hwaddr": header[6:12], **more}
    return oracle.build_message(payload, family=family, **attributes)


def egress_message_of(frame: Frame) -> bytes:
    """Return the message of a netdev egress hook: the payload begins with the Ethernet header."""
    wire, netdev, egress = frame.wire(), oracle.NETDEV, oracle.NETDEV_EGRESS
    return oracle.build_message(wire, family=netdev, hook=egress, protocol=frame.ethertype, l2hdr=wire[:14])


#: Attributes that a packet can have, with values unlike one another.
FULL: dict[str, Any] = {
    "group": 2,
    "hook": 2,
    "prefix": b"full: ",
    "mark": 0x01020304,
    "time": (1_795_460_084, 190_524),
    "indev": 2,
    "outdev": 1,
    "physindev": 70_000,
    "physoutdev": 3,
    "uid": 1000,
    "gid": 1001,
    "seq": 17,
    "seq_global": 0xFFFFFFFE,
    "l2hdr": bytes(range(18)),
    "ct": bytes(range(40)),
}


def udp_message(**more: Any) -> bytes:
    """Return a logged UDP packet of 2026-11-23 18:54:44 UTC."""
    attributes = {"prefix": b"pfx: ", "time": FULL["time"], "indev": 1, **more}
    return message_of(by_name("udp4"), **attributes)


def sample_messages() -> list[bytes]:
    """Return one message for each corpus frame, as its own family sees it."""
    return [message_of(frame) for frame in frames()]
