# SPDX-License-Identifier: GPL-2.0-or-later
"""Named frames, always the same ones: every header the decoders know, whole, odd, cut and wrong.

`frames()` lists them all. First come the builders, one per header, each a struct and a checksum; then one generator of
frames per kind of traffic. A frame is `valid` when the kernel's IP stack takes it in as far as the prerouting hook;
the others can only be seen by the bridge family and at a device's ingress.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton

SADDR4, DADDR4 = inet_pton(AF_INET, "10.77.0.2"), inet_pton(AF_INET, "10.77.0.1")
SADDR6, DADDR6 = inet_pton(AF_INET6, "fd77::2"), inet_pton(AF_INET6, "fd77::1")
SRC_MAC, DST_MAC = bytes.fromhex("027700000002"), bytes.fromhex("027700000001")
IPV4, ARP, VLAN, IPV6, QINQ = 0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
HOP, TCP, UDP, ROUTING, FRAGMENT, ESP, AH, ICMPV6, NONE, DESTINATION = 0, 6, 17, 43, 44, 50, 51, 58, 59, 60
ICMP, SCTP, MOBILITY, UDPLITE, HIP, SHIM6 = 1, 132, 135, 136, 139, 140


@dataclass(frozen=True)
class Frame:
    """A frame: `payload` is what follows the link header, `ethertype` says what it is, `tags` are VLAN tags before it.

    `family` is the nft family that would log it: 2 (ip), 10 (ip6), 3 (arp) or 7 (only bridge).
    """

    name: str
    family: int
    ethertype: int
    payload: bytes
    valid: bool = True
    tags: tuple[tuple[int, int], ...] = ()

    def l2header(self, dst: bytes = DST_MAC, src: bytes = SRC_MAC) -> bytes:
        """Return the Ethernet header, tags included."""
        protocols = [protocol for protocol, _ in self.tags] + [self.ethertype]
        header = dst + src + struct.pack(">H", protocols[0])
        for (_, tci), inner in zip(self.tags, protocols[1:], strict=True):
            header += struct.pack(">HH", tci, inner)
        return header

    def wire(self, dst: bytes = DST_MAC, src: bytes = SRC_MAC) -> bytes:
        """Return the whole frame."""
        return self.l2header(dst, src) + self.payload


# -- builders ---------------------------------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """Return the Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def crc32c(data: bytes) -> int:
    """Return the checksum of SCTP, RFC 9260 appendix A, in the byte order it has in the packet."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return int.from_bytes(struct.pack("<I", crc ^ 0xFFFFFFFF), "big")


def pseudo(family: int, protocol: int, length: int, ends: bytes = b"") -> bytes:
    """Return the pseudo header that transport checksums cover; `ends` are other addresses than the usual ones."""
    if family == 4:
        return (ends or SADDR4 + DADDR4) + struct.pack(">BBH", 0, protocol, length)
    return (ends or SADDR6 + DADDR6) + struct.pack(">IHBB", length, 0, 0, protocol)


def ipv4(
    protocol: int,
    data: bytes = b"",
    *,
    options: bytes = b"",
    tos: int = 0,
    ident: int = 1,
    fragoff: int = 0,
    ttl: int = 64,
    saddr: bytes = SADDR4,
    daddr: bytes = DADDR4,
    version: int = 4,
    ihl: int | None = None,
    totlen: int | None = None,
    csum: int | None = None,
) -> bytes:
    """Return an IPv4 packet; what is not said is as it should be."""
    options += bytes(-len(options) % 4)
    size = 20 + len(options)
    first = version << 4 | (size // 4 if ihl is None else ihl)
    length = size + len(data) if totlen is None else totlen
    parts = [first, tos, length, ident, fragoff, ttl, protocol, 0, saddr, daddr]
    if csum is None:
        csum = checksum(struct.pack(">BBHHHBBH4s4s", *parts) + options)
    parts[7] = csum
    return struct.pack(">BBHHHBBH4s4s", *parts) + options + data


def ipv6(
    nexthdr: int,
    data: bytes = b"",
    *,
    tclass: int = 0,
    flow: int = 0,
    hops: int = 64,
    version: int = 6,
    payloadlen: int | None = None,
    saddr: bytes = SADDR6,
    daddr: bytes = DADDR6,
) -> bytes:
    """Return an IPv6 packet; what is not said is as it should be."""
    length = len(data) if payloadlen is None else payloadlen
    return struct.pack(">IHBB", version << 28 | tclass << 20 | flow, length, nexthdr, hops) + saddr + daddr + data


def tcp(
    flags: int = SYN,
    data: bytes = b"",
    *,
    family: int = 4,
    sport: int = 40000,
    dport: int = 80,
    seq: int = 0x01020304,
    ack: int = 0,
    window: int = 64240,
    urgp: int = 0,
    reserved: int = 0,
    options: bytes = b"",
    doff: int | None = None,
) -> bytes:
    """Return a TCP segment."""
    options += bytes(-len(options) % 4)
    doff = 5 + len(options) // 4 if doff is None else doff
    parts = [sport, dport, seq, ack, doff << 4 | reserved, flags, window, 0, urgp]
    segment = struct.pack(">HHIIBBHHH", *parts) + options + data
    parts[7] = checksum(pseudo(family, TCP, len(segment)) + segment)
    return struct.pack(">HHIIBBHHH", *parts) + options + data


def udp(
    data: bytes = b"payload",
    *,
    family: int = 4,
    sport: int = 5000,
    dport: int = 53,
    length: int | None = None,
    csum: int | None = None,
    protocol: int = UDP,
    ends: bytes = b"",
) -> bytes:
    """Return a UDP datagram; with protocol 136 a UDP-Lite one, whose `length` is the checksum's coverage."""
    length = 8 + len(data) if length is None else length
    if csum is None:
        covered = (struct.pack(">HHHH", sport, dport, length, 0) + data)[: length or None]
        csum = checksum(pseudo(family, protocol, 8 + len(data), ends) + covered) or 0xFFFF
    return struct.pack(">HHHH", sport, dport, length, csum) + data


