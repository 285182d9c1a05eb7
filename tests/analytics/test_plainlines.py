# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain lines: what C makes of lines is what the reader of all forms makes of them, and the usual lines are plain."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nflowlevel.analytics.loglines import LogLines
from nflowlevel.analytics.plainlines import PlainLines
from nflowlevel.analytics.stamps import Stamps
from nflowlevel.archive.schema import PACKETS
from tests.corpus import frames
from tests.fix_decoder import chunks, decode
from tests.fix_loglines import printed
from tests.fix_zone import summer_time, zone
from tests.messages import message_of

__all__ = ["summer_time", "zone"]

pytestmark = pytest.mark.usefixtures("summer_time")

#: 27 November 2026, 12:00:00 UTC.
_NOON = 1_795_780_800


def by_parse(text: bytes) -> tuple[list[Any], list[bytes], dict[str, int]]:
    """Return what the reader of all forms makes of lines: objects, damaged lines, and counts."""
    lines, objects, damaged = LogLines(_NOON), [], []
    members = {column.name: column.members[0] for column in PACKETS} | {"tcp_options": "tcp.options"}
    for line in filter(None, text.split(b"\n")):
        lost = sum(lines.counts.lost().values())
        row = lines.parse(line.decode("utf-8", "replace"))
        if row is not None:
            made = {members[name]: value for name, value in row.items() if name != "us"}
            objects.append({**made, "oob.time.usec": row["us"] % 1_000_000})
        elif sum(lines.counts.lost().values()) > lost:
            damaged.append(line + b"\n")
    return objects, damaged, vars(lines.counts)


def assert_same(text: bytes) -> None:
    """Read lines in C, where they are plain, and by the reader of all forms."""
    lines = LogLines(_NOON)
    damaged: list[bytes] = []
    made = lines.json(text, damaged.append)
    objects, lost, counts = by_parse(text)
    assert [msgspec.json.decode(line) for line in made.splitlines()] == objects, text
    assert damaged == lost
    assert vars(lines.counts) == counts


def is_plain(text: bytes) -> bool:
    """Tell whether C reads all of these lines."""
    return PlainLines(Stamps(_NOON)).read(text, 0).end == len(text)


# -- forms ------------------------------------------------------------------------------------------------------------

