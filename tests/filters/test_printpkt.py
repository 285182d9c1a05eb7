# SPDX-License-Identifier: GPL-2.0-or-later
"""PRINTPKT: the text of every frame, whole and cut at every length, against that of tests/printed.py."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from nflowlevel.binding.interfaces import NameTable
from nflowlevel.errors import ConfigError
from nflowlevel.filters.mark import MARK, MARKOptions
from nflowlevel.filters.printpkt import PRINTPKT
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import PRINT
from nflowlevel.records.render import CopyPlan
from tests import oracle
from tests.corpus import ah, by_name, esp, extension, fragment, frames, ipv6, tcp
from tests.fix_daemon import config
from tests.fix_decoder import NAMES, NOW, chunks, decode, shown
from tests.fix_plugins import stacks_of
from tests.fix_reports import IN, OUT, PREFIX, option, received, report
from tests.messages import FULL, egress_message_of, message_of
from tests.oracle import build_message
from tests.printed import printed

_ENDS4, _ENDS6 = "SRC=10.77.0.2 DST=10.77.0.1", "SRC=fd77::2 DST=fd77::1"
_FAMILIES = (oracle.INET, oracle.INET6, oracle.ARP, oracle.BRIDGE, oracle.NETDEV, 0, 1)


#: What COPY's text format escapes.
_COPY = {b"\\": b"\\", b"n": b"\n", b"t": b"\t"}
_COPIED = re.compile(rb"\\(.)")


def through(batch: Batch) -> Batch:
    """Return what PRINTPKT makes of a batch."""
    return PRINTPKT("p", NoOptions()).process(batch)


def texts(messages: Sequence[bytes]) -> list[bytes]:
    """Return the texts of messages as rows of a database have them: only what is no UTF-8 is replaced."""
    batch = through(decode(messages).batch)
    rows = b"".join(piece for piece, _ in CopyPlan([("print", PRINT)]).render(batch.raw, batch.added))
    return [_COPIED.sub(lambda found: _COPY[found[1]], row) for row in rows.split(b"\n")[:-1]]


def wanted(message: bytes) -> bytes:
    """Return the text that a message must give."""
    keys = oracle.decode(message, now=NOW)
    assert keys is not None
    return printed(keys, NAMES).decode("utf-8", "replace").encode()


def assert_texts(messages: Iterable[bytes]) -> int:
    """Compare the texts of any number of messages; return how many there were."""
    count = 0
    for piece in chunks(messages, 300):
        for message, got in zip(piece, texts(piece), strict=True):
            assert got == wanted(message), message.hex()
        count += len(piece)
    return count


def text_of(name: str, family: int | None = None, **more: object) -> str:
    """Return the text of a frame behind the link-layer header."""
    (text,) = texts([message_of(by_name(name), family, **more)])
    assert text.count(b"\n") == 1
    return text.decode().partition("MAC=")[2].partition(" ")[2].removesuffix(" MARK=0x0 \n")


# -- against the oracle -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", _FAMILIES)
def test_every_frame_in_every_family(family: int) -> None:
    assert assert_texts(message_of(frame, family, **more) for frame in frames() for more in ({}, FULL)) > 1000


@pytest.mark.parametrize("family", [None, oracle.BRIDGE])
def test_every_frame_cut_at_every_length(family: int | None) -> None:
    cut = (
        message_of(replace(frame, payload=frame.payload[:length]), family)
        for frame in frames()
        for length in range(len(frame.payload))
    )
    assert assert_texts(cut) > 20_000


def test_every_frame_at_netdev_egress() -> None:
    assert assert_texts(egress_message_of(frame) for frame in frames()) == len(frames())


def test_any_bytes() -> None:
    chance = random.Random(11)

    def any_packet() -> bytes:
        frame = chance.choice(frames())
        payload = bytearray(frame.payload)
        for _ in range(chance.randrange(4)):
            if payload:
                payload[chance.randrange(len(payload))] = chance.randrange(256)
        family = chance.choice(_FAMILIES)
        return message_of(replace(frame, payload=bytes(payload)), family, mark=chance.randrange(1 << 32), prefix=b"x")

    assert assert_texts(any_packet() for _ in range(20_000)) == 20_000


def test_an_spi_is_that_of_the_header_it_stands_behind() -> None:
    """ESP behind AH has its own SPI, or none: never that of AH."""
    behind_ah = [esp(spi=0xCAFE), esp(size=0)[:7], b""]
    packets = [ipv6(51, ah(50, rest)) for rest in behind_ah]
    packets.append(ipv6(51, ah(44, fragment(50, bytes(16), offset=1448))))
    packets.append(ipv6(51, ah(51, ah(6)[:6])))
    packets.append(ipv6(60, extension(50, esp(spi=0x10))))
    messages = [build_message(packet, family=oracle.INET6, protocol=0x86DD) for packet in packets]
    assert_texts(messages)
    found = [text.decode().partition("PROTO=")[2].partition(" MARK")[0] for text in texts(messages)]
    assert found == [
        *("ESP SPI=0xcafe", "ESP INCOMPLETE", "ESP INCOMPLETE", "ESP INCOMPLETE", "AH INCOMPLETE", "ESP SPI=0x10"),
    ]


# -- what ulogd2 writes, and what it has wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ip4-tos-255", f"{_ENDS4} LEN=35 TOS=1E PREC=0xE0 TTL=64 ID=1 PROTO=UDP SPT=5000 DPT=53 LEN=15"),
        ("tcp4-urg", f"{_ENDS4} LEN=40 TOS=00 PREC=0x00 TTL=64 ID=1 PROTO=TCP SPT=40000 DPT=80 SEQ=16909060 ACK=0 "
            "WINDOW=64240 URG URGP=77"),
        ("ip6-class-and-flow", f"{_ENDS6} LEN=55 TC=90 HOPLIMIT=64 FLOWLBL=74565 PROTO=UDP SPT=5000 DPT=53 LEN=15"),
        ("frag6-later-17", f"{_ENDS6} LEN=72 TC=0 HOPLIMIT=64 FLOWLBL=0 FRAG: 1448 ID: 0000abcd PROTO=UDP INCOMPLETE"),
        ("frag4-all-bits", f"{_ENDS4} LEN=28 TOS=00 PREC=0x00 TTL=64 ID=1 CE DF MF FRAG:8191 PROTO=UDP INCOMPLETE"),
        ("sctp6-init", f"{_ENDS6} LEN=72 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=SCTP SPT=36412 DPT=36412"),
        ("icmpv6-echo-128", f"{_ENDS6} LEN=56 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=ICMPv6 TYPE=128 CODE=0 ID=17185 SEQ=9"),
        ("cut-tcp4-19", "LEN=0 TOS=00 PREC=0x00 TTL=0 ID=0 PROTO=0"),
        ("cut-tcp6-39", "PROTO=0"),
        ("ether-mpls", "PROTO=34887"),
    ],
)  # fmt: skip
def test_the_form(name: str, text: str) -> None:
    assert text_of(name) == text


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("icmp-echo-request-code-5", "TYPE=8 CODE=5 ID=4660 SEQ=7"),
        ("icmp-echo-reply", "TYPE=0 CODE=0 ID=4660 SEQ=7"),
        ("icmp-unreachable-0", "TYPE=3 CODE=0"),
        ("icmp-unreachable-4", "TYPE=3 CODE=4 MTU=1400"),
        ("icmp-unreachable-12", "TYPE=3 CODE=12"),
        ("icmp-redirect-0", "TYPE=5 CODE=0 GATEWAY=10.77.0.254"),
        ("icmp-parameter-1", "TYPE=12 CODE=1 PARAMETER=21"),
        ("icmp-time-exceeded-0", "TYPE=11 CODE=0"),
    ],
)
def test_the_extras_of_icmp_go_by_its_type(name: str, extras: str) -> None:
    """D-P02: ulogd2 chooses them by the code."""
    assert text_of(name).partition("PROTO=ICMP ")[2] == extras


@pytest.mark.parametrize("family", [oracle.BRIDGE, oracle.ARP, oracle.NETDEV])
def test_arp(family: int) -> None:
    ends = "SRC=10.77.0.2 DST=10.77.0.1 PROTO=ARP"
    assert text_of("arp-request", family) == f"{ends} REQUEST"
    assert text_of("arp-reply", family) == "SRC=10.77.0.1 DST=10.77.0.2 PROTO=ARP REPLY REPLY_MAC=02:77:00:00:00:01"
    assert text_of("arp-operation-10", family) == f"{ends} NAK"
    assert text_of("arp-operation-25", family) == f"{ends} CODE=25"
    assert text_of("arp-plen-16", family) == "PROTO=ARP REQUEST"


def test_uid_gid_and_mark() -> None:
    message = message_of(by_name("udp4"), uid=4294967294, gid=0, mark=0xDEADBEEF)
    assert texts([message])[0].endswith(b" LEN=15 UID=4294967294 GID=0 MARK=0xdeadbeef \n")
    assert texts([message_of(by_name("udp4"), mark=0x10000)])[0].endswith(b" LEN=15 MARK=0x10000 \n")


def test_names_and_header() -> None:
    (text,) = texts([message_of(by_name("udp4"), indev=2, outdev=70_000, prefix=b"pfx: ")])
    assert text.startswith(b"pfx:  IN=va OUT=last MAC=02:77:00:00:00:01:02:77:00:00:00:02:08:00 SRC=")
    (text,) = texts([message_of(by_name("udp4"), hwheader=None, hwaddr=None, prefix=b"", indev=9)])
    assert text.startswith(b" IN= OUT= MAC= SRC=")
    assert texts([message_of(by_name("udp4"))])[0].startswith(b"IN= OUT= MAC=02")


# -- text from outside ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [*range(20), 127, 128, 4000, 60_000])
def test_prefixes_of_every_length(length: int) -> None:
    prefix = bytes(b"abcdefghij"[i % 10] for i in range(length))
    assert_texts([message_of(by_name("udp4"), prefix=prefix)])
    assert_texts([message_of(by_name("udp4"), prefix=(b"\n" * length)[:15_000])])


@pytest.mark.parametrize("byte", range(1, 256))
def test_every_byte_of_a_prefix_at_every_place(byte: int) -> None:
    """Eight bytes at a time are looked at; only control characters are changed, and not the tab."""
    for before in range(9):
        prefix = b"p" * before + bytes([byte]) + b"\x20\x7e\xff\x80"
        message = message_of(by_name("udp4"), prefix=prefix)
        assert_texts([message])
        is_control = byte < 0x20 or byte == 0x7F
        if is_control and byte != 9:
            assert texts([message])[0].startswith(b"p" * before + b"\\x%02x" % byte)


def test_hostile_names_of_interfaces() -> None:
    batch = decode([message_of(by_name("udp4"), indev=1, outdev=2)]).batch
    batch.names = NameTable({1: "a\x1b[2J\r", 2: "\x7f" * 15})
    (text,) = through(batch).values("print")
    assert text.startswith("IN=a\\x1b[2J\\x0d OUT=" + "\\x7f" * 15 + " MAC=")
    assert text.count("\n") == 1


# -- as a key ---------------------------------------------------------------------------------------------------------


def test_in_json_it_is_what_ulogd2_writes_there() -> None:
    """The newline is part of it; quotes and backslashes are JSON's business."""
    batch = through(decode([message_of(by_name("udp4"), prefix=b'say "\\n" \x01'), message_of(by_name("udp6"))]).batch)
    first, second = shown(batch, [PRINT])
    assert first["print"].startswith('say "\\n" \\x01 IN= OUT= MAC=02')
    assert first["print"].endswith(" MARK=0x0 \n")
    assert "SRC=fd77::2" in second["print"]


