# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenFile: a descriptor to which records are appended, and what can be asked of a regular file, a FIFO, a terminal.

A regular file is looked at when it is opened: its `Form` says where the last whole record ends. What follows was torn
when a writer was killed, and is removed. What the form does not know belongs to somebody else: it is kept, and closed
by a newline. To see whether it may do that, an opener asks for flock's exclusive lock; whoever writes holds the shared
one.

Whoever may read a file may lock it by flock. So the one writer of a file that can have only one is known by a lock that
readers cannot have: fcntl's write lock, of the open file.

Some forms refuse files of another kind, and have something that stands before the records. That is written by
`introduce`, under the exclusive lock while the file is empty.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import struct
from typing import TYPE_CHECKING

from nflowlevel.binding.rootpath import open_to_append
from nflowlevel.delivery.form import ANY_LINES, Form
from nflowlevel.logs import log

if TYPE_CHECKING:
    from typing_extensions import Buffer


STDOUT = ("-", "/dev/stdout")

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_ANOTHER_WRITER = "another program or another section writes it; name a file of its own for each"
#: `struct flock`: type, whence, start, length (0: to the end), process.
_FLOCK = struct.Struct("@hhqqi4x")

#: What poll(2) promises that a pipe takes without blocking.
_PIPE_BUF = 4096
#: The most a FIFO may buffer without privileges; the default of 64 KiB is less than one batch.
_PIPE_BYTES = 1 << 20


class SameFile(Exception):
    """The path leads to the file that is open already."""


