# SPDX-License-Identifier: GPL-2.0-or-later
"""`async for batch in group`: batches in asyncio's loop. The one module that imports asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

from nflowlevel.binding.alarm import Alarm
from nflowlevel.errors import KernelError
from nflowlevel.records.batch import Batch


class Source(Protocol):
    """What is read: an open group."""

    pause: float
    _stopping: bool
    #: Its descriptor is readable once it was told to stop.
    _alarm: Alarm
    #: Called when it is being closed.
    _when_closed: Callable[[], None] | None

    @property
    def more(self) -> bool:
        """Whether something may wait that the last `receive` left behind."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when something has come."""

    def receive(self) -> Batch:
        """Return what has come, without waiting."""

    def drain(self) -> Iterator[Batch]:
        """Give the source up and yield what is left."""


async def batches(source: Source) -> AsyncIterator[Batch]:
    """Yield batches until the source is stopped, then what was queued for it; where it is closed, end at once.

    Between two batches the loop runs its other tasks, also under a flood. Nothing is registered with the loop but while
    this waits: a task that is cancelled or leaves the iteration leaves nothing behind.
    """
    while not source.closed and not source._stopping:
        if not source.more:
            await _something(source)
            if source.closed or source._stopping:
                break
        try:
            batch = source.receive()
        except (KernelError, ValueError):
            if source.closed:  # by another thread, in between
                return
            raise
        if batch:
            yield batch
        await asyncio.sleep(0 if source.closed else source.pause)
    if not source.closed:
        for batch in source.drain():
            yield batch
            await asyncio.sleep(0)
            if source.closed:
                return


async def _something(source: Source) -> None:
    """Wait until something has come, or the source is stopped or closed."""
    if source._when_closed:
        raise RuntimeError(f"{source!r} is read by another task; a group has one reader")
    loop = asyncio.get_running_loop()
    come = loop.create_future()
    descriptors = source.fileno(), source._alarm.fileno()

    def wake() -> None:
        if not come.done():
            come.set_result(None)

    def unwatch() -> None:
        # Before the descriptors are closed: their numbers may be another file's at once.
        while watched:
            loop.remove_reader(watched.pop())
        wake()

    def closing() -> None:
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            unwatch()
        else:
            loop.call_soon_threadsafe(unwatch)

    watched = list(descriptors)
    for descriptor in descriptors:
        loop.add_reader(descriptor, wake)
    source._when_closed = closing
    try:
        await come
    finally:
        source._when_closed = None
        unwatch()
