# SPDX-License-Identifier: GPL-2.0-or-later
"""Where nflowlevel's records differ from those of ulogd2 2.0.8, on purpose: the whole list.

Each entry names the members concerned, who writes them, when, and why. test_parity.py demands that every difference it
meets is on the list, and that every entry is met. `D-…` are the defect numbers used in docs/from-ulogd2.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests import oracle
from tests.oracle import Keys, be16

Record = dict[str, Any]

#: Prefixes of member names.
_LAYER4 = ("tcp.", "udp.", "udplite.", "icmp.", "icmpv6.", "sctp.", "ahesp.", "src_port", "dest_port")
_PORTS = ("src_port", "dest_port")
_IP = ("ip.", "ip6.", "src_ip", "dest_ip")
_ARP = ("arp.",)


@dataclass(frozen=True)
class Case:
    """One packet: its keys by the oracle, our record and ulogd2's."""

    name: str
    keys: Keys
    ours: Record
    theirs: Record

    @cached_property
    def network(self) -> tuple[int, bytes]:
        """Ethertype and bytes of the packet's network header, tags skipped."""
        return oracle.network(self.family, self.keys)[:2] if "raw.pkt" in self.keys else (0, b"")

    @property
    def family(self) -> int:
        return int(self.keys["oob.family"])

    @property
    def packet(self) -> bytes:
        return self.network[1]

    @property
    def tagged_payload(self) -> bool:
        """A VLAN tag stands in the payload: the kernel has taken off only the outermost."""
        return self.keys.get("oob.protocol") in (oracle.ETH_VLAN, oracle.ETH_QINQ)

    @property
    def ip4(self) -> bool:
        return self.network[0] == oracle.ETH_IPV4 and len(self.packet) >= 20 and not self.wrong_version

    @property
    def ip6(self) -> bool:
        return self.network[0] == oracle.ETH_IPV6 and len(self.packet) >= 40 and not self.wrong_version

    @property
    def wrong_version(self) -> bool:
        expected = {oracle.ETH_IPV4: 4, oracle.ETH_IPV6: 6}.get(self.network[0])
        return expected is not None and len(self.packet) >= 20 and self.packet[0] >> 4 != expected

    @property
    def header(self) -> int:
        """Bytes of the IPv4 header, as it states."""
        return (self.packet[0] & 0xF) * 4

    @property
    def stated(self) -> int:
        """Length of the packet as its IP header states it, 0 where it states none."""
        if self.ip4:
            return be16(self.packet, 2)
        return 40 + be16(self.packet, 4) if be16(self.packet, 4) else 0

    @property
    def last_header(self) -> Any:
        return self.ours.get("ip6.nexthdr")


@dataclass(frozen=True)
class Difference:
    """`members` begin with one of these; `written` by "us", "them" or "both" (with different values)."""

    id: str
    members: tuple[str, ...]
    written: str
    when: Callable[[Case], bool]
    reason: str

    def explains(self, case: Case, member: str) -> bool:
        """Tell whether this is why the two records differ in `member`."""
        by = "both" if member in case.ours and member in case.theirs else "us" if member in case.ours else "them"
        return by == self.written and member.startswith(self.members) and self.when(case)


def _swapped(case: Case, member: str) -> bool:
    ours, theirs = case.ours.get(member), case.theirs.get(member)
    return isinstance(ours, int) and ours == int.from_bytes(int(theirs or 0).to_bytes(2, "little"), "big")


def _cut_extension(case: Case) -> bool:
    """An IPv6 extension header that is not there in full (or ESP, which ulogd2 takes for one) ends the walk."""
    return case.ip6 and case.last_header in (0, 43, 44, 50, 51, 60)


def _beyond_stated_length(case: Case) -> bool:
    """The transport header does not fit into the length that the IP header states, though the bytes are there."""
    return (case.ip4 or case.ip6) and 0 < case.stated < len(case.packet) and "src_port" not in case.ours


def _extension_beyond_stated_length(case: Case) -> bool:
    """An IPv6 extension header does not fit into the length that the IP header states, though the bytes are there."""
    return case.ip6 and 0 < case.stated < len(case.packet) and "ip.protocol" not in case.ours


def _impossible_length(case: Case) -> bool:
    """The length that the IPv4 header states is shorter than that header."""
    return case.ip4 and 0 < case.stated < case.header


