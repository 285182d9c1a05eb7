# SPDX-License-Identifier: GPL-2.0-or-later
"""Shelf: files that are closed. A thread compresses them and removes the oldest; the receive loop waits for nothing.

What is on the shelf are the files that have a name of the pattern, in the pattern's directory, and are ours or root's.
So what an earlier run left is found, too, and nobody who may write there can make us remove ours by files that look
newer. A file that somebody has locked is in use, by us or by another daemon, and stays as it is.

A compressed file gets its name when it is whole and on the disk; the file that it was made of is removed after that. So
a kill leaves the one, or the other, or both, and a part whose name ends in `.part`, which the next run removes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from nflowlevel.binding.privileges import Worker
from nflowlevel.delivery.filename import COMPRESSED, FileNames
from nflowlevel.logs import Limited, log

Compression = Literal["none", "gzip", "zstd"]

_SUFFIX = {"gzip": ".gz", "zstd": ".zst"}
_PART = ".part"
_PIECE_BYTES = 1 << 20
#: A file that was closed just now may still be held by the thread that syncs it: it is asked for again, so many times.
_AGAIN_SECS, _AGAIN_TIMES = 1.0, 30
#: The thread must not take the processor from the receive loop.
_NICE = 10
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Compressor(Protocol):
    """As those of zlib and zstandard are."""

    def compress(self, data: bytes, /) -> bytes:
        """Take some bytes; return what is ready."""

    def flush(self) -> bytes:
        """Return the rest."""


class _Stopped(Exception):
    """There is no time to finish."""


class Shelf:
    """The closed files of one pattern; the thread starts when it is first needed."""

    def __init__(self, names: FileNames, *, compression: Compression, keep_files: int, limited: Limited) -> None:
        """`keep_files`: how many closed files stay, 0: all."""
        self._names, self._compression, self._keep, self._limited = names, compression, keep_files, limited
        self._changed = threading.Condition()
        self._in_use: frozenset[str] = frozenset()
        self._wanted = self._stop = False
        self._is_done = True
        self._thread: threading.Thread | None = None

    def look(self, *in_use: str) -> None:
        """Have the thread look what is to be done soon, with files other than these."""
        with self._changed:
            self._in_use = frozenset(in_use)
            if self._compression == "none" and not self._keep:
                return
            self._wanted = True
            if self._thread is None:
                self._thread = Worker(self._run, f"shelf {self._names.pattern}")
                self._thread.start()
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Stop. A file that is just compressed, and not done in `timeout` seconds, is compressed by the next run."""
        with self._changed:
            self._stop = True
            self._changed.notify()
        if self._thread:
            self._thread.join(max(0.0, timeout))

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        again = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._stop, _AGAIN_SECS if again else None)
                if self._stop:
                    return
                again = _AGAIN_TIMES if self._wanted else again - 1
                self._wanted = False
            with contextlib.suppress(_Stopped):
                if self.tidy():
                    again = 0

    def tidy(self) -> bool:
        """Compress what is not compressed yet, and remove the oldest files beyond those that are kept.

        Return whether nothing was left undone because somebody uses it.
        """
        self._is_done = True
        try:
            self._remove_parts()
            for path in self._closed():
                if self._compression != "none" and not path.endswith(COMPRESSED):
                    self._try(self._compress, path, "compress")
            closed = self._closed()
        except OSError as error:
            self._failed("read", self._names.directory or ".", error)
            return True
        for path in closed[: -self._keep] if self._keep else ():
            self._try(self._remove, path, "remove")
        return self._is_done

    def _try(self, action: Callable[[str], None], path: str, what: str) -> None:
        try:
            action(path)
        except BlockingIOError:
            self._is_done = False
        except OSError as error:
            self._failed(what, path, error)

    def _failed(self, what: str, path: str, error: OSError) -> None:
        remedy = "free space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "look at its owner and mode"
        self._limited(logging.ERROR, what, f"{what} {path}: {error.strerror} — {remedy}; it is tried again later")

    def _closed(self) -> list[str]:
        """Return the closed files, the oldest first; OSError."""
        found = []
        for path in self._names.existing():
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                is_ours = stat.S_ISREG(status.st_mode) and status.st_uid in (0, os.geteuid())
                if is_ours and path not in self._in_use:
                    found.append((status.st_mtime_ns, path))
        return [path for _, path in sorted(found)]

    def _remove_parts(self) -> None:
        """Remove what a killed run has not finished."""
        directory = self._names.directory
        known = {path + suffix + _PART for path in self._names.existing() for suffix in _SUFFIX.values()}
        for name in os.listdir(directory or "."):
            path = os.path.join(directory, name)
            if path in known:
                self._try(self._remove, path, "remove")

    def _remove(self, path: str) -> None:
        with _locked(path):
            os.unlink(path)

    def _compress(self, path: str) -> None:
        with _locked(path) as source:
            target = path + _SUFFIX[self._compression]
            status = os.fstat(source)
            out = os.open(target + _PART, _WRITE, stat.S_IMODE(status.st_mode) & 0o666)
            try:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._copy(source, out)
                with contextlib.suppress(OSError):  # only root may give it away
                    os.fchown(out, status.st_uid, status.st_gid)
                os.utime(out, ns=(status.st_atime_ns, status.st_mtime_ns))
                os.fsync(out)
                os.rename(target + _PART, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(target + _PART)
                raise
            finally:
                os.close(out)
            _sync_directory(self._names.directory)
            if os.path.samestat(os.lstat(path), status):
                os.unlink(path)
            log.info("compressed %s: %d bytes are %d", path, status.st_size, os.path.getsize(target))

    def _copy(self, source: int, out: int) -> None:
        compressor = _compressor(self._compression)
        while piece := os.read(source, _PIECE_BYTES):
            if self._stop:
                raise _Stopped
            _write(out, compressor.compress(piece))
        _write(out, compressor.flush())


def _compressor(compression: Compression) -> _Compressor:
    if compression == "gzip":
        return zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    import zstandard  # only where it is wanted

    made: Any = zstandard.ZstdCompressor().compressobj()
    compressor: _Compressor = made
    return compressor


def _write(out: int, data: bytes) -> None:
    while data:
        data = data[os.write(out, data) :]


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    """Open a regular file that nobody writes; BlockingIOError where somebody does, OSError."""
    fd = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


def _sync_directory(path: str) -> None:
    with contextlib.suppress(OSError):  # not all file systems can
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
