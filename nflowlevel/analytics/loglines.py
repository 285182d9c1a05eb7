# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of the kernel's LOG target, and of LOGEMU and SYSLOG (ours and ulogd2's), as rows of the relation `packets`.

A row has the names of archive/schema.py, and only what its line says: nothing is guessed. Lines that are no packets are
counted by reason (`Counts`): cut at the front or in the middle, without a time, with a number that no packet can have.

What differs between lines, and is read: `<pri>`; the time as RFC 3164, RFC 5424, ISO 8601, `dmesg -T` or OpenWrt write
it, with or without a fraction; no host; no `kernel:`; `[uptime]`; a prefix glued to `IN=`; MAC= empty, long or missing,
MACSRC=/MACDST=/MACPROTO=; PHYSIN=/PHYSOUT=; LEN= and ID= twice; an embedded packet in `[SRC=… ]`, which is skipped; TC,
HOPLIMIT and FLOWLBL of IPv6; OPT (hex); a protocol as a number; UID, GID and MARK; `message repeated N times: [ … ]`.

Times. One without a zone is local time. One without a year gets the latest year that does not put it more than a day
after the file's last change (`changed`), or the year that is asked for (`year`). A line with nothing but an uptime has
no time.

What a line does not say. The lowest bit of the type of service (of an ECN mark, too) is in no line: `ip_tos` has 0 for
it. The family of the rule, interface numbers, checksums and the label are unknown. `tcp_offset` and `ip_ihl` are known
only where options are written. `tcp_res1`, `tcp_res2` and `tcp_reserved` are known only from the kernel's own lines. In
LOGEMU's lines a control character of a prefix stands as `\\xNN`, and stays so. Where ulogd2 writes AH over IPv6, it
may mean ESP: the protocol is then unknown.

Where the host ends. Behind the time stands the host, then the tag (`kernel:`, `ulogd[1]:`); all that is between these
and the last `IN=… OUT=` is the prefix. Without a tag, the first word behind the time is the host.

What can be forged. Nothing that a remote sender puts into a packet is text in these lines, only numbers and addresses;
an embedded packet (of an ICMP error) is the sender's own invention, and is not read. Whoever may write to the log can
write lines that look like these: with logger(1), or by UDP to a syslog server, also `kernel:` and any time. A log
program that does not escape newlines lets one message become two lines. A prefix is the administrator's: it may hold
`SRC=`, or a whole `IN=… OUT=`; the last `IN=… OUT=` of a line counts. It may also look like a tag or an uptime, where
the line has none.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from nflowlevel.analytics.plainlines import PlainLines
from nflowlevel.analytics.stamps import Stamps
from nflowlevel.archive.schema import PACKETS

Row = dict[str, Any]

#: Longer lines are no packets. A line of the kernel has at most 1 KiB.
LONGEST = 8192
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_MOST_8, _MOST_16, _MOST_32 = 0xFF, 0xFFFF, 0xFFFF_FFFF
#: Entries of a table of what was met before; then it begins anew.
_REMEMBERED = 65_536

_PROTOCOLS = {"TCP": 6, "UDP": 17, "ICMP": 1, "ICMPv6": 58, "SCTP": 132, "UDPLITE": 136, "ESP": 50, "AH": 51}
#: In the order of lines; AE, the lowest of the reserved bits, has a name of its own in kernels of today.
_FLAGS = ("ae", "cwr", "ece", "urg", "ack", "psh", "rst", "syn", "fin")
#: IPv6 headers that others follow: what could not be reached behind them is not known.
_EXTENSIONS = frozenset((0, 43, 44, 51, 60, 135, 139, 140))
#: Those of them behind which the kernel does not look, so that its line ends with their number.
_UNKNOWN_TO_THE_KERNEL = frozenset((135, 139, 140))

# -- forms ------------------------------------------------------------------------------------------------------------
# All repetitions are bounded, or end where the next part begins: no text takes more than linear time.