def icmp(kind: int, code: int = 0, rest: bytes = bytes(4), data: bytes = b"") -> bytes:
    """Return an ICMP message; `rest` is the second half of its header."""
    body = struct.pack(">BBH4s", kind, code, 0, rest) + data
    return body[:2] + struct.pack(">H", checksum(body)) + body[4:]


def icmpv6(kind: int, code: int = 0, rest: bytes = bytes(4), data: bytes = b"") -> bytes:
    """Return an ICMPv6 message."""
    body = struct.pack(">BBH4s", kind, code, 0, rest) + data
    return body[:2] + struct.pack(">H", checksum(pseudo(6, ICMPV6, len(body)) + body)) + body[4:]


def sctp(*chunks: bytes, sport: int = 36412, dport: int = 36412) -> bytes:
    """Return an SCTP packet."""
    head, body = struct.pack(">HHI", sport, dport, 0xCAFEBABE), b"".join(chunks)
    return head + struct.pack(">I", crc32c(head + bytes(4) + body)) + body


def ah(nexthdr: int, data: bytes = b"", *, spi: int = 0x11223344, length: int = 4) -> bytes:
    """Return an authentication header of (length + 2) words, RFC 4302, and what it protects."""
    return struct.pack(">BBHII", nexthdr, length, 0, spi, 7).ljust((length + 2) * 4, b"\xaa") + data


def esp(spi: int = 0xA1B2C3D4, size: int = 32) -> bytes:
    """Return an ESP packet, RFC 4303; to onlookers all but eight bytes are noise."""
    return struct.pack(">II", spi, 9) + bytes(i * 37 & 0xFF for i in range(size))


def extension(nexthdr: int, data: bytes = b"", *, length: int = 0, fill: bytes = b"\1\4\0\0\0\0") -> bytes:
    """Return an IPv6 extension header of (length + 1) * 8 bytes, filled with one option.

    A long one holds an option for experiments: the kernel takes no more than seven bytes of padding.
    """
    option = bytes([0x1E, length * 8 + 4]) + bytes(length * 8 + 4) if length else fill
    return bytes([nexthdr, length]) + option + data


def fragment(nexthdr: int, data: bytes = b"", *, offset: int = 0, more: bool = False, ident: int = 0xABCD) -> bytes:
    """Return an IPv6 fragment header and its data; `offset` in bytes."""
    return struct.pack(">BBHI", nexthdr, 0, offset | more, ident) + data


def arp(
    operation: int = 1,
    *,
    hwtype: int = 1,
    protocol: int = IPV4,
    hlen: int = 6,
    plen: int = 4,
    sender: tuple[bytes, bytes] = (SRC_MAC, SADDR4),
    target: tuple[bytes, bytes] = (bytes(6), DADDR4),
) -> bytes:
    """Return an ARP packet."""
    return struct.pack(">HHBBH", hwtype, protocol, hlen, plen, operation) + b"".join(sender + target)


# -- frames -----------------------------------------------------------------------------------------------------------


def _4(name: str, packet: bytes, valid: bool = True) -> Frame:
    return Frame(name, 2, IPV4, packet, valid)


def _6(name: str, packet: bytes, valid: bool = True) -> Frame:
    return Frame(name, 10, IPV6, packet, valid)


_TCP_OPTIONS = {
    "mss": bytes.fromhex("020405b4"),
    "typical": bytes.fromhex("020405b40402080a0000000100000000 01030307"),
    "sack": bytes.fromhex("0101050a0102030405060708"),
    "md5": bytes([19, 18]) + bytes(range(16)) + b"\1\1",
    "full40": b"\1" * 40,
}