DIFFERENCES = (
    Difference(
        "D-B01",
        _LAYER4,
        "them",
        lambda case: case.ip4 and be16(case.packet, 6) & 0x1FFF != 0,
        "ulogd2 reads a transport header out of the data of later IPv4 fragments.",
    ),
    Difference(
        "D-B02",
        _IP,
        "us",
        lambda case: case.ip4 and len(case.packet) <= max(20, case.header),
        "ulogd2 decodes nothing of an IPv4 packet that ends with its header.",
    ),
    Difference(
        "D-B03",
        ("tcp.offset", "tcp.reserved"),
        "both",
        lambda case: case.theirs.get("tcp.offset") == case.theirs.get("tcp.reserved") == 0,
        "ulogd2 always writes 0.",
    ),
    Difference(
        "D-B04",
        ("icmp.csum",),
        "both",
        lambda case: _swapped(case, "icmp.csum"),
        "ulogd2 writes the checksum with its bytes swapped.",
    ),
    Difference(
        "D-B04",
        ("icmpv6.csum",),
        "both",
        lambda case: _swapped(case, "icmpv6.csum"),
        "ulogd2 writes the checksum with its bytes swapped.",
    ),
    Difference(
        "D-B05",
        ("ahesp.spi",),
        "us",
        lambda case: case.ip4 or case.ip6,
        "ulogd2 does not decode AH and ESP.",
    ),
    Difference(
        "D-B06",
        ("ip.protocol",),
        "us",
        lambda case: case.ip6 and case.last_header == 50,
        "ulogd2 takes ESP for an IPv6 extension header and finds no protocol behind it.",
    ),
    Difference(
        "D-B07",
        (*_PORTS, "sctp."),
        "us",
        lambda case: case.ip6 and case.last_header == 132,
        "ulogd2 does not decode SCTP over IPv6.",
    ),
    Difference(
        "D-B08",
        (*_PORTS, "udp.csum", "udplite.coverage"),
        "us",
        lambda case: case.ours.get("ip.protocol") == 136,
        "ulogd2 does not decode UDP-Lite.",
    ),
    Difference(
        "D-B09",
        ("arp.saddr.str", "arp.daddr.str"),
        "both",
        lambda case: case.network[0] == oracle.ETH_ARP,
        "ulogd2 writes a part of a memory address in place of ARP's addresses.",
    ),
    Difference(
        "arp-foreign",
        ("arp.saddr.str", "arp.daddr.str"),
        "them",
        lambda case: case.network[0] == oracle.ETH_ARP and case.packet[2:6] != bytes([8, 0, 6, 4]),
        "ulogd2 looks for Ethernet and IPv4 addresses whatever the ARP packet is about.",
    ),
    Difference(
        "arp-short",
        _ARP,
        "us",
        lambda case: case.network[0] == oracle.ETH_ARP and 8 <= len(case.packet) < 28,
        "ulogd2 decodes nothing of an ARP packet with fewer than 28 bytes.",
    ),
    Difference(
        "D-B10",
        (*_LAYER4, *_IP, *_ARP),
        "us",
        lambda case: case.family in (oracle.ARP, oracle.NETDEV),
        "ulogd2 decodes nothing of what tables of the arp and netdev families log.",
    ),
    Difference(
        "vlan-in-payload",
        (*_LAYER4, *_IP, *_ARP),
        "us",
        lambda case: case.family == oracle.BRIDGE and case.tagged_payload,
        "ulogd2 does not look behind a second VLAN tag.",
    ),
    Difference(
        "D-N05",
        ("vlan.", "oob.phys"),
        "us",
        lambda case: case.family in (oracle.BRIDGE, oracle.NETDEV),
        "ulogd2 has no keys for VLAN tags and bridge ports.",
    ),
    Difference(
        "D-B11",
        ("ip.protocol", "ip6.nexthdr"),
        "both",
        lambda case: case.ip6 and case.theirs.get("ip.protocol") == case.theirs.get("ip6.nexthdr") in (135, 139, 140),
        "ulogd2 stops at mobility, HIP and shim6 headers.",
    ),
    Difference(
        "D-B11",
        _LAYER4,
        "us",
        lambda case: case.ip6 and case.theirs.get("ip6.nexthdr") in (135, 139, 140),
        "ulogd2 stops at mobility, HIP and shim6 headers.",
    ),
    Difference(
        "D-B11",
        ("ip.protocol",),
        "them",
        lambda case: case.ip6 and case.theirs["ip.protocol"] == case.theirs.get("ip6.nexthdr") in (135, 139, 140),
        "ulogd2 stops at mobility, HIP and shim6 headers, so it does not notice when one, or one behind it, is cut.",
    ),
    Difference(
        "D-B11",
        ("ip6.fragoff", "ip6.fragid"),
        "us",
        lambda case: case.ip6 and case.theirs.get("ip6.nexthdr") in (135, 139, 140),
        "ulogd2 stops at mobility, HIP and shim6 headers, so it does not see a fragment header behind one.",
    ),
    Difference(
        "D-B12",
        ("ip6.nexthdr",),
        "us",
        _cut_extension,
        "ulogd2 does not name the IPv6 extension header that is cut; of ESP it computes a length from encrypted bytes.",
    ),
    Difference(
        "later-fragment-walked",
        ("ip6.fragoff", "ip6.fragid", "ip6.nexthdr"),
        "both",
        lambda case: case.ip6 and bool(case.ours.get("ip6.fragoff")) and case.last_header == 44,
        "ulogd2 reads the data of a later IPv6 fragment as one more fragment header.",
    ),
    Difference(
        "version",
        (*_LAYER4, *_IP),
        "them",
        lambda case: case.wrong_version,
        "ulogd2 does not look at the version: it decodes data that is not an IP packet.",
    ),
    Difference(
        "ihl",
        _LAYER4,
        "them",
        lambda case: case.ip4 and case.header < 20,
        "ulogd2 reads a transport header out of an IPv4 header that claims to be shorter than 20 bytes.",
    ),
    Difference(
        "D-I01",
        ("oob.in",),
        "both",
        lambda case: "vanished" in case.name and case.theirs["oob.in"] == "va",
        "ulogd2 shows the previous packet's interface where it does not know the packet's own.",
    ),
    Difference(
        "D-J02",
        ("oob.prefix",),
        "us",
        lambda case: "\ufffd" in case.ours.get("oob.prefix", ""),
        "ulogd2 leaves out a prefix that is not UTF-8; we replace what is wrong with it.",
    ),
    Difference(
        "padding",
        _LAYER4,
        "them",
        lambda case: _beyond_stated_length(case) or _impossible_length(case),
        "ulogd2 reads a transport header out of what follows the packet, such as the padding of a short frame.",
    ),
    Difference(
        "padding",
        ("ip6.nexthdr",),
        "both",
        _extension_beyond_stated_length,
        "ulogd2 walks through extension headers in what follows the packet, such as the padding of a short frame.",
    ),
    Difference(
        "padding",
        ("ip.protocol",),
        "them",
        _extension_beyond_stated_length,
        "ulogd2 walks through extension headers in what follows the packet, such as the padding of a short frame.",
    ),
)