_UPTIME = r"(?:\[ {0,12}\d{1,12}\.\d{1,9}\](?:\[ {0,9}[TC]\d{1,9}\])? ?)"
_TAGGED = re.compile(
    r"(?:(?P<host>(?!(?:kern|user|daemon|syslog|local[0-7])\.[a-z])[^ \[]{1,255}) )?"
    r"(?:(?:kern|user|daemon|syslog|local[0-7])\.[a-z]{3,9} )?"
    r"(?:(?P<tag>kernel|ulogd)(?:\[\d{1,10}\])?:|(?P<tag5424>kernel|ulogd)(?: [^ ]{1,128}){2} (?:-|\[[^\]]{0,512}\])) ?"
    rf"{_UPTIME}?",
    re.ASCII,
)
_HOST = re.compile(rf"(?P<host>[A-Za-z0-9](?:[\w.:-]{{0,253}}[A-Za-z0-9])?) {_UPTIME}?", re.ASCII)
_ONLY_UPTIME = re.compile(_UPTIME, re.ASCII)
_REPEATED = re.compile(r"message repeated (\d{1,6}) times: \[ ?(.*)\] ?", re.ASCII | re.DOTALL)

_LINK = re.compile(
    r"IN=(\S{0,64}) OUT=(\S{0,64})(?: PHYSIN=(\S{0,64}))?(?: PHYSOUT=(\S{0,64}))?"
    r"(?: MAC=([0-9a-fA-F:]{0,191})"
    r"| MACSRC=([0-9a-f:]{17}) MACDST=([0-9a-f:]{17}) MACPROTO=([0-9a-f]{4})(?: VPROTO=([0-9a-f]{4}) VID=(\d{1,5}))?)?"
    r"(?: TUNNEL=[0-9.]{7,15}->[0-9.]{7,15})?(?: |$)",
    re.ASCII,
)
_IP4 = re.compile(
    r"SRC=([0-9.]{7,15}) DST=([0-9.]{7,15}) LEN=(\d{1,5}) TOS=(0x)?([0-9A-F]{2}) PREC=0x([0-9A-F]{2}) TTL=(\d{1,3})"
    r" ID=(\d{1,5}) ((?:CE )?(?:DF )?(?:MF )?)(?:FRAG:(\d{1,4}) )?(?:OPT \(([0-9A-F]{0,80})\) )?"
    r"(?:PROTO=(\w{1,7})(?: |$)|TRUNCATED|(?<=FRAG:\d )$|(?<=FRAG:\d\d )$|(?<=FRAG:\d{3} )$|(?<=FRAG:\d{4} )$)",
    re.ASCII,
)
_IP6_HEADERS = (
    r"SRC=([0-9a-f:.]{2,45}) DST=([0-9a-f:.]{2,45}) LEN=(\d{1,5}) TC=(\d{1,3}) HOPLIMIT=(\d{1,3}) FLOWLBL=(\d{1,7})"
    r"(?: |$)((?:OPT \( (?:FRAG:\d{1,5} (?:INCOMPLETE )?ID:[0-9a-f]{8} |AH SPI=0x[0-9a-f]{1,8} )?\) "
    r"|FRAG:\d{1,5} (?:INCOMPLETE )?ID:[0-9a-f]{8} ?){0,16})"
)
_IP6 = re.compile(_IP6_HEADERS + r"(?:FRAG: (\d{1,5}) ID: ([0-9a-f]{8}) )?PROTO=(\w{1,7})(?: |$)", re.ASCII)
_FRAGMENT6 = re.compile(r"FRAG:(\d{1,5}) (?:INCOMPLETE )?ID:([0-9a-f]{8})", re.ASCII)
#: IPv6 of which the kernel says no protocol: a header is missing, is not whole, or is of a later fragment.
_IP6_END = re.compile(
    _IP6_HEADERS
    + r"(?:[^\[\]]{0,64}(?:TRUNCATED|Unknown Ext Hdr \d{1,3}|\)|INCOMPLETE \[\d{1,10} bytes\] \)))? {0,2}$",
    re.ASCII,
)
#: What ulogd writes of a packet whose network header is missing: zeros, which are none of its values.
_NOTHING = re.compile(r"(?:LEN=0 TOS=00 PREC=0x00 TTL=0 ID=0 )?PROTO=(\w{1,7})(?: |$)", re.ASCII)
_ARP_PRINTED = re.compile(
    r"(?:SRC=([0-9.]{7,15}) DST=([0-9.]{7,15}) )?PROTO=ARP"
    r"(?: (?:(REQUEST)|(REPLY)(?: REPLY_MAC=(?:[0-9a-f]{2}(?::[0-9a-f]{2}){5})?)?|(NAK)|CODE=(\d{1,5})))?(?: |$)",
    re.ASCII,
)
_ARP_KERNEL = re.compile(
    r"ARP HTYPE=(\d{1,5}) PTYPE=0x([0-9a-f]{4}) OPCODE=(\d{1,5})"
    r"(?: MACSRC=[0-9a-f:]{17} IPSRC=([0-9.]{7,15}) MACDST=[0-9a-f:]{17} IPDST=([0-9.]{7,15})"
    r"| INCOMPLETE \[\d{1,10} bytes\])?(?: |$)",
    re.ASCII,
)
_INCOMPLETE = re.compile(r"INCOMPLETE ?(?:\[(\d{1,10}) bytes\] ?)?", re.ASCII)
_TCP = re.compile(
    r"SPT=(\d{1,5}) DPT=(\d{1,5}) (?:SEQ=(\d{1,10}) ACK=(\d{1,10}) )?WINDOW=(\d{1,5}) (?:RES=0x([0-9a-f]{2}) )?"
    r"((?:AE )?(?:CWR )?(?:ECE )?(?:URG )?(?:ACK )?(?:PSH )?(?:RST )?(?:SYN )?(?:FIN )?)URGP=(\d{1,5})"
    r"(?: OPT \((?:([0-9A-F]{0,80})|TRUNCATED)\))?(?: |$)",
    re.ASCII,
)
_UDP = re.compile(r"SPT=(\d{1,5}) DPT=(\d{1,5}) LEN=(\d{1,5})(?: |$)", re.ASCII)
_PORTS = re.compile(r"SPT=(\d{1,5}) DPT=(\d{1,5})(?: |$)", re.ASCII)
_SPI = re.compile(r"SPI=0x([0-9a-f]{1,8})(?: |$)", re.ASCII)
_ICMP = re.compile(
    r"TYPE=(\d{1,3}) CODE=(\d{1,3})(?: |$)(?:ID=(\d{1,5}) SEQ=(\d{1,5})(?: |$))?"
    r"(?:(?:PARAMETER=\d{1,3}|POINTER=[0-9a-f]{1,8}|GATEWAY=[0-9.]{7,15})(?: |$))?"
    r"(?:\[[^\[\]]{0,1024}(?:\[\d{1,10} bytes\][^\[\]]{0,1024})?\](?: |$))?(?:MTU=(\d{1,10})(?: |$))?"
    r"(?:INCOMPLETE \[\d{1,10} bytes\](?: |$))?",
    re.ASCII,
)
_END = re.compile(
    r"(?:UID=(\d{1,10})(?: |$))?(?:GID=(\d{1,10})(?: |$))?(?:MARK=0x([0-9a-f]{1,8})(?: |$))? {0,2}", re.ASCII
)