def test_a_long_text_makes_the_buffers_grow() -> None:
    messages = [message_of(by_name("udp4"), prefix=b"\x01" * 15_000) for _ in range(60)]
    batch = through(decode(messages).batch)
    lines = shown(batch, [PRINT])
    assert [line["print"].count("\\x01") for line in lines] == [15_000] * 60
    assert [text.count("\\x01") for text in batch.values("print")] == [15_000] * 60


def test_of_packets_that_were_selected_before_and_after() -> None:
    messages = [message_of(by_name("udp4"), mark=row % 3, seq=row) for row in range(9)]
    selected = MARK("m", MARKOptions(mark=1)).process(decode(messages).batch)
    batch = through(selected)
    assert [text.partition("MARK=")[2] for text in batch.values("print")] == ["0x1 \n"] * 3
    few = batch.select([0, 2])
    assert few.values("print") == [wanted(messages[row]).decode() for row in (1, 7)]
    assert [record["print"] for record in shown(few, [PRINT])] == few.values("print")


def test_other_stacks_do_not_see_it() -> None:
    batch = decode([message_of(by_name("udp4"))]).batch
    through(batch)
    assert "print" not in batch.added


def test_a_packet_that_was_copied_out_keeps_it() -> None:
    batch = through(decode([message_of(by_name("udp4"))]).batch)
    kept = pickle.loads(pickle.dumps(batch[0]))
    assert kept.get("print") == batch[0].get("print") == wanted(message_of(by_name("udp4"))).decode()
    assert batch[0].to_dict()["print"] == kept.get("print")