def _tcp_frames() -> Iterator[Frame]:
    named = {"fin": FIN, "syn": SYN, "rst": RST, "psh": PSH, "ack": ACK, "urg": URG, "ece": ECE, "cwr": CWR}
    combined = {
        "none": 0,
        "all": 0xFF,
        "syn-ack": SYN | ACK,
        "psh-ack": PSH | ACK,
        "fin-ack": FIN | ACK,
        "rst-ack": RST | ACK,
        "ecn-syn": SYN | ECE | CWR,
        "xmas": FIN | PSH | URG,
        "syn-fin": SYN | FIN,
    }
    for name, flags in (named | combined).items():
        yield _4(f"tcp4-{name}", ipv4(TCP, tcp(flags, urgp=77)))
        yield _6(f"tcp6-{name}", ipv6(TCP, tcp(flags, urgp=77, family=6)))
    for reserved in (1, 2, 4, 8, 15):
        yield _4(f"tcp4-reserved-{reserved}", ipv4(TCP, tcp(ACK, reserved=reserved)))
    for name, options in _TCP_OPTIONS.items():
        yield _4(f"tcp4-options-{name}", ipv4(TCP, tcp(SYN, options=options)))
    for doff in (0, 4, 6, 15):
        yield _4(f"tcp4-doff-{doff}", ipv4(TCP, tcp(ACK, doff=doff)))
    yield _4("tcp4-data", ipv4(TCP, tcp(PSH | ACK, b"GET / HTTP/1.1\r\n\r\n")))
    yield _4("tcp4-extremes", ipv4(TCP, tcp(0xFF, sport=65535, dport=0, seq=2**32 - 1, ack=2**32 - 1, window=65535)))
    yield _4("tcp4-zeros", ipv4(TCP, tcp(0, sport=0, dport=0, seq=0, window=0)))
    yield _4("tcp4-large", ipv4(TCP, tcp(ACK, bytes(1440))))
    yield _6("tcp6-data", ipv6(TCP, tcp(PSH | ACK, b"GET / HTTP/1.1\r\n\r\n", family=6)))


def _datagram_frames() -> Iterator[Frame]:
    yield _4("udp4", ipv4(UDP, udp()))
    yield _4("udp4-empty", ipv4(UDP, udp(b"")))
    yield _4("udp4-odd", ipv4(UDP, udp(b"odd")))
    yield _4("udp4-no-checksum", ipv4(UDP, udp(csum=0)))
    yield _4("udp4-bad-checksum", ipv4(UDP, udp(csum=0x1234)))
    yield _4("udp4-ports-0-65535", ipv4(UDP, udp(sport=0, dport=65535)))
    yield _4("udp4-large", ipv4(UDP, udp(bytes(1472))))
    for length in (0, 7, 8, 14, 16, 65535):
        yield _4(f"udp4-length-{length}", ipv4(UDP, udp(length=length, csum=0)))
    yield _6("udp6", ipv6(UDP, udp(family=6)))
    yield _6("udp6-empty", ipv6(UDP, udp(b"", family=6)))
    yield _6("udp6-no-checksum", ipv6(UDP, udp(csum=0)))
    yield _6("udp6-length-0", ipv6(UDP, udp(length=0, csum=0)))
    for coverage in (0, 8, 12, 15):
        yield _4(f"udplite4-{coverage}", ipv4(UDPLITE, udp(length=coverage, protocol=UDPLITE)))
    yield _6("udplite6-8", ipv6(UDPLITE, udp(length=8, protocol=UDPLITE, family=6)))


def _icmp_frames() -> Iterator[Frame]:
    inner = ipv4(UDP, udp(), saddr=DADDR4, daddr=SADDR4)[:28]
    echo = struct.pack(">HH", 0x1234, 7)
    for kind, name in ((0, "reply"), (8, "request")):
        yield _4(f"icmp-echo-{name}", ipv4(ICMP, icmp(kind, 0, echo, b"abcdefgh")))
        yield _4(f"icmp-echo-{name}-code-5", ipv4(ICMP, icmp(kind, 5, echo)))
    for code in range(16):
        mtu = struct.pack(">HH", 0, 1400) if code == 4 else bytes(4)
        yield _4(f"icmp-unreachable-{code}", ipv4(ICMP, icmp(3, code, mtu, inner)))
    yield _4("icmp-frag-needed-extremes", ipv4(ICMP, icmp(3, 4, b"\xff\xff\xff\xff", inner)))
    for code in range(4):
        yield _4(f"icmp-redirect-{code}", ipv4(ICMP, icmp(5, code, bytes([10, 77, 0, 254]), inner)))
    yield _4("icmp-redirect-high", ipv4(ICMP, icmp(5, 1, bytes([203, 0, 113, 9]), inner)))
    for code in range(3):
        yield _4(f"icmp-parameter-{code}", ipv4(ICMP, icmp(12, code, bytes([20 + code, 0, 0, 0]), inner)))
    for code in range(2):
        yield _4(f"icmp-time-exceeded-{code}", ipv4(ICMP, icmp(11, code, bytes(4), inner)))
    for kind in (4, 9, 10, 13, 14, 15, 16, 17, 18, 30, 40, 42, 43, 255):
        yield _4(f"icmp-type-{kind}", ipv4(ICMP, icmp(kind, 0, echo, bytes(12))))
    yield _4("icmp-over-ipv6-number", ipv4(ICMPV6, icmp(8, 0, echo)))