@dataclass
class Counts:
    """What became of lines; each is counted once."""

    lines: int = 0
    """Lines that were read."""
    packets: int = 0
    """Lines that became rows."""
    other: int = 0
    """Lines of something else than packets."""
    cut: int = 0
    """Lines of a packet that do not begin with `IN=… OUT=`, or end before it is told."""
    without_time: int = 0
    """Lines of a packet without a time that is one."""
    wrong: int = 0
    """Lines with a number or an address that no packet has, or that are longer than any."""

    def lost(self) -> dict[str, int]:
        """Return what is about packets and became none, by reason, without zeros."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: count for name, count in named.items() if count and name in ("cut", "without_time", "wrong")}


class _WrongError(Exception):
    """A number or an address that no packet has."""


class _CutError(Exception):
    """A line that does not follow any form to its end."""


class LogLines:
    """Reads lines of one file. `changed` is when it was last written to: years are counted back from there."""

    def __init__(self, changed: float | None = None, *, year: int | None = None) -> None:
        self.counts = Counts()
        #: Where the line that `damaged` is told begins in the lines that `json` was given.
        self.at = 0
        self._stamps = Stamps(changed, year=year)
        self._plain = PlainLines(self._stamps)

    def rows(self, lines: Iterable[str]) -> Iterator[Row]:
        """Yield the rows of lines, and count the lines that are none."""
        for line in lines:
            row = self.parse(line)
            if row is not None:
                yield row

    def json(self, lines: bytes, damaged: Callable[[bytes], object] = lambda line: None) -> bytes:
        """Return lines of JSON, with the members that our output JSON gives them, for what reads those.

        `damaged` is called with each line that is about a packet and has no row. Bytes that are no UTF-8 become U+FFFD.
        Plain lines become JSON in C (plainlines.py); `parse` reads the others.
        """
        made, at, counts = [], 0, self.counts
        while at < len(lines):
            read = self._plain.read(lines, at)
            made += read.json
            counts.lines += read.lines
            counts.packets += read.packets
            counts.other += read.other
            at = read.end
            if at < len(lines):
                end = lines.find(b"\n", at) + 1 or len(lines)
                self.at = at
                made.append(self._json(lines[at:end].removesuffix(b"\n"), damaged))
                at = end
        return b"".join(made)

    def _json(self, line: bytes, damaged: Callable[[bytes], object]) -> bytes:
        other = self.counts.other
        row = self.parse(line.decode("utf-8", "replace"))
        if row is not None:
            return _ENCODER.encode(members(row)) + b"\n"
        if self.counts.other == other:
            damaged(line + b"\n")
        return b""

    def parse(self, line: str) -> Row | None:
        """Return the row of a line, with or without its newline; None where it has none, which is counted."""
        counts = self.counts
        counts.lines += 1
        if len(line) > LONGEST:
            counts.wrong += 1
            return None
        line = line.rstrip("\r\n")
        out = line.rfind(" OUT=")
        start = line.rfind("IN=", max(0, out - 67), out) if out >= 0 else -1
        if start < 0:
            if "SRC=" in line and "DST=" in line:
                counts.cut += 1
            else:
                counts.other += 1
            return None
        try:
            row = self._row(line, start)
        except _CutError:
            counts.cut += 1
            return None
        except _WrongError:
            counts.wrong += 1
            return None
        if row is None:
            counts.without_time += 1
            return None
        counts.packets += 1
        return row

    def _row(self, line: str, start: int) -> Row | None:
        stamp = self._stamps.find(line)
        if stamp is None or (begin := stamp.end) > start:
            return None
        host, tag, at = _head(line, begin, start, hosted=not stamp.is_bracketed)
        prefix = line[at:start]
        count = 1
        if line.startswith("message repeated ", at) and (repeated := _REPEATED.fullmatch(line, at)) is not None:
            count = int(repeated[1])
            line = line[: repeated.end(2)]
            prefix = line[_after_uptime(line, repeated.start(2), start) : start]
        row: Row = {
            "sec": stamp.sec,
            "us": stamp.sec * 1_000_000 + stamp.usec,
            "raw_pktcount": count,
        }
        if host is not None:
            row["dvc"] = host
        printed = _body(row, line, start)
        if tag != "kernel" and (printed or tag == "ulogd"):
            # PRINTPKT ends a prefix with a blank of its own; without one there is no prefix, not an empty one.
            if prefix.endswith(" "):
                row["oob_prefix"] = prefix[:-1]
            elif prefix:
                row["oob_prefix"] = prefix
        elif prefix:
            row["oob_prefix"] = prefix
        return row


def _head(line: str, at: int, start: int, *, hosted: bool) -> tuple[str | None, str | None, int]:
    """Return the host, the tag, and where the prefix begins; `at` is behind the time."""
    if (tagged := _TAGGED.match(line, at, start)) is not None:
        return tagged[1], tagged[2] or tagged[3], tagged.end()
    if hosted and (found := _HOST.match(line, at, start)) is not None:
        return found[1], None, found.end()
    return None, None, _after_uptime(line, at, start)


def _after_uptime(line: str, at: int, end: int) -> int:
    found = _ONLY_UPTIME.match(line, at, end)
    return found.end() if found else at


# -- bodies -----------------------------------------------------------------------------------------------------------


def _body(row: Row, line: str, start: int) -> bool:
    """Add what `IN=…` and all behind it says; return whether PRINTPKT, not the kernel, has written it."""
    link = _LINK.match(line, start)
    if link is None:
        raise _CutError
    _link(row, link)
    at = link.end()
    if at == len(line):
        raise _CutError
    printed = False
    if (ip4 := _IP4.match(line, at)) is not None:
        protocol, printed = _ip4(row, ip4)
        end = _transport(row, line, ip4.end(), protocol, fragment=bool(ip4[10]))
    elif (ip6 := _IP6.match(line, at)) is not None:
        protocol, printed, fragment = _ip6(row, ip6)
        end = _transport(row, line, ip6.end(), protocol, fragment=fragment)
        if printed and protocol == "AH":
            del row["ip6_nexthdr"]
    else:
        end, printed = _without_ip(row, line, at)
    return _tail(row, line, end) or printed or ("tcp_seq" in row and "tcp_reserved" not in row)


def _link(row: Row, found: re.Match[str]) -> None:
    row["oob_in"], row["oob_out"], physin, physout, mac, source, destination, ethertype, tag, vlan = found.groups()
    if physin:
        row["oob_physin"] = physin
    if physout:
        row["oob_physout"] = physout
    if mac:
        row.update(_MACS.get(mac) or _mac(mac))
    elif source:
        row["mac_saddr_str"], row["mac_daddr_str"] = source, destination
        row["oob_protocol"] = int(ethertype, 16)
        if tag:
            tci = _number(vlan, _MOST_16)
            row["vlan_protocol"], row["vlan_id"], row["vlan_priority"] = int(tag, 16), tci & 0xFFF, tci >> 13


def _ip4(row: Row, found: re.Match[str]) -> tuple[str, bool]:
    src, dest, length, kernel, tos, precedence, ttl, number, flags, offset, options, protocol = found.groups()
    row["oob_protocol"] = _IPV4
    row["src_ip"] = _ADDRESSES.get(src) or _address(src)
    row["dest_ip"] = _ADDRESSES.get(dest) or _address(dest)
    row["ip_totlen"], row["ip_ttl"], row["ip_id"] = total, hops, ident = int(length), int(ttl), int(number)
    if total > _MOST_16 or hops > _MOST_8 or ident > _MOST_16:
        raise _WrongError
    row["ip_tos"] = int(tos, 16) | int(precedence, 16)
    fragment = _number(offset, 0x1FFF) if offset else 0
    if flags:
        fragment |= ("CE " in flags) << 15 | ("DF " in flags) << 14 | ("MF " in flags) << 13
    row["ip_fragoff"] = fragment
    if options is not None:
        row["ip_ihl"] = 5 + len(options) // 8
    if protocol is not None:
        row["ip_protocol"] = _protocol(protocol)
    return protocol or "", kernel is None


def _ip6(row: Row, found: re.Match[str]) -> tuple[str, bool, bool]:
    offset, fragment, protocol = found.groups()[-3:]
    _ip6_header(row, found)
    if fragment is not None:
        row["ip6_fragoff"], row["ip6_fragid"] = _number(offset, _MOST_16), int(fragment, 16)
    number = _protocol(protocol)
    # The kernel writes all digits of an address.
    printed = len(found[1]) < 39 or len(found[2]) < 39
    later = row.get("ip6_fragoff", 0) > 0
    nested = later and (found[7] or "").count("FRAG:") > 1
    if printed or not (nested or number in _UNKNOWN_TO_THE_KERNEL):
        row["ip6_nexthdr"] = number
    # As in the schema: of a later fragment, only the number of the header that it is a part of.
    if number not in _EXTENSIONS and not later:
        row["ip_protocol"] = number
    return protocol, printed, later


def _ip6_header(row: Row, found: re.Match[str]) -> None:
    src, dest, length, priority, hops, label = found.groups()[:6]
    row["oob_protocol"] = _IPV6
    row["src_ip"] = _ADDRESSES.get(src) or _address(src)
    row["dest_ip"] = _ADDRESSES.get(dest) or _address(dest)
    payload = int(length) - 40
    if not 0 <= payload <= _MOST_16:
        raise _WrongError
    row["ip6_payloadlen"] = payload
    row["ip6_priority"], row["ip6_hoplimit"] = _number(priority, _MOST_8), _number(hops, _MOST_8)
    row["ip6_flowlabel"] = _number(label, 0xFFFFF)
    # Behind the header of a later fragment nothing is a header, though the kernel looks on.
    for fragment in _FRAGMENT6.finditer(found[7] or ""):
        row["ip6_fragoff"], row["ip6_fragid"] = _number(fragment[1], _MOST_16), int(fragment[2], 16)
        if row["ip6_fragoff"]:
            break


def _protocol(text: str) -> int:
    number = _PROTOCOLS.get(text)
    if number is not None:
        return number
    if not text.isdecimal():
        raise _CutError
    return _number(text, _MOST_8)


def _without_ip(row: Row, line: str, at: int) -> tuple[int, bool]:
    """Read what is neither IPv4 nor IPv6, or what the kernel could not read; return where it ends, and who wrote it."""
    if (found := _ARP_PRINTED.match(line, at)) is not None:
        src, dest, request, reply, nak, code = found.groups()
        row["oob_protocol"] = _ARP
        if src:
            row["arp_saddr_str"], row["arp_daddr_str"] = _address(src), _address(dest)
        operation = 1 if request else 2 if reply else 10 if nak else _number(code, _MOST_16) if code else None
        if operation is not None:
            row["arp_operation"] = operation
        return found.end(), True
    if (found := _ARP_KERNEL.match(line, at)) is not None:
        row["oob_protocol"] = _ARP
        row["arp_hwtype"], row["arp_protocoltype"] = _number(found[1], _MOST_16), int(found[2], 16)
        row["arp_operation"] = _number(found[3], _MOST_16)
        if found[4]:
            row["arp_saddr_str"], row["arp_daddr_str"] = _address(found[4]), _address(found[5])
        return found.end(), False
    if (found := _IP6_END.match(line, at)) is not None:
        _ip6_header(row, found)
        return found.end(), False
    if (found := _NOTHING.match(line, at)) is not None:
        if line.startswith("PROTO=", at) and found[1].isdecimal():
            row["oob_protocol"] = _number(found[1], _MOST_16)
        incomplete = _INCOMPLETE.match(line, found.end())
        return incomplete.end() if incomplete else found.end(), True
    if line.startswith("TRUNCATED", at):
        return at + len("TRUNCATED"), False
    return at, False


def _transport(row: Row, line: str, at: int, protocol: str, *, fragment: bool) -> int:
    """Add what is said of the header behind IP's; return where that ends."""
    read = _TRANSPORTS.get(protocol)
    if read is None:
        return at
    end = read(row, line, at)
    if end is not None:
        return end
    if (incomplete := _INCOMPLETE.match(line, at)) is not None:
        if int(incomplete[1] or 0) > _MOST_16:
            # The kernel was led behind the packet's end by a header's length: there is no such protocol.
            for name in ("ip_protocol", "ip6_nexthdr"):
                row.pop(name, None)
        return incomplete.end()
    if not fragment:
        raise _CutError
    return at


