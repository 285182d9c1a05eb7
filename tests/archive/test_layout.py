# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths of the archive: what was written into one is read from it, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.archive.layout import Stored, damaged_path, escaped, path_of, stored, unescaped

FIRST = 1_795_460_084  # 2026-11-23T18:54:44Z


def test_a_path_says_what_is_in_it() -> None:
    path = path_of("packets", "fw/1", FIRST, FIRST + 60, "0f3c", 0, 7)
    assert path == "kind=packets/dvc=fw%2F1/day=2026-11-23/185444-185544-0f3c-0-7.parquet"
    assert stored("a/b/" + path) == Stored("a/b/" + path, "packets", "fw/1", FIRST, FIRST + 60, "0f3c", 0)
    assert Stored("", "packets", "", FIRST, FIRST, "", 0).day == 20780


@pytest.mark.parametrize(
    "path",
    [
        "kind=packets/dvc=fw/day=2026-11-23/185444-185544-0f3c-0-7.parquet.tmp",
        "kind=packets/dvc=fw/day=2026-11-23/x.parquet",
        "kind=packets/dvc=fw/day=2026-13-23/185444-185544-0f3c-0-7.parquet",
        "kind=other/dvc=fw/day=2026-11-23/185444-185544-0f3c-0-7.parquet",
        "dvc=fw/day=2026-11-23/185444-185544-0f3c-0-7.parquet",
    ],
)
def test_what_is_no_file_of_the_archive(path: str) -> None:
    assert stored(path) is None


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_firewall_s_name_is_one_part_of_a_path(name: str) -> None:
    part = escaped(name)
    assert "/" not in part
    assert part not in ("", ".", "..")
    assert part.isascii()
    assert part.isprintable()
    assert unescaped(part) == name


def test_a_long_name_is_cut_between_characters() -> None:
    one, other = escaped("x" * 500 + "1"), escaped("x" * 500 + "2")
    assert one != other
    assert max(len(one), len(escaped("ü" * 500))) <= 200
    assert unescaped(escaped("a" + "ü" * 500)).isprintable()


def test_damaged_lines_have_a_harmless_name() -> None:
    assert damaged_path("../\n\udcff.json.1", "0f3c", 5) == "damaged/___.json.1-0f3c-5.damaged"