# -- text -------------------------------------------------------------------------------------------------------------

#: A text of PRINTPKT: what the rule says and the interfaces, the network header, the transport header, the rest.
_PARTS = re.compile(
    r"(?P<head>.*?IN=\S* OUT=\S* MAC=\S* )(?P<network>.*?)(?P<transport>(?:PROTO=.*?)?)"
    r"(?P<rest>(?:UID=\d+ )?(?:GID=\d+ )?MARK=0x[0-9a-f]+ )",
    re.DOTALL,
)
_GLUED = re.compile(r"INCOMPLETE(?=\S)")


class TextCase(Case):
    """One packet: its keys by the oracle, our text and ulogd2's."""

    def __init__(self, name: str, keys: Keys, our: str, their: str) -> None:
        super().__init__(name, keys, dict(keys), {})
        self.our, self.their = our, their

    @cached_property
    def differing(self) -> list[str]:
        """The parts that differ; "glued" where a blank is missing, which makes no other part differ."""
        glued = ["glued"] if _GLUED.search(self.their) else []
        ours, theirs = (_PARTS.fullmatch(text) for text in (self.our, _GLUED.sub("INCOMPLETE ", self.their)))
        if not ours or not theirs:
            return ["form"]
        return [*glued, *(name for name in _PARTS.groupindex if ours[name] != theirs[name])]

    @property
    def their_transport(self) -> str:
        """What ulogd2 wrote of the transport header."""
        found = _PARTS.fullmatch(_GLUED.sub("INCOMPLETE ", self.their))
        return found["transport"] if found else ""

    @property
    def ip_number(self) -> Any:
        """The protocol in the IPv4 header, or the last number of the IPv6 headers."""
        return self.keys.get("ip6.nexthdr" if self.ip6 else "ip.protocol")


@dataclass(frozen=True)
class TextDifference:
    """What may differ in the text, part by part."""

    id: str
    parts: tuple[str, ...]
    when: Callable[[TextCase], bool]
    reason: str

    def explains(self, case: TextCase, part: str) -> bool:
        """Tell whether this is why a part of the two texts differs."""
        return part in self.parts and self.when(case)


_BOTH = ("network", "transport")

