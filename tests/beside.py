# SPDX-License-Identifier: GPL-2.0-or-later
"""What two daemons wrote of the same packets, record by record: how each format is read, and where they may differ.

`compare(sink, ours, theirs)` fails on a difference that is not on the list, and on nothing to compare. What must differ
between two runs (the time, the process) is checked and left out; all else is in the record.
"""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.fix_world import COUNTERS, Outcome, Sink
from tests.parity_differences import DIFFERENCES, Case, Difference, Record

#: Members whose values are a time, a number of the run, or an id that the database gave.
_OF_THE_RUN = re.compile(
    r"oob\.time\.(sec|usec)|oob\.seq\.global|_.*|timestamp|mac\.id|ct\.id|flow\.(start|end)\.(sec|usec)"
)
#: Names of addresses, of packets and of both directions of a flow.
_ADDRESSES = re.compile(r"((orig|reply)\.)?ip\.[sd]addr")
_NUMBERS = re.compile(r"((orig|reply)\.)?ip\.h[sd]addr")
_TOLERANCE_SECS = 120


def _icmp_differs(case: Case) -> bool:
    """The texts differ in nothing but what follows the code of an ICMP error."""
    texts = (str(side["text"]) for side in (case.ours, case.theirs))
    ours, theirs = (re.sub(r"(PROTO=ICMP TYPE=\d+ CODE=\d+ )(ID=\d+ SEQ=\d+ |MTU=\d+ )?", r"\1", t) for t in texts)
    return "PROTO=ICMP " in ours and ours == theirs


def _first_bytes(case: Case) -> bool:
    """An IPv6 address of ours whose first four bytes are theirs, in one order or the other (OPRINT, D-O01)."""
    return any(
        ":" in str(case.ours.get(name))
        and ipaddress.IPv6Address(case.ours[name]).packed[:4] in (_packed(theirs), _packed(theirs)[::-1])
        for name, theirs in case.theirs.items()
        if _ADDRESSES.fullmatch(name)
    )


def _packed(text: Any) -> bytes:
    return ipaddress.IPv4Address(text).packed


def _reversed(case: Case) -> bool:
    return any(
        _is_ip4(case.ours.get(name)) and _packed(case.ours[name])[::-1] == _packed(theirs)
        for name, theirs in case.theirs.items()
        if _ADDRESSES.fullmatch(name) and _is_ip4(theirs)
    )


def _is_ip4(text: Any) -> bool:
    return re.fullmatch(r"\d+\.\d+\.\d+\.\d+", str(text)) is not None


def _turned_numbers(case: Case) -> bool:
    """Each number of ours is what theirs is as an address, in one order or the other (OPRINT)."""
    return all(
        int(number).to_bytes(4, "little") in (_packed(case.theirs[name]), _packed(case.theirs[name])[::-1])
        for name, number in case.ours.items()
        if _NUMBERS.fullmatch(name) and name in case.theirs
    )


def _without(names: str, pattern: str) -> str:
    return " ".join(name for name in names.split() if not re.fullmatch(pattern, name))


def _names_differ_by(pattern: str) -> Callable[[Case], bool]:
    """Our record has these names as well, and theirs may have what D-S4 explains."""

    def differ(case: Case) -> bool:
        ours, theirs = (_without(side["(names)"], f"{pattern}|{_NUMBERS.pattern}") for side in (case.ours, case.theirs))
        return ours == theirs and len(case.ours["(names)"]) != len(case.theirs["(names)"])

    return differ


def _swapped_icmp(case: Case) -> bool:
    """Type and code have changed places in the text of a flow."""
    swapped = re.sub(r"PROTO=ICMP TYPE=(\d+) CODE=(\d+) ", r"PROTO=ICMP TYPE=\2 CODE=\1 ", str(case.theirs["text"]))
    return swapped == case.ours["text"]


