# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that nobody thought of: structured, but random; a seed always gives the same ones.

Where a header has few values (protocols, TCP flags, types of ICMP) all are there; what has many is drawn. What is
wrong with a frame (lengths, versions, the place where it is cut) is drawn as well. The builders are the corpus's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from random import Random

from tests import corpus
from tests.corpus import ARP, IPV4, IPV6, QINQ, SADDR6, VLAN, Frame, checksum

#: Behind a VLAN tag, and of some other types, the kernel wants a few bytes before it forwards a frame.
_SHORTEST_OTHER = 8
_EXTENSIONS = (corpus.HOP, corpus.ROUTING, corpus.FRAGMENT, corpus.AH, corpus.DESTINATION)
_MORE_EXTENSIONS = (*_EXTENSIONS, corpus.MOBILITY, corpus.HIP, corpus.SHIM6)
_TRANSPORTS = (corpus.TCP, corpus.UDP, corpus.ICMP, corpus.ICMPV6, corpus.SCTP, corpus.UDPLITE, corpus.AH, corpus.ESP)


def prefix(random: Random, without: str = "") -> str:
    """Return a prefix of up to 64 bytes of any value that nft's language can write, as the surrogates of Python."""
    octets = [octet for octet in range(1, 256) if chr(octet) not in '"$' + without]
    return bytes(random.choices(octets, k=random.randrange(65))).decode("utf-8", "surrogateescape")