class OpenFile:
    """A descriptor for appending; raises OSError if it cannot be opened.

    BlockingIOError: another process repairs the file this moment and would cut what we append. With `unlocked` it is
    opened anyway.
    """

    def __init__(
        self,
        path: str,
        *,
        form: Form = ANY_LINES,
        unlocked: bool = False,
        current: OpenFile | None = None,
        fd: int = -1,
    ) -> None:
        """`fd` is a descriptor of the file that is open already.

        SameFile where the path leads to the regular file `current`.
        """
        self.path = path
        self._form = form
        self._described, self._rest, self._rest_written, self._then_described = -1, b"", 0, -1
        #: Whether a torn line was found at the end.
        self.repaired = False
        self.fd = fd if fd >= 0 else _open_stdout() if path in STDOUT else _open(path)
        try:
            mode = os.fstat(self.fd).st_mode
            #: A regular file that is ours alone: it may be locked, cut and synced, and somebody may delete it.
            self.regular = stat.S_ISREG(mode) and path not in STDOUT
            self._blocking = not stat.S_ISREG(mode) and not fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_NONBLOCK
            if self.regular:
                if current and self.is_same(current):
                    raise SameFile
                self._lock_and_repair(unlocked)
            elif stat.S_ISFIFO(mode):
                self._enlarge()
        except BaseException:
            os.close(self.fd)
            raise

    def write(self, data: Buffer) -> int:
        """Append what is taken without blocking, and return how many bytes that was."""
        if not self._blocking:
            return os.write(self.fd, data)
        if not self.wait_writable(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return os.write(self.fd, memoryview(data)[:_PIPE_BUF])

    @property
    def is_introduced(self) -> bool:
        """Whether a record may follow."""
        return self._described == self._form.described and not self._rest

    def introduce(self) -> None:
        """Write what the form wants before the next record; OSError where not all of it could be written."""
        while not self.is_introduced:
            if not self._rest:
                self._then_described = self._form.described
                self._rest = self._form.prelude(self._described, is_empty=self._is_empty)
                self._rest_written = 0
            while self._rest_written < len(self._rest):
                try:
                    self._rest_written += self.write(self._rest[self._rest_written :])
                except OSError:
                    if self._rest_written and self.cut(self._rest_written):
                        self._rest_written = 0
                    raise
            self._rest = b""
            self._described = self._then_described
            if self.regular and not self._form.has_one_writer:
                with contextlib.suppress(OSError):  # another was let in between: it waits for nothing any more
                    fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    @property
    def _is_empty(self) -> bool:
        status = os.fstat(self.fd)
        return not stat.S_ISREG(status.st_mode) or not status.st_size

    def wait_writable(self, timeout: float) -> bool:
        """Wait until something can be written; False if not in time, or if nobody reads."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return any(not event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(max(0.0, timeout) * 1000))

    @property
    def deleted(self) -> bool:
        """Whether the file has no name any more, or (network file systems) cannot be looked at any more."""
        if not self.regular:
            return False
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:
            return True

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self.fd).st_size

    def is_at(self, path: str) -> bool:
        """Tell whether a path leads to it."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self.fd))
        except OSError:
            return False

    def is_same(self, other: OpenFile) -> bool:
        """Tell whether both lead to the same file."""
        return _same(self.fd, other.fd)

    def cut(self, size: int) -> bool:
        """Take back the last `size` bytes written; False where that is impossible, so they have to be completed.

        Appending moved our position to the end of what we wrote: if that is not the end of the file, another writer's
        line follows and must not be cut; ours then stays torn. (A writer that appends between these calls, in spite of
        what stopped us, would lose its line: two writers, one full disk, one microsecond.)
        """
        if not self.regular:
            return False
        try:
            end = os.lseek(self.fd, 0, os.SEEK_CUR)
            if os.fstat(self.fd).st_size == end:
                os.ftruncate(self.fd, end - size)
        except OSError:  # an append-only file
            return False
        return True

    def close(self) -> None:
        """Close the descriptor; network file systems report here (OSError) what they could not write."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _enlarge(self) -> None:
        with contextlib.suppress(OSError):  # a smaller FIFO is no reason to stop
            if fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ) < _PIPE_BYTES:
                fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def _lock_and_repair(self, unlocked: bool) -> None:
        """Take the shared lock; before that, if nobody else writes the file, remove a torn line from its end."""
        form = self._form
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Another writer is alive: an unfinished record may be its work in progress.
            self._join(unlocked)
            unlocked |= form.has_one_writer  # a reader has it
        except OSError:
            self._whole()
            return  # a file system without locks: nobody can tell, so nothing is cut
        else:
            self._mend()
            if form.has_one_writer and not self._is_only_writer():
                raise OSError(errno.EBUSY, _ANOTHER_WRITER)
            if form.has_one_writer or (self._is_empty and not self.is_introduced):
                return  # the lock is kept
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if not unlocked:
                raise

    def _join(self, unlocked: bool) -> None:
        """Look at a file that somebody else writes; OSError where we cannot write it, too."""
        if self._form.has_one_writer:
            if not self._is_only_writer():
                raise OSError(errno.EBUSY, _ANOTHER_WRITER)
            self._mend()
            return
        if self._is_empty and not self.is_introduced and not unlocked:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        self._whole()

    def _is_only_writer(self) -> bool:
        """Take the lock of the one writer; False where another process or another open file has it.

        Where a reader has fcntl's read lock, there is none to take, but no writer either.
        """
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except BlockingIOError:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return bool(_FLOCK.unpack(fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_WRLCK)
        except OSError:  # a file system without such locks
            pass
        return True

    def _whole(self) -> int | None:
        """Return where the last whole record ends; OSError for a file of another kind.

        Lines can be appended to a file that cannot be read: it counts as whole.
        """
        size = self.size
        if not size:
            return 0
        try:
            reader = _reader(self.fd)
        except OSError as error:
            # What passes is waited for: a file is not written to with a torn line at its end.
            if not self.is_introduced or error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            return size
        try:
            return self._form.whole(reader, size)
        finally:
            os.close(reader)

    def _mend(self) -> None:
        """Cut off what follows the last whole record, or close it by a newline if it is not ours."""
        size = self.size
        keep = self._whole()
        if keep == size or self.size != size:
            return  # whole, or just growing: a writer that knows no lock
        if keep is not None:
            try:
                os.ftruncate(self.fd, keep)
            except OSError:  # an append-only file
                if not self.is_introduced:
                    raise
            else:
                self.repaired = True
                unit = "line" if self.is_introduced else "record"
                log.error("%s ended in a torn %s (a crash?): its %d bytes were cut off", self.path, unit, size - keep)
                return
        with contextlib.suppress(OSError):  # a full disk: the first write meets it too
            os.write(self.fd, b"\n")
            self.repaired = True
            log.error("%s did not end in a newline: one was added", self.path)


def _open(path: str) -> int:
    try:
        # Not with O_CREAT at once: where fs.protected_fifos is set it refuses another user's FIFO in /tmp.
        return open_to_append(path, _FLAGS)
    except FileNotFoundError:
        return open_to_append(path, _FLAGS | os.O_CREAT)


def _open_stdout() -> int:
    """Return a descriptor of our own for standard output.

    O_NONBLOCK would hold for everybody who shares it (a terminal's shell), so a pipe or terminal is opened once more.
    A regular file is not: it would get a second position, and what its users write would overwrite each other.
    """
    if not stat.S_ISREG(os.fstat(1).st_mode):
        with contextlib.suppress(OSError):  # a socket, or a pipe of another user
            return os.open("/proc/self/fd/1", _FLAGS)
    return fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)


def _reader(fd: int) -> int:
    """Return a descriptor to read a file that is open for appending, whatever its path leads to by now; OSError."""
    # One that root opened for us can be read itself.
    is_readable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    return os.dup(fd) if is_readable else os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def _same(one: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False
