# SPDX-License-Identifier: GPL-2.0-or-later
"""Fragments: parameters stay in the order of their places."""

from __future__ import annotations

from nflowlevel.sql.fragment import Fragment, joined


def test_parameters_stay_in_order() -> None:
    first, second = Fragment("a = \0", (1,)), Fragment("b IN (\0, \0)", ("x", b"y"))
    both = joined(" AND ", iter([second.within("NOT {}"), first])).bracketed()
    assert both == ("(NOT b IN (\0, \0) AND a = \0)", ("x", b"y", 1))
    assert joined(" AND ", []) == ("", ())