def _icmpv6_frames() -> Iterator[Frame]:
    inner = ipv6(UDP, udp(family=6), saddr=DADDR6, daddr=SADDR6)
    echo = struct.pack(">HH", 0x4321, 9)
    for code in range(7):
        yield _6(f"icmpv6-unreachable-{code}", ipv6(ICMPV6, icmpv6(1, code, bytes(4), inner)))
    yield _6("icmpv6-too-big", ipv6(ICMPV6, icmpv6(2, 0, struct.pack(">I", 1280), inner)))
    for code in range(2):
        yield _6(f"icmpv6-time-exceeded-{code}", ipv6(ICMPV6, icmpv6(3, code, bytes(4), inner)))
    for code in range(3):
        yield _6(f"icmpv6-parameter-{code}", ipv6(ICMPV6, icmpv6(4, code, struct.pack(">I", 40), inner)))
    for kind in (128, 129):
        yield _6(f"icmpv6-echo-{kind}", ipv6(ICMPV6, icmpv6(kind, 0, echo, b"abcdefgh")))
        yield _6(f"icmpv6-echo-{kind}-code-3", ipv6(ICMPV6, icmpv6(kind, 3, echo)))
    for kind in (130, 131, 132, 133, 134, 135, 136, 137, 138, 143, 151, 255):
        yield _6(f"icmpv6-type-{kind}", ipv6(ICMPV6, icmpv6(kind, 0, bytes(4), DADDR6), hops=255))
    yield _6("icmp-over-ipv6", ipv6(ICMP, icmp(8, 0, echo)))


def _other_protocol_frames() -> Iterator[Frame]:
    init = bytes.fromhex("01000014 00000001 00010000 000a000a 00000001".replace(" ", ""))
    data = bytes.fromhex("00030014 00000001 00000002 00000000 61626364".replace(" ", ""))
    for name, chunks in (("init", [init]), ("data", [data]), ("both", [init, data]), ("bare", [])):
        yield _4(f"sctp4-{name}", ipv4(SCTP, sctp(*chunks)))
        yield _6(f"sctp6-{name}", ipv6(SCTP, sctp(*chunks)))
    yield _4("ah4-tcp", ipv4(AH, ah(TCP, tcp())))
    yield _4("ah4-long", ipv4(AH, ah(UDP, udp(), length=7)))
    yield _4("ah4-spi-high", ipv4(AH, ah(ESP, esp(), spi=0xFFFFFFFF)))
    yield _4("esp4", ipv4(ESP, esp()))
    yield _4("esp4-bare", ipv4(ESP, esp(size=0)))
    yield _6("esp6", ipv6(ESP, esp()))
    yield _6("esp6-bare", ipv6(ESP, esp(size=0)))
    yield _6("esp6-spi-low", ipv6(ESP, esp(spi=0x00010203)))
    gre = bytes.fromhex("00000800") + ipv4(UDP, udp())
    igmp = bytes.fromhex("1664f69a") + bytes([224, 0, 0, 251])
    dccp = bytes.fromhex("1388003505000000 00000001 00000000 2a000000".replace(" ", ""))
    others = {"gre": (47, gre), "igmp": (2, igmp), "dccp": (33, dccp), "ipip": (4, ipv4(UDP, udp()))}
    others |= {"sit": (41, ipv6(UDP, udp(family=6))), "ospf": (89, bytes(24)), "pim": (103, bytes(8))}
    others |= {
        "hopopt": (0, bytes(8)),
        "experiment": (253, bytes(8)),
        "reserved": (255, bytes(8)),
        "etherip": (97, b""),
    }
    for name, (number, body) in others.items():
        yield _4(f"{name}4", ipv4(number, body))
        if number:
            yield _6(f"{name}6", ipv6(number, body))


