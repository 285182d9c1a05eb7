# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of a prefilter as they are given in Python, with their types; conditions.py says what each means.

A configuration has lists as texts with commas. In Python they may also be sequences, of numbers or of the standard
library's networks too.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal, TypeAlias, TypedDict

_Network: TypeAlias = (
    str | IPv4Network | IPv6Network | IPv4Address | IPv6Address | IPv4Interface | IPv6Interface
)  # fmt: skip
Networks: TypeAlias = _Network | Iterable[_Network]
Words: TypeAlias = str | Iterable[str]
Numbers: TypeAlias = int | str | Iterable[int | str]


class Rules(TypedDict, total=False):
    """Keyword arguments of a prefilter: all may be left out."""

    ignore: Networks
    only: Networks
    ignore_dst: Networks
    only_dst: Networks
    protocols: Numbers
    sports: Numbers
    dports: Numbers
    tcp_flags: Words
    sample: int
    first_of_flow: float
    rate: float
    burst: int
    rate_prefix4: int
    rate_prefix6: int
    global_rate: float
    global_burst: int
    top: bool
    sources: int
    flows: int
    on_exit: Literal["no-match", "keep"]