TEXT_DIFFERENCES = (
    TextDifference("D-P04", ("glued",), lambda case: True, "ulogd2 leaves out the blank behind INCOMPLETE."),
    TextDifference(
        "D-P02",
        ("transport",),
        lambda case: "icmp.type" in case.keys,
        "ulogd2 chooses ID, GATEWAY, PARAMETER by the code instead of the type of ICMP, and never writes MTU.",
    ),
    TextDifference(
        "control",
        ("head",),
        lambda case: re.search(rb"[\x01-\x1f\x7f]", bytes(case.keys.get("oob.prefix", b""))) is not None,  # type: ignore[arg-type]
        "ulogd2 writes control characters as they are: a newline in a prefix makes two lines of one packet.",
    ),
    TextDifference(
        "D-B01",
        ("transport",),
        lambda case: case.ip4 and be16(case.packet, 6) & 0x1FFF != 0,
        "ulogd2 reads a transport header out of the data of later IPv4 fragments.",
    ),
    TextDifference(
        "D-B02",
        _BOTH,
        lambda case: case.ip4 and len(case.packet) <= max(20, case.header),
        "ulogd2 decodes nothing of an IPv4 packet that ends with its header.",
    ),
    TextDifference(
        "D-B05",
        ("transport",),
        lambda case: "ahesp.spi" in case.keys and case.ip_number in (50, 51),
        "ulogd2 does not decode AH and ESP: their SPI is missing.",
    ),
    TextDifference(
        "D-B06",
        ("transport",),
        lambda case: case.ip6 and case.ip_number == 50,
        "ulogd2 calls ESP over IPv6 AH, or PROTO=0.",
    ),
    TextDifference(
        "D-B07",
        ("transport",),
        lambda case: case.ip6 and case.ip_number == 132,
        "ulogd2 does not decode SCTP over IPv6.",
    ),
    TextDifference(
        "D-B09",
        ("network",),
        lambda case: case.network[0] == oracle.ETH_ARP and "arp.saddr" in case.keys,
        "ulogd2 writes a part of a memory address in place of ARP's addresses.",
    ),
    TextDifference(
        "arp-foreign",
        _BOTH,
        lambda case: case.network[0] == oracle.ETH_ARP and case.packet[2:6] != bytes([8, 0, 6, 4]),
        "ulogd2 looks for Ethernet and IPv4 addresses whatever the ARP packet is about.",
    ),
    TextDifference(
        "arp-short",
        ("transport",),
        lambda case: case.network[0] == oracle.ETH_ARP and 8 <= len(case.packet) < 28,
        "ulogd2 decodes nothing of an ARP packet with fewer than 28 bytes.",
    ),
    TextDifference(
        "D-B10",
        _BOTH,
        lambda case: case.family in (oracle.ARP, oracle.NETDEV),
        "ulogd2 writes nothing of what tables of the arp and netdev families log but interfaces and link header.",
    ),
    TextDifference(
        "vlan-in-payload",
        _BOTH,
        lambda case: case.family == oracle.BRIDGE and case.tagged_payload,
        "ulogd2 does not look behind a second VLAN tag.",
    ),
    TextDifference(
        "D-B11",
        ("transport",),
        lambda case: case.ip6 and re.search(r"PROTO=(135|139|140) $", case.their_transport) is not None,
        "ulogd2 stops at mobility, HIP and shim6 headers.",
    ),
    TextDifference(
        "D-B11",
        ("network",),
        lambda case: (
            case.ip6
            and "ip6.fragid" in case.keys
            and re.search(r"PROTO=(135|139|140) $", case.their_transport) is not None
        ),
        "ulogd2 stops at mobility, HIP and shim6 headers, so it does not see a fragment header behind one.",
    ),
    TextDifference(
        "D-B12",
        ("transport",),
        lambda case: case.ip6 and case.ip_number in (0, 43, 44, 51, 60),
        "ulogd2 does not name the IPv6 extension header that is cut.",
    ),
    TextDifference(
        "later-fragment-walked",
        _BOTH,
        lambda case: case.ip6 and bool(case.keys.get("ip6.fragoff")) and case.ip_number == 44,
        "ulogd2 reads the data of a later IPv6 fragment as one more fragment header.",
    ),
    TextDifference(
        "version",
        _BOTH,
        lambda case: case.wrong_version,
        "ulogd2 does not look at the version: it decodes data that is not an IP packet.",
    ),
    TextDifference(
        "ihl",
        ("transport",),
        lambda case: case.ip4 and case.header < 20,
        "ulogd2 reads a transport header out of an IPv4 header that claims to be shorter than 20 bytes.",
    ),
    TextDifference(
        "D-I01",
        ("head",),
        lambda case: "vanished" in case.name and "IN=va " in case.their,
        "ulogd2 shows the previous packet's interface where it does not know the packet's own.",
    ),
    TextDifference(
        "padding",
        ("transport",),
        lambda case: "INCOMPLETE" in case.our and (0 < case.stated < len(case.packet) or _impossible_length(case)),
        "ulogd2 reads a transport header out of what follows the packet, such as the padding of a short frame.",
    ),
)
