# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounting objects that reach their quota, as it happens."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from nflowlevel.accounting.table import Counter, CounterTable
from nflowlevel.binding.alarm import Alarm
from nflowlevel.binding.nfacct import QuotaSocket


class QuotaEvents:
    """Objects, as they were when a packet brought them to their quota.

    Iterate over it, or call `receive` when `fileno()` is readable. The kernel reports an object once, and again only
    after the object was zeroed. `close`, from any thread, ends the iteration.
    """

    def __init__(self, netns: str | None = None) -> None:
        self._alarm = Alarm()
        self._closed = False
        self._socket = QuotaSocket(netns)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a notification waits, for select, epoll and asyncio."""
        return self._socket.socket.fileno()

    def receive(self) -> list[Counter]:
        """Return what has come, without waiting."""
        return [*CounterTable(self._socket.receive())]

    @property
    def lost(self) -> int:
        """Notifications that were lost because the socket was full: it was read too late."""
        return self._socket.socket.drops

    @property
    def malformed(self) -> int:
        """Notifications that could not be decoded."""
        return int(self._socket.state.malformed)

    @property
    def foreign(self) -> int:
        """Datagrams that were ignored because the kernel has not sent them."""
        return int(self._socket.state.foreign)

    def __iter__(self) -> Iterator[Counter]:
        self.fileno()  # one that is closed already is a mistake of the caller
        while True:
            with self._alarm.lock:
                if not self._closed:
                    self._alarm.wait(self.fileno())
                if self._closed:
                    return
                reached = self.receive()
            yield from reached

    def close(self) -> None:
        """Close the socket; may be called again, and from any thread: one that waits for events is woken."""
        self._closed = True
        self._alarm.ring()
        with self._alarm.lock:
            self._socket.close()
            self._alarm.close()

    def __enter__(self) -> QuotaEvents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