def frames(seed: int, count: int) -> list[Frame]:
    """Return `count` frames in random order: of every kind some, if there are a few hundred of them."""
    random = Random(seed)
    found = [*_systematic(random)]
    random.shuffle(found)
    found = found[: count // 2]
    while len(found) < count:
        found.append(_any(random))
    return [dataclasses.replace(frame, name=f"{seed}/{n}-{frame.name}") for n, frame in enumerate(found)]


def _systematic(random: Random) -> Iterator[Frame]:
    """Yield all of what can be counted."""
    for number in range(256):
        yield _ip4("protocol", corpus.ipv4(number, _transport(random, number, 4)))
        yield _ip6("protocol", corpus.ipv6(number, _transport(random, number, 6)))
        yield _ip4("flags", corpus.ipv4(corpus.TCP, _tcp(random, 4, number)))
        yield _ip6("flags", corpus.ipv6(corpus.TCP, _tcp(random, 6, number)))
        yield _ip6("icmp", corpus.ipv6(corpus.ICMPV6, _icmp(random, 6, number)))
        for code in range(16 if number < 19 else 1):
            yield _ip4("icmp", corpus.ipv4(corpus.ICMP, _icmp(random, 4, number, code)))
        yield Frame("arp", 3, ARP, corpus.arp(number if number < 128 else random.randrange(65536)))
    for _ in range(12):
        chain = _ip6_packet(random, straight=True)
        for length in range(len(chain)):
            yield _ip6(f"chain-cut-{length}", chain[:length])
    for _ in range(6):
        packet = _ip4_packet(random, straight=True)
        for length in range(len(packet)):
            yield _ip4(f"cut-{length}", packet[:length])


def _any(random: Random) -> Frame:
    kind = random.choices(("ip4", "ip6", "arp", "other", "tagged"), (8, 8, 2, 1, 2))[0]
    match kind:
        case "ip4":
            return _ip4("any", _cut(random, _ip4_packet(random)))
        case "ip6":
            return _ip6("any", _cut(random, _ip6_packet(random)))
        case "arp":
            packet = _arp_packet(random)
            valid = len(packet) >= 28 and packet[4:6] == bytes([6, 4])
            return Frame("any-arp", 3, ARP, packet, valid)
        case "other":
            return Frame("any-ether", 7, _ethertype(random), _noise(random, _SHORTEST_OTHER, 80), False)
    inner = (
        (IPV4, _ip4_packet(random)),
        (IPV6, _ip6_packet(random)),
        (ARP, _arp_packet(random)),
        (_ethertype(random), _noise(random, 8, 60)),
    )
    ethertype, packet = random.choice(inner)
    packet = packet.ljust(_SHORTEST_OTHER, b"\0")
    tags = tuple((random.choice((VLAN, QINQ)), random.randrange(65536)) for _ in range(random.randint(1, 4)))
    return Frame("any-tagged", 7, ethertype, packet, False, tags)


def _ethertype(random: Random) -> int:
    """Return a type that is none of those the frames are made for, or the length of an IEEE 802.3 frame."""
    while (number := random.choice((random.randrange(0x0600, 0x10000), random.randrange(0x05DD)))) in (
        IPV4,
        ARP,
        VLAN,
        IPV6,
        QINQ,
    ):
        pass
    return number


def _noise(random: Random, least: int = 0, most: int = 48) -> bytes:
    return random.randbytes(random.randint(least, most))


def _seldom(random: Random) -> bool:
    return random.random() < 0.12


def _cut(random: Random, packet: bytes) -> bytes:
    """Return a packet, or its beginning, or with something behind it."""
    if _seldom(random):
        return packet[: random.randrange(len(packet))]
    return packet + _noise(random, 1) if _seldom(random) else packet


# -- network headers --------------------------------------------------------------------------------------------------


def _ip4(name: str, packet: bytes) -> Frame:
    """Return a frame, valid if the kernel's IPv4 takes it in."""
    header = (packet[0] & 0xF) * 4 if packet else 0
    valid = (
        len(packet) >= max(20, header)
        and packet[0] >> 4 == 4
        and header >= 20
        and checksum(packet[:header]) == 0
        and header <= int.from_bytes(packet[2:4], "big") <= len(packet)
    )
    return Frame(f"{name}-ip4", 2, IPV4, packet, valid)


def _ip6(name: str, packet: bytes) -> Frame:
    """Return a frame, valid if the kernel's IPv6 takes it in: it reads hop-by-hop options before rules see them."""
    valid = (
        len(packet) >= 40
        and packet[0] >> 4 == 6
        and packet[6] != corpus.HOP
        and packet[8:24] == SADDR6
        and 40 + int.from_bytes(packet[4:6], "big") <= len(packet)
    )
    return Frame(f"{name}-ip6", 10, IPV6, packet, valid)


def _ip4_packet(random: Random, *, straight: bool = False) -> bytes:
    number = random.choice((*_TRANSPORTS, random.randrange(256)))
    body = _transport(random, number, 4)
    options = b""
    if random.random() < 0.3:
        kind, size = random.choice((7, 68, 131, 137, 148, 130, random.randrange(256))), random.randint(2, 36)
        options = random.choice((bytes([kind, size]).ljust(size, b"\4"), _noise(random, 1, 40), b"\1" * size))
    fragoff = random.choice((0, 0, 0, 0x4000, 0x2000, 0x2001, random.randrange(0x2000), random.randrange(0x10000)))
    if straight:
        return corpus.ipv4(number, body, options=options)
    total = 20 + len(options) + -len(options) % 4 + len(body)
    return corpus.ipv4(
        number,
        body,
        options=options,
        tos=random.randrange(256),
        ident=random.randrange(65536),
        fragoff=fragoff,
        ttl=random.randrange(256),
        saddr=random.choice((corpus.SADDR4, random.randbytes(4))),
        daddr=random.choice((corpus.DADDR4, random.randbytes(4))),
        version=random.randrange(16) if _seldom(random) else 4,
        ihl=random.randrange(16) if _seldom(random) else None,
        totlen=random.choice((random.randrange(total + 8), random.randrange(65536))) if _seldom(random) else None,
        csum=random.randrange(65536) if _seldom(random) else None,
    )


def _ip6_packet(random: Random, *, straight: bool = False) -> bytes:
    number = random.choice((*_TRANSPORTS, corpus.NONE, random.randrange(256)))
    data = _transport(random, number, 6)
    for _ in range(random.choice((1, 2, 3, 4) if straight else (0, 0, 1, 1, 2, 3, 5))):
        above, number = number, random.choice(_MORE_EXTENSIONS)
        data = _extension(random, number, above, data)
    if straight:
        return corpus.ipv6(number, data)
    wrong = random.choice((random.randrange(len(data) + 8), random.randrange(65536), 0))
    return corpus.ipv6(
        number,
        data,
        tclass=random.randrange(256),
        flow=random.randrange(1 << 20),
        hops=random.randrange(256),
        version=random.randrange(16) if _seldom(random) else 6,
        payloadlen=wrong if _seldom(random) else None,
        saddr=random.choice((SADDR6, random.randbytes(16))),
        daddr=random.choice((corpus.DADDR6, corpus.DADDR6, random.randbytes(16))),
    )


def _extension(random: Random, number: int, above: int, data: bytes) -> bytes:
    """Return an extension header and what is behind it; some state a length that is wrong."""
    if number == corpus.FRAGMENT:
        offset = random.choice((0, 0, 8, 1448, random.randrange(0x2000) * 8))
        return corpus.fragment(above, data, offset=offset, more=random.random() < 0.5, ident=random.getrandbits(32))
    length = random.choice((0, 0, 1, 2, 5))
    if number == corpus.AH:
        header = corpus.ah(above, spi=random.getrandbits(32), length=length)
        header = header if length else header.ljust(8, b"\0")
    else:
        header = corpus.extension(above, length=length)
    if _seldom(random):
        header = header[:1] + bytes([random.randrange(256)]) + header[2:]
    return header + data


def _arp_packet(random: Random) -> bytes:
    packet = corpus.arp(
        random.choice((1, 2, random.randrange(65536))),
        hwtype=random.choice((1, 1, random.randrange(65536))),
        protocol=random.choice((IPV4, IPV4, random.randrange(65536))),
        hlen=random.choice((6, 6, 6, random.randrange(256))),
        plen=random.choice((4, 4, 4, random.randrange(256))),
        sender=(random.randbytes(6), random.randbytes(4)),
        target=(random.randbytes(6), random.randbytes(4)),
    )
    return _cut(random, packet)


# -- transport headers ------------------------------------------------------------------------------------------------


def _transport(random: Random, number: int, family: int) -> bytes:
    match number:
        case corpus.TCP:
            body = _tcp(random, family, random.randrange(256))
        case corpus.UDP | corpus.UDPLITE:
            length = random.randrange(65536) if _seldom(random) else None
            ports = {"sport": random.randrange(65536), "dport": random.randrange(65536)}
            csum = random.choice((0, random.randrange(65536), None))
            body = corpus.udp(_noise(random), length=length, csum=csum, protocol=number, **ports)
        case corpus.ICMP | corpus.ICMPV6:
            body = _icmp(random, family if random.random() < 0.9 else 10 - family, random.randrange(256))
        case corpus.SCTP:
            ports = {"sport": random.randrange(65536), "dport": random.randrange(65536)}
            body = corpus.sctp(_noise(random), **ports)
        case corpus.AH:
            inner = random.choice(_TRANSPORTS[:6])
            length = random.choice((1, 4, 4, 7))
            body = corpus.ah(inner, _transport(random, inner, family), spi=random.getrandbits(32), length=length)
        case corpus.ESP:
            body = corpus.esp(random.getrandbits(32), random.randrange(40))
        case _:
            return _noise(random)
    return body[: random.randrange(len(body) + 1)] if _seldom(random) else body


def _tcp(random: Random, family: int, flags: int) -> bytes:
    return corpus.tcp(
        flags,
        _noise(random),
        family=family,
        sport=random.randrange(65536),
        dport=random.randrange(65536),
        seq=random.getrandbits(32),
        ack=random.getrandbits(32),
        window=random.randrange(65536),
        urgp=random.choice((0, random.randrange(65536))),
        reserved=random.randrange(16),
        options=random.choice((b"", _noise(random, 1, 40))),
        doff=random.randrange(16) if _seldom(random) else None,
    )


def _icmp(random: Random, family: int, kind: int, code: int | None = None) -> bytes:
    """Return a message of a type; what reports an error holds the packet that caused it, or its beginning."""
    code = random.choice((0, 0, 1, 2, 3, 4, 5, random.randrange(256))) if code is None else code
    inner = b""
    if kind in (1, 2, 3, 4, 5, 11, 12, 137):
        number = random.choice((corpus.TCP, corpus.UDP, corpus.ICMP))
        data = _noise(random, 8)
        inner = corpus.ipv4(number, data) if family == 4 else corpus.ipv6(number, data)
        inner = inner[: random.randint(0, len(inner))]
    build = corpus.icmp if family == 4 else corpus.icmpv6
    return build(kind, code, random.randbytes(4), inner or _noise(random))
