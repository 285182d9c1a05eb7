# SPDX-License-Identifier: GPL-2.0-or-later
"""Bounds of numbers: what an operator makes of any two numbers is within what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.records.expressions import (
    COMPUTE,
    LEAST,
    MOST,
    bounds_of,
    bounds_of_sign,
    divided,
    remainder,
)

NUMBERS = st.one_of(st.integers(-20, 20), st.integers(-(2**34), 2**34), st.sampled_from([LEAST, MOST, 2**31, 2**32]))
RANGES = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted)


@given(st.sampled_from(list(COMPUTE)), RANGES, RANGES)
def test_bounds_of_operators(operator: str, left: list[int], right: list[int]) -> None:
    """Each list is a lower bound, a number, and an upper bound."""
    try:
        low, high = bounds_of(operator, (left[0], left[2]), (right[0], right[2]))
    except ValueError:
        return
    assert LEAST <= low <= high <= MOST
    for a in left:
        for b in right:
            if b or operator not in ("/", "%"):
                assert low <= COMPUTE[operator](a, b) <= high, (operator, a, b)


@given(RANGES)
def test_bounds_of_signs(numbers: list[int]) -> None:
    for sign, compute in {"-": int.__neg__, "~": int.__invert__, "+": int.__pos__, "!": lambda n: int(not n)}.items():
        try:
            low, high = bounds_of_sign(sign, numbers[0], numbers[2])
        except ValueError:
            assert sign == "~"
            assert numbers[2] == MOST
            continue
        assert all(low <= compute(number) <= high for number in numbers)


@pytest.mark.parametrize(
    ("operator", "left", "right", "bounds"),
    [
        ("&", (0, 65535), (15, 15), (0, 15)),
        ("&", (0, 65535), (-256, -256), (0, 65535)),
        ("|", (0, 5), (0, 8), (0, 15)),
        ("/", (0, 100), (0, 7), (0, 100)),
        ("/", (0, 100), (2, 7), (0, 50)),
        ("%", (0, 100), (-7, 7), (0, 6)),
        ("<<", (1, 3), (0, 4), (1, 48)),
        ("==", (0, 1), (5, 6), (0, 1)),
    ],
)
def test_bounds_are_narrow(
    operator: str, left: tuple[int, int], right: tuple[int, int], bounds: tuple[int, int]
) -> None:
    """The narrower they are, the less is refused."""
    assert bounds_of(operator, left, right) == bounds


def test_division_as_in_c() -> None:
    assert [divided(a, b) for a, b in ((7, 2), (-7, 2), (7, -2), (-7, -2))] == [3, -3, -3, 3]
    assert [remainder(a, b) for a, b in ((7, 2), (-7, 2), (7, -2), (-7, -2))] == [1, -1, 1, -1]