def _address_in_memory(case: Case) -> bool:
    """A column of numbers: theirs is the address as it lies in memory, of IPv6 some of its bytes."""
    return all(
        case.ours[name] is None
        or int(case.ours[name]).to_bytes(4) == (int(case.theirs[name]) & 0xFFFFFFFF).to_bytes(4, "little")
        for name in case.ours
        if _ADDRESSES.fullmatch(name) and isinstance(case.theirs[name], int)
    )


_ENDS = ("ip.saddr", "ip.daddr", "orig.ip.saddr", "orig.ip.daddr", "reply.ip.saddr", "reply.ip.daddr")
_HOST_ORDER = ("ip.hsaddr", "ip.hdaddr", "orig.ip.hsaddr", "orig.ip.hdaddr", "reply.ip.hsaddr", "reply.ip.hdaddr")

#: Differences that show only in the outputs; those of the keys are in parity_differences.py.
OF_OUTPUTS = (
    Difference(
        "D-J01",
        ("zone",),
        "both",
        lambda case: case.theirs["zone"] == "" and case.ours["zone"] == "+0000",
        "ulogd2 leaves out the zone where it is UTC.",
    ),
    Difference(
        "D-P02",
        ("text",),
        "both",
        _icmp_differs,
        "ulogd2 chooses what follows an ICMP error by its code, not by its type.",
    ),
    Difference(
        "D-G03",
        _ENDS,
        "both",
        _first_bytes,
        "ulogd2 writes the first four bytes of an IPv6 address as if it were one of IPv4.",
    ),
    Difference(
        "D-O01",
        _ENDS,
        "both",
        _reversed,
        "ulogd2's OPRINT turns the bytes of an address round.",
    ),
    Difference(
        "numbers-as-addresses",
        _HOST_ORDER,
        "both",
        _turned_numbers,
        "ulogd2 writes the numbers of IP2HBIN as addresses, their bytes turned round.",
    ),
    Difference(
        "D-S4",
        _HOST_ORDER,
        "them",
        lambda case: case.ours.get("oob.family") == 10,
        "ulogd2's IP2HBIN stores a part of a memory address of an IPv6 packet.",
    ),
    Difference(
        "D-S4",
        ("(names)",),
        "both",
        lambda case: case.ours["(names)"] == re.sub(r" ((orig|reply)\.)?ip\.h[sd]addr", "", case.theirs["(names)"]),
        "ulogd2's IP2HBIN stores a part of a memory address of an IPv6 packet.",
    ),
    Difference(
        "D-G02",
        ("end",),
        "both",
        lambda case: case.ours["end"] == "\\n" and case.theirs["end"] == "",
        "ulogd2 escapes nothing: the newline at the end of PRINTPKT's text ends the value, and an empty line follows.",
    ),
    Difference(
        "unixsock-protocol",
        ("oob.protocol",),
        "both",
        lambda case: case.theirs["oob.protocol"] == 0 and case.ours.get("raw.label") == 1,
        "ulogd2's BASE copies what its UNIXSOCK has never set; we write the EtherType where it is known.",
    ),
    Difference(
        "D-P03",
        ("text",),
        "both",
        _swapped_icmp,
        "ulogd2 writes the type of an ICMP flow as its code, and the code as its type.",
    ),
    Difference(
        "D-F10",
        ("icmpv6.code", "icmpv6.type"),
        "us",
        lambda case: case.ours.get("orig.ip.protocol") == 58,
        "ulogd2 2.0.8 has no type and code of ICMPv6 flows.",
    ),
    Difference(
        "D-F10",
        ("(names)",),
        "both",
        _names_differ_by(r"icmpv6\.(code|type)"),
        "ulogd2 2.0.8 has no type and code of ICMPv6 flows.",
    ),
    Difference(
        "D-F10",
        ("source", "target"),
        "both",
        lambda case: case.ours["protocol"] == 58 and case.theirs["source"] == case.theirs["target"] == 0,
        "ulogd2 2.0.8 has no type and code of ICMPv6 flows.",
    ),
    Difference(
        "D-S3",
        ("reply.ip.daddr.bin", "reply.ip.hdaddr"),
        "us",
        lambda case: True,
        "ulogd2 2.0.8 has no destination of the reply direction.",
    ),
    Difference(
        "D-S3",
        ("(names)",),
        "both",
        _names_differ_by(r"reply\.ip\.daddr\.bin|reply\.ip\.hdaddr|icmpv6\.(code|type)"),
        "ulogd2 2.0.8 has no destination of the reply direction.",
    ),
    Difference(
        "D-S04",
        _ENDS,
        "both",
        _address_in_memory,
        "ulogd2 stores the bytes of an address as they lie in memory, of IPv6 some of them.",
    ),
    Difference(
        "D-K03",
        ("thiszone",),
        "both",
        lambda case: case.ours["thiszone"] == 0,
        "ulogd2 writes its time zone into the header, where 0 belongs: times are UTC.",
    ),
)
ALL_DIFFERENCES = (*DIFFERENCES, *OF_OUTPUTS)


