# SPDX-License-Identifier: GPL-2.0-or-later
"""The text that PRINTPKT must make of a packet, in plain Python, from the keys that the oracle finds in it.

It shares nothing with the renderer in C. The form is that of the kernel's LOG target as ulogd2 gave it; what ulogd2 has
wrong is right here (docs/from-ulogd2.md).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping

from tests import oracle
from tests.oracle import Keys, be16

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FLAGS = ("urg", "ack", "psh", "rst", "syn", "fin")


def printed(keys: Keys, names: Mapping[int, str]) -> bytes:
    """Return the text of a packet, its newline included."""
    return b"".join(_parts(keys, names))


def escaped(text: bytes) -> bytes:
    """Return a text from outside as it stands in a line."""
    return _CONTROL.sub(lambda found: b"\\x%02x" % found[0][0], text)


def _parts(keys: Keys, names: Mapping[int, str]) -> Iterator[bytes]:
    if "oob.prefix" in keys:
        yield escaped(_bytes(keys, "oob.prefix")) + b" "
    for label, key in ((b"IN=", "oob.ifindex_in"), (b"OUT=", "oob.ifindex_out")):
        name = names.get(_int(keys, key), "")
        yield label + escaped(name.encode("utf-8", "surrogateescape")) + b" "
    yield b"MAC=" + _bytes(keys, "raw.mac").hex(":").encode() + b" "
    part = _network(keys)
    if part:
        yield part(keys).encode()
    for label, key in (("UID", "oob.uid"), ("GID", "oob.gid")):
        if key in keys:
            yield f"{label}={keys[key]} ".encode()
    yield f"MARK={_int(keys, 'oob.mark'):#x} \n".encode()


def _network(keys: Keys) -> Callable[[Keys], str] | None:
    family = _int(keys, "oob.family")
    if "ip.ttl" in keys:
        return _ip4
    if "ip6.hoplimit" in keys:
        return _ip6
    if "arp.operation" in keys:
        return _arp
    if family in (oracle.BRIDGE, oracle.NETDEV):
        ethertypes = {oracle.ETH_IPV4: _ip4, oracle.ETH_IPV6: _ip6, oracle.ETH_ARP: _arp}
        return ethertypes.get(_int(keys, "oob.protocol"), lambda k: f"PROTO={_int(k, 'oob.protocol')} ")
    return {oracle.INET: _ip4, oracle.INET6: _ip6, oracle.ARP: _arp}.get(family)


def _ip4(keys: Keys) -> str:
    tos, fragoff, protocol = (_int(keys, f"ip.{name}") for name in ("tos", "fragoff", "protocol"))
    text = f"SRC={_address(keys, 'ip.saddr')} DST={_address(keys, 'ip.daddr')} " if "ip.saddr" in keys else ""
    text += f"LEN={_int(keys, 'ip.totlen')} TOS={tos & 0x1E:02X} PREC=0x{tos & 0xE0:02X} "
    text += f"TTL={_int(keys, 'ip.ttl')} ID={_int(keys, 'ip.id')} "
    text += "".join(f"{name} " for bit, name in ((0x8000, "CE"), (0x4000, "DF"), (0x2000, "MF")) if fragoff & bit)
    text += f"FRAG:{fragoff & 0x1FFF} " if fragoff & 0x1FFF else ""
    if protocol == 1:
        return text + _icmp(keys)
    spi = keys.get("ahesp.spi") if protocol in (50, 51) else None
    return text + _transport(protocol, keys, spi)


def _ip6(keys: Keys) -> str:
    text = ""
    if "ip.saddr" in keys:
        text = f"SRC={_address(keys, 'ip.saddr')} DST={_address(keys, 'ip.daddr')} "
        text += f"LEN={_int(keys, 'ip6.payloadlen') + 40} TC={keys['ip6.priority']} "
        text += f"HOPLIMIT={keys['ip6.hoplimit']} FLOWLBL={keys['ip6.flowlabel']} "
    if "ip6.fragid" in keys:
        text += f"FRAG: {keys['ip6.fragoff']} ID: {keys['ip6.fragid']:08x} "
    protocol = _int(keys, "ip6.nexthdr")
    if protocol == 58:
        if "icmpv6.type" not in keys:
            return text + "PROTO=ICMPv6 INCOMPLETE "
        text += f"PROTO=ICMPv6 TYPE={keys['icmpv6.type']} CODE={keys['icmpv6.code']} "
        return text + (f"ID={keys['icmpv6.echoid']} SEQ={keys['icmpv6.echoseq']} " if "icmpv6.echoid" in keys else "")
    return text + _transport(protocol, keys, _spi_of_esp(keys) if protocol == 50 else None)


def _transport(protocol: int, keys: Keys, spi: oracle.Value | None) -> str:
    name = {6: "TCP", 17: "UDP", 132: "SCTP", 50: "ESP", 51: "AH"}.get(protocol, "")
    if not name:
        return f"PROTO={protocol} "
    text, low = f"PROTO={name} ", name.lower()
    if protocol in (50, 51):
        return text + ("INCOMPLETE " if spi is None else f"SPI={spi:#x} ")
    if f"{low}.sport" not in keys:
        return text + "INCOMPLETE "
    text += f"SPT={keys[f'{low}.sport']} DPT={keys[f'{low}.dport']} "
    if protocol == 6:
        text += f"SEQ={keys['tcp.seq']} ACK={keys['tcp.ackseq']} WINDOW={keys['tcp.window']} "
        text += "".join(f"{flag.upper()} " for flag in _FLAGS if keys[f"tcp.{flag}"])
        text += f"URGP={_int(keys, 'tcp.urgp')} "
    return text + (f"LEN={keys['udp.len']} " if protocol == 17 else "")


def _icmp(keys: Keys) -> str:
    if "icmp.type" not in keys:
        return "PROTO=ICMP INCOMPLETE "
    kind, code = keys["icmp.type"], keys["icmp.code"]
    text = f"PROTO=ICMP TYPE={kind} CODE={code} "
    if kind in (0, 8):
        return text + f"ID={keys['icmp.echoid']} SEQ={keys['icmp.echoseq']} "
    if kind == 5:
        return text + f"GATEWAY={_address(keys, 'icmp.gateway')} "
    if kind == 12:
        return text + f"PARAMETER={_bytes(keys, 'icmp.gateway')[0]} "
    return text + (f"MTU={keys['icmp.fragmtu']} " if (kind, code) == (3, 4) else "")


def _arp(keys: Keys) -> str:
    text = f"SRC={_address(keys, 'arp.saddr')} DST={_address(keys, 'arp.daddr')} " if "arp.saddr" in keys else ""
    text += "PROTO=ARP "
    if "arp.operation" not in keys:
        return text
    operation = keys["arp.operation"]
    text += {1: "REQUEST ", 2: "REPLY ", 10: "NAK "}.get(operation, f"CODE={operation} ")
    if operation == 2 and "arp.shwaddr" in keys:
        text += f"REPLY_MAC={_bytes(keys, 'arp.shwaddr').hex(':')} "
    return text


def _spi_of_esp(keys: Keys) -> int | None:
    """Return the SPI of an ESP header over IPv6; the keys may have that of an AH before it."""
    packet = oracle.network(_int(keys, "oob.family"), keys)[1]
    end = 40 + be16(packet, 4) if be16(packet, 4) else len(packet)
    data, number = packet[40:end], packet[6]
    while number != 50:
        size = {44: 8, 51: (data[1] + 2) * 4}.get(number, (data[1] + 1) * 8)
        if number == 44 and be16(data, 2) & 0xFFF8:
            return None
        number, data = data[0], data[size:]
    return oracle.be32(data) if len(data) >= 8 else None


def _int(keys: Keys, name: str) -> int:
    value = keys.get(name, 0)
    assert isinstance(value, int)
    return value


def _bytes(keys: Keys, name: str) -> bytes:
    value = keys.get(name, b"")
    assert isinstance(value, bytes)
    return value


def _address(keys: Keys, name: str) -> str:
    address = _bytes(keys, name)
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
