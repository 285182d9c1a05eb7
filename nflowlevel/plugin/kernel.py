# SPDX-License-Identifier: GPL-2.0-or-later
"""The bases of inputs that read the kernel in one network namespace: of all, and of those that hand on a reader's.

The daemon closes an input whose namespace was deleted, and opens it again in the next one of that name: `stats` are
those of all readers that it had.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Generic, Protocol, TypeAlias, TypeVar

from msgspec import Meta

from nflowlevel.binding.netns import of_socket
from nflowlevel.options import CLAMPED
from nflowlevel.plugin.contract import Finding, Input, SomeOptions
from nflowlevel.readers.arguments import MAX_SOCKET_BUFFER, SOCKET_BUFFER, SocketBuffer
from nflowlevel.records.batch import Batch
from nflowlevel.stats import Counters

#: Of options: a size in bytes, and the size up to which it doubles; `buffers` says what 0 means.
SocketBufferSize: TypeAlias = Annotated[
    SocketBuffer,
    Meta(
        extra=CLAMPED,
        description=f"Size of the socket buffer in bytes (the kernel doubles it); 0: {SOCKET_BUFFER >> 20} MiB.",
    ),
]
SocketBufferMost: TypeAlias = Annotated[
    SocketBuffer,
    Meta(
        extra=CLAMPED,
        description="Size in bytes up to which it doubles when the kernel has no room in it; "
        f"0: {MAX_SOCKET_BUFFER >> 20} MiB.",
    ),
]


def buffers(size: int, most: int) -> tuple[int, int]:
    """Return size and most size of the socket buffer, as options of these types ask for them."""
    return size or SOCKET_BUFFER, most or max(size, MAX_SOCKET_BUFFER)


class KernelInput(Input[SomeOptions]):
    """An input that reads the kernel in a network namespace; root sees more there."""

    for_root = True

    def __init__(self, instance: str, options: SomeOptions, netns: str) -> None:
        """`netns`: its name or path, "" for the daemon's own."""
        super().__init__(instance, options)
        self.netns = netns or None

    def needs(self) -> Iterator[Finding]:
        """Its network namespace."""
        if self.netns:
            from nflowlevel.plugin import reach

            yield from reach.namespace(self.netns)


class Reader(Protocol):
    """What is open: a group, the flows of a namespace."""

    @property
    def more(self) -> bool:
        """Whether the last receive left something behind."""

    @property
    def pause(self) -> float:
        """How long it is worth to wait before the next receive."""

    @property
    def stats(self) -> Counters:
        """What was received and lost; also once it is closed."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def receive(self) -> Batch:
        """Return what has come."""

    def drain(self) -> Iterator[Batch]:
        """Stop reading and yield what the kernel still holds."""

    def close(self) -> None:
        """Give it back."""


SomeReader = TypeVar("SomeReader", bound=Reader)
SomeStats = TypeVar("SomeStats", bound=Counters)


class ReaderInput(KernelInput[SomeOptions], Generic[SomeOptions, SomeReader, SomeStats]):
    """An input that hands on what one reader gives."""

    #: Its counters: a plugin says which.
    Stats: type[SomeStats]
    _reader: SomeReader | None = None

    def __init__(self, instance: str, options: SomeOptions, netns: str) -> None:
        super().__init__(instance, options, netns)
        #: Of readers that were closed.
        self._stats = self.Stats()

    # -- for the subclass ----------------------------------------------------------------------------------------

    @abstractmethod
    def start(self) -> SomeReader:
        """Return the reader, open in `netns`; an error stops the stack."""

    # -- for the loop --------------------------------------------------------------------------------------------

    @property
    def reader(self) -> SomeReader:
        """The open reader."""
        assert self._reader is not None, f"{self.name} is used before open()"
        return self._reader

    def open(self) -> None:
        """Open the reader."""
        self._reader = reader = self.start()
        self.place = of_socket(reader.fileno()) if self.netns else None

    def fileno(self) -> int:
        """Return the reader's descriptor."""
        return self.reader.fileno()

    def receive(self) -> Batch:
        """Return what has come."""
        return self.reader.receive()

    def drain(self) -> Iterator[Batch]:
        """Stop reading and yield what the kernel still holds."""
        return self.reader.drain()

    @property
    def more(self) -> bool:
        """Whether to receive again at once."""
        return self.reader.more

    @property
    def pause(self) -> float:
        """How long it is worth to wait before the next receive."""
        return self.reader.pause

    @property
    def stats(self) -> SomeStats:
        """Counters of the reader, and of those that it had before."""
        stats = self.Stats()
        stats.add(self._stats)
        if self._reader:
            stats.add(self._reader.stats)
        return stats

    def close(self, timeout: float = 1.0) -> None:
        """Close the reader."""
        if reader := self._reader:
            reader.close()
            self._stats, self._reader = self.stats, None