def _tcp(row: Row, line: str, at: int) -> int | None:
    found = _TCP.match(line, at)
    if found is None:
        return None
    sport, dport, sequence, ack, window, reserved, flags, urgent, options = found.groups()
    row["src_port"], row["dest_port"], row["tcp_window"] = one, other, size = int(sport), int(dport), int(window)
    if one > _MOST_16 or other > _MOST_16 or size > _MOST_16:
        raise _WrongError
    if sequence is not None:
        row["tcp_seq"], row["tcp_ackseq"] = _number(sequence, _MOST_32), _number(ack, _MOST_32)
    row.update(_FLAG_SETS[flags])
    if urgent != "0" or row["tcp_urg"]:
        pointer = _number(urgent, _MOST_16)
        if row["tcp_urg"]:
            row["tcp_urgp"] = pointer
    if reserved is not None:
        row["tcp_reserved"] = row["tcp_res1"] = (int(reserved, 16) >> 2 & 0xF) | ("AE " in flags)
        row["tcp_res2"] = ("CWR " in flags) << 1 | ("ECE " in flags)
    if options is not None:
        row["tcp_options"] = options.lower()
        row["tcp_offset"] = 5 + (len(options) + 7) // 8
    return found.end()


def _udp(row: Row, line: str, at: int) -> int | None:
    return _with_length(row, line, at, "udp_len")


