# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents: files with a beginning and an end around the lines, a new one at each opening.

As for any file that lines are appended to (`AppendFile`), a full disk or a signal tears no line. The beginning is
written when a document is opened, the end when it is closed. A process that is killed leaves a document without its
end, or with a torn line: `finish` mends that, when the next one starts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import signal
import stat
from collections.abc import Collection

from nflowlevel.binding.rootpath import open_document, place_of, unlink_open
from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.form import LineForm
from nflowlevel.delivery.openfile import STDOUT, OpenFile
from nflowlevel.delivery.target import MAX_PENDING_BYTES
from nflowlevel.logs import Limited, log
from nflowlevel.stats import OutputStats

#: So many documents, the newest, are looked at for one without an end.
_MOST_LOOKED_AT = 16

#: What is between the beginning and the end.
_ELEMENTS = LineForm(b"<")

_LOOK = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Documents(AppendFile):
    """A `LineTarget` that makes documents in a directory, or (directory `-`) one on standard output."""

    def __init__(
        self,
        directory: str,
        prefix: str,
        *,
        head: bytes,
        foot: bytes,
        sync: bool = False,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        retry_secs: float = 1.0,
        stats: OutputStats,
        limited: Limited,
    ) -> None:
        """`prefix` begins the names of the documents; `head` and `foot` are what stands around the lines."""
        super().__init__(
            directory,
            sync=sync,
            max_pending_bytes=max_pending_bytes,
            retry_secs=retry_secs,
            stats=stats,
            limited=limited,
        )
        self._directory, self._prefix, self._head, self._foot = directory, prefix, head, foot
        #: A document whose beginning could not be written: no other is made before that.
        self._begun: OpenFile | None = None

    def open(self) -> None:
        """Complete what an earlier process left, then open a document."""
        if self._directory not in STDOUT:
            finish(self._directory, self._prefix, self._head, self._foot, owners=(os.geteuid(),))
        super().open()

    def close(self, timeout: float) -> None:
        """Write what waits and the end; what is left is dropped and counted."""
        super().close(timeout)
        begun, self._begun = self._begun, None
        if begun:
            with contextlib.suppress(OSError):  # the directory may be root's
                unlink_open(begun.path, begun.fd)
            begun.close()

    def _open(self) -> OpenFile:
        """Open a new document and write its beginning."""
        file, self._begun = self._begun, None
        if not file and self._directory in STDOUT:
            file = super()._open()
        elif not file or file.deleted:
            fd, path = open_document(self._directory, self._prefix)
            file = OpenFile(path, fd=fd)
            self.path = self._name = path
        try:
            _write_whole(file, self._head)
        except OSError:
            self._begun = file
            raise
        return file

    def _release(self) -> None:
        """Write the end of the document, and close it."""
        # Where a part of a line could not be taken back, there is no end to make.
        if self._file and not self._written_of_first:
            try:
                _write_whole(self._file, self._foot)
            except OSError as error:
                self.stats.errors += 1
                later = "" if self._directory in STDOUT else "; it is added when this output starts the next time"
                self._limited(logging.ERROR, "end", f"{self._name}: the end of the document: {error.strerror}{later}")
        super()._release()


def _write_whole(file: OpenFile, data: bytes) -> None:
    """Write all of `data`, or nothing of it and raise OSError."""
    done = file.write(data)
    if done != len(data):
        file.cut(done)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def finish(
    directory: str, prefix: str, head: bytes, foot: bytes, *, owners: Collection[int], only_roots: bool = False
) -> None:
    """Give documents the end that they lack, after the last whole line, where nobody writes them any more.

    They begin with `head`, or a part of it (which may be none), and belong to one of `owners`. With `only_roots`
    nothing is done where others than root can change the directory.
    """
    with contextlib.suppress(OSError), place_of(os.path.join(directory, prefix)) as place:
        if only_roots and not place.is_roots:
            return
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.directory)
        try:
            for name in _newest(fd, prefix):
                with contextlib.suppress(OSError):
                    _finish_one(fd, name, head, foot, owners, os.path.join(directory, name))
        finally:
            os.close(fd)


def _newest(directory: int, prefix: str) -> list[str]:
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with contextlib.suppress(OSError):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    return [name for _, name in sorted(found)[-_MOST_LOOKED_AT:]]


def _finish_one(directory: int, name: str, head: bytes, foot: bytes, owners: Collection[int], path: str) -> None:
    reader = os.open(name, os.O_RDONLY | _LOOK, dir_fd=directory)
    try:
        status = os.fstat(reader)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid not in owners:
            return
        size = status.st_size
        begun = os.pread(reader, len(head), 0)
        is_ours = head.startswith(begun) and os.pread(reader, len(foot), max(0, size - len(foot))) != foot
        if not is_ours or not _nobody_writes(reader):
            return
        keep = _ELEMENTS.whole(reader, size) if begun == head else size
        if keep is None:
            return
        writer = os.open(name, os.O_WRONLY | os.O_APPEND | _LOOK, dir_fd=directory)
        try:
            fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.sameopenfile(reader, writer) or os.fstat(writer).st_size != size:
                return
            if keep != size:
                os.ftruncate(writer, keep)
            os.write(writer, head[len(begun) :] + foot)
        finally:
            os.close(writer)
    finally:
        os.close(reader)
    torn = f"; its torn last {size - keep} bytes were cut off" if keep != size else ""
    log.error("%s had no end (a crash?): it was added%s", path, torn)


def _nobody_writes(reader: int) -> bool:
    """Whether no process has the file open for writing; also not ulogd2, whose documents look the same.

    The kernel tells by granting a lease, fcntl(2); a file system without leases does not tell.
    """
    try:
        # Who opens it for writing right now sends this signal, which is ignored by default; the usual one kills.
        fcntl.fcntl(reader, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True