_LINK = "IN=eth0 OUT= MAC=02:77:00:00:00:01:02:77:00:00:00:02:08:00 "
_IP = "SRC=192.0.2.66 DST=10.77.0.1 LEN=40 TOS=0x08 PREC=0x20 TTL=103 ID=256 "
_IP6 = (
    "SRC=2001:0db8:0000:0000:0000:0000:0000:0001 DST=0000:0000:0000:0000:0000:ffff:0a00:0001 "
    "LEN=60 TC=0 HOPLIMIT=64 FLOWLBL=12 "
)
_SYN = "PROTO=TCP SPT=6000 DPT=1433 WINDOW=16384 RES=0x00 SYN URGP=0 "
_BODY = f"{_LINK}{_IP}{_SYN}"
_HEADS = [
    "Nov 27 12:00:00 fw kernel: ",
    "Nov  7 12:00:59 localhost kernel: [UFW BLOCK] ",
    "Nov 27 12:00:00 fw.example.net kernel: [ 1234.000001] DROP ",
    "Nov 27 12:00:00 2001:db8::1 kernel: [ 1234.000001][    T0] DROP ",
    "Nov 27 12:00:00 fw kernel: Shorewall:net-fw:DROP:",
    "Nov 27 12:00:00 fw kernel[1]: [   17.25][UFW BLOCK] x ",
    "Nov 27 12:00:00 fw ulogd[77]: DROP ",
    "Nov 27 12:00:00 fw ulogd:  ",
    "Nov 27 12:00:00 fw DROP ",
    "Nov 27 12:00:00 fw [ 17.250000] DROP ",
    "2026-11-27T12:00:00+00:00 fw kernel: ",
    "2026-11-27T13:00:00.25+0100 fw kernel: x ",
    "2026-07-27 12:00:00,123456789 fw kernel: ",
    "2026-11-27T12:00:00Z fw kernel: ",
    "Nov 27 12:00:00 fw kernel: IN=a OUT=b SRC=1.2.3.4 ",
    "Nov 27 12:00:00 fw kernel: kernel: ",
]
_BODIES = [
    _LINK + _IP + _SYN,
    _LINK + _IP + _SYN + "MARK=0xab",
    "IN=br0 OUT=br0 PHYSIN=eth1 PHYSOUT=eth2 MAC= " + _IP + _SYN,
    "IN= OUT=eth0 " + _IP + _SYN + "UID=0 GID=4294967295 ",
    "IN=eth0 OUT= MACSRC=02:77:00:00:00:02 MACDST=02:77:00:00:00:01 MACPROTO=0800 " + _IP + _SYN,
    "IN=ppp0 OUT= MAC=45:00 " + _IP + "DF PROTO=UDP SPT=1 DPT=00002 LEN=65535 ",
    _LINK + _IP6 + "PROTO=UDP SPT=5353 DPT=5353 LEN=20 ",
    _LINK + _IP6 + "PROTO=ICMPv6 TYPE=128 CODE=0 ID=7 SEQ=8 ",
    _LINK + "SRC=fe80::1 DST=ff02::1 LEN=60 TC=0 HOPLIMIT=64 FLOWLBL=12 PROTO=ICMPv6 TYPE=134 CODE=0 MARK=0x0",
    _LINK + _IP + "CE DF MF PROTO=ICMP TYPE=8 CODE=0 ID=1 SEQ=2",
    _LINK + _IP + "PROTO=ICMP TYPE=3 CODE=1 ID=0 SEQ=0 ",
    _LINK + _IP + "PROTO=2 MARK=0x0 ",
    _LINK + _IP + "PROTO=SCTP SPT=1 DPT=2 ",
    _LINK + _IP + "PROTO=TCP SPT=1 DPT=2 SEQ=3 ACK=4294967295 WINDOW=5 RES=0xff "
    "AE CWR ECE URG ACK PSH RST SYN FIN URGP=9 ",
    _LINK + _IP + "PROTO=TCP SPT=1 DPT=2 SEQ=3 ACK=4 WINDOW=5 SYN URGP=0 OPT (020405B40) UID=7 ",
    _LINK + _IP.replace("0x08", "08") + "PROTO=TCP SPT=1 DPT=2 SEQ=3 ACK=4 WINDOW=5 SYN URGP=0 MARK=0x0 ",
]
#: What is not plain, and what is nearly plain.
_ODD_HEADS = [
    "<4>Nov 27 12:00:00 fw kernel: ",
    "Nov 27 12:00:00 kernel: x ",
    "Nov 27 12:00:00 kernel:x foo ",
    "Nov 27 12:00:00 fw kern.warn kernel: x",
    "Nov 27 12:00:00 local7.info kernel: x",
    "Nov 27 12:00:00 [17.250000] DROP ",
    "Nov 27 12:00:00  fw kernel: ",
    "Feb 30 12:00:00 fw kernel: ",
    "Nov 27 12:00:60 fw kernel: ",
    "Oct 25 02:30:00 fw kernel: ",
    "1969-12-31T23:59:59Z fw kernel: ",
    "2026-11-27T12:00:00.1234567890 fw kernel: ",
    "2026-11-27T12:00:00 fw kernel - - - x ",
    "Nov 27 12:00:00 fw kernel: message repeated 2 times: [ ",
    'Nov 27 12:00:00 fw kernel: a "quoted\\ ',
    "Nov 27 12:00:00 fw kernel: \u00fc\x01 ",
    "Nov 27 12:00:00 fw kernel: [ 17.25][T",
    "Nov 27 12:00:00 fw kernel: [17.x ",
    "Nov 27 12:00:00 fw",
    "",
]
_ODD_BODIES = [
    _LINK + "SRC=192.0.2.066 DST=10.77.0.1 LEN=40 TOS=0x08 PREC=0x20 TTL=103 ID=256 " + _SYN,
    _LINK + "SRC=192.0.2.6 DST=10.77.0.1 LEN=40 TOS=0x08 PREC=0x20 TTL=256 ID=256 " + _SYN,
    _LINK + _IP + "FRAG:3 PROTO=TCP ",
    _LINK + _IP + "PROTO=TCP INCOMPLETE [8 bytes] ",
    _LINK + _IP + "PROTO=ESP SPI=0x1 ",
    _LINK + _IP + "PROTO=ICMP TYPE=3 CODE=1 [SRC=1.2.3.4 DST=5.6.7.8 ] ",
    _LINK + _IP + "PROTO=300 ",
    _LINK + _IP6 + "PROTO=135 ",
    _LINK + _IP6.replace("LEN=60", "LEN=39") + "PROTO=UDP SPT=1 DPT=2 LEN=3",
    "IN=eth0 OUT= MAC=02:7 " + _IP + _SYN,
    "IN=eth0 OUT= MAC=02:AB " + _IP + _SYN,
    "IN=eth0 OUT= MACSRC=02:77:00:00:00:02 MACDST=02:77:00:00:00:01 MACPROTO=0800 VPROTO=8100 VID=5 " + _IP + _SYN,
    _LINK + _IP + _SYN + " ",
    _LINK + _IP + _SYN + "  ",
    _LINK + _IP + _SYN + "   ",
    _LINK + _IP + _SYN + "\r",
    _LINK + "SRC=1.2.3.4 DST=5.6.7.8 ",
    "IN=e OUT=",
    "SRC=1.2.3.4 DST=5.6.7.8 LEN=3",
    "systemd[1]: SRC=1",
    "",
]