class Comparison:
    """Counts what was compared, and which differences were met."""

    def __init__(self) -> None:
        self.records = 0
        self.sinks = 0
        self.met: set[Difference] = set()

    def compare(self, sink: Sink, ours: Outcome, theirs: Outcome) -> int:
        """Compare what both wrote to a sink; return how many records that were."""
        mine, other = (list(_records(sink, outcome)) for outcome in (ours, theirs))
        where = f"[{sink.instance}] {sink.plugin} to {sink.target}"
        assert other, f"{where}: ulogd2 wrote nothing, so there is nothing to compare\n{theirs.log}"
        told = "\n".join(map(str, (*mine, "ulogd2:", *other, ours.log)))
        assert len(mine) == len(other), f"{where}: {len(mine)} records, ulogd2 has {len(other)}\n{told}"
        # Two stacks that end in one file take turns as they like; one keeps its order.
        ordered = sink.stacks == 1
        for number, their in enumerate(other):
            candidates = [mine[0]] if ordered else mine
            found = next((our for our in candidates if self._same(our, their)), None)
            if found is None:
                nearest = min(candidates, key=lambda our: len(_differing(our, their)))
                told = "\n".join(
                    f"  {name}: ours {nearest.get(name)!r}, ulogd2's {their.get(name)!r}"
                    for name in self._unexplained(nearest, their)
                )
                raise AssertionError(f"{where}: record {number + 1} differs and is not on the list\n{told}")
            mine.remove(found)
        self.records += len(other)
        self.sinks += 1
        return len(other)

    def _same(self, our: Record, their: Record) -> bool:
        if self._unexplained(our, their):
            return False
        case = _case(our, their)
        for name in _differing(our, their):
            self.met.update(entry for entry in ALL_DIFFERENCES if _explains(entry, case, name))
        return True

    def _unexplained(self, our: Record, their: Record) -> list[str]:
        case = _case(our, their)
        return [
            name
            for name in _differing(our, their)
            if not any(_explains(entry, case, name) for entry in ALL_DIFFERENCES)
        ]


def _explains(entry: Difference, case: Case, name: str) -> bool:
    try:
        return entry.explains(case, name)
    except KeyError:  # it speaks of members that this format does not have
        return False


def _case(our: Record, their: Record) -> Case:
    return Case("", {"oob.family": int(our.get("oob.family", 2))}, our, their)


def _differing(our: Record, their: Record) -> list[str]:
    return sorted(name for name in our.keys() | their.keys() if our.get(name) != their.get(name))


# -- reading -----------------------------------------------------------------------------------------------------------


def _records(sink: Sink, outcome: Outcome) -> Iterator[Record]:
    """Yield the records that a sink wrote, without what differs from run to run."""
    written: Any = outcome.written[sink]
    read = _READERS.get(sink.plugin, _of_rows)
    if sink.plugin not in ("SYSLOG", "XML") and read is not _of_rows:
        written = [b"".join(written)]
    seen: set[str] = set()
    for data in written:
        for record in read(data, outcome):
            # Accounting objects are read again and again: the first time tells the counts.
            if (name := record.get("sum.name")) is not None:
                assert name in COUNTERS
                if name in seen:
                    continue
                seen.add(name)
            yield record


