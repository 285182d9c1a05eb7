# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors that cannot be lost: owned from the moment they are open, whenever Python is interrupted.

A KeyboardInterrupt may come between a call and keeping what it returned. So C opens into an owner that exists before
(`struct nfl_descriptor` in _cdefs/descriptor.h), and closes what is left when the owner goes. Neither step runs Python,
so neither can be interrupted; and no `__del__` is needed, in which an interrupt would be lost.

    event = Descriptor()
    check(lib.nfl_descriptor_event(event.into), "make an event")
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.errors import KernelError


class Descriptor:
    """Owns a descriptor, or none yet. Close it, or let it go."""

    __slots__ = ("into",)

    def __init__(self) -> None:
        #: What C opens into.
        self.into: CData = ffi.gc(ffi.new("struct nfl_descriptor *", {"fd": -1}), lib.nfl_descriptor_close)

    @classmethod
    def opened(cls, path: str | os.PathLike[str], flags: int, *, within: int | None = None) -> Self:
        """Open a file that is there, relative to the directory `within`; OSError."""
        self = cls()
        result = lib.nfl_descriptor_open(self.into, _AT_FDCWD if within is None else within, os.fsencode(path), flags)
        if result:
            raise OSError(-result, os.strerror(-result), os.fspath(path))
        return self

    @classmethod
    def event(cls) -> Self:
        """Make an eventfd(2)."""
        self = cls()
        check(lib.nfl_descriptor_event(self.into), "make an event descriptor")
        return self

    def take(self, fd: int) -> None:
        """Own a descriptor that somebody else has opened."""
        self.into.fd = fd

    def detach(self) -> int:
        """Return the descriptor and own it no more."""
        fd, self.into.fd = self.fd, -1
        return fd

    @property
    def fd(self) -> int:
        """The descriptor; -1 once closed."""
        return int(self.into.fd)

    def __bool__(self) -> bool:
        """Whether it is open."""
        return self.fd >= 0

    def close(self) -> None:
        """Close it; may be called again, and from any thread."""
        lib.nfl_descriptor_close(self.into)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


#: `openat`: relative to where the process is.
_AT_FDCWD = -100


def check(result: int, tried: str, hint: str = "") -> None:
    """Raise KernelError where C returned -errno."""
    if result < 0:
        raise KernelError(tried, -result, hint)