@pytest.mark.parametrize("head", _HEADS)
def test_usual_lines_are_plain(head: str) -> None:
    for body in _BODIES:
        line = (head + body + "\n").encode()
        assert is_plain(line), line
        assert_same(line)


@pytest.mark.parametrize("head", [*_HEADS[:12:3], *_ODD_HEADS])
def test_all_other_lines_are_left_to_the_reader_of_all_forms(head: str) -> None:
    for body in (_BODIES[0], *_ODD_BODIES):
        assert_same(f"{head}{body}\n".encode())


def test_every_frame_as_our_output_prints_it() -> None:
    plain_lines = 0
    for piece in chunks((message_of(frame) for frame in frames()), 300):
        for line in printed(decode(piece).batch):
            assert_same(line.encode() + b"\n")
            plain_lines += is_plain(line.encode() + b"\n")
    assert plain_lines > 10


# -- any text ---------------------------------------------------------------------------------------------------------

_ANY = st.text(st.sampled_from('0123456789abcdefxINOUTSRC=[]() :.\t"\\\u00fc\x00\x7f'), max_size=4)


@st.composite
def _lines(draw: st.DrawFn) -> bytes:
    """Lines of which some have something else in one place, or lack it."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        line = draw(st.sampled_from([*_HEADS, *_ODD_HEADS])) + draw(st.sampled_from([*_BODIES, *_ODD_BODIES]))
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(line)))
            line = line[:at] + draw(_ANY) + line[at + draw(st.integers(0, 3)) :]
        made.append(line)
    return "\n".join(made).encode() + draw(st.sampled_from([b"", b"\n"]))


@settings(max_examples=400, deadline=None)
@given(_lines())
@example(b"\n\n")
@example(b"Nov 27 12:00:00 f kernel: " + b"p" * 8200 + _BODY.encode())
@example(b"Nov 27 12:00:00 f kernel: " + b"p" * 7900 + _BODY.encode())
@example(b"Nov 27 12:00:00 f kernel: IN=" + b"a" * 64 + b" OUT= " + _IP.encode() + _SYN.encode())
@example(b"Nov 27 12:00:00 f kernel: IN=" + b"a" * 65 + b" OUT= " + _IP.encode() + _SYN.encode())
def test_any_lines_are_read_as_the_reader_of_all_forms_reads_them(text: bytes) -> None:
    assert_same(text)


# -- times ------------------------------------------------------------------------------------------------------------


def test_more_minutes_than_are_known_at_a_time() -> None:
    stamps = [f"Nov {1 + n % 27:2} {n % 24:02}:{n % 60:02}:{n * 7 % 60:02}" for n in range(400)]
    assert_same("".join(f"{stamp} fw kernel: {_BODY}\n" for stamp in stamps * 2).encode())


def test_the_year_is_asked_for() -> None:
    line = f"{_HEADS[0]}{_BODY}\n".encode()
    made = msgspec.json.decode(LogLines(year=2014).json(line))
    assert time.gmtime(made["oob.time.sec"])[:5] == (2014, 11, 27, 11, 0)


def test_lines_that_make_more_than_fits_at_once() -> None:
    line = f"{_HEADS[0]}{_BODY}\n".encode()
    lines = LogLines(_NOON)
    assert lines.json(line * 5000).count(b"\n") == lines.counts.packets == 5000
