# SPDX-License-Identifier: GPL-2.0-or-later
"""A predicate's text: what becomes of it in C, and what is wrong with it. What the C then does: test_compiling.py."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.errors import NflowError
from nflowlevel.prefilter.predicate import FIELDS, PredicateError, has, translate
from nflowlevel.records import keys
from nflowlevel.records.filters import FilterError, parse
from tests.fix_filters import ADDED, CASES, REFUSED, Maker, Row, meant, packets, refused

ROOT = Path(__file__).parent.parent.parent

TCP = "((p->known & NFL_KNOWN_PORTS && p->flow.protocol == PROTO_TCP) && ("
UDP = "((p->known & NFL_KNOWN_PORTS && (p->flow.protocol == PROTO_UDP || p->flow.protocol == PROTO_UDPLITE)) && ("
SYN, ACK = (f"((p->known & NFL_KNOWN_FLAGS) && ( (p->tcp_flags >> {bit} & 1) ))" for bit in (1, 4))


def code(text: str) -> str:
    return " ".join(piece.code for piece in translate(text) if piece.code)


def test_fields_are_keys() -> None:
    assert set(FIELDS) <= {key.name for key in keys.CATALOGUE}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", "1"),
        ("0x10 << 2u", "0x10 << 2u"),
        ("tcp.dport == 22", f"{TCP} p->flow.dport == 22 ))"),
        ("!(tcp.dport == 22)", f"! ( {TCP} p->flow.dport == 22 )) )"),
        ("!!tcp.syn", f"! ! {SYN}"),
        # As in C, ! is stronger than ==: then it belongs to the condition.
        ("!tcp.dport == 22", f"{TCP} ! p->flow.dport == 22 ))"),
        # The parentheses belong to a computation: what the packet must have is asked around it.
        ("(tcp.dport & 0xff) == 22", f"{TCP} ( p->flow.dport & 0xff ) == 22 ))"),
        ("(tcp.syn && tcp.ack) == 1", f"( {SYN} && {ACK} ) == 1"),
        ("tcp.syn\n||1", f"{SYN} || 1"),
        # All names of a field.
        ("tcp_dport == 22", f"{TCP} p->flow.dport == 22 ))"),
        ("dport == 22", "((p->known & NFL_KNOWN_PORTS) && ( p->flow.dport == 22 ))"),
        ("tcp.dport in {22, 80-90}", f"{TCP} (p->flow.dport == 22 || (p->flow.dport >= 80 && p->flow.dport <= 90)) ))"),
        ("tcp.dport not in {22}", f"{TCP} !(p->flow.dport == 22) ))"),
        # Where C's own types would not hold a number, 64 bits do.
        ("udp.sport - 1 < 0", f"{UDP} p->flow.sport - 1 < 0 ))"),
        ("raw.pktlen - 1 < 0", "((1) && ( (long long)p->length - 1LL < 0LL ))"),
        ("ip.ttl * 0x1000000 > 1", "((p->flow.family == 4) && ( (long long)p->ttl * 16777216LL > 1LL ))"),
        ("raw.pktlen & -2", "((1) && ( (long long)p->length & - 2LL ))"),
        # BPF divides only without signs, and not by 0.
        (
            "raw.pktlen / tcp.ack == 5",
            "((1) && (p->known & NFL_KNOWN_FLAGS) && (((long long)(p->tcp_flags >> 4 & 1)) != 0) && "
            "( (long long)((unsigned long long)( (long long)p->length )/(unsigned long long)( "
            "(long long)(p->tcp_flags >> 4 & 1) )) == 5LL ))",
        ),
    ],
)
def test_conditions(text: str, expected: str) -> None:
    assert code(text) == expected


@pytest.mark.skipif(sys.byteorder == "big", reason="the words are written out for a little-endian machine")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3", "(p->flow.saddr[3] & 0xffffffffu) == 0x302010au"),
        ("10.1.0.0/16", "(p->flow.saddr[3] & 0xffffu) == 0x10au"),
        ("0.0.0.0/0", "1"),
        ("fd00::/8", "(p->flow.saddr[0] & 0xffu) == 0xfdu"),
        (
            "2001:db8::/33",
            "(p->flow.saddr[0] & 0xffffffffu) == 0xb80d0120u && (p->flow.saddr[1] & 0x80u) == 0x0u",
        ),
        ("::/0", "1"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    family = 6 if ":" in text else 4
    assert code(f"ip.saddr=={text}") == f"((p->flow.family == {family}) && ( ({expected}) ))"
    assert code(f"ip.saddr != {text}") == f"((p->flow.family == {family}) && ( !({expected}) ))"


def test_mapped_address() -> None:
    assert "p->flow.daddr[3]" in code("ip.daddr == ::ffff:10.0.0.1")


def test_sets_of_addresses() -> None:
    four, six = "p->flow.family == 4", "p->flow.family == 6"
    found = code("src_ip not in {10.0.0.0/8, fd00::/8}")
    assert found.startswith(f"(({four} || {six}) && ( !(({four} && (p->flow.saddr[3] & ")
    assert f" || ({six} && (p->flow.saddr[0] & " in found
    assert "family == 6" not in code("src_ip in {10.0.0.0/8, 192.0.2.1}")


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", 0, "it is empty"),
        ('1 && oob.prefix == "SSH"', 5, "'oob.prefix' is not a field of prefilters; available: ip.saddr, ip.daddr, "),
        ("raw.pkt", 0, "'raw.pkt' is bytes, and filters cannot compare bytes; available: ip.saddr, ip.daddr, "),
        ("1 && (ip.ttl - 65) / 2", 19, "a prefilter cannot divide negative numbers, and one side of / may be negative"),
        ("raw.pktlen % -2", 11, "one side of % may be"),
        ("tcp.dport ==", 12, "a field, a number or an address is missing here"),
        ("tcp.dport 3", 10, "expected an operator before '3'"),
        (" \n", 2, "it is empty"),
        ("tcp.dprt == 22", 0, "unknown field 'tcp.dprt' — did you mean 'tcp.dport'?"),
        ("1 && Tcp.Dport == 22", 5, "did you mean 'tcp.dport'?"),
        ("xyzzy", 0, "unknown field 'xyzzy'; available: ip.saddr, ip.daddr, ip.ttl"),
        ("tcp.window > 2", 0, "'tcp.window' is not a field"),
        ("tcp.syn and tcp.ack", 8, "unknown field 'and' — did you mean '&&'?"),
        ("NOT tcp.syn", 0, "did you mean '!'?"),
        (
            "tcp.dport = 22",
            10,
            "'=' is not allowed in an expression of fields, numbers and operators — did you mean '=='?",
        ),
        ("tcp.dport == 22;", 15, "';' is not allowed"),
        ("({ while (1); })", 1, "'{' is not allowed"),
        ("tcp.syn ? 1 : 0", 8, "'?' is not allowed"),
        ("tcp.dport == 1.5", 13, "'1' is not allowed"),
        ('tcp.dport == "22"', 13, "is not allowed"),
        ("1 # 2", 2, "'#' is not allowed"),
        ("tcp.syn || (tcp.ack", 11, "this parenthesis is not closed"),
        ("tcp.syn)", 7, "this parenthesis was not opened"),
        ("ip.saddr < 10.0.0.1", 11, "'10.0.0.1' must follow ip.saddr or ip.daddr and == or !="),
        ("10.0.0.1 == ip.saddr", 0, "must follow"),
        ("tcp.dport == 10.0.0.1", 0, "'tcp.dport' is not an address"),
        ("ip.saddr == 10.0.0.256", 12, "'10.0.0.256' is not an address"),
        ("ip.saddr == 10.0.0.1/24", 12, "has bits set after its prefix"),
        ("ip.saddr == 10.0.0.0/33", 12, "the prefix length must be 0 to 32"),
        ("ip.saddr == fd00:::1", 12, "is not an address"),
        ("(" * 70 + "1" + ")" * 70, 64, "more than 64 nested parentheses"),
        ("1 " * 5000, 8192, "longer than 8192 characters"),
    ],
)
def test_what_is_wrong(text: str, place: int, reason: str) -> None:
    with pytest.raises(PredicateError, match=re.escape(reason)) as caught:
        translate(text)
    assert caught.value.position == place


def test_the_place_is_shown() -> None:
    error = PredicateError("no", "tcp.syn &&\n\ttcp.a\n|| 1", 12)
    assert str(error) == "filter: no\n    \ttcp.a\n    \t^"
    assert str(PredicateError("no", "ab", 2)) == "filter: no\n    ab\n      ^"


@given(st.text("tcp.syndrl()!&|=<>0123456789:/ x\n", max_size=60))
def test_any_text_is_translated_or_refused_with_a_place(text: str) -> None:
    try:
        pieces = translate(text)
    except PredicateError as error:
        refused_at = error.position
        assert 0 <= refused_at <= len(text)
        return
    places = [piece.at for piece in pieces]
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] <= len(text)
    assert not any("\n" in piece.code for piece in pieces)  # each has its line


# -- what it computes -------------------------------------------------------------------------------------------------

NUMBERS = tuple(name for name in FIELDS if name not in ("ip.saddr", "ip.daddr"))


def compiled(texts: Sequence[str], tmp_path: Path) -> list[Callable[[Any], bool]]:
    """Return predicates as functions of a `struct nfl_packet`, by the C compiler and not for BPF."""
    if not shutil.which(os.environ.get("CC", "gcc")):
        pytest.skip("the C compiler is missing")
    # What C leaves undefined ends the process.
    functions = [
        f"int f{number}(const struct nfl_packet *p) {{ return (\n{code(text)}\n) != 0; }}"
        for number, text in enumerate(texts)
    ]
    (tmp_path / "x.c").write_text("\n".join(['#include "kernel.h"', '#include "prefilter.h"', *functions]))
    flags = ["-O1", "-w", "-fPIC", "-shared", "-fsanitize=undefined", "-fno-sanitize-recover", f"-I{ROOT}/bpf"]
    subprocess.run([os.environ.get("CC", "gcc"), *flags, "x.c", "-o", "x.so"], cwd=tmp_path, check=True, timeout=120)
    library = ctypes.CDLL(str(tmp_path / "x.so"))
    return [getattr(library, f"f{number}") for number in range(len(texts))]


_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")


def struct_of(row: Row) -> Any:
    """Return the `struct nfl_packet` of a packet that has these keys."""
    p = ffi.new("struct nfl_packet *")
    p.length = row["raw.pktlen"]
    if row["ip.saddr"] is None:
        return p
    p.flow.family = 4 if ":" not in row["ip.saddr"] else 6
    for field, key in ((p.flow.saddr, "ip.saddr"), (p.flow.daddr, "ip.daddr")):
        address = ipaddress.ip_address(row[key] if p.flow.family == 6 else f"::ffff:{row[key]}")
        ffi.memmove(field, address.packed, 16)
    p.ttl = row["ip.ttl"] if p.flow.family == 4 else row["ip6.hoplimit"]
    if row["ip.protocol"] is not None:
        p.known, p.flow.protocol = lib.NFL_KNOWN_PROTOCOL, row["ip.protocol"]
    for name in ("tcp", "udp", "sctp"):
        if row[f"{name}.sport"] is not None:
            p.known |= lib.NFL_KNOWN_PORTS
            p.flow.sport, p.flow.dport = row[f"{name}.sport"], row[f"{name}.dport"]
    if row["tcp.syn"] is not None:
        p.known |= lib.NFL_KNOWN_FLAGS
        p.tcp_flags = row["tcp.res2"] << 6 | sum(row[f"tcp.{flag}"] << bit for bit, flag in enumerate(_FLAGS))
    for name in ("icmp", "icmpv6"):
        if row[f"{name}.type"] is not None:
            p.known |= lib.NFL_KNOWN_ICMP
            p.icmp_type, p.icmp_code = row[f"{name}.type"], row[f"{name}.code"]
    return p


def random_row(rng: random.Random) -> Row:
    """Return the keys of a packet that may lack many."""
    row = Row({"raw.pktlen": rng.choice((0, 20, 40, 99, 100, 1500, 2**31, 2**32 - 1))})
    if rng.random() < 0.2:
        return row
    four = rng.random() < 0.5
    row |= dict.fromkeys(("ip.saddr", "ip.daddr"), "10.0.0.1" if four else "::1")
    row["oob.family"] = 2 if four else 10
    row["ip.ttl" if four else "ip6.hoplimit"] = rng.choice((0, 1, 64, 255))
    if rng.random() < 0.1:
        return row
    row["ip.protocol"] = rng.choice((1, 6, 6, 17, 58, 132, 136))
    if rng.random() < 0.1:
        return row
    if name := {6: "tcp", 17: "udp", 132: "sctp", 136: "udp"}.get(row["ip.protocol"]):
        row |= {f"{name}.{port}": rng.choice((0, 1, 7, 80, 255, 40000, 65535)) for port in ("sport", "dport")}
    if name == "tcp":
        row |= {f"tcp.{flag}": rng.randrange(2) for flag in _FLAGS} | {"tcp.res2": rng.randrange(4)}
    if row["ip.protocol"] == (1 if four else 58):
        row |= {
            f"{'icmp' if four else 'icmpv6'}.{part}": rng.choice((0, 1, 3, 8, 128, 255)) for part in ("type", "code")
        }
    return row


def agrees(function: Callable[[Any], bool], p: Any) -> bool:
    """Return what a compiled predicate says of a packet."""
    return bool(function(ctypes.c_void_p(int(ffi.cast("intptr_t", p)))))


def test_random_predicates(tmp_path: Path) -> None:
    """C computes what is meant, and never what C leaves undefined."""
    rng = random.Random(5)
    maker = Maker(rng, NUMBERS)
    made: dict[str, Callable[[Row], bool]] = {}
    divided = 0
    while len(made) < 600:
        text, holds = maker.condition()
        try:
            translate(text)
        except PredicateError as error:
            if not refused(error) and "cannot divide" not in error.reason:
                raise
            divided += "cannot divide" in error.reason
        else:
            made[text] = holds
    assert divided
    rows = [random_row(rng) for _ in range(150)]
    structs = list(map(struct_of, rows))
    told = []
    for (text, holds), function in zip(made.items(), compiled(list(made), tmp_path), strict=True):
        for p, row in zip(structs, rows, strict=True):
            told.append(agrees(function, p))
            assert told[-1] == holds(row), (text, row)
    assert 0.1 < sum(told) / len(told) < 0.9


def test_the_table_of_cases(tmp_path: Path) -> None:
    """What a prefilter has means the same in C, and for the rest it is said why not."""
    cases = [
        c
        for c in CASES
        if "c" not in c.refused_by and all(has(field.name) for field in parse(c.text, added=ADDED).fields)
    ]
    assert len(cases) > 40
    rows = packets()[2]
    structs = list(map(struct_of, rows))
    for case, function in zip(cases, compiled([case.text for case in cases], tmp_path), strict=True):
        assert [number for number, p in enumerate(structs) if agrees(function, p)] == meant(case, rows), case.text
    for case in CASES:
        if case not in cases:
            with pytest.raises(
                PredicateError,
                match=r"field of prefilters|cannot divide|unknown field '(geo.country|geo_country|score)'",
            ):
                translate(case.text)


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_packets_do_not_have(text: str, reason: str) -> None:
    with pytest.raises(PredicateError, match=re.escape(reason)):
        translate(text)


def test_an_error_of_a_predicate_is_one_of_filters() -> None:
    for error in (FilterError, NflowError, ValueError):
        with pytest.raises(error, match=r"^filter: "):
            translate("1 +")
