# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed data: of one member or several, cut at each byte, damaged."""

from __future__ import annotations

import gzip
import io
import random

import pytest

from nflowlevel.readers.compressed import HEAD_BYTES, Cut, decompressing, is_compressed

TEXT = b"".join(b"line %d\n" % number for number in range(200))
MADE = gzip.compress(TEXT[:700]) + gzip.compress(TEXT[700:])


def read(data: bytes) -> tuple[bytes, bool]:
    """Return what comes out, and whether it was said to be cut."""
    rest = io.BytesIO(data[HEAD_BYTES:])
    reading = decompressing(data[:HEAD_BYTES], rest.readinto)
    got = b""
    view = memoryview(bytearray(97))
    try:
        while size := reading(view):
            got += view[:size]
    except Cut:
        return got, True
    return got, False


def test_members_follow_one_another() -> None:
    assert read(MADE) == (TEXT, False)


def test_what_comes_before_a_cut_is_given() -> None:
    edge = len(gzip.compress(TEXT[:700]))
    for end in range(HEAD_BYTES, len(MADE)):
        got, cut = read(MADE[:end])
        assert TEXT.startswith(got)
        assert cut == (end != edge), end
        assert len(got) >= 700 or end < edge


def test_damage_is_said() -> None:
    rng = random.Random(1)
    for _ in range(100):
        damaged = bytearray(MADE)
        damaged[rng.randrange(20, len(MADE))] ^= 1 << rng.randrange(8)
        got, cut = read(bytes(damaged))
        # A bit of a header that means nothing may have changed.
        assert cut or got == TEXT


@pytest.mark.parametrize(
    ("head", "known"), [(b"\x1f\x8b\x08", True), (b"(\xb5/\xfd", True), (b'{"a"', False), (b"", False)]
)
def test_the_first_bytes_tell(head: bytes, known: bool) -> None:
    assert is_compressed(head) == known
