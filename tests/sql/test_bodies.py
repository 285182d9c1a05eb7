# SPDX-License-Identifier: GPL-2.0-or-later
"""Which arguments of a stored function go to which arguments of those that it calls."""

from __future__ import annotations

import pytest

from nflowlevel.sql.bodies import Body, carried, tokens


def body(name: str, parameters: str, text: str = "") -> Body:
    return Body(name, parameters.split(), text)


def follow(start: Body, *others: Body) -> dict[str, list[str]]:
    """Return what comes to which argument when the items are named like the arguments of `start`."""
    bodies = {one.name.lower(): one for one in (start, *others)}
    return carried(start, [f"{name}!" for name in start.parameters], bodies)


INNER = body("Inner", "x y")


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ("PERFORM inner(a, b);", ["a!", "b!"]),
        ("PERFORM INNER($2, $1);", ["b!", "a!"]),
        ("SET @id = `inner`(`b`, A);", ["b!", "a!"]),
        ('x := "inner" ( "a" , nothing );', ["a!", ""]),
        ("inner($1::macaddr, a + 1)", ["", ""]),
        ("inner(f(a, b), coalesce(b, 0))", ["", ""]),
        ("inner((a), -b)", ["", ""]),
        ("inner('a', @b)", ["", ""]),
        ("inner(a) inner(a, b, 1)", None),
        ("-- inner(a, b)\n/* inner(a,\nb) */ 'inner(a, b)' inner", None),
        ("inner(a, -- b)\n b)", ["a!", "b!"]),
        ("inner('it''s), (', b)", ["", "b!"]),
        ("inner(a, b", None),
        ("inner(1, 2); inner(a, 3); inner(4, b)", ["a!", "b!"]),
        ("inner($3, $99)", ["", ""]),
    ],
)
def test_calls(text: str, came: list[str] | None) -> None:
    found = follow(body("outer", "a b", text), INNER)
    assert found == ({"inner": came, "outer": ["a!", "b!"]} if came else {"outer": ["a!", "b!"]})


def test_calls_of_calls_come_first() -> None:
    found = follow(body("a", "x", "b(x)"), body("b", "y", "c($1) d(y)"), body("c", "z", "d(z)"), body("d", "w"))
    assert list(found) == ["c", "d", "b", "a"] or list(found) == ["d", "c", "b", "a"]
    assert all(items == ["x!"] for items in found.values())


def test_those_that_call_each_other() -> None:
    found = follow(body("a", "x", "b(x)"), body("b", "y", "a(y) b(y)"))
    assert found == {"b": ["x!"], "a": ["x!"]}


def test_a_routine_without_arguments() -> None:
    assert follow(body("a", "", "b()"), body("b", "")) == {"b": [], "a": []}


def test_pieces_know_where_they_stand() -> None:
    text = 'SELECT `a``b`, "C""d" -- x\n FROM t'
    pieces = [*tokens(text)]
    assert [piece.name for piece in pieces if piece.kind == "quoted"] == ["a`b", 'c"d']
    assert all(text[piece.start : piece.end] == piece.text for piece in pieces)
    assert pieces[-1].text == "t"
