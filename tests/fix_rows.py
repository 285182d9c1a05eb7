# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the way to a database share: rows whose first field is their number."""

from __future__ import annotations

from nflowlevel.spool.rows import Layout, Rows

LAYOUT: Layout = ("n", "oob.prefix", "ip.saddr")


def text(first: int, count: int, pad: int = 0) -> bytes:
    """Return `count` rows of LAYOUT numbered from `first`, each with `pad` bytes of prefix and a null."""
    return b"".join(b"%d\t%s\t\\N\n" % (n, b"x" * pad) for n in range(first, first + count))


def rows_of(first: int, count: int, pad: int = 0, layout: Layout = LAYOUT) -> Rows:
    """Return such rows with the same numbers in the queue."""
    return Rows(layout, first, count, text(first, count, pad))


def numbers(rows: Rows | None) -> list[int]:
    """Return the numbers in the rows' first field; fails if rows are torn."""
    assert rows
    assert rows.data.endswith(b"\n")
    assert rows.data.count(b"\n") == rows.count
    return [int(line.split(b"\t")[0]) for line in rows.data.splitlines()]
