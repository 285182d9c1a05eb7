# SPDX-License-Identifier: GPL-2.0-or-later
"""A pid file as ulogd keeps it: decimal pid and newline, locked for the life of the process (fcntl(2) record lock).

It is root's, also where the daemon becomes another user. What others may have put at its path is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection

from nflowlevel.binding.rootpath import open_own, place_of, renewed
from nflowlevel.errors import NflowError


class PidFile:
    """The pid file at `path`. The lock, not the content, tells whether its process lives."""

    def __init__(self, path: str, owners: Collection[int] = ()) -> None:
        """`owners`: whose a file at `path` may be, besides root's and our own."""
        self.path = os.path.abspath(path)
        self._owners = {0, os.geteuid(), *owners}
        self._fd = -1

    def create(self) -> None:
        """Create, lock and fill the file; NflowError when a living process holds it or it cannot be written."""
        fd = -1
        try:
            while True:
                fd = open_own(self.path, os.O_RDWR | os.O_CREAT, 0o644, self._owners)
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another process may have removed the file between open and lock: then the lock guards nothing.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), os.lstat(self.path)):
                        break
                os.close(fd)
            fresh = renewed(self.path, fd, 0o644)
            if fresh != fd:
                # Only now is the old one given up, whose lock keeps others from doing the same.
                old, fd = fd, fresh
                try:
                    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                finally:
                    os.close(old)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            raise NflowError(
                f"pid file {self.path}: process {holder or '?'} is already running; stop it or use another file"
            ) from None
        except OSError as error:
            raise NflowError(f"pid file {self.path}: {error.strerror}") from None
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())
        self._fd = fd

    def remove(self) -> None:
        """Remove the file, and release the lock. May be called again.

        In a directory of root's, such as /run, another user cannot: there it stays, empty. A number that some other
        process may have the next day must not be killed by it.
        """
        if self._fd >= 0:
            try:
                with place_of(self.path) as place:
                    os.unlink(place.name, dir_fd=place.directory)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1