def test_reported_packets() -> None:
    """Of UNIXSOCK: names are what the reporter says, and nobody has said a mark (Debian's stack for NuFW)."""
    packet = by_name("udp4").payload
    said = (
        (option(PREFIX, "nufw: "), option(IN, "eth0"), option(OUT, "")),
        (option(PREFIX, "nufw: "),),
        (option(IN, "eth0"),),
        (option(IN, "\n" * 9000), option(OUT, "\x7f" * 9000)),
    )
    text = f"MAC= {_ENDS4} LEN=35 TOS=00 PREC=0x00 TTL=64 ID=1 PROTO=UDP SPT=5000 DPT=53 LEN=15 \n"
    batch = through(received(b"".join(report(packet, *options) for options in said)))
    assert batch.values("print") == [
        f"nufw:  IN=eth0 OUT= {text}",
        f"nufw:  {text}",
        text,  # as ulogd2, which writes both names or none
        "IN=" + "\\x0a" * 9000 + " OUT=" + "\\x7f" * 9000 + f" {text}",
    ]


def test_records_that_are_nothing_but_columns_have_no_text() -> None:
    batch = Batch.of_columns({"oob.prefix": ["a", "b"]}, time=(1, None))
    assert through(batch).values("print") == [None, None]
    assert len(through(Batch(None, 0))) == 0


