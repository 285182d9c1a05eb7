# SPDX-License-Identifier: GPL-2.0-or-later
"""RotatingFile: an AppendFile that goes on in a new file when a time has come, or when the file has grown large.

The name is that of the time when the file begins, by a pattern of strftime. Times are multiples of the interval since
local midnight: with 3600 a file begins at each full hour. Files that are closed go to the `Shelf`.

Where the new file cannot be opened, the old one stays in use, and it is tried again.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nflowlevel.binding.rootpath import unlink_open
from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.filename import FileNames
from nflowlevel.delivery.shelf import Compression, Shelf
from nflowlevel.delivery.target import MAX_PENDING_BYTES
from nflowlevel.logs import Limited

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from nflowlevel.delivery.form import Form
    from nflowlevel.delivery.openfile import OpenFile
    from nflowlevel.stats import OutputStats


@dataclass(frozen=True)
class Rotation:
    """When a new file begins (0: never), and what becomes of the closed ones."""

    most_bytes: int = 0
    every_secs: int = 0
    keep_files: int = 0
    compression: Compression = "none"

    def __bool__(self) -> bool:
        return bool(self.most_bytes or self.every_secs)


class RotatingFile(AppendFile):
    """Files that follow one another; `form` says what each of them begins with, and has one writer."""

    def __init__(
        self,
        pattern: str,
        rotation: Rotation,
        *,
        form: Form,
        sync: bool = False,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        retry_secs: float = 1.0,
        stats: OutputStats,
        limited: Limited,
    ) -> None:
        """ValueError where `pattern` is none."""
        self._names, self._rotation = FileNames(pattern), rotation
        super().__init__(
            pattern,
            form=form,
            sync=sync,
            max_pending_bytes=max_pending_bytes,
            retry_secs=retry_secs,
            stats=stats,
            limited=limited,
        )
        self._shelf = Shelf(
            self._names, compression=rotation.compression, keep_files=rotation.keep_files, limited=limited
        )
        #: When the next file begins (time.time()).
        self._ends_at: float | None = None
        #: Whether the present file had records when it was opened, and how many had been written before that.
        self._had_records, self._written_before = False, 0

    @property
    def deadline(self) -> float | None:
        """When `retry` wants to be called: also when the next file begins."""
        inherited = super().deadline
        if self._ends_at is None or self._closed:
            return inherited
        # The clock may be set: it is asked again each time.
        rotation = time.monotonic() + max(0.0, self._ends_at - time.time())
        return rotation if inherited is None else min(rotation, inherited)

    def open(self) -> None:
        """Go on with the file of this time, if there is one, or begin it."""
        self.path = self._name = self._names.to_continue(time.time(), self._rotation.most_bytes)
        super().open()

    def write(self, data: Buffer, records: int) -> None:
        """Append records, in a new file where it is time for that, and in several where one would be too large."""
        if self._file and not self._closed and self._is_over:
            self.rotate()
        rest = memoryview(data)
        while (room := self._room) is not None and rest.nbytes > room:
            count, size = self._first(bytearray(rest), room)
            if size == rest.nbytes:
                break
            if size:
                super().write(rest[:size], count)
                rest, records = rest[size:], records - count
            self.rotate()
        super().write(rest, records)

    def _first(self, data: bytearray, room: int) -> tuple[int, int]:
        """Return how many records, and bytes of them, fit into `room`; in an empty file at least one does."""
        framing = self._form.framing
        count, size = framing.before(data, max(0, room))
        return (count, size) if size or self._has_records else framing.before(data, framing.after(data, 1))

    def reopen(self) -> None:
        """After SIGHUP: go on with the file that has the name of this time; a new one where that was moved away."""
        if not self._closed and self._reopen_at is None:
            self.path = self._names.to_continue(time.time(), self._rotation.most_bytes)
        super().reopen()

    def retry(self) -> None:
        """Begin the next file, or try again what failed."""
        if self._is_over and self._file and not self._closed:
            self.rotate()
        super().retry()

    def close(self, timeout: float) -> None:
        """Close the file; the next run goes on with it, if its time is not over then."""
        end = time.monotonic() + timeout
        super().close(timeout)
        self._shelf.close(end - time.monotonic())

    @property
    def _is_over(self) -> bool:
        # While a file cannot be opened, the old one is in use, and the next attempt has its own time.
        return self._ends_at is not None and self._reopen_at is None and time.time() >= self._ends_at

    @property
    def _room(self) -> int | None:
        """How many bytes the file may grow; None where it may be of any size, or where records wait for it."""
        most = self._rotation.most_bytes
        if not most or not self._file or self._closed or self._backlog or self._reopen_at is not None:
            return None
        return most - self._file.size

    @property
    def _has_records(self) -> bool:
        return self._had_records or self.stats.written > self._written_before

    def rotate(self) -> None:
        """Begin a new file now."""
        self.path = self._names.fresh(time.time())
        super().reopen()

    def _open(self) -> OpenFile:
        # Told before it exists: the shelf must not lock it first.
        self._shelf.look(self.path, *((self._file.path,) if self._file else ()))
        return super()._open()

    def _use(self, file: OpenFile) -> None:
        old = self._file
        if old and old.path != file.path and not self._has_records:
            with contextlib.suppress(OSError):
                unlink_open(old.path, old.fd)  # nobody needs a file without a packet
        had_records = file.size > len(self._form.prelude(-1, is_empty=True))
        super()._use(file)
        self._had_records, self._written_before = had_records, self.stats.written
        self._name = file.path
        self._ends_at = _next(time.time(), self._rotation.every_secs) if self._rotation.every_secs else None
        self._shelf.look(file.path)


def _next(now: float, every_secs: int) -> float:
    """Return when the next interval begins; those of a day begin at local midnight."""
    local = time.localtime(now)
    offset = local.tm_gmtoff
    begins = (int(now) + offset) // every_secs * every_secs - offset
    return float(begins + every_secs)