def _udplite(row: Row, line: str, at: int) -> int | None:
    return _with_length(row, line, at, "udplite_coverage")


def _with_length(row: Row, line: str, at: int, name: str) -> int | None:
    found = _UDP.match(line, at)
    if found is None:
        return None
    _ports(row, found[1], found[2])
    row[name] = _number(found[3], _MOST_16)
    return found.end()


def _sctp(row: Row, line: str, at: int) -> int | None:
    found = _PORTS.match(line, at)
    if found is None:
        return None
    _ports(row, found[1], found[2])
    return found.end()


def _spi(row: Row, line: str, at: int) -> int | None:
    found = _SPI.match(line, at)
    if found is None:
        return None
    row["ahesp_spi"] = int(found[1], 16)
    return found.end()


def _icmp(row: Row, line: str, at: int) -> int | None:
    return _icmp_of(row, line, at, "icmp", (0, 8))


def _icmpv6(row: Row, line: str, at: int) -> int | None:
    return _icmp_of(row, line, at, "icmpv6", (128, 129))


def _icmp_of(row: Row, line: str, at: int, name: str, echo: tuple[int, int]) -> int | None:
    found = _ICMP.match(line, at)
    if found is None:
        return None
    kind, code, number, sequence, mtu = found.groups()
    row[f"{name}_type"] = type_ = _number(kind, _MOST_8)
    row[f"{name}_code"] = _number(code, _MOST_8)
    if number is not None and type_ in echo:  # ulogd2 writes zeros for other types, too
        row[f"{name}_echoid"], row[f"{name}_echoseq"] = _number(number, _MOST_16), _number(sequence, _MOST_16)
    if mtu is not None and name == "icmp" and (type_, code) == (3, "4"):
        row["icmp_fragmtu"] = _number(mtu, _MOST_16)
    return found.end()


