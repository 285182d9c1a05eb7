# SPDX-License-Identifier: GPL-2.0-or-later
"""The language of filters: its names, its grammar, and what is said of a wrong text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.records.expressions import Brackets, Computed, Logic, Member, Number, Operation, Sign, Value
from nflowlevel.records.filters import TYPES, FilterError, field_of, parse
from nflowlevel.records.keys import BY_NAME, CATALOGUE
from nflowlevel.records.mask import holds
from nflowlevel.records.packet import PACKET
from nflowlevel.records.packetrow import Packet
from nflowlevel.records.reported import REPORTED
from nflowlevel.records.sums import SUM
from nflowlevel.records.terms import TERMS
from nflowlevel.records.types import RecordType
from tests.fix_filters import packets


def shown(node: Computed) -> str:
    """Return a tree with parentheses around each operation."""
    match node:
        case Number():
            return node.text
        case Value():
            return node.field.name
        case Sign():
            return f"{node.operator}{shown(node.operand)}"
        case Brackets():
            return shown(node.inside)
        case Operation():
            return f"({shown(node.left)} {node.operator} {shown(node.right)})"
        case Logic():
            return f"[{f' {node.operator} '.join(map(shown, node.parts))}]"
        case Member():
            return f"<{node.field.name} {'not ' * node.negated}in {len(node.items)}>"
    raise TypeError(node)


# -- grammar ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("1 + 2 * 3 - 4", "((1 + (2 * 3)) - 4)"),
        ("1 << 2 + 3 < 4 == 5 & 6 ^ 7 | 8", "((((((1 << (2 + 3)) < 4) == 5) & 6) ^ 7) | 8)"),
        ("1 || 2 && 3 || 4", "[1 || [2 && 3] || 4]"),
        ("(1 || 2) && 3 == !4", "[[1 || 2] && (3 == !4)]"),
        ("!-~+1", "!-~+1"),
        ("tcp.dport in {1} & ip.ttl | 2", "((<tcp.dport in 1> & ip.ttl) | 2)"),
        ("ip.saddr == 10.0.0.1 == 1", "(<ip.saddr in 1> == 1)"),
        ("tcp.dport not  in {1,2 , 3-4}&&1", "[<tcp.dport not in 3> && 1]"),
        ('prefix != "a"||!(prefix ~ "b")', "[<oob.prefix not in 1> || !<oob.prefix in 1>]"),
        ('oob.in == "x" && 1', "[<oob.in in 1> && 1]"),
    ],
)
def test_trees(text: str, tree: str) -> None:
    assert shown(parse(text).root) == tree


def test_strings() -> None:
    root = parse(r'prefix in {"a\"b\\c", "#;{}", ""}').root
    assert isinstance(root, Member)
    assert root.items == ('a"b\\c', "#;{}", "")


def test_fields_of_a_filter() -> None:
    found = parse("tcp.dport + sport > 1 && !(saddr == 10.0.0.1) || tcp_dport").fields
    assert [field.name for field in found] == ["tcp.dport", "src_port", "ip.saddr"]
    assert found[1].keys == ("tcp.sport", "udp.sport", "sctp.sport")


def test_a_filter_is_read_once() -> None:
    assert parse("tcp.dport == 4711") is parse("tcp.dport == 4711")


# -- names ------------------------------------------------------------------------------------------------------------


def test_every_key_is_a_field_or_bytes() -> None:
    asked = set()
    for type_ in TYPES:
        for key in type_.by_name.values():
            asked.add(key.name)
            for name in (key.name, key.name.replace(".", "_")):
                if key.type == "raw":
                    with pytest.raises(TypeError, match="is bytes, and filters cannot compare bytes"):
                        field_of(name, type_)
                else:
                    assert field_of(name, type_).keys
    sniffed = ("pwsniff.user", "pwsniff.pass")
    added = [key for key in CATALOGUE if key.name not in asked]
    reported = [name for name in REPORTED.by_name if name.startswith("nufw.")]
    assert [key.name for key in added] == [
        "print",
        "print",
        "nat.event",
        "print",
        "community_id",
        "sum.limit",
        *reported,
        *sniffed,
    ]
    for key in REPORTED.by_name.values():
        if key.type != "raw":
            assert field_of(key.name, REPORTED).keys
    assert field_of("sum_limit", SUM, tuple(added)).keys == ("sum.limit",)


@pytest.mark.parametrize("type_", TYPES)
def test_a_key_of_other_records_is_said_to_be_theirs(type_: RecordType) -> None:
    for other in TYPES:
        for name in other.own:
            if name not in type_.own:
                owner = next(each for each in TYPES if name in each.own)
                with pytest.raises(
                    TypeError, match=f"{type_.name}s do not have '{name}': it is a key of {owner.name}s"
                ):
                    field_of(name, type_)


def test_attributes_mean_what_they_give_of_a_packet() -> None:
    batch = packets()[1]
    for attribute, name in TERMS.items():
        assert PACKET.own.find(attribute) == name
        values = [getattr(packet, attribute) for packet in batch]
        assert values == batch.values(name), attribute
    terms = {name for name, value in vars(Packet).items() if isinstance(value, property)}
    assert terms - TERMS.keys() - {name.replace(".", "_") for name in BY_NAME} == {"timestamp", "totlen"}


@pytest.mark.parametrize("name", ["ip.saddr", "saddr", "ip_saddr", "src_ip", "ip.saddr.str", "ip_saddr_str"])
def test_an_address_is_one_field_by_all_its_names(name: str) -> None:
    assert field_of(name) == field_of("ip.saddr")
    assert field_of(name).type == "address"


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", 0, "it is empty"),
        ("tcp.dprt == 22", 0, "unknown field 'tcp.dprt' — did you mean 'tcp.dport'?"),
        ("1 && SADDR", 5, "did you mean 'saddr'?"),
        ("xyzzy", 0, "unknown field 'xyzzy'; docs/keys.md lists them"),
        ("tcp.syn and tcp.ack", 8, "unknown field 'and' — did you mean '&&'?"),
        ("tcp.dport = 22", 10, "did you mean '=='?"),
        ("1 = 1 && xyzzy", 2, "did you mean '=='?"),
        ("raw.pkt", 0, "'raw.pkt' is bytes, and filters cannot compare bytes"),
        ("1 && prefix", 5, "'prefix' is text: compare it by ==, !=, ~ or in"),
        ('prefix < "a"', 0, "'prefix' is text"),
        ("prefix == 5", 10, "'prefix' is text: compare it with a text in double quotes"),
        ("prefix == 'a'", 10, "double quotes"),
        ("prefix ~ 5", 9, "expected a text in double quotes"),
        ('tcp.dport ~ "2*"', 0, "'tcp.dport' is not text"),
        ('tcp.dport == "22"', 13, "is not allowed where a number is expected"),
        ('prefix == "a', 10, "in double quotes"),
        (r'prefix == "\n"', 10, "in double quotes"),
        ("tcp.dport in 22", 13, "expected a set such as {22, 80, 8000-8100}"),
        ("tcp.dport in {}", 14, "expected a number, or a range such as 8000-8100: that is what 'tcp.dport' is"),
        ("tcp.dport in {22", 16, "expected ',' or '}'"),
        ("tcp.dport in {22 80}", 17, "expected ',' or '}'"),
        ("tcp.dport in {22-}", 17, "expected the end of the range"),
        ("tcp.dport in {22-21}", 14, "this range ends before it begins"),
        ("ip.saddr in {22}", 13, "expected an address, or a network such as 10.0.0.0/8"),
        ("prefix in {10.0.0.1}", 11, "expected a text in double quotes"),
        ('ip.saddr == "10.0.0.0/8,10.0.0.1"', 12, "is not an address or a network"),
        ('ip.saddr == ""', 12, '"" is not an address or a network'),
        ("in {1}", 0, "'in' must follow a field"),
        ("5 in {1}", 2, "'in' must follow a field"),
        ("tcp.dport in {1} }", 17, "'}' is not allowed"),
        ("tcp.dport in {1} in {1}", 17, "'in' must follow a field"),
        ("!tcp.dport in {1}", 0, "'!' needs parentheses around the comparison beside it"),
        ("1 + ip.saddr == 10.0.0.1", 2, "'+' needs parentheses"),
        ("ip.saddr == 10.0.0.1 + 1", 21, "'+' needs parentheses"),
        ("tcp.dport 3", 10, "expected an operator before '3'"),
        ("tcp.dport tcp.sport", 10, "expected an operator before 'tcp.sport'"),
        ("(1 2)", 3, "expected an operator before '2'"),
        ("(1,", 2, "',' is not allowed"),
        ("1 +", 3, "a field, a number or an address is missing here"),
        ("08", 0, "'08' is not a number: a number that begins with 0 is octal"),
        ("0x8000000000000000", 0, "integer literal is too large: a number has at most 63 bits"),
        ("1 / (2 - 2)", 2, "a division by 0"),
        ("tcp.dport << 70", 10, "the right side of << must be 0 to 63"),
        ("tcp.dport >> tcp.sport", 10, "the right side of >> must be 0 to 63"),
        ("-tcp.dport >> 1", 11, "the left side of >> may be negative"),
        ("1 && tcp.seq * tcp.seq", 13, "the result may need more than 64 bits"),
        ("~0x7fffffffffffffff", 0, "the result may need more than 64 bits"),
        ("!" * 200 + "1", 100, "more than 100 operators that depend on one another"),
        ("+".join(["1"] * 200), 199, "more than 100 operators that depend on one another"),
        ("(" * 70 + "1" + ")" * 70, 64, "more than 64 nested parentheses"),
        ("1 " * 5000, 8192, "longer than 8192 characters"),
    ],
)
def test_what_is_wrong(text: str, place: int, reason: str) -> None:
    with pytest.raises(FilterError, match=re.escape(reason)) as caught:
        parse(text)
    assert caught.value.position == place


def test_many_conditions_are_not_deep() -> None:
    assert isinstance(parse(" || ".join(["tcp.dport == 1"] * 400)).root, Logic)


def test_the_place_is_shown() -> None:
    assert str(FilterError("no", "tcp.syn &&\n\ttcp.a\n|| 1", 12)) == "filter: no\n    \ttcp.a\n    \t^"


@given(st.text('tcp.syndrl()!&|=<>0123456789:/ x\n{},-"~', max_size=60))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        root = parse(text).root
    except FilterError as error:
        refused_at = error.position
        assert 0 <= refused_at <= len(text)
    else:
        assert 0 <= root.at < root.end <= len(text)


# -- docs/filters.md --------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parent.parent.parent / "docs" / "filters.md").read_text()


def test_what_the_page_says_can_be_written() -> None:
    block = PAGE.partition("## Syntax\n\n```\n")[2].partition("```")[0]
    filters = [re.split(r"\s{3,}", line)[0] for line in block.splitlines()]
    assert len(filters) > 8
    for text in filters:
        parse(text)


def test_what_the_page_says_of_a_udp_packet() -> None:
    table = PAGE.partition("| Filter | Matches UDP |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.*`) \| (yes|no)", table, re.MULTILINE)
    assert len(rows) == 5
    for filters, answer in rows:
        for text in re.findall(r"`([^`]+)`", filters):
            assert holds(text, {"udp.dport": 53, "ip.protocol": 17}) == (answer == "yes"), text


def test_what_the_page_says_is_refused() -> None:
    for text in ("tcp.seq * tcp.seq", "1 << ip.ttl"):
        with pytest.raises(FilterError):
            parse(text)
    assert holds("1 << (ip.ttl & 31)", {"ip.ttl": 64})


def test_the_example_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out == "[('10.1.2.3',)]\n"