def _near(seconds: float, outcome: Outcome) -> None:
    assert outcome.began - _TOLERANCE_SECS < seconds < outcome.ended + _TOLERANCE_SECS, f"not a time of now: {seconds}"


def _own_members(pairs: Iterable[tuple[str, Any]], outcome: Outcome) -> Record:
    """Return the members that are the packet's, their names in their order as one more."""
    pairs = list(pairs)
    values = dict(pairs)
    for name in ("oob.time.sec", "flow.start.sec", "flow.end.sec"):
        if seconds := values.get(name):
            _near(int(seconds), outcome)
    record = {name: value for name, value in values.items() if not _OF_THE_RUN.fullmatch(name)}
    record["(names)"] = " ".join(name for name, _ in pairs)
    if text := record.pop("print", None):  # as LOGEMU's, but with its newline
        record["text"] = re.sub(r"(\n|\\n)$", "", text)
        record["end"] = text.removeprefix(record["text"])
    return record


def _number(text: str) -> Any:
    return int(text) if re.fullmatch(r"\d{1,18}", text) else text


def _lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "surrogateescape")
    assert not text or text.endswith("\n"), f"a torn line: {text[-80:]!r}"
    return text.split("\n")[:-1]


def _of_json(data: bytes, outcome: Outcome) -> Iterator[Record]:
    for line in _lines(data):
        pairs = json.loads(line, object_pairs_hook=list)
        values = dict(pairs)
        record = _own_members(pairs, outcome)
        for name in ("timestamp", "@timestamp"):
            if stamp := values.get(name):
                time, fraction, zone = re.fullmatch(r"(.{10}T.{8})(\.\d{6})?([+-]\d{4}|)", stamp).groups()  # type: ignore[union-attr]
                _near(datetime.datetime.fromisoformat(time + (zone or "+0000")).timestamp(), outcome)
                record |= {name: "", "fraction": bool(fraction), "zone": zone}
        yield record


def _of_logemu(data: bytes, outcome: Outcome) -> Iterator[Record]:
    for line in _lines(data):
        stamp, host, text = re.fullmatch(r"(\w{3} [ \d]\d \d\d:\d\d:\d\d) (\S+) (.*)", line).groups()  # type: ignore[union-attr]
        _check_stamp(stamp, outcome)
        yield {"host": host, "text": text}


def _of_syslog(data: bytes, outcome: Outcome) -> Iterator[Record]:
    text = data.decode("utf-8", "surrogateescape").rstrip("\0\n")
    found = re.fullmatch(r"<(\d+)>(\w{3} [ \d]\d \d\d:\d\d:\d\d) (\w+)\[(\d+)\]: (.*)", text, re.DOTALL)
    assert found, f"not a message of syslog: {text!r}"
    if " OUT=" in found[5] or " ORIG: " in found[5]:  # else it is the daemon's own
        _check_stamp(found[2], outcome)
        yield {"priority": int(found[1]), "program": found[3], "text": found[5]}


def _check_stamp(stamp: str, outcome: Outcome) -> None:
    """Check a time without year, which is that of the daemon's zone."""
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    year = datetime.datetime.fromtimestamp(outcome.began, zone).year
    _near(datetime.datetime.strptime(f"{year} {stamp}", "%Y %b %d %H:%M:%S").replace(tzinfo=zone).timestamp(), outcome)


def _of_gprint(data: bytes, outcome: Outcome) -> Iterator[Record]:
    for line in _lines(data):
        yield _own_members(((name, _number(value)) for name, _, value in _items(line.split(","))), outcome)


