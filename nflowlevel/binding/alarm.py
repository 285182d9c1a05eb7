# SPDX-License-Identifier: GPL-2.0-or-later
"""Wait for a descriptor in one thread while another may end the waiting, or close the descriptor.

    with alarm.lock:                        # the reader, around each use of the descriptor
        if not closed:
            alarm.wait(fd, seconds)
    alarm.ring()                            # another thread: `wait` returns at once, now and from now on
    alarm.nudge()                           # the same, once: there is something else to look at
    with alarm.lock:                        # so that this is soon its turn, and nobody uses the descriptor
        …                                   # it may be closed: its number may be another file's next

The lock lets the same thread in twice: a signal handler may close what its own thread waits for.
"""

from __future__ import annotations

import os
import select
import threading

from nflowlevel.binding.descriptor import Descriptor


class Alarm:
    """Ends the waiting of other threads, for good. Close it, with its lock held."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.rung = False
        self._event = Descriptor.event()

    def fileno(self) -> int:
        """Return the descriptor that is readable once it has rung; -1 once closed."""
        return self._event.fd

    def ring(self) -> None:
        """Wake who waits; nobody waits from now on. May be called again, and once closed."""
        self.rung = True
        self.nudge()

    def nudge(self) -> None:
        """Wake who waits, or waits next, once; nothing once closed."""
        if (fd := self._event.fd) >= 0:
            os.eventfd_write(fd, 1)

    def wait(self, fd: int, secs: float | None = None) -> bool:
        """Wait until `fd` is readable or this has rung or been nudged; False where `secs` have passed.

        The caller holds the lock.
        """
        if self.rung:
            return True
        poll = select.poll()
        for each in (fd, self._event.fd):
            poll.register(each, select.POLLIN)
        found = poll.poll(None if secs is None else secs * 1000)
        if not self.rung and any(ready == self._event.fd for ready, _ in found):
            os.eventfd_read(self._event.fd)
        return bool(found)

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        self._event.close()
