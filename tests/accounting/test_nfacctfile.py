# SPDX-License-Identifier: GPL-2.0-or-later
"""nfacct's text formats: what is written is read again, what is wrong is named with its line."""

from __future__ import annotations

from unittest.mock import Mock
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.accounting import nfacctfile as acctfile
from nflowlevel.accounting.table import Counter
from nflowlevel.binding.nfacct import BYTE_QUOTA, OVER_QUOTA, PACKET_QUOTA
from nflowlevel.errors import ConfigError
from nflowlevel.options import ConfigErrors

numbers = st.integers(0, 2**64 - 1)
names = (
    st.binary(min_size=1, max_size=31)
    .filter(lambda name: not {0, 10} & set(name))
    .map(lambda name: name.decode("utf-8", "surrogateescape"))
)
plain = st.builds(Counter, names, numbers, numbers)
limited = st.builds(Counter, names, numbers, numbers, numbers, st.sampled_from([PACKET_QUOTA, BYTE_QUOTA]))


def parse(text: str) -> list[Counter]:
    return [entry.counter for entry in acctfile.parse(text.encode(), "f")]


def complaints(data: bytes | str) -> list[str]:
    """Return what is said about a file that must be refused."""
    with pytest.raises(ConfigError) as caught:
        acctfile.parse(data.encode() if isinstance(data, str) else data, "f")
    return str(caught.value).split("\n")


@given(st.lists(plain | limited, unique_by=lambda counter: counter.name, max_size=5))
def test_what_is_written_is_read_again(counters: list[Counter]) -> None:
    data = b"".join(acctfile.lines(counters))
    assert [entry.counter for entry in acctfile.parse(data, "f")] == counters
    assert [entry.line for entry in acctfile.parse(data, "f")] == list(range(1, len(counters) + 1))


def test_lines_are_nfaccts() -> None:
    lines = acctfile.lines([Counter("a", 23, 1288), Counter("q", 2**64 - 1, 0, 7, BYTE_QUOTA | OVER_QUOTA)])
    assert b"".join(lines).decode() == (
        "{ pkts = 00000000000000000023, bytes = 00000000000000001288 } = a;\n"
        "{ pkts = 18446744073709551615, bytes = 00000000000000000000,"
        " quota = 00000000000000000007, mode = byte } = q;\n"
    )


@pytest.mark.parametrize(
    ("line", "counter"),
    [
        ("{ pkts = 1, bytes = 2 } = a;", Counter("a", 1, 2)),
        ("  {pkts=1,bytes=2}=a;  ", Counter("a", 1, 2)),
        ("{ pkts = 1, bytes = 2 } = a b;c;", Counter("a b;c", 1, 2)),
        (
            "{ pkts = 1, bytes = 2, quota = 3, mode = packet, overquota = yes } = a;",
            Counter("a", 1, 2, 3, PACKET_QUOTA),
        ),
        ("{ pkts = 1, bytes = 2, quota = 3, mode = byte, overquota = no } = a;", Counter("a", 1, 2, 3, BYTE_QUOTA)),
        ("{ pkts = 1, bytes = 2, quota = 3, mode = byte } = a;", Counter("a", 1, 2, 3, BYTE_QUOTA)),
    ],
)
def test_lines_that_are_read(line: str, counter: Counter) -> None:
    assert parse(line) == [counter]
    assert parse(f"# a comment\n\n{line}\r\n") == [counter]


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "{ pkts = 1, bytes = 2 } = a",
        "{ pkts = 1, bytes = 2 } = a; rest",
        "{ pkts = -1, bytes = 2 } = a;",
        "{ pkts = 1 } = a;",
        "{ pkts = \u0661, bytes = 2 } = a;",
        "{ pkts = 1, bytes = 2, quota = 3 } = a;",
        "{ pkts = 1, bytes = 2, quota = 3, mode = flow } = a;",
        "{ pkts = 1, bytes = 2, quota = 3, mode = byte, overquota = maybe } = a;",
    ],
)
def test_lines_that_are_none(line: str) -> None:
    assert complaints(f"{{ pkts = 1, bytes = 2 }} = ok;\n{line}\n")[0].startswith("f:2: '")


def test_each_wrong_line_is_named() -> None:
    lines = [
        "{ pkts = 1, bytes = 2 } = a;",
        "{ pkts = 1, bytes = 2 } = ;",
        "{ pkts = 1, bytes = 2 } = a;",
        "{ pkts = 18446744073709551616, bytes = 2 } = b;",
        f"{{ pkts = 1, bytes = 2 }} = {'x' * 32};",
        "\x1b[31m",
    ]
    assert complaints("\n".join(lines)) == [
        "f:2: the name of an accounting object must not be empty",
        "f:3: 'a' is already in line 1",
        "f:4: 'b': packets 18446744073709551616 has more than 64 bits",
        f"f:5: accounting object '{'x' * 32}': a name must be at most 31 bytes long, not 32",
        "f:6: '\\x1b[31m' is not a line of `nfacct list`",
    ]


def test_of_a_file_of_another_kind_not_every_line_is_named() -> None:
    said = complaints(bytes(range(1, 256)) + b"\nx" * 100)
    assert len(said) == 21
    assert said[-1] == "f: 82 more lines are wrong"


def test_hostile_files_are_refused_at_once_and_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mock(wraps=ConfigError)
    monkeypatch.setattr(acctfile, "ConfigError", made)
    with pytest.raises(ConfigErrors) as caught:
        acctfile.parse(b"\x1b]0;title\x07\n" * 10_000, "f")
    assert made.call_count == 21, "an error for each line takes time, and nobody reads it"
    assert str(caught.value.errors[-1]) == "f: 9980 more lines are wrong"
    assert "\x1b" not in str(caught.value)
    for digits in ("9" * 21, "9" * 10_000, "0" * 10_000 + "9" * 30):
        with pytest.raises(ConfigErrors, match=r"'a': packets 9+…? has more than 64 bits"):
            acctfile.parse(f"{{ pkts = {digits}, bytes = 1 }} = a;".encode(), "f")
    (entry,) = acctfile.parse(b"{ pkts = " + b"0" * 10_000 + b"7, bytes = 1 } = a;", "f")
    assert entry.counter.packets == 7


def test_a_name_with_a_newline_has_no_form() -> None:
    lines = acctfile.lines([Counter("a", 1, 2), Counter("x\ny", 1, 2)])
    with pytest.raises(ValueError, match=r"'x\\ny': a name with a newline"):
        next(lines)


def test_names_that_nfacct_would_cut() -> None:
    counters = [Counter(name, 0, 0) for name in ("ok", "a b", "c;d", "e\tf", "ü")]
    assert acctfile.strange_names(counters) == ["a b", "c;d", "e\tf"]


def test_xml() -> None:
    text = "".join(acctfile.xml([Counter("a<&>\x01\udcff", 23, 2**64 - 1, 5, PACKET_QUOTA)]))
    assert text == (
        '<?xml version="1.0" encoding="utf-8"?>\n<nfacct>\n'
        "<obj><name>a&lt;&amp;&gt;\ufffd\ufffd</name><pkts>00000000000000000023</pkts>"
        "<bytes>18446744073709551615</bytes></obj>\n</nfacct>\n"
    )


@given(st.text(min_size=1, max_size=31))
def test_xml_is_xml_whatever_the_name(name: str) -> None:
    ElementTree.fromstring("".join(acctfile.xml([Counter(name, 0, 0)])).encode())
