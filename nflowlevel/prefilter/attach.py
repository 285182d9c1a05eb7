# SPDX-License-Identifier: GPL-2.0-or-later
"""Put a prefilter's program in front of packet logging, in rules of our own; paste.py has lines for one's own firewall.

`attach` makes a table of our own, `inet nflowlevel-NAME`, whose rules ask the program about each packet that comes to
a hook, and log what it matches to a group, or set bits of its mark for the user's own rules to match. The rules decide
nothing about the packet's way, and no file of the user's firewall changes. `nft list ruleset` shows them as `xt match
bpf`, which nft cannot load again: leave the table out of a dump that is to be restored.

A group wants its packets before the firewall drops them, so that rule comes right before the filter; a mark has to be
there before anybody looks at it. `priority` places it elsewhere.

When the process ends: with `on_exit="no-match"` the table goes with it, be it killed; others cannot flush or change it
before. With `on_exit="keep"` it stays, until somebody detaches or flushes it, and the next `attach` replaces it; the
program behind it stays only if it is pinned.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from types import TracebackType

from nflowlevel.binding import nftmatch
from nflowlevel.binding.nftmatch import HOOKS, TABLE_PREFIX, LogTo, Mark, MatchTable
from nflowlevel.errors import choice

_ON_EXIT = ("no-match", "keep")
#: Before the chains of nft's and iptables' filter tables, behind those that mangle and translate.
_BEFORE_FILTER = -1
#: Before everything, the raw tables included.
_FIRST = -301
#: The kernel takes no longer prefix (NF_LOG_PREFIXLEN).
NFT_PREFIX_BYTES = 127
#: The name of a prefilter, which nft takes as the end of a table's name.
_NAME = re.compile("[A-Za-z0-9_-]{1,64}")


class Attachment:
    """Our own rules that call a program. `detach` removes them; `release` treats them as `on_exit` says.

    Forgetting the object releases them. As a context manager it detaches.
    """

    def __init__(self, table: MatchTable, hooks: tuple[str, ...], then: LogTo | Mark) -> None:
        self._table = table
        self.hooks = hooks
        self.then = then

    @property
    def table(self) -> str:
        """Name of the table in nft."""
        return f"inet {self._table.name}"

    def __repr__(self) -> str:
        return f"<Attachment {self.table} at {', '.join(self.hooks)}: {self.then}>"

    def detach(self) -> None:
        """Remove the rules; may be called again."""
        self._table.remove()

    def release(self) -> None:
        """Release the rules as the end of the process would: they are removed or kept. May be called again."""
        self._table.close()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def attach(
    program: int,
    name: str,
    *,
    hooks: Collection[str] = ("input",),
    group: int | None = None,
    prefix: str = "",
    snaplen: int = 0,
    queue_threshold: int = 0,
    mark: int | None = None,
    mask: int | None = None,
    priority: int | None = None,
    on_exit: str = "no-match",
    netns: str | None = None,
) -> Attachment:
    """Ask a program, by descriptor, about the packets at these hooks; log what it matches to `group`, or set `mark`.

    `mask` says which bits of the mark are set, those of `mark` by default; the others stay. A packet that passes two
    of the hooks is asked about twice. ValueError for settings that do not fit, KernelError where the kernel refuses or
    another process has attached the same prefilter, NotSupported where the kernel cannot.
    """
    table = table_name(name)
    hooks = checked_hooks(hooks)
    _known("on_exit", on_exit, _ON_EXIT)
    then = action(group, mark, mask, prefix, snaplen, queue_threshold)
    if priority is None:
        priority = _BEFORE_FILTER if mark is None else _FIRST
    in_range("priority", priority, -(1 << 31), (1 << 31) - 1)
    keep = on_exit == "keep"
    return Attachment(
        MatchTable(table, name, program, hooks, then, priority=priority, keep=keep, netns=netns), hooks, then
    )


def detach(name: str, *, netns: str | None = None) -> bool:
    """Take away the kept rules of a prefilter whose process has ended; False where there are none.

    KernelError where a process still owns them.
    """
    return nftmatch.remove(table_name(name), netns)


def table_name(name: str) -> str:
    """Return the name of the table that serves the prefilter `name`."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"prefilter name {name!r}: must be 1 to 64 letters, digits, '_' and '-'")
    return TABLE_PREFIX + name


# -- settings ---------------------------------------------------------------------------------------------------------


def checked_hooks(hooks: Collection[str]) -> tuple[str, ...]:
    """Return hooks as `attach` takes them; ValueError for those that it does not."""
    if isinstance(hooks, str):
        raise TypeError(f"hooks: must be a list, such as [{hooks!r}]")
    for hook in hooks:
        _known("hook", hook, HOOKS)
    if not hooks or len(set(hooks)) < len(hooks):
        raise ValueError(f"hooks: must be one or more of {', '.join(HOOKS)}, each at most once")
    return tuple(hooks)


def _known(what: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} '{value}'{choice(value, known)}")


def action(
    group: int | None, mark: int | None, mask: int | None, prefix: str = "", snaplen: int = 0, queue_threshold: int = 0
) -> LogTo | Mark:
    """Return what becomes of packets that match; ValueError where these settings do not fit together."""
    if (group is None) == (mark is None):
        raise ValueError("give either a group to log to or a mark to set, not both")
    return _log(group or 0, prefix, snaplen, queue_threshold) if mark is None else mark_of(mark, mask)


def _log(group: int, prefix: str, snaplen: int, queue_threshold: int) -> LogTo:
    in_range("group", group, 0, 0xFFFF)
    in_range("snaplen", snaplen, 0, 0xFFFFFFFF)
    in_range("queue_threshold", queue_threshold, 0, 0xFFFF)
    check_prefix(prefix, NFT_PREFIX_BYTES)
    return LogTo(group, prefix, snaplen, queue_threshold)


def mark_of(mark: int, mask: int | None) -> Mark:
    """Return a mark and its mask, by default the bits of the mark; ValueError where they do not fit together."""
    in_range("mark", mark, 0, 0xFFFFFFFF)
    mask = mark if mask is None else mask
    in_range("mask", mask, 1, 0xFFFFFFFF)
    if mark & ~mask:
        raise ValueError(f"mark {mark:#x} has bits that its mask {mask:#x} does not have")
    return Mark(mark, mask)


def check_prefix(prefix: str, most: int) -> None:
    """Refuse a prefix of more bytes than that, by ValueError."""
    if len(prefix.encode()) > most or "\0" in prefix:
        raise ValueError(f"prefix {prefix!r}: must be at most {most} bytes long, without a NUL byte")


def in_range(what: str, value: int, least: int, most: int) -> None:
    """Refuse a number outside of these, by ValueError."""
    if not least <= value <= most:
        raise ValueError(f"{what} {value}: must be {least} to {most}")