def _ipv4_header_frames() -> Iterator[Frame]:
    options = {
        "eol": b"\0",
        "nop": b"\1\1\1\1",
        "record-route": bytes([7, 11, 4]) + bytes(8),
        "timestamp": bytes([68, 12, 5, 0]) + bytes(8),
        "loose-route": bytes([131, 7, 4]) + SADDR4,
        "router-alert": bytes([148, 4, 0, 0]),
        "security": bytes([130, 11]) + bytes(9),
        "full40": b"\1" * 40,
    }
    for name, option in options.items():
        yield _4(f"ip4-options-{name}", ipv4(UDP, udp(), options=option))
    yield _4("ip4-options-tcp", ipv4(TCP, tcp(SYN, options=_TCP_OPTIONS["typical"]), options=b"\1" * 8))
    yield _4("ip4-options-icmp", ipv4(ICMP, icmp(8, 0, b"\0\1\0\2"), options=b"\1" * 12))
    for tos in (1, 3, 0x10, 0x1E, 0xB8, 0xE0, 0xFF):
        yield _4(f"ip4-tos-{tos}", ipv4(UDP, udp(), tos=tos))
    for ttl in (0, 1, 255):
        yield _4(f"ip4-ttl-{ttl}", ipv4(UDP, udp(), ttl=ttl))
    for ident in (0, 65535):
        yield _4(f"ip4-id-{ident}", ipv4(UDP, udp(), ident=ident))
    for fragoff, name in ((0x4000, "df"), (0x8000, "ce"), (0xC000, "ce-df")):
        yield _4(f"ip4-{name}", ipv4(UDP, udp(), fragoff=fragoff))
    for name, text in (("any", "0.0.0.0"), ("broadcast", "255.255.255.255"), ("high", "203.0.113.255")):
        address = inet_pton(AF_INET, text)
        yield _4(f"ip4-from-{name}", ipv4(UDP, udp(ends=address + DADDR4), saddr=address))
        yield _4(f"ip4-to-{name}", ipv4(UDP, udp(ends=SADDR4 + address), daddr=address))
    for name, number in (("tcp", TCP), ("udp", UDP), ("icmp", ICMP), ("sctp", SCTP), ("other", 47)):
        yield _4(f"ip4-header-only-{name}", ipv4(number))
    yield _4("ip4-header-only-options", ipv4(UDP, options=b"\1" * 4))


def _ipv4_fragment_frames() -> Iterator[Frame]:
    bodies = {
        "tcp": (TCP, tcp(ACK, bytes(60))),
        "udp": (UDP, udp(bytes(72))),
        "icmp": (ICMP, icmp(8, 0, data=bytes(72))),
    }
    bodies |= {"sctp": (SCTP, sctp(bytes(68))), "ah": (AH, ah(TCP, bytes(56)))}
    for name, (number, body) in bodies.items():
        yield _4(f"frag4-{name}-first", ipv4(number, body[:40], fragoff=0x2000, ident=99))
        yield _4(f"frag4-{name}-middle", ipv4(number, body[40:64], fragoff=0x2005, ident=99))
        yield _4(f"frag4-{name}-last", ipv4(number, body[64:], fragoff=0x0008, ident=99))
    yield _4("frag4-tcp-tiny", ipv4(TCP, tcp()[:8], fragoff=0x2000))
    yield _4("frag4-offset-largest", ipv4(UDP, bytes(8), fragoff=0x1FFF))
    yield _4("frag4-offset-1", ipv4(TCP, bytes(16), fragoff=0x0001))
    yield _4("frag4-all-bits", ipv4(UDP, bytes(8), fragoff=0xFFFF))
    yield _4("frag4-df-first", ipv4(UDP, udp(), fragoff=0x6000))


def _ipv6_header_frames() -> Iterator[Frame]:
    for tclass in (1, 0x10, 0xB8, 0xFF):
        yield _6(f"ip6-class-{tclass}", ipv6(UDP, udp(family=6), tclass=tclass))
    for flow in (1, 0xABCDE, 0xFFFFF):
        yield _6(f"ip6-flow-{flow:x}", ipv6(UDP, udp(family=6), flow=flow))
    yield _6("ip6-class-and-flow", ipv6(UDP, udp(family=6), tclass=0x5A, flow=0x12345))
    for hops in (0, 1, 255):
        yield _6(f"ip6-hops-{hops}", ipv6(UDP, udp(family=6), hops=hops))
    for name, text in (
        ("any", "::"),
        ("mapped", "::ffff:10.77.0.2"),
        ("compatible", "::10.77.0.2"),
        ("gap", "1:0:2::3"),
    ):
        address = inet_pton(AF_INET6, text)
        yield _6(f"ip6-from-{name}", ipv6(UDP, udp(family=6, ends=address + DADDR6), saddr=address))
    for name, text in (("multicast", "ff02::1"), ("full", "2001:db8:1:2:3:4:5:6"), ("two-gaps", "2001:0:0:1::1")):
        address = inet_pton(AF_INET6, text)
        yield _6(f"ip6-to-{name}", ipv6(UDP, udp(family=6, ends=SADDR6 + address), daddr=address))
    for name, number in (("tcp", TCP), ("udp", UDP), ("icmpv6", ICMPV6), ("none", NONE), ("other", 47)):
        yield _6(f"ip6-header-only-{name}", ipv6(number))
    yield _6("ip6-none-with-data", ipv6(NONE, b"ignored!"))


