# SPDX-License-Identifier: GPL-2.0-or-later
"""LogSource: a closed file of JSON lines, which may be compressed, read whole lines at a time.

Closed means that nobody writes to it any more. Our own outputs hold a shared lock while a file is open, so we ask for
the exclusive one and keep it. Other writers know no lock: for them, no process may have the file open for writing, and
it must not have changed for some minutes.

Where we are root, nothing is read that somebody else may have put in the place of a log: no symbolic link, no file with
several names, none that belongs to another user.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any, Final

import msgspec

from nflowlevel.binding.durable import sync_directory
from nflowlevel.binding.rootpath import open_own, open_plain, place_of
from nflowlevel.errors import NflowError
from nflowlevel.readers.compressed import zstandard_for

#: What a compressed file begins with.
_GZIP, _ZSTD, _XZ, _BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh"
#: A source is known by this many of its first bytes: they hold the times of tens of records.
HEAD_BYTES = 64 << 10
_PIECE_BYTES = 1 << 20
#: So little at a time, as four bytes can become 128 KiB.
_ZSTD_BYTES = 512
#: Atomic groups: the time of a long line of others would grow with the cube of its length.
_MARKED = re.compile(rb"(?>.*? OUT=)(?>.*? SRC=).* MARK=(?:0x)?[0-9a-fA-F]+ \r?\Z", re.DOTALL)
_CUT = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


class NotClosed(NflowError):
    """Somebody may still write to the file: it is left for another time."""


class Changed(NflowError):
    """The file changed while it was read: nothing of what was read counts."""


class LogSource:
    """An open file, locked against writers of ours. OSError: it cannot be opened, or is refused; NotClosed.

    `owners` are the users whose files are taken where we are root. `min_age` is for how many seconds the file must not
    have changed; `is_ours` says that its writer is known to lock, so that its age does not matter. With
    `only_whole`, what stands behind the last newline is none of its lines: it may be half of one. Of a compressed file,
    to which nobody adds a line, it is one if it is proved to be whole (`is_whole`).
    """

    def __init__(
        self,
        path: str,
        *,
        owners: Collection[int] = (0,),
        min_age: float = 600.0,
        is_ours: bool = False,
        only_whole: bool = False,
    ) -> None:
        self.path: Final = os.path.abspath(path)
        self._head: bytes | None = None
        self._padding = 0
        self._only_whole = only_whole
        #: Whether something that was read stands behind the last newline, and is left out.
        self.is_growing = False
        self.fd = (
            open_own(self.path, os.O_RDONLY, 0, owners) if os.geteuid() == 0 else open_plain(self.path, os.O_RDONLY)
        )
        try:
            status = self._status = os.fstat(self.fd)
            if not os.path.samestat(status, os.lstat(self.path)):
                raise OSError(errno.ELOOP, "it is a symbolic link; name the file itself", self.path)
            self._check_closed(0.0 if is_ours else min_age)
            magic = os.pread(self.fd, 8, 0)
            self.device, self.inode, self.mode = status.st_dev, status.st_ino, stat.S_IMODE(status.st_mode)
            self.group: Final = status.st_gid
            self._open = _opener(magic)
        except BaseException:
            os.close(self.fd)
            raise

    def __enter__(self) -> LogSource:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)

    @property
    def is_compressed(self) -> bool:
        """Whether its size says nothing about that of the lines."""
        return self._open is not _plain

    @property
    def size(self) -> int:
        """Bytes of the file, as it was when it was opened."""
        return self._status.st_size

    @property
    def changed(self) -> float:
        """When it was last written to, in seconds since 1970."""
        return self._status.st_mtime

    @property
    def head(self) -> bytes:
        """The first `HEAD_BYTES` of the lines, or all of them, behind the padding."""
        if self._head is None:
            with self._reading() as file:
                head = b""
                while not head and (piece := file.read(_PIECE_BYTES)):
                    head = piece.lstrip(b"\0") if self._only_whole else piece
                    self._padding += len(piece) - len(head)
                head += _read(file, HEAD_BYTES + 1 - len(head))
            if self._only_whole and len(head) <= HEAD_BYTES:
                whole = head if self._has_end(head) else head[: head.rfind(b"\n") + 1]
                self.is_growing = len(whole) < len(head)
                head = whole
            self._head = head[:HEAD_BYTES]
        return self._head

    @property
    def padding(self) -> int:
        """How many bytes of zero it begins with: where a log was emptied, its writer may go on at its old place."""
        return self._padding if self.head else 0

    def count(self) -> int:
        """Return how many bytes of lines there are; reads all of it where the file is compressed."""
        if not self.is_compressed:
            return self.size
        total = 0
        with self._reading() as file:
            while piece := file.read(_PIECE_BYTES):
                total += len(piece)
        return total

    def blocks(self, start: int, block_bytes: int) -> Iterator[memoryview]:
        """Yield the lines from byte `start` on, in blocks that end with a newline; only the last may lack it.

        A block is good until the next is asked for. A line that is longer than a block comes as several blocks.
        NflowError: the compressed data is cut or damaged.
        """
        total = None if self.is_compressed else self.size - start
        if total is not None:
            block_bytes = max(1, min(block_bytes, total + 1))  # a whole file is no line that is longer than a block
        # One buffer for all: fresh memory costs as much as reading.
        buffer = bytearray(block_bytes)
        view = memoryview(buffer)
        with self._reading() as file:
            _skip(file, start, is_compressed=self.is_compressed)
            held = 0
            while True:
                wanted = block_bytes - held if total is None else min(block_bytes - held, total)
                size = _fill(file, view[held : held + wanted])
                total = None if total is None else total - size
                held += size
                if not size:
                    break
                end = buffer.rfind(b"\n", held - size, held) + 1
                if not end and held == block_bytes:
                    end = held
                if end:
                    yield view[:end]
                    buffer[: held - end] = view[end:held]
                    held -= end
            if held and (not self._only_whole or self._has_end(view[:held])):
                yield view[:held]
                held = 0
            self.is_growing = held > 0

    def _has_end(self, lines: bytes | memoryview) -> bool:
        """Tell whether the last of the file's lines is whole, though no newline may say so."""
        return self.is_compressed and is_whole(bytes(lines).rpartition(b"\n")[2])

    def check(self) -> None:
        """Raise Changed if the file is not as it was when it was opened, NotClosed if somebody writes to it."""
        now = os.fstat(self.fd)
        before = self._status
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise Changed("it changed while it was read")
        if holder := writer_of(self.fd):
            raise NotClosed(f"it is open for writing in {holder}")

    def remove(self) -> bool:
        """Remove the file if its path still leads to it and it is as it was; whether that was done. OSError."""
        self.check()
        if os.geteuid() == 0:
            with place_of(self.path) as place:
                return self._remove_at(place.directory, place.name)
        directory = os.open(os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return self._remove_at(directory, os.path.basename(self.path))
        finally:
            os.close(directory)

    def _remove_at(self, directory: int, name: str) -> bool:
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not os.path.samestat(found, self._status):
            return False
        os.unlink(name, dir_fd=directory)
        with contextlib.suppress(OSError):  # a directory that we may change but not read
            sync_directory(".", directory)
        return True

    def _check_closed(self, min_age: float) -> None:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotClosed("it is locked: an output still has it open") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF):
                raise
            # A file system without locks: the age has to do.
        if holder := writer_of(self.fd):
            raise NotClosed(f"it is open for writing in {holder}")
        age = time.time() - self._status.st_mtime
        if min_age > 0 and age < min_age:
            raise NotClosed(
                f"it changed {max(0, int(age))} s ago, and its writer may be one that locks nothing: "
                f"wait until it has not changed for {min_age:g} s (--min-age)"
            )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[IO[bytes]]:
        # A descriptor of its own would have the same position.
        with open(self.fd, "rb", buffering=0, closefd=False) as raw:
            raw.seek(0)
            try:
                with self._open(raw) as file:
                    yield file
            except _CUT as error:
                raise NflowError(f"the compressed data is cut or damaged ({error})") from None


