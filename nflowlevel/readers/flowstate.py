# SPDX-License-Identifier: GPL-2.0-or-later
"""The file in which a run leaves what it has reported of flows that go on: the next run does not report it again.

It is good for one run. `read` leaves the file as it is, because a reader that cannot be opened has reported nothing;
`spend` makes it worthless before the first record is made. What the run before has not reported by then is in it no
more, so after a crash flows are reported from their beginning.

It belongs to one reader at a time, who locks a file beside it: what another has reported is not in our outputs.

Root reads and writes it in directories of other users, too: nothing that they put there is followed, waited for,
changed or believed beyond its size.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator

from nflowlevel.binding.descriptor import Descriptor
from nflowlevel.binding.flowtable import KEPT_BYTES
from nflowlevel.binding.rootpath import open_own, replacing, unlink_open
from nflowlevel.logs import log

_KIND = b"nflowlevel: flows that go on, "
_HEAD = _KIND + b"1, %d\n" % KEPT_BYTES
_PIECE_FLOWS = 4096
#: Of the lock, while those who had it remove it.
_LOCK_ATTEMPTS = 8


class StateFile:
    """The file at `path`. Messages go to the log; no method raises."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock_path = f"{path}.lock"
        self._fd = -1
        self._held = Descriptor()  # the lock
        self._is_ours = True

    def read(self, most: int) -> Iterator[bytes]:
        """Yield what the run before has left, of at most so many flows; nothing where there is no such file."""
        self._lock()
        if not self._is_ours:
            self._say("another reader of flows has it", "nothing is read from it or kept in it: use another path")
            return
        try:
            # To be spent later by a user who may neither open nor remove it.
            self._fd = open_own(self.path, os.O_RDWR, 0, self._owners())
            size = os.fstat(self._fd).st_size - len(_HEAD)
            head = os.pread(self._fd, len(_HEAD), 0)
            if head != _HEAD or size % KEPT_BYTES or size > most * KEPT_BYTES:
                self._refuse(head)
                return
            for at in range(len(_HEAD), len(_HEAD) + size, _PIECE_FLOWS * KEPT_BYTES):
                piece = os.pread(self._fd, min(_PIECE_FLOWS * KEPT_BYTES, len(_HEAD) + size - at), at)
                yield piece[: len(piece) // KEPT_BYTES * KEPT_BYTES]
        except FileNotFoundError:
            return
        except OSError as error:
            self._say(error.strerror or str(error), "flows reported in part are reported once more")

    def _lock(self) -> None:
        """Be the only one who has it, or find that it is not ours. Where no file can be made, `write` says why."""
        if self._held:
            return
        with contextlib.suppress(OSError):
            for _ in range(_LOCK_ATTEMPTS):
                fd = open_own(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600, self._owners())
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Whoever had it may have removed it since it was opened: then the lock is worth nothing.
                    if os.path.samestat(os.fstat(fd), os.lstat(self._lock_path)):
                        self._held.take(fd)
                        fd = -1
                        return
                except BlockingIOError:
                    self._is_ours = False
                    return
                except FileNotFoundError:
                    pass
                finally:
                    if fd >= 0:
                        os.close(fd)

    def _refuse(self, head: bytes) -> None:
        self._leave()
        self._is_ours = not head or head.startswith(_KIND)
        left = "" if self._is_ours else "; it stays as it is, and nothing is kept for the next run: use another path"
        log.warning(
            "flows: %s is not a file of this version; flows reported in part are reported once more%s", self.path, left
        )

    def spend(self) -> None:
        """What was read shall not be read again."""
        if self._fd < 0:
            return
        try:
            os.pwrite(self._fd, _HEAD, 0)
            os.ftruncate(self._fd, len(_HEAD))
            with contextlib.suppress(PermissionError, FileNotFoundError):  # without flows it does no harm
                unlink_open(self.path, self._fd)
        except OSError as error:
            self._say(error.strerror or str(error), "remove it, or flows are reported once more after a crash")
        self._leave()

    def write(self, kept: Iterable[bytes]) -> None:
        """Leave this for the next run."""
        if not self._is_ours:
            return
        try:
            with replacing(self.path, 0o600) as fd, open(fd, "wb", closefd=False) as file:
                file.write(_HEAD)
                file.writelines(kept)
        except OSError as error:
            self._say(error.strerror or str(error), "the next run reports flows once more")

    def _owners(self) -> set[int]:
        """Whose the file may be: root's, our own, or that of the user to whom its directory belongs."""
        return {0, os.geteuid(), os.stat(os.path.dirname(os.path.abspath(self.path))).st_uid}

    def _say(self, what: str, therefore: str) -> None:
        log.warning("flows: %s: %s; %s", self.path, what, therefore)

    def close(self) -> None:
        """Leave what is there as it is, to whoever comes next; may be called again."""
        self._leave()
        if self._held:
            with contextlib.suppress(OSError):  # who may not remove it leaves it: unlocked it does no harm
                unlink_open(self._lock_path, self._held.fd)
            self._held.close()

    def _leave(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
