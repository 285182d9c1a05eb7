# SPDX-License-Identifier: GPL-2.0-or-later
"""When each group was read last, kept from run to run: how long nobody read it is all that can be known of a restart.

It is a small file: in the directory that the service manager gives (`StateDirectory=`), or beside the pid file. Without
one of them nothing is known. A line has milliseconds since 1970, `stopped` or `reading`, and what is read. A run that
is killed leaves `reading`, and the time is that of the last look at the clock, at most a minute before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable

from nflowlevel.binding.rootpath import open_own, renewed
from nflowlevel.logs import log

#: How often the time is written while it runs.
BEAT_SECS = 60.0
_HEAD = "nflowlevel: when each group was read last\n"
#: Of groups that the configuration does not have any more, the oldest are forgotten.
_MOST_LINES = 200
_MOST_BYTES = 64 << 10


def path_for(pidfile: str | None) -> str:
    """Return where to keep it; "": nowhere."""
    directory = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if directory:
        return os.path.join(directory, "last-read")
    return os.path.abspath(pidfile) + ".last" if pidfile else ""


class LastRead:
    """The file at `path`. What cannot be read or written is said once and no more than that: nothing depends on it."""

    def __init__(self, path: str, owners: Collection[int] = ()) -> None:
        """`owners`: whose the file may be, besides root's and our own."""
        self._fd = -1
        self._times: dict[str, tuple[int, str]] = {}
        if not path:
            return
        try:
            self._fd = open_own(path, os.O_RDWR | os.O_CREAT, 0o644, {0, os.geteuid(), *owners})
            text = os.pread(self._fd, _MOST_BYTES, 0).decode("utf-8", "replace")
            if text and not text.startswith(_HEAD):
                raise OSError(0, "it is no file of nflowlevel's; remove it, or use another pid file")
            if (fresh := renewed(path, self._fd, 0o644)) != self._fd:
                os.close(self._fd)
                self._fd = fresh
        except OSError as error:
            self.close()
            log.warning("%s: %s; how long nobody reads at a restart will not be known", path, error.strerror)
            return
        for line in text.splitlines()[1:]:
            parts = line.split(" ", 2)
            if len(parts) == 3 and parts[0].isdecimal() and len(parts[0]) < 16:
                self._times[parts[2]] = int(parts[0]), parts[1]

    def since(self, what: str, now: float) -> tuple[int, bool] | None:
        """Return for how many milliseconds before `now` (time.time()) nobody read it, and whether that is exact.

        None where it is not known. Before the machine was started nobody logged.
        """
        if what not in self._times:
            return None
        then, state = self._times[what]
        up = time.clock_gettime(time.CLOCK_BOOTTIME)
        return max(0, min(int(now * 1000) - then, int(up * 1000))), state == "stopped"

    def note(self, what: Iterable[str], state: str = "reading") -> None:
        """These are read now: `reading`, or for the last time: `stopped`."""
        if self._fd < 0:
            return
        now = int(time.time() * 1000)
        for each in what:
            self._times.pop(each, None)
            self._times[each] = now, state
        lines = [f"{then} {state} {each}\n" for each, (then, state) in self._times.items()][-_MOST_LINES:]
        data = (_HEAD + "".join(lines)).encode("utf-8", "surrogateescape")
        try:
            os.pwrite(self._fd, data, 0)
            os.ftruncate(self._fd, len(data))
        except OSError as error:
            log.warning("keep when groups were read last: %s", error.strerror)

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