_TRANSPORTS: dict[str, Callable[[Row, str, int], int | None]] = {
    "TCP": _tcp,
    "UDP": _udp,
    "UDPLITE": _udplite,
    "SCTP": _sctp,
    "ICMP": _icmp,
    "ICMPv6": _icmpv6,
    "ESP": _spi,
    "AH": _spi,
}


def _tail(row: Row, line: str, at: int) -> bool:
    """Add what stands at the end; return whether only PRINTPKT ends a line so."""
    if at >= len(line):
        return False
    found = _END.fullmatch(line, at)
    if found is None:
        raise _CutError
    uid, gid, mark = found.groups()
    if uid is not None:
        row["oob_uid"] = _number(uid, _MOST_32)
    if gid is not None:
        row["oob_gid"] = _number(gid, _MOST_32)
    if mark is not None:
        row["oob_mark"] = int(mark, 16)
    return mark == "0"


_ENCODER = msgspec.json.Encoder()
#: The member of JSON for each column; the time has two.
_MEMBERS = {column.name: column.members[0] for column in PACKETS} | {"us": "oob.time.usec"}


def members(row: Row) -> Row:
    """Return a row as the members of a JSON object."""
    made = {_MEMBERS[name]: value for name, value in row.items()}
    made["oob.time.usec"] %= 1_000_000
    return made