def _of_oprint(data: bytes, outcome: Outcome) -> Iterator[Record]:
    first, *packets = ("\n".join(_lines(data))).split("===>PACKET BOUNDARY")
    assert not first
    for packet in packets:
        items = _items(packet.strip("\n").split("\n"))
        yield _own_members(((name, _number(value)) for name, _, value in items), outcome)


def _items(texts: list[str]) -> list[tuple[str, str, str]]:
    items = [text.partition("=") for text in texts]
    assert all(equals for _, equals, _ in items), texts
    return items


_PCAP_HEADER = struct.Struct("=IHHiIII")


def _of_pcap(data: bytes, outcome: Outcome) -> Iterator[Record]:
    magic, major, minor, zone, figures, snaplen, link = _PCAP_HEADER.unpack_from(data)
    assert magic == 0xA1B2C3D4
    version = f"{major}.{minor}"
    yield {"version": version, "thiszone": zone, "sigfigs": figures, "snaplen": snaplen, "linktype": link}
    at = _PCAP_HEADER.size
    while at < len(data):
        seconds, _, caplen, length = struct.unpack_from("=IIII", data, at)
        _near(seconds, outcome)
        yield {"caplen": caplen, "length": length, "data": data[at + 16 : at + 16 + caplen].hex()}
        at += 16 + caplen
    assert at == len(data), "a torn packet"


def _of_nacct(data: bytes, outcome: Outcome) -> Iterator[Record]:
    for line in _lines(data):
        end, *fields = line.split("\t")
        _near(int(end), outcome)
        names = ("protocol", "saddr", "source", "daddr", "target", "packets", "bytes")
        yield dict(zip(names, map(_number, fields), strict=True))


#: What of a flow's element is another at each run: the kernel's number, and what is left of a second.
_OF_A_FLOW = re.compile(r"<(id|timeout|deltatime)>\d+</\1>")
_WHEN = re.compile(r"<when>(?:<(hour|min|sec|wday|day|month|year)>\d+</\1>)+</when>")
_WHEN_OF_SUM = re.compile(r"<hour>(?:.*)</year>")


def _of_xml(data: bytes, outcome: Outcome) -> Iterator[Record]:
    prologue, root, *elements, end = _lines(data)
    yield {"prologue": prologue, "root": root, "end": end}
    for element in elements:
        name = re.search(r"<obj><name>(.*?)</name>", element)
        element = _OF_A_FLOW.sub(r"<\1/>", _WHEN.sub("<when/>", element))
        record: Record = {"element": _WHEN_OF_SUM.sub("", element)}
        yield record | ({"sum.name": name[1]} if name else {})


def _of_graphite(data: bytes, outcome: Outcome) -> Iterator[Record]:
    seen: set[str] = set()
    for line in _lines(data):
        metric, count, stamp = line.split(" ")
        _near(int(stamp), outcome)
        if metric not in seen:
            seen.add(metric)
            yield {"metric": metric, "count": int(count)}


def _of_rows(row: dict[str, Any], outcome: Outcome) -> Iterator[Record]:
    """Yield a row of a database by the names of keys."""
    pairs = [(name if name[0] == "_" else name.replace("_", "."), _plain(value)) for name, value in row.items()]
    yield _own_members(pairs, outcome)


def _plain(value: Any) -> Any:
    """Return a value that comes the same from each driver."""
    if isinstance(value, bytes):
        return value.hex()
    return int(value) if isinstance(value, decimal.Decimal) else str(value) if _is_address(value) else value


def _is_address(value: Any) -> bool:
    return isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Interface)


_READERS: dict[str, Callable[[Any, Outcome], Iterator[Record]]] = {
    "JSON": _of_json,
    "LOGEMU": _of_logemu,
    "SYSLOG": _of_syslog,
    "GPRINT": _of_gprint,
    "OPRINT": _of_oprint,
    "PCAP": _of_pcap,
    "XML": _of_xml,
    "NACCT": _of_nacct,
    "GRAPHITE": _of_graphite,
}
