# SPDX-License-Identifier: GPL-2.0-or-later
"""Shelf: files that are closed. A thread compresses them and removes the oldest; the receive loop waits for nothing.

What is on the shelf are the files that have a name of the pattern, in the pattern's directory, and are ours or root's.
So what an earlier run left is found, too, and nobody who may write there can make us remove ours by files that look
newer. A file that somebody has locked is in use, by us or by another daemon, and stays as it is. The directory is held
open while it is tidied: nobody leads us elsewhere by a link.

A compressed file gets its name when it is whole and on the disk; the file that it was made of is removed after that. So
a kill leaves the one, or the other, or both, and a part whose name ends in `.part`, which the next run removes. What
others have put at one of these names gets another one, which ends in `.aside`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import stat
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from nflowlevel.binding.durable import sync_directory
from nflowlevel.binding.privileges import Worker
from nflowlevel.binding.rootpath import directory_of
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
        #: The directory, while it is tidied.
        self._directory = -1
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
            with directory_of(self._names.directory) as self._directory:
                self._tidy()
        except OSError as error:
            self._failed("read", self._names.directory or ".", error)
            return True
        return self._is_done

    def _tidy(self) -> None:
        self._remove_parts()
        for name in self._closed():
            if self._compression != "none" and not name.endswith(COMPRESSED):
                self._try(self._compress, name, "compress")
        for name in self._closed()[: -self._keep] if self._keep else ():
            self._try(self._remove, name, "remove")

    def _try(self, action: Callable[[str], None], name: str, what: str) -> None:
        try:
            action(name)
        except BlockingIOError:
            self._is_done = False
        except OSError as error:
            self._failed(what, self._path(name), error)

    def _path(self, name: str) -> str:
        return os.path.join(self._names.directory, name)

    def _status(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._directory, follow_symlinks=False)

    def _failed(self, what: str, path: str, error: OSError) -> None:
        remedy = "free space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "look at its owner and mode"
        self._limited(logging.ERROR, what, f"{what} {path}: {error.strerror} — {remedy}; it is tried again later")

    def _closed(self) -> list[str]:
        """Return the closed files, the oldest first; OSError."""
        found = []
        for name in self._names.existing(self._directory):
            with contextlib.suppress(FileNotFoundError):
                status = self._status(name)
                if _is_ours(status) and self._path(name) not in self._in_use:
                    found.append((status.st_mtime_ns, name))
        return [name for _, name in sorted(found)]

    def _remove_parts(self) -> None:
        """Remove what a killed run has not finished."""
        for name in self._names.existing(self._directory):
            for part in (name + suffix + _PART for suffix in _SUFFIX.values()):
                with contextlib.suppress(FileNotFoundError):
                    if _is_ours(self._status(part)):
                        self._try(self._remove, part, "remove")

    def _remove(self, name: str) -> None:
        with self._locked(name):
            os.unlink(name, dir_fd=self._directory)

    def _make_room(self, name: str) -> None:
        """Give what has this name another one, unless it is a file of ours."""
        with contextlib.suppress(FileNotFoundError):
            if _is_ours(self._status(name)):
                return
            aside = next(free for free in _names_aside(name) if not self._is_there(free))
            os.rename(name, aside, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            log.error("%s is in the way, and no file of ours: it is %s now", self._path(name), aside)

    def _is_there(self, name: str) -> bool:
        try:
            self._status(name)
        except FileNotFoundError:
            return False
        return True

    def _compress(self, name: str) -> None:
        with self._locked(name) as source:
            target = name + _SUFFIX[self._compression]
            status = os.fstat(source)
            for taken in (target, target + _PART):
                self._make_room(taken)
            mode = stat.S_IMODE(status.st_mode) & 0o666
            out = os.open(target + _PART, _WRITE, mode, dir_fd=self._directory)
            try:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._copy(source, out)
                with contextlib.suppress(OSError):  # only root may give it away
                    os.fchown(out, status.st_uid, status.st_gid)
                os.utime(out, ns=(status.st_atime_ns, status.st_mtime_ns))
                os.fsync(out)
                os.rename(target + _PART, target, src_dir_fd=self._directory, dst_dir_fd=self._directory)
                size = os.fstat(out).st_size
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(target + _PART, dir_fd=self._directory)
                raise
            finally:
                os.close(out)
            with contextlib.suppress(OSError):  # not all file systems can
                sync_directory(".", self._directory)
            if os.path.samestat(self._status(name), status):
                os.unlink(name, dir_fd=self._directory)
            log.info("compressed %s: %d bytes are %d", self._path(name), status.st_size, size)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[int]:
        """Open a regular file that nobody writes; BlockingIOError where somebody does, OSError."""
        fd = os.open(name, _READ, dir_fd=self._directory)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file", name)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield fd
        finally:
            os.close(fd)

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


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid in (0, os.geteuid())


def _names_aside(name: str) -> Iterator[str]:
    yield f"{name}.aside"
    yield from (f"{name}.aside.{number}" for number in itertools.count(1))
