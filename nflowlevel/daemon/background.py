# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon in the background: fork, and a pipe by which the waiting foreground process learns how the start went."""

from __future__ import annotations

import contextlib
import os


class Started:
    """How the background process tells the waiting foreground one that it runs, or why not."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ok(self) -> None:
        """Everything runs: let the foreground process go, and the terminal with it."""
        to_null(2)
        self._tell(0)

    def failed(self, status: int) -> None:
        """The start failed with this exit status."""
        self._tell(status)

    def _tell(self, status: int) -> None:
        if self._pipe >= 0:
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                os.write(self._pipe, bytes([status]))
            os.close(self._pipe)
            self._pipe = -1


def go_to_background(died: int) -> Started:
    """Fork. The parent waits until the child has started and ends with its status, or with `died`.

    The terminal stays the child's standard error until then.
    """
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        status = os.read(read, 1)
        # Nothing was said: the child died.
        os._exit(status[0] if status else died)
    os.close(read)
    os.setsid()
    os.chdir("/")
    to_null(0, 1)
    return Started(write)


def to_null(*descriptors: int) -> None:
    """Let standard descriptors lead nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in descriptors:
        os.dup2(null, fd)
    if null > 2:  # a standard descriptor that was closed comes back as this one
        os.close(null)