# -- values -----------------------------------------------------------------------------------------------------------


def _flag_sets() -> dict[str, dict[str, int]]:
    """Return what all sets of flags mean, by their text: in the order in which lines have them."""
    sets = {}
    for bits in range(1 << len(_FLAGS)):
        values = {name: bits >> place & 1 for place, name in enumerate(_FLAGS)}
        text = "".join(f"{name.upper()} " for name, value in values.items() if value)
        sets[text] = {f"tcp_{name}": value for name, value in values.items() if name not in ("ae", "cwr", "ece")}
    return sets


_FLAG_SETS: Final = _flag_sets()
#: Link-layer headers that have been met, and what rows say of them.
_MACS: Final[dict[str, Row]] = {}
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){0,63}", re.ASCII)


def _mac(text: str) -> Row:
    if not _MAC.fullmatch(text):
        raise _CutError
    mac = text.lower()
    known: Row = {"mac_str": mac, "raw_mac_len": (len(mac) + 1) // 3}
    if known["raw_mac_len"] == 14:  # an Ethernet header
        known |= {"mac_daddr_str": mac[:17], "mac_saddr_str": mac[18:35]}
    if len(_MACS) >= _REMEMBERED:
        _MACS.clear()
    _MACS[text] = known
    return known


#: Addresses that have been met, as they stand in lines, and as rows have them.
_ADDRESSES: Final[dict[str, str]] = {}


def _address(text: str) -> str:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        known = socket.inet_ntop(family, socket.inet_pton(family, text))
    except OSError:
        raise _WrongError from None
    if len(_ADDRESSES) >= _REMEMBERED:
        _ADDRESSES.clear()
    _ADDRESSES[text] = known
    return known


def _number(text: str, most: int) -> int:
    number = int(text)
    if number > most:
        raise _WrongError
    return number


def _ports(row: Row, source: str, destination: str) -> None:
    """Add the ports."""
    row["src_port"], row["dest_port"] = _number(source, _MOST_16), _number(destination, _MOST_16)
