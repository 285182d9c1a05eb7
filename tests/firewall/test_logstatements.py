# SPDX-License-Identifier: GPL-2.0-or-later
"""Which group a statement gets, and that a text keeps all that is not a statement."""

from __future__ import annotations

import pytest

from nflowlevel.firewall.logstatements import Groups, Statement, Unfit, converted, level_of, lines_of, nft_statement

_WARNING = Statement(0, 1, "<", ">")
_INFO = Statement(2, 3, "<", ">", "info")
_ULOG = Statement(4, 5, "<", ">", ulog=1)


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("0", "emerg"),
        ("7", "debug"),
        ("8", None),
        ("44", None),
        ("²", None),
        ("warn", "warning"),
        ("WARNING", "warning"),
        ("error", "err"),
        ("panic", "emerg"),
        ("audit", None),
        ("", None),
    ],
)
def test_levels_have_numbers_and_names(word: str, level: str | None) -> None:
    assert level_of(word) == level


def test_all_levels_go_to_the_first_free_group() -> None:
    groups = Groups(frozenset((3, 4)), first=3)
    groups.assign([_WARNING, _INFO])
    assert groups.given == {"": 5}


def test_each_level_has_a_group() -> None:
    groups = Groups(frozenset((2,)), by_level=True)
    groups.assign([_WARNING, _INFO, _WARNING])
    assert groups.given == {"warning": 1, "info": 3}


def test_a_group_of_ulog_keeps_its_number() -> None:
    groups = Groups(frozenset())
    groups.assign([_WARNING, _ULOG])
    assert groups.given == {"ulog1": 1, "": 2}
    groups = Groups(frozenset((1,)))
    groups.assign([_ULOG])
    assert groups.given == {"ulog1": 2}


def test_numbers_begin_again_below_the_first() -> None:
    groups = Groups(frozenset((65535, 1)), first=65535)
    assert groups.of(_WARNING) == 2


def test_text_between_statements_stays() -> None:
    text = "a b\u2028c\r\nd"
    assert converted(text, [_WARNING, _INFO, _ULOG], Groups(frozenset(), first=7)) == "<7> <7>\u2028<1>\r\nd"


def test_only_a_newline_ends_a_line() -> None:
    text = "a\u2028b\x0c\x85\r\nc"
    assert lines_of(text, [0, text.index("\n"), text.index("c")]) == [1, 1, 2]


def test_flags_of_nft() -> None:
    statement = nft_statement(0, 3, "", "", "warn", ["tcp options", "skuid"])
    assert (statement.level, statement.asks) == ("warning", {"tcp-options", "uid"})
    assert len(nft_statement(0, 3, "", "", "debug", ["all"]).asks) == 5


@pytest.mark.parametrize(("level", "said"), [("audit", "audit subsystem"), ("loud", "there is no level loud")])
def test_a_level_that_has_no_place_in_a_group(level: str, said: str) -> None:
    with pytest.raises(Unfit, match=said):
        nft_statement(0, 3, "", "", level, [])
