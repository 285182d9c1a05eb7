# SPDX-License-Identifier: GPL-2.0-or-later
"""GRAPHITE: counters to carbon, Graphite's receiver, or to any other receiver of its protocols.

Each object makes two points, `<prefix>.<name>.pkts` and `<prefix>.<name>.bytes`; a quota of nftables makes `.used` and
`.limit`, in bytes. Their time is `oob.time.sec` if the record has it and it is not 0, otherwise the time of writing. A
poll is sent in one piece. Two polls within one second, which SIGUSR2 can cause, get two different seconds: carbon keeps
only the last value of a second.

Names. A dot starts a level of Graphite's tree: `ipv4.http` is `http` under `ipv4`. Letters, digits and `_-:+@#=` stay
as they are. Any other byte becomes `%` and two hex digits (a blank `%20`, a slash `%2F`), and so does a dot at either
end or after another dot. Therefore no two objects share a series, whatever their names are, and no name breaks a line:
carbon refuses blanks, and closes the connection on a byte that is not UTF-8. A level of more than 255 bytes, the
longest possible file name, is cut and ends in `~` and a hash of the whole level. The same rules apply to `prefix`;
without a prefix there is no leading dot.

What is counted. With `zerocounter` each value is what was counted since the last poll. Give such series a finest
retention of at most `pollinterval`: carbon keeps one value per step and drops the others. Without `zerocounter` the
value is the total, for Graphite's `perSecond()` or `nonNegativeDerivative()`.

A receiver that is unavailable (also at the start), slow or closing stops nothing. Polls wait in memory, up to
`max_pending_bytes`, and are sent when the receiver is back; the output tries again after 0.1 s, 0.2 s … 5 s. When that
memory is full, the counts of further polls are added up (with `zerocounter`; otherwise the next total includes them)
and sent with the first poll that finds room. This loses resolution in time, but no packet. After a broken connection
the output sends again what TCP had not acknowledged, and what was acknowledged within the last 2 s, at most 8 MiB; a
point that arrives twice is the same point. `written` means handed to the peer's kernel; `maybe_lost` counts what a
receiver that was reset may not have read, and that was not sent again. UDP has no acknowledgement: if the receiver's
socket has no room, the points are lost without notice.
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from nflowlevel.delivery.framing import Frames, Lines
from nflowlevel.delivery.peer import Peer
from nflowlevel.logs import Limited
from nflowlevel.options import CLAMPED, Options, PortOrNone
from nflowlevel.plugin.contract import Finding, Member
from nflowlevel.plugin.lines import TargetOutput
from nflowlevel.stats import OutputStats

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch

_PLAINTEXT_PORT, _PICKLE_PORT = "2003", "2004"

#: Bytes of a name that stay as they are, and dots between other bytes.
_ESCAPED = re.compile(rb"[^A-Za-z0-9_:+@#=.-]|^\.|\.(?=\.|$)")
#: A file name is no longer (NAME_MAX): each level of the tree is a directory of carbon's.
_LEVEL_BYTES = 255
_HASH_DIGITS = 16

#: What a receiver that dies may not have read, though it was acknowledged: more than sockets keep by default (6 MiB).
_MOST_UNREAD = 8 << 20

#: Objects in a pickle. carbon takes 1 MiB at once and handles one in one go; its own relays send 500 points.
_PICKLE_OBJECTS = 500

#: After the clock was set back by more than this, its new time is taken although earlier points may be overwritten.
_CLOCK_SET_BACK_SECS = 60


class GRAPHITEOptions(Options, frozen=True, kw_only=True):
    """Options of GRAPHITE; `host`, `port` and `prefix` as in ulogd.conf."""

    host: Annotated[str, Meta(min_length=1, description="Name or address of the receiver.")] = "127.0.0.1"
    port: Annotated[
        PortOrNone, Meta(description=f"Port of the receiver; empty: {_PLAINTEXT_PORT}, or {_PICKLE_PORT} for pickle.")
    ] = ""
    prefix: Annotated[str, Meta(max_length=255, description="Text before each name, joined by a dot.")] = ""
    protocol: Annotated[
        Literal["plaintext", "pickle"], Meta(description="Lines of text, or carbon's pickles (TCP only).")
    ] = "plaintext"
    transport: Annotated[Literal["tcp", "udp"], Meta(description="Transport for the points.")] = "tcp"
    datagram_bytes: Annotated[
        int,
        Meta(
            ge=64,
            le=8192,
            extra=CLAMPED,
            description="UDP: most bytes of a datagram, filled with whole objects; carbon reads 8192.",
        ),
    ] = 1432
    max_pending_bytes: Annotated[
        int, Meta(ge=0, description="Most bytes of points kept in memory while the receiver is unavailable.")
    ] = 64 << 20

    def __post_init__(self) -> None:
        if self.protocol == "pickle" and self.transport == "udp":
            raise ValueError("protocol=pickle needs transport=tcp: carbon takes lines only over UDP")


class GRAPHITEStats(OutputStats):
    """A record is one object in one poll: its two points, and points sent later for counts that were carried over."""

    reasons: ClassVar[Mapping[str, str]] = {
        **OutputStats.reasons,
        "merged": "Memory was full, so it was not sent alone: the next value of the same object includes its counts.",
    }


@dataclass(frozen=True, slots=True)
class _Sums:
    """Objects and their two values each; `quotas` tells which are quotas, None that none is."""

    names: list[str]
    quotas: list[bool] | None
    first: list[int]
    second: list[int]

    @classmethod
    def of(cls, batch: Batch) -> _Sums:
        names, pkts, bytes_ = batch.values("sum.name"), batch.values("sum.pkts"), batch.values("sum.bytes")
        limits = batch.values("sum.limit") if batch.has("sum.limit") else []
        if not any(limit is not None for limit in limits):
            return cls(names, None, pkts, bytes_)
        rows = list(zip(pkts, bytes_, limits, strict=True))
        return cls(
            names,
            [limit is not None for limit in limits],
            [count if limit is None else used for count, used, limit in rows],
            [size if limit is None else limit for _, size, limit in rows],
        )

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return the values of those that are no quotas."""
        quotas = self.quotas or itertools.repeat(False)
        rows = zip(self.names, quotas, self.first, self.second)  # noqa: B905 (one may be endless)
        return {name: (pkts, bytes_) for name, quota, pkts, bytes_ in rows if not quota}

    def plus(self, counted: Mapping[str, tuple[int, int]]) -> _Sums:
        """Return these with the counts of `counted` added; those that are only there are counters."""
        left = dict(counted)
        first, second = self.first[:], self.second[:]
        for number, name in enumerate(self.names):
            if name in left and not (self.quotas and self.quotas[number]):
                pkts, bytes_ = left.pop(name)
                first[number] += pkts
                second[number] += bytes_
        return _Sums(
            [*self.names, *left],
            None if self.quotas is None else [*self.quotas, *itertools.repeat(False, len(left))],
            [*first, *(pkts for pkts, _ in left.values())],
            [*second, *(bytes_ for _, bytes_ in left.values())],
        )


