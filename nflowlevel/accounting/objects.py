# SPDX-License-Identifier: GPL-2.0-or-later
"""Packet accounting of the kernel (nfnetlink_acct): counters with names that rules count into, some with a quota.

    accounting = nfl.Accounting()
    accounting.create("ipv4.http")                      # iptables … -m nfacct --nfacct-name ipv4.http
    accounting.get("ipv4.http").bytes
    table = accounting.dump_and_zero()                  # all of them: table.names, table.packets, table.bytes

Reading and zeroing a counter is one step of the kernel, so no packet is missed between them; `packets` and `bytes` are
two such counters, so of a packet that passes at that moment one may be in this reading and the other in the next.

`dump_and_zero` loses nothing either, which takes more than asking for it. Where a datagram of a dump ends within an
object, the kernel has zeroed that object without telling its counts: `nfacct list reset` loses one object in a hundred
(net/netfilter/nfnetlink_acct.c, nfnl_acct_fill_info; seen on Linux 6.18). So the objects are listed first, and the
length of each datagram is chosen so that it ends between two. Where objects came or went in between, and one was caught
all the same, its counts are taken from that list and it is counted in `recovered`: only packets that passed between the
two dumps, some milliseconds at most, may then be missing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from types import TracebackType

from nflowlevel.accounting.events import QuotaEvents
from nflowlevel.accounting.table import Counter, CounterTable
from nflowlevel.binding.nfacct import (
    BYTE_QUOTA,
    NAME_BYTES,
    OVER_QUOTA,
    PACKET_QUOTA,
    AcctSocket,
    CounterArray,
    Dump,
    plan,
)
from nflowlevel.errors import KernelError, NflowError, choice, nearest

#: What a list can be limited to: the kernel's filter, (flags & mask) == value.
FILTERS: dict[str, tuple[int, int]] = {
    "plain": (PACKET_QUOTA | BYTE_QUOTA, 0),
    "packet-quota": (PACKET_QUOTA, PACKET_QUOTA),
    "byte-quota": (BYTE_QUOTA, BYTE_QUOTA),
    "over-quota": (OVER_QUOTA, OVER_QUOTA),
    "not-over-quota": (OVER_QUOTA, 0),
}

_MOST = 2**64 - 1
#: A dump that was cut short is made again, at most so often.
_TRIES = 5
#: Among more names than this none is looked for that resembles a wrong one: it would take seconds.
_FEW_NAMES = 2000


class Accounting:
    """The accounting objects of one network namespace; netns is a name, a path, or None for the thread's own.

    Use it from one thread only. It needs CAP_NET_ADMIN, even to read. Close it, or use it as a context manager.
    """

    def __init__(self, netns: str | None = None) -> None:
        self.netns = netns
        self._socket = AcctSocket(netns)

    def __repr__(self) -> str:
        return f"<Accounting of namespace {self.netns}>" if self.netns else "<Accounting>"

    # -- single objects ------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        packets: int = 0,
        bytes: int = 0,
        packet_quota: int | None = None,
        byte_quota: int | None = None,
    ) -> None:
        """Create an object that starts at `packets` and `bytes`; give at most one of the quotas.

        If the object has a quota, its rules match only beyond it. KernelError with errno EEXIST if the name is taken.
        """
        if packet_quota is not None and byte_quota is not None:
            raise ValueError(f"create accounting object {name!r}: a quota counts packets or bytes, not both")
        quota = packet_quota if packet_quota is not None else byte_quota
        for what, number in (("packets", packets), ("bytes", bytes), ("quota", quota)):
            if number is not None and not 0 <= number <= _MOST:
                raise ValueError(f"create accounting object {name!r}: {what} {number}: must be 0 to {_MOST}")
        flags = PACKET_QUOTA if packet_quota is not None else BYTE_QUOTA if byte_quota is not None else 0
        try:
            self._socket.create(checked(name), packets=packets, bytes_=bytes, flags=flags, quota=quota or 0)
        except KernelError as error:
            if error.errno == errno.EEXIST:
                raise KernelError(error.tried, errno.EEXIST, "delete it first, or use the existing one") from None
            raise

    def get(self, name: str) -> Counter:
        """Return the object of that name; KernelError with errno ENOENT if there is no such object."""
        return self._get(name, zero=False)

    def get_and_zero(self, name: str) -> Counter:
        """Return the object of that name and set it to zero, in one step; this restarts its quota."""
        return self._get(name, zero=True)

    def _get(self, name: str, *, zero: bool) -> Counter:
        try:
            return CounterTable(self._socket.get(checked(name), zero=zero))[0]
        except KernelError as error:
            raise self._explained(error, name) from None

    def delete(self, name: str) -> None:
        """Delete an object; KernelError with errno EBUSY while a rule uses it."""
        try:
            self._socket.delete(checked(name))
        except KernelError as error:
            raise self._explained(error, name) from None

    def _explained(self, error: KernelError, name: str) -> KernelError:
        """Return the error with what to do about it."""
        hint = error.hint
        if error.errno == errno.ENOENT:
            known = self.dump().names
            hint = "no object has that name"
            if len(known) <= _FEW_NAMES:
                hint += nearest(name, known) or "; list them with: nflowlevel acct list"
        elif error.errno == errno.EBUSY:
            hint = f"{_rules(self.get(name).rules)}; remove what `iptables-save | grep nfacct` shows of it"
        return KernelError(error.tried, error.errno or 0, hint)

    # -- all objects ---------------------------------------------------------------------------------------------

    def dump(self, only: str | tuple[int, int] | None = None) -> CounterTable:
        """Return all objects (or `only` some) as a table with columns."""
        best: Dump | None = None
        for _ in range(_TRIES):
            dump = self._socket.dump(zero=False, only=_filter(only))
            if dump.error:
                raise KernelError("list accounting objects", dump.error)
            same = best is not None and best.counters.count == dump.counters.count
            if best is None or dump.counters.count >= best.counters.count:
                best = dump
            # Deleting the very object at which a dump stopped ends it; one that ends alike twice was complete.
            if same or not dump.may_be_cut:
                break
        assert best is not None
        return CounterTable(best.counters, malformed=best.malformed)

    def dump_and_zero(self, only: str | tuple[int, int] | None = None) -> CounterTable:
        """Return all objects (or `only` some) as a table and set each to zero as it is read; this restarts quotas.

        Counts that were zeroed are always returned: if reading fails half-way, `error` of the table says so.
        """
        table: CounterTable | None = None
        for _ in range(_TRIES):
            try:
                part, complete = self._zeroed(only)
            except NflowError as error:
                if table is None:
                    raise
                table.error = str(error)
                break
            table = _joined(table, part) if table else part
            if complete:
                break
        assert table is not None
        return table

    def _zeroed(self, only: str | tuple[int, int] | None) -> tuple[CounterTable, bool]:
        """Return what one dump zeroed, and whether it need not be made again."""
        before = self.dump(only).counters
        dump = self._zero(before, _filter(only))
        table = CounterTable(
            dump.counters,
            recovered=_recover(before, dump),
            malformed=dump.malformed,
            error=os.strerror(dump.error) if dump.error else "",
        )
        return table, bool(dump.error) or not dump.may_be_cut or _last(before) == _last(dump.counters)

    def _zero(self, before: CounterArray, only: tuple[int, int] | None) -> Dump:
        rooms = plan(before)
        if len(rooms) == 1:
            return self._socket.dump(zero=True, only=only, rooms=rooms)
        try:
            fresh = AcctSocket(self.netns)
        except KernelError:
            # Where the namespace cannot be entered again `_recover` has to do.
            return self._socket.dump(zero=True, only=only)
        try:
            if fresh.socket.namespace != self._socket.socket.namespace:
                # Another one has its name by now.
                return self._socket.dump(zero=True, only=only)
            return fresh.dump(zero=True, only=only, rooms=rooms)
        finally:
            fresh.close()

    def flush(self) -> list[str]:
        """Delete all objects that no rule uses; return the names of the remaining ones."""
        self._socket.flush()
        return self.dump().names

    def list(self, only: str | tuple[int, int] | None = None) -> list[Counter]:
        """Return all objects, or those that `only` selects: a name of FILTERS, or the kernel's (mask, value)."""
        return [*self.dump(only)]

    def restore(self, counters: Iterable[Counter]) -> None:
        """Create objects with these names, counts and quotas: all of them, or none if one cannot be created."""
        created: list[Counter] = []
        try:
            for counter in counters:
                over = {f"{unit[:-1]}_quota": counter.quota} if (unit := counter.quota_unit) else {}
                self.create(counter.name, packets=counter.packets, bytes=counter.bytes, **over)
                created.append(counter)
        except BaseException:
            for counter in reversed(created):
                with contextlib.suppress(KernelError):  # a rule that uses it already
                    self.delete(counter.name)
            raise

    # -- surroundings --------------------------------------------------------------------------------------------

    def quota_events(self) -> QuotaEvents:
        """Return a stream of the objects that reach their quota from now on."""
        return QuotaEvents(self.netns)

    def close(self) -> None:
        """Close the socket; the objects stay. May be called again."""
        self._socket.close()

    def __enter__(self) -> Accounting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def checked(name: str) -> bytes:
    """Return a name as the kernel has it; ValueError says what is wrong with it."""
    encoded = name.encode("utf-8", "surrogateescape")
    if not encoded:
        raise ValueError("the name of an accounting object must not be empty")
    if b"\0" in encoded:
        raise ValueError(f"accounting object {name!r}: a name cannot contain a NUL character")
    if len(encoded) > NAME_BYTES:
        raise ValueError(
            f"accounting object {name!r}: a name must be at most {NAME_BYTES} bytes long, not {len(encoded)}"
        )
    return encoded


