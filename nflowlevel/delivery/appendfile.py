# SPDX-License-Identifier: GPL-2.0-or-later
"""AppendFile: complete lines appended to a file, a FIFO or standard output, whatever happens to it.

- A batch is one write(2), without a copy, while all is well.
- A regular file does not keep a torn line of ours at its end: what a full disk cut is removed at once, what a crash
  left when the file is opened the next time. What others left there is kept, and closed by a newline.
- What cannot be written waits in memory, bounded, and is tried again, in order. When the bound is reached new lines are
  dropped and counted.
- A FIFO without a reader, or with a slow one, is waited for without blocking; it goes on at the exact byte. It stays
  open when its reader leaves, so the next reader finds what the last one did not read.
- Nothing is written into a file that has been deleted: its path is opened again.
- fdatasync, if wanted, is a thread's business.

One thread calls all methods.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from typing import TYPE_CHECKING

from nflowlevel.binding.rootpath import whose
from nflowlevel.delivery.backlog import Backlog, Chunk
from nflowlevel.delivery.form import ANY_LINES, Form
from nflowlevel.delivery.openfile import STDOUT, OpenFile, SameFile
from nflowlevel.delivery.syncer import Syncer
from nflowlevel.delivery.target import MAX_PENDING_BYTES
from nflowlevel.errors import OutputError
from nflowlevel.logs import NOTICE, Limited, log

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nflowlevel.stats import OutputStats

#: A slow FIFO is tried again after this long (and with each batch); an event for it would need the loop's help.
_BUSY_SECS = 0.02
#: One call writes about this much of what waited: the loop has packets to receive in between.
_FLUSH_BYTES = 4 << 20
#: How long another process may hold the file locked before we write to it anyway.
_LOCK_PATIENCE_SECS = 5.0

#: What to do where a file cannot be opened or written.
REMEDY = {
    errno.ENOENT: "create the directory",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ELOOP: "name what it leads to, or start the daemon with -u USER",
    errno.EMLINK: "remove it, or start the daemon with -u USER",
    errno.EISDIR: "name a file, not a directory",
    errno.EACCES: "give the daemon's user write permission for the file and search permission for its directory",
    errno.EPERM: "is the file immutable?",
    errno.EROFS: "choose a path on a file system that is not mounted read-only",
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there or raise the quota",
    errno.EFBIG: "the file reached the size limit: rotate it or raise the limit",
    errno.EPIPE: "start its reader again",
    errno.ENXIO: "the device has no hardware or driver",
    errno.EBADF: "standard output is closed",
}

#: After these the same descriptor can be written again once the cause is gone; after others the path is opened again.
_SAME_FILE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE)


class AppendFile:
    """A `LineTarget` that is a file, a FIFO, a device or (path `-`) standard output."""

    def __init__(
        self,
        path: str,
        *,
        form: Form = ANY_LINES,
        sync: bool = False,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        retry_secs: float = 1.0,
        stats: OutputStats,
        limited: Limited,
    ) -> None:
        """`form` says where records end, and how a torn one of ours is told from what others left in the file."""
        self.path = path
        self._form = form
        #: Whether something stands before the records. That is looked at when the file is opened, and takes time.
        self._has_head = form.described >= 0
        self.stats = stats
        self._limited = limited
        self._retry_secs = retry_secs
        self._name = "standard output" if path in STDOUT else path
        self._backlog = Backlog(max_pending_bytes, stats, form.framing)
        self._syncer = Syncer(self._name, stats, limited) if sync else None
        self._file: OpenFile | None = None
        self._written_of_first = 0  # bytes of the first pending chunk that are in the target: part of one line
        self._retry_at: float | None = None
        self._reopen_at: float | None = None
        self._locked_since: float | None = None
        self._trouble = ""
        self._closed = False

    @property
    def state(self) -> str:
        """How the file is, in a few words for the status."""
        if self._closed:
            return f"closed {self._name}"
        if self._trouble:
            return f"waiting for {self._name} ({self._trouble})"
        return f"writing to {self._name}" if self._file else f"{self._name} not opened yet"

    @property
    def deadline(self) -> float | None:
        """When `retry` wants to be called, or None."""
        times = [at for at in (self._retry_at, self._reopen_at) if at is not None]
        return min(times) if times else None

    @property
    def is_at_its_path(self) -> bool:
        """Whether the path leads to the file that is open."""
        return self._file is not None and self._file.is_at(self.path)

    def open(self) -> None:
        """Open the file, creating it if need be; a FIFO without a reader and a locked file are waited for."""
        try:
            self._use(self._open())
        except OSError as error:
            if not self._waited_for(error):
                raise OutputError(f"open {self._name}: {_reason(error, self.path)}") from error
            self._open_later(error)
        if self._file and not self._file.is_introduced:
            self._flush(self._file)

    def write(self, data: Buffer, records: int) -> None:
        """Append `records` complete lines, one per record, or keep them until they can be appended."""
        self.stats.records += records
        if self._closed:
            self.stats.drop("stop", records)
            return
        done = 0
        if not self._backlog and (file := self._usable()) and file.is_introduced:
            size = memoryview(data).nbytes
            try:
                done = file.write(data)
            except OSError:
                done = 0  # the attempt to write the rest tells why
            if done == size:
                self.stats.written += records
                self.stats.bytes += size
                self._sync(file)
                self._retry_if_due()
                return
        self._keep(data, records, done)

    def reopen(self) -> None:
        """Open the path anew, then close the old file; if that fails, go on with the old one and try again later."""
        if self._closed or self.path in STDOUT:
            return
        self._reopen_at = None
        try:
            self._use(self._open())
        except SameFile:
            pass
        except OSError as error:
            self._open_later(error)
        if self._file:
            self._flush(self._file)

    def retry(self) -> None:
        """Try again to open, or to write what waits."""
        if self._closed:
            return
        self._retry_at = None
        self.stats.retries += bool(self._trouble)
        if self._reopen_at is not None:
            self.reopen()
        elif file := self._usable():
            self._flush(file)

    def close(self, timeout: float) -> None:
        """Write what waits, for at most `timeout` seconds; what is left is dropped and counted."""
        if self._closed:
            return
        end = time.monotonic() + timeout
        self._drain(end)
        self._closed = True
        self._retry_at = self._reopen_at = None
        if lost := self._backlog.close("stop"):
            why = self._trouble or "it is read too slowly"
            log.error("%s: records that could not be written before the stop (%s), dropped: %d", self._name, why, lost)
        self._release()
        if self._syncer:
            self._syncer.close(end - time.monotonic())

    # Opening

    def _open(self) -> OpenFile:
        """Open the path; be patient with another process's lock, but not for ever: it may know nothing of our rules."""
        since = self._locked_since
        unlocked = since is not None and time.monotonic() - since >= _LOCK_PATIENCE_SECS
        try:
            # To look through a capture again takes time, and the lock of its one writer would be in our own way.
            current = self._file if self._has_head else None
            return OpenFile(self.path, form=self._form, unlocked=unlocked, current=current)
        except BlockingIOError:
            self._locked_since = since or time.monotonic()
            raise

    def _use(self, file: OpenFile) -> None:
        """Go on with `file`."""
        if self._has_head or (self._file and not self._file.is_same(file)):
            self._written_of_first = 0  # the new target gets the whole line
        self._release()
        self._file = file
        self.stats.torn += file.repaired
        self._reopen_at = self._locked_since = None
        self._recovered()

    def _release(self) -> None:
        """Close the file, after a last fdatasync where that is wanted."""
        file, self._file = self._file, None
        if not file:
            return
        if self._syncer and file.regular:
            self._syncer.retire(file)
            return
        try:
            file.close()
        except OSError as error:
            self.stats.errors += 1
            self._limited(logging.ERROR, "close", f"close {self._name}: {_reason(error)}")

    def _waited_for(self, error: OSError) -> bool:
        """Tell whether opening failed in a way that time cures: a lock, a FIFO without a reader."""
        return error.errno == errno.EWOULDBLOCK or (error.errno == errno.ENXIO and _is_fifo(self.path))

    def _open_later(self, error: OSError) -> None:
        """Open after a while, because of `error`; with a file that is open already, go on in the meantime."""
        locked = error.errno == errno.EWOULDBLOCK
        self._reopen_at = time.monotonic() + (_BUSY_SECS if locked else self._retry_secs)
        if self._waited_for(error):
            trouble = "it is locked" if locked else "it has no reader"
        else:
            trouble = str(error.strerror)
            self.stats.errors += 1
            instead = "the old file stays in use" if self._file else f"records waiting: {self.stats.pending}"
            self._limited(logging.ERROR, "open", f"open {self.path}: {_reason(error, self.path)}; {instead}")
        if not self._file:
            self._trouble = trouble

    def _usable(self) -> OpenFile | None:
        """Return the file to write to; one that was deleted is closed and its path opened again."""
        if self._file and self._file.deleted:
            self._limited(NOTICE, "deleted", f"{self._name} was deleted; opening it again")
            self._written_of_first = 0
            self._release()
            self.reopen()
        return self._file

    # Writing

    def _keep(self, data: Buffer, records: int, done: int) -> None:
        """Put lines behind those that wait; `done` of their bytes are in the target already."""
        if not self._backlog.put(data, records):
            self._limited(logging.ERROR, "full", f"{self._name}: the buffer is full; new records are dropped")
        if done:
            self._written_of_first = done
        if self._file and not self._trouble:
            self._flush(self._file)
        else:
            self._retry_if_due()

    def _retry_if_due(self) -> None:
        """Do without a loop that calls `retry`."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.retry()

    def _flush(self, file: OpenFile) -> int:
        """Write what waits, about `_FLUSH_BYTES` of it; return 0, or the errno with which the target refused more."""
        self._retry_at = None
        room = _FLUSH_BYTES
        if not self._backlog:
            try:
                file.introduce()
            except OSError as error:
                self._refused(error)
                return error.errno or errno.EIO
        while room > 0 and (chunk := self._backlog.take()):
            try:
                if not self._written_of_first:
                    file.introduce()
                while self._written_of_first < len(chunk.data):
                    with memoryview(chunk.data) as whole, whole[self._written_of_first :] as rest:
                        self._written_of_first += file.write(rest)
            except OSError as error:
                self._settle(file, chunk)
                self._refused(error)
                return error.errno or errno.EIO
            room -= len(chunk.data)
            self._backlog.done(chunk.records, len(chunk.data))
            self._written_of_first = 0
        if self._backlog:
            self._retry_at = time.monotonic()
        self._recovered()
        self._sync(file)
        return 0

    def _settle(self, file: OpenFile, chunk: Chunk) -> None:
        """Count the lines of a chunk that are in, and take a torn one out of the file again."""
        records, size = chunk.cut_before(self._written_of_first, self._backlog.framing)
        self._backlog.done(records, size)
        self._backlog.give_back(chunk)
        self._written_of_first -= size
        if self._written_of_first and file.cut(self._written_of_first):
            self.stats.torn += 1
            self._written_of_first = 0

    def _refused(self, error: OSError) -> None:
        """Write later, because of `error`."""
        if error.errno == errno.EAGAIN:
            self._retry_at = time.monotonic() + _BUSY_SECS
            return
        self.stats.errors += 1
        self._trouble = str(error.strerror)
        waiting = f"records waiting: {self.stats.pending}"
        self._limited(logging.ERROR, "write", f"write {self._name}: {_reason(error)}; {waiting}")
        self._retry_at = time.monotonic() + self._retry_secs
        # The next reader of a FIFO needs to be told what comes, where that is not simply lines.
        is_same_file = error.errno in _SAME_FILE and not (self._has_head and error.errno == errno.EPIPE)
        if not is_same_file and self.path not in STDOUT:
            self._reopen_at = self._retry_at

    def _recovered(self) -> None:
        """Say that trouble is over."""
        if self._trouble and not self._backlog:
            self._limited(NOTICE, "recovered", f"{self._name} can be written again; nothing waits")
            self._trouble = ""

    def _sync(self, file: OpenFile) -> None:
        if self._syncer and file.regular:
            self._syncer.request(file)

    def _drain(self, end: float) -> None:
        """Write all that waits, as long as the target takes it and `end` is not reached."""
        if self._backlog and self._reopen_at is not None:
            self.reopen()
        while self._backlog and (file := self._usable()) and time.monotonic() < end:
            refused = self._flush(file)
            if refused and (refused != errno.EAGAIN or not file.wait_writable(end - time.monotonic())):
                return


def _reason(error: OSError, path: str = "") -> str:
    """Say what happened, and what to do about it."""
    remedy = REMEDY.get(error.errno or 0, "")
    if path and error.errno == errno.EACCES and (owner := whose(path)):
        remedy += f"; it {owner}"
    return f"{error.strerror} — {remedy}" if remedy else str(error.strerror)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False
