# SPDX-License-Identifier: GPL-2.0-or-later
"""The dead-letter file: rows that a sink refuses, a JSON object a line, with the reason.

A row is on the disk before the sink is told that it was passed over. Should the process die in between, the row is
refused once more after the restart; its number says that it is here already.

The file at the path is looked at before and after each write: one that was removed or moved away is made anew, and what
is no regular file with one name is neither followed nor waited for. Where it ends in no newline, what begins as a line
of ours was torn when a process died and is cut off; anything else is somebody else's, and closed by a newline.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nflowlevel.binding.rootpath import directory_of, make_directory, name_of_user, whose
from nflowlevel.delivery.form import LineForm
from nflowlevel.logs import log
from nflowlevel.spool.sink import Unavailable

if TYPE_CHECKING:
    from nflowlevel.spool.rows import Rows
    from nflowlevel.spool.sink import Refused

#: The last line is looked for in so many bytes at the end; no row is longer.
_TAIL_BYTES = 1 << 20
#: How each line of ours begins.
_FORM = LineForm(b'{"time": "')


class DeadLetters:
    """One file, of one writer. It is made when the first row is refused.

    `describe` says what is in each row, by name: the sink's (`Sink.describe`).
    """

    def __init__(self, path: Path, writer: str, describe: Callable[[Rows], Iterable[Mapping[str, object]]]) -> None:
        self.path = path
        self._writer, self._describe = writer, describe
        self._fd = -1
        self._last = 0

    def sign(self, writer: str) -> None:
        """Write in another writer's name from now on."""
        if writer != self._writer:
            self._writer = writer
            self.close()

    def write(self, rows: Rows, error: Refused, into: str) -> None:
        """Append the rows, each with the reason, and bring them to the disk; what is here already is left out.

        Unavailable: the file cannot be written. Nothing of these rows is in it then.
        """
        try:
            self._open()
            numbered = enumerate(self._describe(rows), rows.first)
            lines = [self._line(number, values, error, into) for number, values in numbered if number > self._last]
            self._append("".join(lines).encode("utf-8", "surrogatepass"))
            if not self._is_current():
                raise OSError(errno.ESTALE, "it was removed during the write")
        except OSError as problem:
            self.close()
            hint = "make room, or set dead_letter_file to another place; the rows wait"
            if problem.errno in (errno.EACCES, errno.EPERM):
                directory = str(self.path.parent)
                whose_it_is = whose(directory) or "cannot be seen"
                hint = f"{name_of_user(os.geteuid())} must be able to write {directory}, which {whose_it_is}; {hint}"
            raise Unavailable(f"write {self.path}: {problem.strerror} — {hint}") from problem
        self._last = max(self._last, rows.last)

    def _line(self, number: int, values: Mapping[str, object], error: Refused, into: str) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "writer": self._writer,
            "row": number,
            "into": into,
            "code": error.code,
            "reason": str(error),
            "values": values,
        }
        return json.dumps(entry, ensure_ascii=False) + "\n"

    def _open(self) -> None:
        if self._fd >= 0:
            if self._is_current():
                return
            log.warning("%s was removed or moved away: refused rows go to a new one", self.path)
            self.close()
        self._last = 0  # what a file had that is gone is not in this one
        directory = os.fspath(self.path.parent)
        make_directory(directory)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with directory_of(directory) as within:
            self._fd = os.open(self.path.name, flags, 0o600, dir_fd=within)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise OSError(errno.EINVAL, "not a regular file, or it has several names (hard links)")
        size = status.st_size
        keep = _FORM.whole(self._fd, size)
        if keep is None:
            os.write(self._fd, b"\n")
            log.error("%s did not end in a newline: one was added", self.path)
        elif keep < size:
            os.ftruncate(self._fd, keep)
            log.error("%s ended in a torn line (a crash?): its %d bytes were cut off", self.path, size - keep)
        whole = os.pread(self._fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        for line in reversed(whole.split(b"\n")):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                entry = json.loads(line)
                if entry["writer"] == self._writer:
                    self._last = max(self._last, int(entry["row"]))
                    return

    def _is_current(self) -> bool:
        """Whether the open file is the one at the path."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def _append(self, data: bytes) -> None:
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
            os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            raise

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
