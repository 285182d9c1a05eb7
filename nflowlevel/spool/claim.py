# SPDX-License-Identifier: GPL-2.0-or-later
"""The spool's directory, which one process uses at a time, with an id, numbers that are used once, and a position.

    lock       locked (flock) by the process that uses the directory, whose number is in it
    id         a UUID
    numbers    the first number of the next block
    position   the number up to which all is done
    runs       who gave out which numbers (runs.py)

A block of numbers is reserved on the disk before one of them is used, so that none is used twice, whatever happens. The
files have their size from the beginning: a full disk does not prevent the start that would empty it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import uuid
import zlib

from nflowlevel.binding.durable import sync_directory
from nflowlevel.binding.rootpath import directory_of, is_ours_alone, make_directory, open_plain, whose
from nflowlevel.errors import OutputError
from nflowlevel.logs import log
from nflowlevel.spool.runs import Runs
from nflowlevel.spool.segment import NUMBERS, aside

#: How many numbers are reserved at once.
BLOCK = 1 << 32

#: How much of the file `id` is read, whatever lies there: twice a UUID.
_MOST_OF_ID = 72

_FILES = ("lock", "id", "id.new", "numbers", "position", "runs")

_SLOT = struct.Struct("<QI")
#: The slots of the position are in sectors of their own: a torn write hits one of them.
_SLOT_BYTES = 512

_REMEDY = {
    errno.EACCES: "give the daemon's user the directory, or name another one in spool_directory",
    errno.EEXIST: "name a directory in spool_directory, not a file",
    errno.EIO: "check the disk",
    errno.EFBIG: "raise the limit for the size of files",
    errno.ENOENT: "create the directory and restart",
    errno.ELOOP: "name what it leads to in spool_directory, or start the daemon with -u USER",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.EROFS: "name a directory on a file system that is not mounted read-only",
    errno.ENOSPC: "free space there, or lower spool_max_bytes",
    errno.EDQUOT: "free space there or raise the quota",
}


class SpoolDirectory:
    """A directory, created if need be, as ours; OSError, or OutputError if another process has it.

    One thread calls `number`, another the rest.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        #: What its files are reached by. Where others can put another directory at its path, root holds on to this one.
        self.where = directory
        self._lock_fd = self._held_fd = -1
        self.id = ""
        self._next = 0
        self._numbers: _Slots | None = None
        self._position: _Slots | None = None
        self.runs = Runs()
        #: How many of its files were something else.
        self.set_aside = 0
        make_directory(directory)
        if not is_ours_alone(directory):
            with directory_of(directory) as fd:
                self._held_fd = os.dup(fd)
            self.where = f"/proc/self/fd/{self._held_fd}"
        try:
            self._set_aside()
            self._lock_fd = open_plain(self._path("lock"), os.O_RDWR | os.O_CREAT)
            self._lock()
        except BaseException:
            self.close()
            raise

    @property
    def low(self) -> bool:
        """Whether the next block ought to be reserved: long before it is needed."""
        return bool(self._numbers and self._numbers.value - self._next < BLOCK // 2)

    @property
    def position(self) -> int:
        """The number up to which all is done."""
        return self._position.value if self._position else 0

    def load(self) -> _Slots:
        """Read which numbers are reserved and the position; return the numbers."""
        if not self._numbers:
            self._numbers = _Slots(self._path("numbers"))
            self._position = _Slots(self._path("position"))
            if 0 < self._numbers.value <= self._position.value:
                self._position.value, self._position.damaged = 0, True  # nobody had such a number
            if self._position.damaged:
                log.error("spool %s: its file `position` is damaged; rows may come twice", self.directory)
        return self._numbers

    def start(self, used: int, waiting: int | None = None) -> None:
        """Read id and position, and begin a run with a new block of numbers.

        Those up to `used` are known to be used; `waiting` is the first that is not done, if rows wait.
        """
        numbers = self.load()
        self.id = self._read_id()
        if not self.id or numbers.damaged or not numbers.value:
            # Under the old id a database would take our numbers for rows that it has.
            if self.id or numbers.value or numbers.damaged:
                log.error("spool %s: the file with its id is damaged; continuing under a new id", self.directory)
            self._new_id()
        self.runs = runs = Runs(self._path("runs"), self.id)
        self._next = max(numbers.value, _next_block(max(used, self.position, runs.own.first)))
        numbers.value = self._next
        runs.begin(self._next, waiting=waiting, inherited=used)
        self.reserve()

    def number(self, count: int) -> int:
        """Return the first of `count` numbers that were never used and never will be again."""
        first = self._next
        self._next += count
        return first

    def reserve(self) -> None:
        """Reserve the next block of numbers; OSError if the disk does not take it."""
        assert self._numbers
        self._numbers.store(self._numbers.value + BLOCK)
        self._numbers.sync()
        self.sync()

    def store(self, position: int) -> None:
        """Remember that all is done up to `position`; OSError if the disk does not take it."""
        assert self._position
        self._position.store(position)

    def sync(self) -> None:
        """Bring the position and the directory itself to the disk."""
        assert self._position
        self._position.sync()
        sync_directory(self.where)

    def close(self) -> None:
        """Give the directory back; nothing may be called any more."""
        for slots in (self._numbers, self._position):
            if slots:
                slots.close()
        self.runs.close()
        for fd in (self._lock_fd, self._held_fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self._held_fd = -1

    def _set_aside(self) -> None:
        """Give another name to what stands where our files are to be and is no file: a FIFO would be waited for.

        Likewise to a file that others may have given a second name: root would change what is not theirs.
        """
        for name in _FILES:
            try:
                status = os.lstat(self._path(name))
            except FileNotFoundError:
                continue
            wrong = "" if stat.S_ISREG(status.st_mode) else "it is not a regular file"
            if not wrong and self._held_fd >= 0 and status.st_nlink > 1:
                wrong = "it has several names (hard links)"
            if wrong:
                aside(self._path(name))
                self.set_aside += 1
                log.error("spool %s: %s was set aside: %s", self.directory, name, wrong)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise OutputError(
                f"open the spool {self.directory}: process {holder} uses it — stop that process, "
                "or give each output a spool_directory of its own",
                retryable=False,
            ) from None
        os.pwrite(self._lock_fd, b"%-10d\n" % os.getpid(), 0)

    def _read_id(self) -> str:
        try:
            with open(open_plain(self._path("id"), os.O_RDONLY), encoding="ascii") as file:
                return str(uuid.UUID(file.read(_MOST_OF_ID).strip()))
        except (FileNotFoundError, ValueError):
            return ""

    def _new_id(self) -> None:
        self.id = str(uuid.uuid4())
        fd = open_plain(self._path("id.new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, self.id.encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(self._path("id.new"), self._path("id"))

    def _path(self, name: str) -> str:
        return os.path.join(self.where, name)


class _Slots:
    """A number in a file, in two slots written in turns, each with its checksum: one of them is always whole."""

    def __init__(self, path: str) -> None:
        self._fd = open_plain(path, os.O_RDWR | os.O_CREAT)
        try:
            os.posix_fallocate(self._fd, 0, 2 * _SLOT_BYTES)
            slots = [os.pread(self._fd, _SLOT.size, slot * _SLOT_BYTES) for slot in (0, 1)]
        except BaseException:
            self.close()
            raise
        found = [_SLOT.unpack(slot) for slot in slots]
        numbers = [number if check == _check(number) and number < NUMBERS else 0 for number, check in found]
        self.value = max(numbers)
        #: Where the number is; the next one goes to the other slot.
        self._slot = numbers.index(self.value)
        #: Something was here, but it cannot be read.
        self.damaged = not self.value and any(slot.strip(b"\0") for slot in slots)

    def store(self, number: int) -> None:
        """Replace the number; OSError if the disk does not take it."""
        os.pwrite(self._fd, _SLOT.pack(number, _check(number)), (self._slot ^ 1) * _SLOT_BYTES)
        self._slot ^= 1
        self.value = number

    def sync(self) -> None:
        """Bring the number to the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def reason(error: OSError) -> str:
    """Say what happened to the directory, and what to do about it."""
    remedy = _REMEDY.get(error.errno or 0, "")
    if error.errno == errno.EACCES and error.filename and (owner := whose(error.filename)):
        remedy += f"; {error.filename} {owner}"
    return f"{error.strerror} — {remedy}" if remedy else str(error.strerror)


def _next_block(used: int) -> int:
    """Return the first number of the block after the one of `used`."""
    return (used // BLOCK + 1) * BLOCK


def _check(number: int) -> int:
    return zlib.crc32(number.to_bytes(8, "little"), 1)