def _ipv6_extension_frames() -> Iterator[Frame]:
    upper = {TCP: tcp(family=6), UDP: udp(family=6), ICMPV6: icmpv6(128, 0, b"\0\1\0\2"), SCTP: sctp(), 47: bytes(4)}
    routing = bytes([0, 0, 0, 0, 0, 0])
    headers = {"hop": HOP, "destination": DESTINATION, "mobility": MOBILITY, "hip": HIP, "shim6": SHIM6}
    for (name, number), (top, body) in itertools.product(headers.items(), upper.items()):
        yield _6(f"ext6-{name}-{top}", ipv6(number, extension(top, body)))
    for (name, number), length in itertools.product(headers.items(), (1, 4)):
        yield _6(f"ext6-{name}-length-{length}", ipv6(number, extension(UDP, upper[UDP], length=length)))
    for name, number in headers.items():
        yield _6(f"ext6-{name}-none", ipv6(number, extension(NONE)))
        yield _6(f"ext6-{name}-none-data", ipv6(number, extension(NONE, bytes(8))))
    for name, number in (("mobility", MOBILITY), ("hip", HIP), ("shim6", SHIM6)):
        behind = extension(FRAGMENT, fragment(UDP, upper[UDP], more=True))
        yield _6(f"ext6-{name}-fragment", ipv6(number, behind))
        yield _6(f"ext6-{name}-fragment-cut", ipv6(number, behind[:12]))
    for top in (TCP, UDP, ICMPV6):
        yield _6(f"ext6-routing-{top}", ipv6(ROUTING, extension(top, upper[top], fill=routing)))
        yield _6(f"ext6-ah-{top}", ipv6(AH, ah(top, upper[top])))
    yield _6("ext6-routing-srh", ipv6(ROUTING, bytes([UDP, 2, 4, 0, 0, 0, 0, 0]) + DADDR6 + upper[UDP]))
    yield _6("ext6-ah-long", ipv6(AH, ah(TCP, upper[TCP], length=7)))
    yield _6("ext6-ah-shortest", ipv6(AH, ah(UDP, upper[UDP], length=1)))
    yield _6("ext6-ah-esp", ipv6(AH, ah(ESP, esp())))
    yield _6("ext6-ah-none", ipv6(AH, ah(NONE)))
    chain = extension(ROUTING, extension(FRAGMENT, fragment(DESTINATION, extension(TCP, upper[TCP])), fill=routing))
    yield _6("ext6-chain-all", ipv6(HOP, chain))
    yield _6("ext6-chain-ah", ipv6(HOP, extension(AH, ah(DESTINATION, extension(UDP, upper[UDP])))))
    yield _6("ext6-chain-esp", ipv6(HOP, extension(DESTINATION, extension(ESP, esp()))))
    yield _6("ext6-chain-none", ipv6(HOP, extension(DESTINATION, extension(NONE))))
    many = functools.reduce(lambda data, _: extension(DESTINATION, data), range(8), extension(UDP, upper[UDP]))
    yield _6("ext6-chain-nine", ipv6(DESTINATION, many))
    for top, body in upper.items():
        yield _6(f"frag6-first-{top}", ipv6(FRAGMENT, fragment(top, body, more=True)))
        yield _6(f"frag6-later-{top}", ipv6(FRAGMENT, fragment(top, bytes(24), offset=1448)))
    yield _6("frag6-atomic", ipv6(FRAGMENT, fragment(UDP, upper[UDP], ident=0)))
    yield _6("frag6-middle", ipv6(FRAGMENT, fragment(UDP, bytes(24), offset=8, more=True)))
    yield _6("frag6-largest", ipv6(FRAGMENT, fragment(UDP, bytes(24), offset=0xFFF8, ident=2**32 - 1)))
    yield _6("frag6-reserved-bits", ipv6(FRAGMENT, bytes([UDP, 0xFF, 0, 6]) + bytes(4) + upper[UDP]))
    yield _6("frag6-later-of-extension", ipv6(FRAGMENT, fragment(DESTINATION, extension(UDP), offset=8)))
    yield _6("frag6-later-of-fragment", ipv6(FRAGMENT, fragment(FRAGMENT, fragment(UDP, bytes(8)), offset=8)))
    twice = fragment(FRAGMENT, fragment(UDP, bytes(8), ident=5), offset=8)
    yield _6("frag6-later-of-other-fragment", ipv6(FRAGMENT, twice))
    yield _6("frag6-twice", ipv6(FRAGMENT, fragment(FRAGMENT, fragment(UDP, upper[UDP], ident=5), more=True)))
    yield _6("frag6-hop-first", ipv6(HOP, extension(FRAGMENT, fragment(TCP, upper[TCP], more=True))))
    yield _6("frag6-first-empty", ipv6(FRAGMENT, fragment(TCP, more=True)))


