# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a file of lines in pieces that are whole lines, compressed or not, also while somebody writes it.

Only what ends in a newline is a line: the rest may be the half of one, and comes with the next reading of the file. Of
a compressed file, to which nobody adds, it is a line if it is proved to be whole. Of a file that grows, what was there
when it was opened is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from nflowlevel.archive.source import is_whole
from nflowlevel.binding.rootpath import open_to_read
from nflowlevel.readers.compressed import HEAD_BYTES, Cut, decompressing, is_compressed

#: What is read at once.
PIECE_BYTES = 1 << 20
#: Whole lines are given in pieces of about this size.
CHUNK_BYTES = 16 << 20
#: A longer line is none of a logger's. It is damaged, and not kept in memory.
MOST_LINE_BYTES = 1 << 20


def opened(path: str | Path) -> FileIO:
    """Open a file to read it; OSError. Where we are root, others lead to no file that is not theirs (rootpath.py)."""
    return FileIO(path, opener=lambda name, _: open_to_read(os.fsdecode(name))[0])


class WholeLines:
    """The lines of one file. `chunks` may be called once; what is said of the rest holds after it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = opened(path)
        status = os.fstat(self._file.fileno())
        #: When it was last written to, in seconds since 1970.
        self.changed = status.st_mtime
        #: Bytes of the file, as they lie there; None: nobody knows, as of a pipe.
        self.size: int | None = status.st_size if stat.S_ISREG(status.st_mode) else None
        #: Bytes of it that were read.
        self.position = 0
        #: What stands behind the last newline.
        self.rest = b""
        #: Why the file could not be read to its end; empty: it was.
        self.fault = ""
        self._is_compressed = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> WholeLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, view: memoryview) -> int:
        """Fill a view from the file, but not with what was written to it later."""
        if self.size is not None:
            view = view[: max(0, self.size - self.position)]
        got = self._file.readinto(view) or 0
        self.position += got
        return got

    def _pieces(self) -> Iterator[bytes]:
        """Yield the file's data; `fault` says what ended it too early."""
        head = bytearray(HEAD_BYTES)
        view, filled = memoryview(head), 0
        while filled < HEAD_BYTES and (got := self._read(view[filled:])):
            filled += got
        begin = bytes(head[:filled])
        read: Callable[[memoryview], int] = self._read
        self._is_compressed = is_compressed(begin)
        if self._is_compressed:
            read = decompressing(begin, self._read)
        elif begin:
            yield begin
        piece = memoryview(bytearray(PIECE_BYTES))
        while True:
            try:
                got = read(piece)
            except Cut as cut:
                self.fault = str(cut)
                return
            if not got:
                return
            yield bytes(piece[:got])

    def begin(self, most: int = 1 << 16) -> bytes:
        """Return what the file begins with, decompressed; nothing else may be read of it then."""
        got = b""
        for piece in self._pieces():
            got += piece
            if len(got) >= most:
                break
        return got[:most]

    def chunks(self, behind: int = 0) -> Iterator[bytes]:
        """Yield the whole lines, in pieces that each end in a newline; not those of the first `behind` bytes.

        A line that is too long comes as its first bytes and a newline: it is no JSON then, and counts as one line.
        """
        held: list[bytes] = []
        size = 0
        for piece in self._pieces():
            if behind:
                skipped = min(behind, len(piece))
                piece, behind = piece[skipped:], behind - skipped
            held.append(piece)
            size += len(piece)
            if size < CHUNK_BYTES:
                continue
            whole, _, rest = b"".join(held).rpartition(b"\n")
            if whole:
                yield _shortened(whole) + b"\n"
            elif len(rest) > CHUNK_BYTES:
                # A line without an end: of what follows, only the newline counts.
                rest = rest[:MOST_LINE_BYTES] + rest[-1:]
            held, size = [rest], len(rest)
        whole, newline, self.rest = b"".join(held).rpartition(b"\n")
        if newline:
            yield _shortened(whole) + b"\n"
        if self._is_compressed and not self.fault and is_whole(self.rest):
            last, self.rest = self.rest, b""
            yield _shortened(last) + b"\n"


def _shortened(lines: bytes) -> bytes:
    """Return lines, of those that are too long only the beginning."""
    parts = lines.split(b"\n")
    if max(map(len, parts)) <= MOST_LINE_BYTES:
        return lines
    return b"\n".join(part if len(part) <= MOST_LINE_BYTES else part[: MOST_LINE_BYTES - 1] + b"\x02" for part in parts)