class _Metrics:
    """What the points of each object are called, remembered as long as the objects stay the same."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.rstrip(".")
        self._names: list[str] = []
        self._quotas: list[bool] | None = None
        self._paths: dict[str, str] = {}
        self.pairs: list[tuple[str, str]] = []

    def name(self, sums: _Sums) -> bool:
        """Set `pairs` for these objects; whether they have changed."""
        if sums.names == self._names and sums.quotas == self._quotas:
            return False
        self._names, self._quotas = list(sums.names), sums.quotas and list(sums.quotas)
        self._paths = {name: self._paths.get(name) or self._path(name) for name in sums.names}
        quotas = self._quotas or itertools.repeat(False)
        self.pairs = [
            (f"{path}.used", f"{path}.limit") if quota else (f"{path}.pkts", f"{path}.bytes")
            for path, quota in zip(map(self._paths.__getitem__, sums.names), quotas)  # noqa: B905 (one may be endless)
        ]
        return True

    def _path(self, name: str) -> str:
        path = metric_path(name)
        return f"{metric_path(self._prefix)}.{path}" if self._prefix else path


class _Plaintext:
    """Lines: `path value time`. A poll is one template filled in: its objects are mostly those of the poll before."""

    def __init__(self, metrics: _Metrics) -> None:
        self._metrics = metrics
        self._template = b""

    def render(self, sums: _Sums, second: int) -> bytes:
        """Return the lines of all objects."""
        if self._metrics.name(sums):
            lines = (f"{first} \1 \0\n{other} \1 \0\n" for first, other in self._metrics.pairs)
            self._template = "".join(lines).replace("%", "%%").replace("\1", "%d").encode()
        values = [0] * (2 * len(sums.names))
        values[::2], values[1::2] = sums.first, sums.second
        return self._template.replace(b"\0", b"%d" % second) % tuple(values)


class _Pickle:
    """Pickled lists of (path, (time, value)), each with its length before it."""

    def __init__(self, metrics: _Metrics) -> None:
        self._metrics = metrics

    def render(self, sums: _Sums, second: int) -> bytes:
        """Return the frames of all objects."""
        self._metrics.name(sums)
        rows = zip(self._metrics.pairs, sums.first, sums.second, strict=True)
        points = [point for (a, b), x, y in rows for point in ((a, (second, x)), (b, (second, y)))]
        step = 2 * _PICKLE_OBJECTS
        # Protocol 2: the newest that any carbon reads.
        pickles = (pickle.dumps(points[start : start + step], protocol=2) for start in range(0, len(points), step))
        return b"".join(len(data).to_bytes(4, "big") + data for data in pickles)


class GRAPHITE(TargetOutput[GRAPHITEOptions, Peer]):
    """The GRAPHITE plugin; see the module."""

    name = "GRAPHITE"
    Options = GRAPHITEOptions
    consumes = ("sum.name", "sum.pkts", "sum.bytes", "[sum.limit]", "[oob.time.sec]")
    accepts = frozenset(("sum",))
    Stats = GRAPHITEStats

    def __init__(self, instance: str, options: GRAPHITEOptions) -> None:
        super().__init__(instance, options)
        metrics = _Metrics(options.prefix)
        self._renderer = _Pickle(metrics) if options.protocol == "pickle" else _Plaintext(metrics)
        self._second = 0
        self._seen: list[Sequence[str]] = []  # what the second has brought
        #: Counted, but not sent for want of room: added to the next poll that finds some.
        self._carried: dict[str, tuple[int, int]] = {}

    def make_target(self) -> Peer:
        """Return the receiver."""
        options = self.options
        pickles = options.protocol == "pickle"
        return Peer(
            options.transport,
            host=options.host,
            port=self._port,
            max_pending_bytes=options.max_pending_bytes,
            most_unread=_MOST_UNREAD,
            framing=Frames(_PICKLE_OBJECTS) if pickles else Lines(per_record=2, datagram_bytes=options.datagram_bytes),
            stats=self._stats,
            limited=Limited(),
        )

    def bind(self, members: tuple[Member, ...]) -> None:
        """Nothing to prepare: the keys are always the same."""

    def examine(self) -> Iterator[Finding]:
        """Look whether the receiver takes connections."""
        # Late: the daemon examines nothing.
        from nflowlevel.plugin import reach

        return reach.peer(self.options.transport, self.options.host, self._port)

    @property
    def _port(self) -> str:
        return self.options.port or (_PICKLE_PORT if self.options.protocol == "pickle" else _PLAINTEXT_PORT)

    def write(self, batch: Batch) -> None:
        """Send the objects of a poll, or keep them; never waits."""
        if not batch:
            return
        new = _Sums.of(batch)
        deltas = self._counts_deltas
        # What another stack counted is not added to totals of this one: it waits for the next counts.
        sums = new.plus(self._carried) if deltas and self._carried else new
        data = self._renderer.render(sums, self._later(batch.values("oob.time.sec")[0] or int(time.time()), new.names))
        with self._stats.lock:
            if deltas and not self._target.has_room(len(data)):
                self._carried = sums.counters()
                self._stats.records += len(new.names)
                self._stats.drop("merged", len(new.names))
            else:
                self._target.write(data, len(sums.names))
                if deltas:
                    self._carried = {}

    @property
    def _counts_deltas(self) -> bool:
        """Whether a value is what was counted since the last one."""
        return self.input is not None and self.input.deltas

    def _later(self, second: int, names: Sequence[str]) -> int:
        """Return the second, or the next one where it has brought an object of this name already."""
        if not 0 <= self._second - second < _CLOCK_SET_BACK_SECS:
            self._second, self._seen = second, []
        elif not set(names).isdisjoint(itertools.chain(*self._seen)):
            self._second, self._seen = self._second + 1, []
        self._seen.append(names)
        return self._second

    def close(self, timeout: float = 1.0) -> None:
        """Send what waits, as far as it goes, and close."""
        if self._carried:
            names, counts = list(self._carried), self._carried.values()
            sums = _Sums(names, None, [pkts for pkts, _ in counts], [size for _, size in counts])
            data = self._renderer.render(sums, self._later(int(time.time()), names))
            # There is no next poll that it could be added to.
            self._target.write(data, len(names), anyway=True)
            self._carried = {}
        super().close(timeout)


def metric_path(name: str) -> str:
    """Return the name of an object as a path of Graphite's, as the module says; no two names give the same."""
    raw = name.encode("utf-8", "surrogateescape")
    levels = _ESCAPED.sub(lambda byte: b"%%%02X" % byte[0][0], raw).split(b".")
    return b".".join(map(_cut, levels)).decode()


def _cut(level: bytes) -> bytes:
    if len(level) <= _LEVEL_BYTES:
        return level
    digest = hashlib.sha256(level).hexdigest()[:_HASH_DIGITS].encode()
    return level[: _LEVEL_BYTES - 1 - _HASH_DIGITS] + b"~" + digest
