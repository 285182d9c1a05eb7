# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference decoder of flows: what every key must be, in plain Python. It shares nothing with the decoder in C.

`decode()` returns the keys of one message of nf_conntrack_netlink, None where it is malformed. Addresses are `bytes` in
network order. A key that is not valid for a flow is not in the dict.
"""

from __future__ import annotations

from typing import TypeAlias

from tests.oracle import Malformed, attributes, be16, be32

Value: TypeAlias = "int | bytes | str"

NEW, UPDATE, DESTROY = 1, 2, 4
_FINISHED = (6, 7, 8)  # LAST_ACK, TIME_WAIT, CLOSE


def be64(data: bytes) -> int:
    return int.from_bytes(data[:8], "big")


def _lenient(data: bytes) -> list[tuple[int, bytes]]:
    """Return the attributes of a nest, up to the first that cannot be."""
    found = []
    try:
        for each in attributes(data):
            found.append(each)  # what came before the fault counts
    except Malformed:
        pass
    return found


def _tuple(data: bytes) -> dict[str, Value] | None:
    """Return one direction: family, addresses, protocol, and what else it has."""
    found: dict[str, Value] = {"zone": 0}
    addresses: dict[str, bytes] = {}
    ports: dict[str, int | None] = {}
    families = set()
    icmp: dict[int, int] = {}
    for kind, value in _lenient(data):
        if kind == 1:
            addresses, families = {}, set()
            for way, nested in _lenient(value):
                if 1 <= way <= 4:
                    six, end = way > 2, "saddr" if way % 2 else "daddr"
                    size = 16 if six else 4
                    if len(nested) >= size:
                        addresses[end] = nested[:size]
                        families.add(10 if six else 2)
        elif kind == 2:
            ports = {}
            for what, nested in _lenient(value):
                if what == 1:
                    if nested:
                        found["protocol"] = nested[0]
                    else:
                        found.pop("protocol", None)
                elif what in (2, 3):
                    ports["sport" if what == 2 else "dport"] = be16(nested) if len(nested) >= 2 else None
                elif what in (4, 7):
                    icmp[0] = be16(nested) if len(nested) >= 2 else 0
                elif what in (5, 8):
                    # A flow has one of both; of a message with both, the last type counts.
                    found["icmp" if what == 5 else "icmpv6"] = int(len(nested) > 0)
                    found["icmp.type"] = nested[0] if nested else 0
                elif what in (6, 9):
                    icmp[1] = nested[0] if nested else 0
        elif kind == 3:
            found["zone"] = be16(value) if len(value) >= 2 else 0
    if len(addresses) < 2 or len(families) != 1 or "protocol" not in found:
        return None
    found |= {"family": families.pop(), **addresses, "icmp.id": icmp.get(0, 0), "icmp.code": icmp.get(1, 0)}
    if None not in ports.values() and len(ports) == 2:
        found |= {name: port for name, port in ports.items() if port is not None}
    return found


def decode(message: bytes, *, now: int = 0) -> dict[str, Value] | None:
    """Return the keys of a message of an event; `now` is the time of its reception in ns."""
    if len(message) < 20:
        return None
    event = DESTROY if message[4] == 2 else NEW if int.from_bytes(message[6:8], "little") & 0x600 else UPDATE
    keys: dict[str, Value] = {"oob.protocol": 0, "ct.mark": 0, "ct.id": 0}
    keys |= {f"{way}.raw.{what}": 0 for way in ("orig", "reply") for what in ("pktlen", "pktcount")}
    ways: dict[str, dict[str, Value] | None] = {"orig": None, "reply": None}
    times: dict[int, int] = {}
    zone: int | None = None
    try:
        for kind, value in attributes(message[20:]):
            if kind in (1, 2):
                ways["orig" if kind == 1 else "reply"] = _tuple(value)
            elif kind in (3, 7) and len(value) >= 4:
                keys["ct.status" if kind == 3 else "ct.timeout"] = be32(value)
            elif kind in (8, 12):
                keys["ct.mark" if kind == 8 else "ct.id"] = be32(value) if len(value) >= 4 else 0
            elif kind in (9, 10):
                way = "orig" if kind == 9 else "reply"
                for what, nested in _lenient(value):
                    if what in (1, 2) and len(nested) >= 8:
                        keys[f"{way}.raw.{'pktcount' if what == 1 else 'pktlen'}"] = be64(nested)
            elif kind == 4:
                for protocol, nested in _lenient(value):
                    for what, state in _lenient(nested):
                        if protocol in (1, 3) and what == 1 and state:
                            keys["tcp.state" if protocol == 1 else "sctp.state"] = state[0]
            elif kind == 5:
                for what, nested in _lenient(value):
                    if what == 1:
                        keys["ct.helper"] = nested[:15].split(b"\0")[0]
            elif kind == 20:
                times |= {what: be64(nested) for what, nested in _lenient(value) if what in (1, 2) and len(nested) >= 8}
            elif kind == 27:
                now = be64(value) if len(value) >= 8 and be64(value) else now
            elif kind == 22:
                keys["ct.labels"] = value[:16].ljust(16, b"\0")
            elif kind == 18:
                zone = be16(value) if len(value) >= 2 else None
    except Malformed:
        return None
    orig, reply = ways["orig"], ways["reply"]
    if orig is None or reply is None or orig["family"] != reply["family"]:
        return None
    keys["oob.family"] = orig["family"]
    for way, found in (("orig", orig), ("reply", reply)):
        keys |= {f"{way}.ip.saddr": found["saddr"], f"{way}.ip.daddr": found["daddr"]}
        keys[f"{way}.ip.protocol"] = found["protocol"]
        if "sport" in orig and "sport" in reply:
            keys |= {f"{way}.l4.sport": found["sport"], f"{way}.l4.dport": found["dport"]}
    icmp = next((name for name in ("icmp", "icmpv6") if orig.get(name)), None)
    if icmp:
        keys |= {f"{icmp}.type": orig["icmp.type"], f"{icmp}.code": orig["icmp.code"], f"{icmp}.id": orig["icmp.id"]}
    keys |= {
        "ct.zone": orig["zone"] if zone is None else zone,
        "ct.zone.reply": reply["zone"] if zone is None else zone,
    }
    start, stop = times.get(1, 0), times.get(2, 0)
    keys |= {"ct.event": event, "flow.number": 1, "flow.last": int(event == DESTROY)}
    if start or event == NEW:
        keys |= _time("start", start or now)
    if event == DESTROY:
        keys |= _time("end", stop or now)
        keys["flow.end.reason"] = 3 if keys.get("tcp.state") in _FINISHED else 1
    return keys


def _time(which: str, ns: int) -> dict[str, Value]:
    """Return a time as a flow has it: 32 bits of seconds."""
    return {f"flow.{which}.sec": min(ns // 10**9, 0xFFFFFFFF), f"flow.{which}.usec": ns % 10**9 // 1000}
