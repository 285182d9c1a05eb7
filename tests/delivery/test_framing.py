# SPDX-License-Identifier: GPL-2.0-or-later
"""Data is cut only where a record ends, wherever the cut is asked for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.delivery.framing import LINES, Blocks, Frames, Framing, Lines

#: Records by framing: of `Lines(2)` each is two lines.
RECORDS = [b"a\nbb\n", b"\n\n", b"cccc\nd\n", b"e\n\n"]


def frame(size: int) -> bytes:
    return size.to_bytes(4, "big") + b"\n" * size


def boundaries(pieces: list[bytes]) -> list[int]:
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    return ends


#: Of `Blocks(b"==")` each begins with a line of its own; one has nothing else.
BLOCKS = [b"==>\na\nbb\n", b"==>\n", b"==>\n", b"==>\n\n=\n", b"==\nc==\n"]

FRAMES = [frame(3), frame(0), frame(300), frame(10)]


@pytest.mark.parametrize(
    ("framing", "pieces", "each"), [(Lines(2), RECORDS, 1), (Blocks(b"=="), BLOCKS, 1), (Frames(5), FRAMES, 5)]
)
def test_every_position(framing: Framing, pieces: list[bytes], each: int) -> None:
    data, ends = bytearray(b"".join(pieces)), boundaries(pieces)
    for position in range(len(data) + 1):
        whole = [end for end in ends if end <= position]
        assert framing.before(data, position) == (each * (len(whole) - 1), whole[-1])
        assert framing.after(data, position) == min(end for end in ends if end >= position)
    assert framing.after(data, len(data) + 1) == len(data)
    for start, end in itertools.pairwise(ends):
        assert framing.datagram(data, start) == end


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 200))
def test_single_lines(lengths: list[int], position: int) -> None:
    lines = [b"x" * length + b"\n" for length in lengths]
    data, ends = bytearray(b"".join(lines)), boundaries(lines)
    whole = [end for end in ends if end <= position]
    assert LINES.before(data, position) == (len(whole) - 1, whole[-1])
    assert LINES.after(data, position) == next((end for end in ends if end >= position), len(data))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 100))
def test_datagrams_are_filled_with_whole_records(lengths: list[int], room: int) -> None:
    framing = Lines(2, room)
    records = [b"x" * length + b"\n\n" for length in lengths]
    data, ends = bytearray(b"".join(records)), boundaries(records)
    at = 0
    while at < len(data):
        end = framing.datagram(data, at)
        assert end in ends
        following = next((other for other in ends if other > end), end)
        assert end - at <= room or ends.index(end) == ends.index(at) + 1
        assert end == len(data) or following - at > room  # the next one would not have fitted
        at = end


def test_frames_are_not_joined() -> None:
    assert (Lines().joins, Frames(1).joins) == (True, False)


def test_torn_data_ends_the_search() -> None:
    data = bytearray(frame(3) + frame(300)[:50])
    assert Frames(5).before(data, len(data)) == (5, 7)
    assert Frames(5).after(data, 8) == len(data)
    assert Lines(2).after(bytearray(b"a\nb"), 3) == 3
    assert LINES.datagram(bytearray(b"no end"), 0) == 6
