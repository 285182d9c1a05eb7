# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugins for tests: an input fed by hand, an output that remembers, and batches to send through."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from nflowlevel.options import Options
from nflowlevel.plugin.contract import ANY_KEYS, Filter, Input, Member, NoOptions, Output
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import Key
from nflowlevel.stacks.config import parse_text
from nflowlevel.stacks.destination import Destination
from nflowlevel.stacks.stack import Source, Stack, build
from nflowlevel.stats import Counters, GroupStats, OutputStats
from tests.corpus import by_name
from tests.fix_decoder import decode
from tests.messages import message_of


def batch_of(*messages: bytes, count: int = 0) -> Batch:
    """Return a batch decoded from netlink messages, or of `count` UDP packets."""
    return decode(messages or [message_of(by_name("udp4"), seq=number, prefix=b"p") for number in range(count)]).batch


def stacks_of(text: str) -> list[Stack]:
    """Return the stacks of a configuration given as text."""
    return build(parse_text(text))


def opened_stack(text: str) -> Stack:
    """Return the only stack of a configuration, its filters and its output open."""
    (stack,) = stacks_of(text)
    for plugin in (*stack.filters, stack.output):
        plugin.open()
    return stack


def run_stack(text: str, *messages: bytes) -> None:
    """Send messages through the only stack of a configuration, and close it."""
    stack = opened_stack(text)
    stack.deliver(batch_of(*messages))
    stack.close()
    assert stack.dropped == 0


def written(text: str, path: Path, *messages: bytes) -> bytes:
    """Return what the stack has written into a file of these messages when it is closed."""
    run_stack(text, *messages)
    return path.read_bytes()


def nothing() -> None:
    """Do nothing."""


class Feed(Input[Options]):
    """Gives the batches it was fed. Those of `held` do not show on its descriptor; those of `late` come at the end."""

    name = "FEED"
    provides = "raw"

    def __init__(self, instance: str = "feed", options: Options | None = None) -> None:
        super().__init__(instance, options or NoOptions())
        self.calls: list[str] = []
        self.shown: deque[Batch | Exception] = deque()
        self.held: deque[Batch | Exception] = deque()
        self.late: list[Batch | Exception] = []
        self.waits = 0.0
        #: Set: nothing comes any more when all that was held is given.
        self.ends = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self._stats = GroupStats()

    def supply(self, *batches: Batch | Exception) -> None:
        """Make batches available; an exception is raised in their place."""
        for batch in batches:
            self.shown.append(batch)
            os.eventfd_write(self._fd, 1)

    def open(self) -> None:
        self.calls.append("open")

    def fileno(self) -> int:
        return self._fd

    def receive(self) -> Batch:
        self.calls.append("receive")
        if self.held:
            return self._given(self.held.popleft())
        if self.shown:
            os.eventfd_read(self._fd)
            return self._given(self.shown.popleft())
        return Batch(None, 0)

    def drain(self) -> Iterator[Batch]:
        self.calls.append("drain")
        yield from map(self._given, [*self.held, *self.shown, *self.late])

    def _given(self, batch: Batch | Exception) -> Batch:
        if isinstance(batch, Exception):
            raise batch
        self._stats.received += len(batch)
        return batch

    @property
    def more(self) -> bool:
        return bool(self.held)

    @property
    def ended(self) -> bool:
        return self.ends and not self.held

    @property
    def pause(self) -> float:
        return self.waits

    def poll_now(self) -> None:
        self.calls.append("poll_now")

    def reopen(self) -> None:
        self.calls.append("reopen")

    @property
    def stats(self) -> Counters:
        return self._stats

    def close(self, timeout: float = 1.0) -> None:
        self.calls.append("close")
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Memory(Output[Options]):
    """Remembers the sequence numbers of all records; raises `fault` in the method named by `faulty`."""

    name = "MEMORY"
    consumes: ClassVar[tuple[str, ...]] = ANY_KEYS
    accepts = frozenset(("raw", "packet", "flow", "sum"))

    def __init__(self, instance: str = "memory", options: Options | None = None) -> None:
        super().__init__(instance, options or NoOptions())
        self.calls: list[str] = []
        self.got: list[int] = []
        self.batches: list[Batch] = []
        self.members: tuple[Member, ...] = ()
        self.faulty = ""
        self.fault: Exception = ValueError("a fault of the test's")
        self.due: float | None = None
        self.then: Callable[[], None] = nothing
        self._stats = OutputStats()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.faulty:
            raise type(self.fault)(*self.fault.args)  # a new one each time, as its traceback grows

    def bind(self, members: tuple[Member, ...]) -> None:
        self.members = members

    def open(self) -> None:
        self._called("open")

    def write(self, batch: Batch) -> None:
        self._called("write")
        self.batches.append(batch)
        self.got += batch.values("oob.seq.local")
        self._stats.records += len(batch)
        self._stats.written += len(batch)
        self.then()

    @property
    def deadline(self) -> float | None:
        return self.due

    def retry(self) -> None:
        self.due = None
        self._called("retry")

    def reopen(self) -> None:
        self._called("reopen")

    @property
    def stats(self) -> OutputStats:
        return self._stats

    @property
    def state(self) -> str:
        return "remembering"

    def close(self, timeout: float = 1.0) -> None:
        self._called("close")


class Through(Filter[Options]):
    """Does to a batch what the test wants."""

    name = "THROUGH"
    accepts = frozenset(("raw", "packet", "flow", "sum"))

    def __init__(self, does: Callable[[Batch], Any], instance: str = "through", *, adds: tuple[Key, ...] = ()) -> None:
        super().__init__(instance, NoOptions())
        self.adds = adds  # type: ignore[misc]
        self.does = does
        self.calls: list[str] = []

    def process(self, batch: Batch) -> Batch:
        return self.does(batch)  # type: ignore[no-any-return]

    def reopen(self) -> None:
        self.calls.append("reopen")

    def close(self, timeout: float = 1.0) -> None:
        self.calls.append("close")


def stack_of(source: Source, *plugins: Through | Memory) -> Stack:
    """Return a stack of these plugins, the last one an output, at the given source."""
    output = plugins[-1]
    assert isinstance(output, Memory)
    filters: list[Filter[Any]] = [plugin for plugin in plugins if isinstance(plugin, Through)]
    destination = Destination(output)
    share, _ = destination.join((), source.input)
    stack = Stack(f"stack-of-{output.instance}", source, filters, destination, share)
    source.stacks.append(stack)
    return stack