def _arp_frames() -> Iterator[Frame]:
    def frame(name: str, packet: bytes, valid: bool = True) -> Frame:
        return Frame(f"arp-{name}", 3, ARP, packet, valid)

    yield frame("request", arp())
    yield frame("request-padded", arp() + bytes(18))
    yield frame("reply", arp(2, sender=(DST_MAC, DADDR4), target=(SRC_MAC, SADDR4)))
    yield frame("gratuitous", arp(1, target=(b"\xff" * 6, SADDR4)))
    yield frame("probe", arp(1, sender=(SRC_MAC, bytes(4))))
    for operation in (0, 3, 4, 8, 9, 10, 25, 65535):
        yield frame(f"operation-{operation}", arp(operation))
    for hwtype in (0, 6, 32, 65535):
        yield frame(f"hwtype-{hwtype}", arp(hwtype=hwtype))
    yield frame("protocol-ipv6", arp(protocol=IPV6))
    yield frame("protocol-0", arp(protocol=0))
    yield frame("hlen-8", arp(hlen=8, sender=(bytes(8), SADDR4), target=(bytes(8), DADDR4)), False)
    yield frame("hlen-0", arp(hlen=0), False)
    yield frame("plen-16", arp(plen=16), False)
    yield frame("plen-0", arp(plen=0), False)
    for length in (0, 7, 8, 12, 27):
        yield frame(f"cut-{length}", arp()[:length], False)


def _link_frames() -> Iterator[Frame]:
    inner = {"ip4": (IPV4, ipv4(UDP, udp())), "ip6": (IPV6, ipv6(UDP, udp(family=6))), "arp": (ARP, arp())}
    tags = {
        "q": ((VLAN, 100),),
        "priority": ((VLAN, 5 << 13 | 0),),
        "dei": ((VLAN, 7 << 13 | 1 << 12 | 0xFFE),),
        "ad": ((QINQ, 200),),
        "qinq": ((QINQ, 200), (VLAN, 3 << 13 | 100)),
        "q-in-q": ((VLAN, 10), (VLAN, 20)),
        "three": ((QINQ, 1), (VLAN, 2), (VLAN, 3)),
        "four": ((QINQ, 1), (VLAN, 2), (VLAN, 3), (VLAN, 4)),
    }
    for (tag, stack), (name, (ethertype, packet)) in itertools.product(tags.items(), inner.items()):
        yield Frame(f"vlan-{tag}-{name}", 7, ethertype, packet, False, stack)
    yield Frame("vlan-unknown", 7, 0x88B5, bytes(20), False, ((VLAN, 100),))
    yield Frame("vlan-qinq-cut", 7, IPV4, b"", False, ((QINQ, 200), (VLAN, 100)))
    others = {"experimental": 0x88B5, "pppoe": 0x8864, "mpls": 0x8847, "wol": 0x0842, "length": 0x0026, "top": 0xFFFF}
    for name, ethertype in others.items():
        yield Frame(f"ether-{name}", 7, ethertype, ipv4(UDP, udp()) + bytes(20), False)


def _cut_frames() -> Iterator[Frame]:
    """Samples that end early although their lengths say otherwise."""
    long4 = ipv4(TCP, tcp(ACK, b"data"), options=b"\1" * 8)
    samples = {
        "tcp4": (ipv4(TCP, tcp(ACK | URG, b"data", urgp=1)), (0, 1, 4, 19, 20, 21, 28, 39, 40, 42)),
        "options4": (long4, (20, 24, 27, 28, 29, 47, 48)),
        "udp4": (ipv4(UDP, udp()), (20, 27, 28)),
        "icmp4": (ipv4(ICMP, icmp(8, 0, b"\1\2\3\4", bytes(8))), (22, 27, 28)),
        "sctp4": (ipv4(SCTP, sctp(bytes(16))), (24, 31, 32)),
        "esp4": (ipv4(ESP, esp()), (27, 28)),
        "ah4": (ipv4(AH, ah(TCP, tcp())), (31, 32)),
    }
    for name, (packet, lengths) in samples.items():
        for length in lengths:
            yield _4(f"cut-{name}-{length}", packet[:length], False)
    nested = ipv6(HOP, extension(FRAGMENT, fragment(TCP, tcp(family=6))))
    samples = {
        "tcp6": (ipv6(TCP, tcp(ACK, family=6)), (0, 1, 39, 40, 41, 59, 60)),
        "udp6": (ipv6(UDP, udp(family=6)), (47, 48)),
        "icmpv6": (ipv6(ICMPV6, icmpv6(128, 0, b"\1\2\3\4", bytes(8))), (44, 47, 48)),
        "chain6": (nested, (41, 47, 48, 49, 55, 56, 57, 75, 76)),
        "ah6": (ipv6(AH, ah(TCP, tcp(family=6))), (47, 48, 63, 64, 65)),
        "long6": (ipv6(DESTINATION, extension(UDP, udp(family=6), length=2)), (48, 63, 64, 72)),
        "mobility6": (ipv6(MOBILITY, extension(NONE, length=1)), (41, 47, 48)),
        "esp6": (ipv6(ESP, esp()), (47, 48)),
    }
    for name, (packet, lengths) in samples.items():
        for length in lengths:
            yield _6(f"cut-{name}-{length}", packet[:length], False)


