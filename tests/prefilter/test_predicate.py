# SPDX-License-Identifier: GPL-2.0-or-later
"""A predicate's text: what becomes of it in C, and what is wrong with it. What the C then does: test_compiling.py."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.prefilter.predicate import FIELDS, PredicateError, translate
from nflowlevel.records import keys

TCP = "((p->known & NFL_KNOWN_PORTS && p->flow.protocol == PROTO_TCP) && ("
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


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", 0, "there is none"),
        (" \n", 2, "there is none"),
        ("tcp.dprt == 22", 0, "'tcp.dprt' is no field — did you mean 'tcp.dport'?"),
        ("1 && Tcp.Dport == 22", 5, "did you mean 'tcp.dport'?"),
        ("xyzzy", 0, "'xyzzy' is no field; there are ip.saddr, ip.daddr, ip.ttl"),
        ("tcp.window > 2", 0, "'tcp.window' is no field"),
        ("tcp.syn and tcp.ack", 8, "'and' is no field — did you mean '&&'?"),
        ("NOT tcp.syn", 0, "did you mean '!'?"),
        (
            "tcp.dport = 22",
            10,
            "'=' has no place in an expression of fields, numbers and operators — did you mean '=='?",
        ),
        ("tcp.dport == 22;", 15, "';' has no place"),
        ("({ while (1); })", 1, "'{' has no place"),
        ("tcp.syn ? 1 : 0", 8, "'?' has no place"),
        ("tcp.dport == 1.5", 13, "'1' has no place"),
        ('tcp.dport == "22"', 13, "has no place"),
        ("1 # 2", 2, "'#' has no place"),
        ("tcp.syn || (tcp.ack", 11, "a parenthesis that is not closed"),
        ("tcp.syn)", 7, "a parenthesis that was not opened"),
        ("ip.saddr < 10.0.0.1", 11, "'10.0.0.1' has to stand behind ip.saddr or ip.daddr and == or !="),
        ("10.0.0.1 == ip.saddr", 0, "has to stand behind"),
        ("tcp.dport == 10.0.0.1", 0, "'tcp.dport' is no address"),
        ("ip.saddr == 10.0.0.256", 12, "'10.0.0.256' is no address"),
        ("ip.saddr == 10.0.0.1/24", 12, "has bits set behind its prefix"),
        ("ip.saddr == 10.0.0.0/33", 12, "a prefix has 0 to 32 bits"),
        ("ip.saddr == fd00:::1", 12, "is no address"),
        ("(" * 70 + "1" + ")" * 70, 64, "more than 64 parentheses"),
        ("1 " * 5000, 8192, "longer than 8192 characters"),
    ],
)
def test_what_is_wrong(text: str, place: int, reason: str) -> None:
    with pytest.raises(PredicateError, match=re.escape(reason)) as caught:
        translate(text)
    assert caught.value.position == place


def test_the_place_is_shown() -> None:
    error = PredicateError("no", "tcp.syn &&\n\ttcp.a\n|| 1", 12)
    assert str(error) == "predicate: no\n    \ttcp.a\n    \t^"
    assert str(PredicateError("no", "ab", 2)) == "predicate: no\n    ab\n      ^"


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