@pytest.mark.parametrize("missing", ["i:IFINDEX", "s:IP2STR"])
def test_a_stack_that_lacks_what_it_needs_is_refused(missing: str) -> None:
    filters = ",".join(f for f in ("b:BASE", "i:IFINDEX", "s:IP2STR", "p:PRINTPKT") if f != missing)
    with pytest.raises(ConfigError, match="p:PRINTPKT needs the key"):
        stacks_of(config(f"g:NFLOG,{filters},j:JSON", g="group=1", j="file=-"))


def test_the_longest_text_is_as_long_as_the_key_says() -> None:
    """`nflowlevel sql check` compares that with the column."""
    largest = (1 << 32) - 1
    header = tcp(0xFF, seq=largest, ack=largest, window=0xFFFF, urgp=0xFFFF, sport=0xFFFF, dport=0xFFFF, family=6)
    far = bytes.fromhex("1111" * 8)
    packet = ipv6(
        44,
        fragment(6, header, ident=largest),
        tclass=255,
        flow=0xFFFFF,
        hops=255,
        payloadlen=0xFFFF,
        saddr=far,
        daddr=far,
    )
    more = {"prefix": b"p" * 127, "hwheader": bytes(14), "uid": largest, "gid": largest, "mark": largest}
    message = build_message(packet, family=oracle.INET6, protocol=0x86DD, indev=1, outdev=2, **more)
    batch = decode([message]).batch
    batch.names = NameTable({1: "i" * 15, 2: "o" * 15})
    (text,) = through(batch).values("print")
    offset = len("65528") - len("0")
    assert len(text) + offset == PRINT.longest
