# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are compressed by gzip, zstd, xz or bzip2, read as if they were not; what comes before damage is given."""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

from nflowlevel.errors import NotSupported

#: Fills a view and returns how much; 0 at the end.
ReadInto: TypeAlias = "Callable[[memoryview], int]"

_GZIP_MAGIC, _ZSTD_MAGIC, _XZ_MAGIC, _BZIP2_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zX", b"BZh"
#: So many bytes tell whether data is compressed.
HEAD_BYTES = 4
#: `xz -9` needs 65 MiB; who asks for more wants our memory.
_XZ_MOST_BYTES = 128 << 20


class Cut(Exception):
    """Compressed data ends too early or is damaged."""


def is_compressed(head: bytes) -> bool:
    """Tell by the first bytes of a file whether it is compressed by gzip, zstd, xz or bzip2."""
    return head.startswith((_GZIP_MAGIC, _ZSTD_MAGIC, _XZ_MAGIC, _BZIP2_MAGIC))


def decompressing(head: bytes, rest: ReadInto) -> ReadInto:
    """Return what reads a file's data, given its first bytes and what reads the rest.

    What it returns raises Cut where the data is cut or damaged. NotSupported: no module for zstd is installed.
    """
    joined = _Joined(head, rest)
    if head.startswith(_GZIP_MAGIC):
        return _gzip_reader(joined)
    if head.startswith(_XZ_MAGIC):
        return _xz_reader(joined)
    return _bzip2_reader(joined) if head.startswith(_BZIP2_MAGIC) else _zstd_reader(joined)


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of the source."""

    def __init__(self, head: bytes, rest: ReadInto) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if not self._head:
            return self._rest(view)
        size = min(len(self._head), len(view))
        view[:size], self._head = self._head[:size], self._head[size:]
        return size


class _Compressed:
    """Compressed data, of one member or several.

    Libraries have file objects for this. But where the data is cut, gzip's do not give what came before, and
    zstandard's do not say so.
    """

    def __init__(
        self, source: io.RawIOBase, begin: Callable[[], Any], error: type[Exception], piece_bytes: int
    ) -> None:
        self._source, self._begin, self._error, self._piece_bytes = source, begin, error, piece_bytes
        self._input = self._output = b""
        self._member: Any = None

    def readinto(self, view: memoryview) -> int:
        """Fill a part of the view; 0 at the end; Cut where the data is cut or damaged."""
        ended = False
        while not self._output:
            if ended:
                raise Cut("the compressed data ends too early")
            ended = not self._input and not self._more()
            if ended and self._member is None:
                return 0
            try:
                self._decode(len(view))
            except self._error as error:
                raise Cut(f"the compressed data is damaged ({error})") from None
        size = min(len(self._output), len(view))
        view[:size], self._output = self._output[:size], self._output[size:]
        return size

    def _more(self) -> bytes:
        self._input = self._source.read(self._piece_bytes) or b""
        if self._member is None:
            # Zeros may fill up a medium's last block.
            self._input = self._input.lstrip(b"\0")
        return self._input

    def _decode(self, size: int) -> None:
        self._member = self._member or self._begin()
        self._output = self._member.decompress(self._input, size)
        self._input = self._member.unconsumed_tail
        if self._member.eof:
            self._input = self._member.unused_data.lstrip(b"\0")
            self._member = None


class _ZstdMember:
    """A frame of zstd as zlib's objects are; the library knows no limit for what comes out."""

    unconsumed_tail = b""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.eof, self.unused_data = False, b""

    def decompress(self, data: bytes, _size: int) -> bytes:
        made: bytes = self._frame.decompress(data)
        self.eof, self.unused_data = self._frame.eof, self._frame.unused_data
        return made


class _StreamMember:
    """A stream of xz or bzip2 as zlib's objects are. What it has no room for, it holds, and gets no more till then."""

    def __init__(self, stream: lzma.LZMADecompressor | bz2.BZ2Decompressor) -> None:
        self._stream = stream
        self.unconsumed_tail = b""

    def decompress(self, data: bytes, size: int) -> bytes:
        wanted = self._stream.needs_input
        self.unconsumed_tail = b"" if wanted else data
        return self._stream.decompress(data if wanted else b"", size)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data + self.unconsumed_tail


def _xz_reader(source: io.RawIOBase) -> ReadInto:
    def begin() -> _StreamMember:
        return _StreamMember(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MOST_BYTES))

    return _Compressed(source, begin, lzma.LZMAError, 64 << 10).readinto


def _bzip2_reader(source: io.RawIOBase) -> ReadInto:
    return _Compressed(source, lambda: _StreamMember(bz2.BZ2Decompressor()), OSError, 64 << 10).readinto


def _gzip_reader(source: io.RawIOBase) -> ReadInto:
    return _Compressed(source, lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error, 64 << 10).readinto


def zstandard_for(what: str, instead: str = "") -> Any:
    """Return the module zstandard; NotSupported where there is none, with what else can be done."""
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        needed = f"python3-zstandard of the distribution or pip install zstandard{instead}"
        raise NotSupported(what, found="no Python module zstandard", needed=needed) from None


def _zstd_reader(source: io.RawIOBase) -> ReadInto:
    """Return how to read data compressed by zstd; NotSupported where no module for it is installed."""
    zstandard = zstandard_for("reading a file compressed by zstd", "; or pipe it: zstd -dc FILE | … -")
    decompressor = zstandard.ZstdDecompressor()
    # So little at a time, as four bytes can become 128 KiB.
    return _Compressed(source, lambda: _ZstdMember(decompressor.decompressobj()), zstandard.ZstdError, 512).readinto