def _wrong_frames() -> Iterator[Frame]:
    """Headers that contradict themselves or what follows them."""
    for version in (0, 5, 6, 15):
        yield _4(f"wrong4-version-{version}", ipv4(TCP, tcp(), version=version), False)
    for ihl in range(5):
        yield _4(f"wrong4-ihl-{ihl}", ipv4(TCP, tcp(), ihl=ihl), False)
    yield _4("wrong4-ihl-past-end", ipv4(UDP, udp(), ihl=15), False)
    yield _4("wrong4-ihl-over-data", ipv4(TCP, tcp(), ihl=7), False)
    for totlen in (0, 1, 19, 20, 24, 39, 41, 1000, 65535):
        yield _4(f"wrong4-totlen-{totlen}", ipv4(TCP, tcp(), totlen=totlen), totlen in (20, 24, 39))
    yield _4("wrong4-totlen-in-options", ipv4(UDP, udp(), options=b"\1" * 8, totlen=24), False)
    yield _4("wrong4-checksum", ipv4(UDP, udp(), csum=0xDEAD), False)
    yield _4("wrong4-option-length", ipv4(UDP, udp(), options=bytes([7, 255, 4, 0])))
    padding = bytes(range(200, 218))
    yield _4("padded4-tcp", ipv4(TCP, tcp(ACK)) + padding)
    yield _4("padded4-udp-empty", ipv4(UDP, udp(b"")) + padding)
    yield _4("padded4-header-only", ipv4(TCP) + bytes(26))
    yield _4("padded4-tiny-tcp", ipv4(TCP, tcp()[:12]) + padding)
    for version in (0, 4, 7):
        yield _6(f"wrong6-version-{version}", ipv6(TCP, tcp(family=6), version=version), False)
    for length in (0, 8, 19, 21, 1000, 65535):
        packet = ipv6(TCP, tcp(family=6), payloadlen=length)
        yield _6(f"wrong6-payloadlen-{length}", packet, length in (0, 8, 19))
    yield _6("wrong6-extension-past-end", ipv6(DESTINATION, bytes([TCP, 200]) + bytes(30)))
    yield _6("wrong6-ah-past-end", ipv6(AH, bytes([TCP, 200]) + bytes(30)))
    yield _6("wrong6-ah-length-0", ipv6(AH, ah(UDP, udp(family=6), length=0)))
    yield _6("wrong6-hop-second", ipv6(DESTINATION, extension(HOP, extension(UDP, udp(family=6)))))
    yield _6("wrong6-source-multicast", ipv6(UDP, udp(), saddr=inet_pton(AF_INET6, "ff02::5")), False)
    yield _6("padded6-udp", ipv6(UDP, udp(family=6)) + padding)
    yield _6("padded6-none", ipv6(NONE) + padding)
    yield _6("padded6-tiny-tcp", ipv6(TCP, tcp(family=6)[:12]) + padding)
    yield _6("padded6-extension", ipv6(DESTINATION, extension(UDP), payloadlen=8) + udp(family=6))
    behind = extension(UDP, udp(family=6))
    yield _6("padded6-extension-cut", ipv6(DESTINATION, behind, payloadlen=2))
    yield Frame("ip6-in-ip4-frame", 7, IPV4, ipv6(UDP, udp(family=6)), False)
    yield Frame("ip4-in-ip6-frame", 7, IPV6, ipv4(UDP, udp(bytes(40))), False)
    yield Frame("ip4-in-arp-frame", 7, ARP, ipv4(UDP, udp()), False)


@functools.cache
def frames() -> list[Frame]:
    """Return all frames; their names are unique and their order is always the same."""
    groups = (
        _tcp_frames,
        _datagram_frames,
        _icmp_frames,
        _icmpv6_frames,
        _other_protocol_frames,
        _ipv4_header_frames,
        _ipv4_fragment_frames,
        _ipv6_header_frames,
        _ipv6_extension_frames,
        _arp_frames,
        _link_frames,
        _cut_frames,
        _wrong_frames,
    )
    return [frame for group in groups for frame in group()]


def by_name(name: str) -> Frame:
    """Return the frame of that name."""
    return next(frame for frame in frames() if frame.name == name)
