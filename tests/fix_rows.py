# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the spool share: rows that carry their number, as COPY text or as JSON lines.

A test module that imports `form` runs each of its tests with rows of each form: the spool must not look into them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from nflowlevel.spool.rows import Layout, Rows

LAYOUT: Layout = ("n", "oob.prefix", "ip.saddr")

#: A row of each form, with places for its number and its padding.
_FORMS = {"copy": b"%d\t%s\t\\N\n", "json": b'{"n": %d, "p": "%s"}\n'}
_row = _FORMS["copy"]


@pytest.fixture(autouse=True, params=_FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have rows of this form."""
    global _row
    _row = _FORMS[request.param]
    yield
    _row = _FORMS["copy"]


def text(first: int, count: int, pad: int = 0) -> bytes:
    """Return `count` rows numbered from `first`, each with `pad` bytes of padding."""
    return b"".join(_row % (n, b"x" * pad) for n in range(first, first + count))


def rows_of(first: int, count: int, pad: int = 0, layout: Layout = LAYOUT) -> Rows:
    """Return such rows with the same numbers in the queue."""
    return Rows(layout, first, count, text(first, count, pad))


def numbers(rows: Rows | None) -> list[int]:
    """Return the numbers in the rows; fails if rows are torn."""
    assert rows
    assert rows.data.endswith(b"\n")
    assert rows.data.count(b"\n") == rows.count
    return [_number(line) for line in rows.data.splitlines()]


def _number(line: bytes) -> int:
    return int(json.loads(line)["n"] if line.startswith(b"{") else line.split(b"\t")[0])
