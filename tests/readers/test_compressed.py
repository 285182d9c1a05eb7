# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed data: of one member or several, cut at each byte, damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tracemalloc
from collections.abc import Callable

import pytest

from nflowlevel.readers.compressed import HEAD_BYTES, Cut, decompressing, is_compressed

TEXT = b"".join(b"line %d\n" % number for number in range(200))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}


@pytest.fixture(params=COMPRESS)
def compress(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    found: Callable[[bytes], bytes] = COMPRESS[request.param]
    return found


@pytest.fixture
def made(compress: Callable[[bytes], bytes]) -> bytes:
    """Two members."""
    return compress(TEXT[:700]) + compress(TEXT[700:])


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


def test_members_follow_one_another(made: bytes) -> None:
    assert read(made) == (TEXT, False)
    assert read(made + bytes(512)) == (TEXT, False)


def test_what_comes_before_a_cut_is_given(made: bytes, compress: Callable[[bytes], bytes]) -> None:
    edge = len(compress(TEXT[:700]))
    for end in range(HEAD_BYTES, len(made)):
        got, cut = read(made[:end])
        assert TEXT.startswith(got)
        assert cut == (end != edge), end
        assert len(got) >= 700 or end < edge


def test_damage_is_said(made: bytes) -> None:
    rng = random.Random(1)
    for _ in range(100):
        damaged = bytearray(made)
        damaged[rng.randrange(20, len(made))] ^= 1 << rng.randrange(8)
        got, cut = read(bytes(damaged))
        # A bit of a header that means nothing may have changed.
        assert cut or got == TEXT


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (b"\x1f\x8b\x08", True),
        (b"(\xb5/\xfd", True),
        (lzma.compress(b"")[:HEAD_BYTES], True),
        (bz2.compress(b"")[:HEAD_BYTES], True),
        (b'{"a"', False),
        (b"", False),
    ],
)
def test_the_first_bytes_tell(head: bytes, known: bool) -> None:
    assert is_compressed(head) == known


def test_much_in_little_takes_little_memory(compress: Callable[[bytes], bytes]) -> None:
    """What does not fit waits compressed: nothing is read ahead of it."""
    data = compress(bytes(50_000_000)) + compress(b"end")
    source = io.BytesIO(data[HEAD_BYTES:])
    reading = decompressing(data[:HEAD_BYTES], source.readinto)
    view, total, last = memoryview(bytearray(1 << 20)), 0, b""
    tracemalloc.start()
    try:
        while size := reading(view):
            total, last = total + size, bytes(view[max(0, size - 3) : size])
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (total, last) == (50_000_003, b"end")
    # The dictionary of xz has 8 MiB.
    assert most < 16_000_000


def test_xz_that_wants_all_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 512 << 20}]
    got, cut = read(lzma.compress(TEXT[:10], filters=filters))
    assert (got, cut) == (b"", True)
