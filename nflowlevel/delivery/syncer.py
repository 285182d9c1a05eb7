# SPDX-License-Identifier: GPL-2.0-or-later
"""Syncer: a thread that calls fdatasync, so that a slow disk stalls nobody; requests made meanwhile become one."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from nflowlevel.binding.privileges import Worker
from nflowlevel.logs import Limited, log

if TYPE_CHECKING:
    from nflowlevel.delivery.openfile import OpenFile
    from nflowlevel.stats import OutputStats

_LEAST_WAIT_SECS = 0.05


class Syncer:
    """Syncs what one target (`name`, for messages) writes; the thread starts when it is first needed.

    Files are handed over to be closed, because the thread may be using them right then.
    """

    def __init__(self, name: str, stats: OutputStats, limited: Limited) -> None:
        self._name, self._stats, self._limited = name, stats, limited
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted: OpenFile | None = None
        self._retired: list[OpenFile] = []
        self._stop = False

    def request(self, file: OpenFile) -> None:
        """Have what was written to `file` synced soon."""
        with self._changed:
            self._wanted = file
            self._start_or_notify()

    def retire(self, file: OpenFile) -> None:
        """Sync `file` a last time, then close it."""
        with self._changed:
            self._retired.append(file)
            self._start_or_notify()

    def close(self, timeout: float) -> None:
        """Wait until all that was asked for is done, for at most `timeout` seconds."""
        with self._changed:
            self._stop = True
            self._changed.notify()
        if self._thread:
            # Also without time a sync of nothing, or of little, gets its chance.
            self._thread.join(max(_LEAST_WAIT_SECS, timeout))
            if self._thread.is_alive():
                log.error("%s: the last fdatasync is not finished; the stop does not wait for it", self._name)

    def _start_or_notify(self) -> None:
        if self._thread is None:
            self._thread = Worker(self._run, f"sync {self._name}")
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._retired or self._stop)
                wanted, self._wanted = self._wanted, None
                retired, self._retired = self._retired, []
            if not wanted and not retired:
                return
            if wanted:
                self._fdatasync(wanted.fd)
            for file in retired:
                self._fdatasync(file.fd)
                self._close(file)

    def _fdatasync(self, fd: int) -> None:
        try:
            os.fdatasync(fd)
        except OSError as error:
            self._failed("fdatasync", error)

    def _close(self, file: OpenFile) -> None:
        try:
            file.close()
        except OSError as error:
            self._failed("close", error)

    def _failed(self, what: str, error: OSError) -> None:
        self._stats.sync_errors += 1  # nobody else counts these
        self._limited(logging.ERROR, "sync", f"{what} {self._name}: {error.strerror} — check the disk")