def _filter(only: str | tuple[int, int] | None) -> tuple[int, int] | None:
    if not isinstance(only, str):
        return only
    try:
        return FILTERS[only]
    except KeyError:
        raise ValueError(f"unknown filter '{only}'{choice(only, FILTERS)}") from None


def _rules(count: int) -> str:
    return f"{count} {'rule counts' if count == 1 else 'rules count'} into it"


def _last(counters: CounterArray) -> bytes:
    return counters.name(counters.count - 1) if counters.count else b""


def _recover(before: CounterArray, dump: Dump) -> int:
    """Give counts back to objects that the kernel zeroed without telling; return how many there were.

    It can only have been an object with which a datagram begins: it had no room at the end of the one before.
    """
    names: dict[str, int] = {}
    recovered = 0
    for start in dump.starts:
        now, row = dump.counters.records[start], start
        name = dump.counters.name(start)
        if row >= before.count or before.name(row) != name:
            names = names or {name: row for row, name in enumerate(before.names())}
            row = names.get(name.decode("utf-8", "surrogateescape"), -1)
        then = before.records[row] if row >= 0 else None
        # Counters do not shrink: less than before means that it was zeroed since.
        if then and (now.packets < then.packets or now.bytes < then.bytes):
            now.packets = min(now.packets + then.packets, _MOST)
            now.bytes = min(now.bytes + then.bytes, _MOST)
            now.flags |= then.flags & OVER_QUOTA
            recovered += 1
    return recovered


def _joined(table: CounterTable, more: CounterTable) -> CounterTable:
    """Return two dumps that zeroed as one: an object in both has the sum of what it counted."""
    counters = table.counters
    rows = {name: row for row, name in enumerate(counters.names())}
    for added, name in enumerate(more.names):
        record = more.counters.records[added]
        row = rows.get(name)
        if row is None:
            counters.append(record)
            continue
        into = counters.records[row]
        into.packets = min(into.packets + record.packets, _MOST)
        into.bytes = min(into.bytes + record.bytes, _MOST)
        into.flags |= record.flags
    return CounterTable(
        counters,
        recovered=table.recovered + more.recovered,
        malformed=table.malformed + more.malformed,
        error=more.error,
    )