def identity(dvc: str, head: bytes) -> str:
    """Return what names a source: a hash of the first bytes of its lines, and of the firewall it is said to be of."""
    return hashlib.sha256(dvc.encode("utf-8", "replace") + b"\0" + head).hexdigest()[:20]


def is_whole(line: bytes) -> bool:
    """Tell whether a line without a newline is proved to be no beginning of a longer one.

    No beginning of an object of JSON is one. A mark is the last that the kernel and LOGEMU write of a packet, and a
    blank follows it. Of other lines nobody can tell.
    """
    if _MARKED.match(line):
        return True
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (ValueError, RecursionError):
        return False


def writer_of(fd: int) -> str:
    """Return the other process that has a file open for writing, as `process 7`; empty: none that we may see."""
    wanted = os.fstat(fd)
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in descriptors:
            with contextlib.suppress(OSError, ValueError, IndexError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted) and _writes(pid, number):
                    return f"process {pid}"
    return ""


def _writes(pid: str, number: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{number}") as file:
        flags = next(line.split()[1] for line in file if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def _skip(file: IO[bytes], count: int, *, is_compressed: bool) -> None:
    if not is_compressed:
        file.seek(count)
        return
    while count and (piece := file.read(min(count, _PIECE_BYTES))):
        count -= len(piece)


def _fill(file: Any, view: memoryview) -> int:
    """Fill a view, and return how much there was: less only at the end."""
    done = 0
    while done < len(view) and (size := file.readinto(view[done:])):
        done += size
    return done


def _read(file: IO[bytes], size: int) -> bytes:
    """Read so many bytes; fewer only at the end."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, _PIECE_BYTES))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def _plain(raw: IO[bytes]) -> Iterator[IO[bytes]]:
    yield raw


def _opener(magic: bytes) -> Any:
    """Return what opens a file that begins like this."""
    if magic.startswith(_GZIP):
        return lambda raw: gzip.GzipFile(fileobj=raw, mode="rb")
    if magic.startswith(_ZSTD):
        return _zstd
    if magic.startswith(_XZ):
        return lambda raw: io.BufferedReader(_Streams(raw, lzma.LZMADecompressor))
    if magic.startswith(_BZIP2):
        return lambda raw: io.BufferedReader(_Streams(raw, bz2.BZ2Decompressor))
    return _plain


class _Streams(io.RawIOBase):
    """Streams of xz or bzip2, one behind the other.

    Python's own file objects take a damaged stream behind the first one for the end: what it holds would be lost.
    """

    def __init__(self, raw: IO[bytes], begin: Callable[[], Any]) -> None:
        self._raw, self._begin = raw, begin
        self._stream: Any = None
        self._input = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        output = b""
        while not output:
            if not self._input and (self._stream is None or self._stream.needs_input):
                self._input = self._raw.read(_PIECE_BYTES)
                if not self._input:
                    if self._stream is None:
                        return 0
                    raise EOFError("it ends too early")
            if self._stream is None:
                self._input = self._input.lstrip(b"\0")  # they may fill up the last block of a medium
                if not self._input:
                    continue
                self._stream = self._begin()
            try:
                output, self._input = self._stream.decompress(self._input, len(buffer)), b""
            except (OSError, lzma.LZMAError) as error:
                raise EOFError(str(error)) from None
            if self._stream.eof:
                self._input, self._stream = self._stream.unused_data, None
        buffer[: len(output)] = output
        return len(output)


@contextlib.contextmanager
def _zstd(raw: IO[bytes]) -> Iterator[IO[bytes]]:
    zstandard = zstandard_for("reading a log compressed by zstd")
    try:
        yield io.BufferedReader(_Frames(raw, zstandard.ZstdDecompressor().decompressobj))
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None


class _Frames(io.RawIOBase):
    """Frames of zstd; EOFError where the last one is cut, of which the library's own file object says nothing."""

    def __init__(self, raw: IO[bytes], begin: Callable[[], Any]) -> None:
        self._raw, self._begin = raw, begin
        self._frame: Any = None
        self._input = self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._raw.read(_ZSTD_BYTES)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("it ends too early")
                return 0
            self._frame = self._frame or self._begin()
            self._output, self._input = self._frame.decompress(self._input), b""
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        size = min(len(self._output), len(buffer))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size
