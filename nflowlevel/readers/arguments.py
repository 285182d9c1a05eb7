# SPDX-License-Identifier: GPL-2.0-or-later
"""What a group or a capture file is opened with: the type of each argument with its range, unit and meaning, once for
Python and for the configuration; and `checked`, by which a call is held to them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Literal, ParamSpec, TypeAlias, TypeVar

from msgspec import Meta

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

ProfileName = Literal["default", "latency", "throughput"]
CopyMode = Literal["packet", "meta", "none"]

_U32 = 0xFFFF_FFFF

GroupNumber: TypeAlias = Annotated[int, Meta(ge=0, le=0xFFFF)]
CopyRange: TypeAlias = Annotated[
    int, Meta(ge=0, le=0xFFFF, description="Bytes of a packet that the kernel copies; 0: all.")
]
QThreshold: TypeAlias = Annotated[
    int, Meta(ge=0, le=_U32, description="Packets the kernel gathers before it sends them; 0: the profile's value.")
]
QTimeout: TypeAlias = Annotated[
    int,
    Meta(ge=0, le=_U32, description="Longest wait of a packet in the kernel, in 1/100 s; 0: the profile's value."),
]
NlBufSiz: TypeAlias = Annotated[
    int, Meta(ge=0, le=131072, description="Bytes the kernel gathers before it sends them; 0: the profile's value.")
]
#: More than this the kernel does not take for SO_RCVBUF, which it doubles.
SocketBuffer: TypeAlias = Annotated[int, Meta(ge=0, le=0x3FFF_FFFF)]
#: How large the socket buffer is, and up to which size it doubles when the kernel loses something.
SOCKET_BUFFER, MAX_SOCKET_BUFFER = 64 << 20, 256 << 20
Label: TypeAlias = Annotated[
    int, Meta(ge=0, le=0xFF, description="Value of `raw.label`; by convention 0 means blocked.")
]
HeldBytes: TypeAlias = Annotated[int, Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


def checked(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Check what a function is called with, by the annotations of its arguments.

    TypeError for an option that it does not have, with the nearest one, and for a value of another type; ValueError for
    a value that is not allowed.
    """

    @functools.wraps(function)
    def call(*args: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        from nflowlevel.options import check_call  # a process that only imports the package does not need it

        args_, options_ = check_call(function, args, options)
        return function(*args_, **options_)

    return call
