# SPDX-License-Identifier: GPL-2.0-or-later
"""PROMETHEUS: an HTTP endpoint, `/metrics`, for Prometheus to scrape: the counters of its stack and the daemon's own.

At the end of a stack of counters (NFACCT, NFTCOUNTER) each object is a series with its name in the label `name`:
`nflowlevel_accounting_packets_total` and `nflowlevel_accounting_bytes_total`. A quota of nftables has
`nflowlevel_quota_used_bytes` and `nflowlevel_quota_limit_bytes`. If the input zeroes the kernel's counters, the output
adds the values up: a series starts at 0 with the daemon and only grows. Otherwise it is the kernel's total. At the end
of a stack of packets the output serves only the daemon's counters: `stack=log1:NFLOG,prom1:PROMETHEUS` with the log1 of
another stack costs almost nothing.

The daemon's own counters cover all stacks: what each input received and missed (`nflowlevel_input_…`, listed in
docs/plugins.md), what became of each output's records (`nflowlevel_output_…`, with `dropped` by reason), whether a
stack runs (`nflowlevel_stack_up`) and what an output is doing (`nflowlevel_output_state_info`). If several stacks end
in one output, `records` and `dropped` are counted for each of them; what belongs to no single one has an empty `stack`.

The text format is OpenMetrics; a client that asks only for the older text format gets that one. The endpoint listens on
loopback unless `host` says otherwise, because it has no password. At most `max_series` series come from accounting;
further objects are dropped and counted. An object that was not seen for `forget_secs` is forgotten. Clients have their
own threads: a slow client delays no other client and does not delay the receiving of packets.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from msgspec import Meta

from nflowlevel.delivery.endpoint import Endpoint
from nflowlevel.errors import NotSupported
from nflowlevel.options import Options, PortNumber
from nflowlevel.plugin.contract import DaemonView, Finding, Member, Output, StackView
from nflowlevel.stats import OutputStats, counter

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from nflowlevel.prefilter.counters import PrefilterCounters
    from nflowlevel.records.batch import Batch
    from nflowlevel.stats import Declared, Giver

_PATH = "/metrics"
#: The series of an object: packets and bytes, or used and limit.
_SERIES_PER_OBJECT = 2
#: How often objects that are to be forgotten are looked for.
_SWEEP_SECS = 10.0

_STACK, _INPUT, _OUTPUT = ("stack",), ("input", "plugin"), ("stack", "output", "plugin")


class PROMETHEUSOptions(Options, frozen=True, kw_only=True):
    """Options of PROMETHEUS."""

    section_optional: ClassVar[bool] = True

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on; `0.0.0.0` or `::` means all addresses.")
    ] = "127.0.0.1"
    port: Annotated[PortNumber, Meta(description="Port to listen on; 0: any free port.")] = 9747
    max_series: Annotated[
        int, Meta(ge=2, description="Most series of accounting objects, two per object; the daemon's own do not count.")
    ] = 20_000
    forget_secs: Annotated[
        int,
        Meta(ge=1, description="Seconds after which an object no longer seen is removed; more than a poll interval."),
    ] = 300


class PROMETHEUSStats(OutputStats):
    """A record is one object in one poll."""

    reasons: ClassVar[Mapping[str, str]] = {"series": "There were more objects than `max_series` allows."}

    scrapes = counter("scrapes", "Number of times the endpoint was read.")


class _Object:
    """An object's last values; `is_quota`: used and limit, else packets and bytes."""

    __slots__ = ("first", "is_quota", "second", "seen")

    def __init__(self, is_quota: bool) -> None:
        self.is_quota = is_quota
        self.first = self.second = 0
        self.seen = 0.0


class PROMETHEUS(Output[PROMETHEUSOptions]):
    """The PROMETHEUS plugin; see the module."""

    name = "PROMETHEUS"
    Options = PROMETHEUSOptions
    consumes = ("[sum.name]", "[sum.pkts]", "[sum.bytes]", "[sum.limit]")
    accepts = frozenset(("raw", "packet", "flow", "sum"))

    def __init__(self, instance: str, options: PROMETHEUSOptions) -> None:
        super().__init__(instance, options)
        self._stats = PROMETHEUSStats()
        self._endpoint: Endpoint | None = None
        self._objects: dict[str, _Object] = {}
        self._sweep_at = 0.0
        # Guards what the loop writes and a client's thread reads.
        self._lock = threading.Lock()
        self._daemon: DaemonView | None = None
        self._rendering = threading.Lock()

    def watch(self, daemon: DaemonView) -> None:
        """Remember whom to report on."""
        self._daemon = daemon

    def bind(self, members: tuple[Member, ...]) -> None:
        """Nothing to prepare: the keys are always the same."""

    def load(self) -> None:
        """Import prometheus-client."""
        for name in ("core", "exposition", "openmetrics.exposition"):
            importlib.import_module(f"prometheus_client.{name}")

    def open(self) -> None:
        """Listen; NotSupported without prometheus-client, OutputError where the address is taken."""
        try:
            import prometheus_client  # noqa: F401 (late: only this plugin needs it)
        except ImportError:
            raise NotSupported(
                "PROMETHEUS", found="no Python module prometheus_client", needed="pip install 'nflowlevel[prometheus]'"
            ) from None
        self.close()
        self._endpoint = Endpoint(self.options.host, self.options.port, _PATH, self._answer, self._stats)

    def examine(self) -> Iterator[Finding]:
        """Look whether the address can be listened on."""
        # Late: the daemon examines nothing.
        from nflowlevel.plugin import reach

        return reach.listening(self.options.host, self.options.port)

    def write(self, batch: Batch) -> None:
        """Take the values of a poll; of packets there is nothing to take."""
        refused = self._take(batch) if batch.has("sum.name") else 0
        with self._stats.lock:
            self._stats.records += len(batch)
            self._stats.written += len(batch) - refused
            self._stats.drop("series", refused)

    def _take(self, batch: Batch) -> int:
        """Take the values; return how many objects found no room."""
        names, pkts, bytes_ = batch.values("sum.name"), batch.values("sum.pkts"), batch.values("sum.bytes")
        limits = batch.values("sum.limit") if batch.has("sum.limit") else [None] * len(batch)
        deltas = self.input is not None and self.input.deltas
        room = self.options.max_series // _SERIES_PER_OBJECT
        now = time.monotonic()
        refused = 0
        with self._lock:
            self._sweep(now)
            for name, count, size, limit in zip(names, pkts, bytes_, limits, strict=True):
                label = name if name.isascii() else _label(name)
                found = self._objects.get(label)
                if found is None or found.is_quota != (limit is not None):
                    if found is None and len(self._objects) >= room:
                        refused += 1
                        continue
                    found = self._objects[label] = _Object(limit is not None)
                found.seen = now
                if limit is not None:
                    found.first, found.second = size, limit
                elif deltas:
                    found.first += count
                    found.second += size
                else:
                    found.first, found.second = count, size
        return refused

    def _sweep(self, now: float) -> None:
        """Forget objects that have gone, now and then."""
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_SECS
            old = now - self.options.forget_secs
            self._objects = {label: each for label, each in self._objects.items() if each.seen >= old}

    # -- in the clients' threads ---------------------------------------------------------------------------------

    def _answer(self, accept: str) -> tuple[str, bytes]:
        """Return content type and text of all metrics."""
        from prometheus_client import exposition
        from prometheus_client.core import CollectorRegistry
        from prometheus_client.openmetrics import exposition as openmetrics

        with self._stats.lock:
            self._stats.scrapes += 1
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        old = "text/plain" in accept and "application/openmetrics-text" not in accept
        format_ = exposition if old else openmetrics
        # One at a time: it takes the interpreter from the loop, a few milliseconds for a thousand objects.
        with self._rendering:
            return format_.CONTENT_TYPE_LATEST, format_.generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; prometheus-client calls this."""
        from prometheus_client.core import InfoMetricFamily

        from nflowlevel import __version__

        yield from self._accounting()
        yield InfoMetricFamily("nflowlevel", "The daemon.", {"version": __version__})
        if self._daemon:
            yield from self._of_daemon(self._daemon)

    def _accounting(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        packets = CounterMetricFamily(
            "nflowlevel_accounting_packets", "Packets counted.", None, ["name"], unit="packets"
        )
        bytes_ = CounterMetricFamily("nflowlevel_accounting_bytes", "Bytes counted.", None, ["name"], unit="bytes")
        used = GaugeMetricFamily("nflowlevel_quota_used_bytes", "Bytes used of a quota.", None, ["name"], unit="bytes")
        limit = GaugeMetricFamily("nflowlevel_quota_limit_bytes", "Bytes a quota allows.", None, ["name"], unit="bytes")
        with self._lock:
            values = [(label, each.is_quota, each.first, each.second) for label, each in self._objects.items()]
        for label, is_quota, first, second in values:
            (used if is_quota else packets).add_metric([label], first)
            (limit if is_quota else bytes_).add_metric([label], second)
        yield from (packets, bytes_, used, limit)

    def _of_daemon(self, daemon: DaemonView) -> Iterator[Metric]:
        """Yield what the daemon counts itself: of its stacks, inputs and outputs."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        up = GaugeMetricFamily("nflowlevel_stack_up", "1 while the stack runs.", None, _STACK)
        faults = CounterMetricFamily(
            "nflowlevel_stack_dropped_records", "Records that a fault of a plugin cost.", None, _STACK, unit="records"
        )
        dropped = CounterMetricFamily(
            "nflowlevel_output_dropped_records", "Records discarded.", None, (*_OUTPUT, "reason"), unit="records"
        )
        states = InfoMetricFamily("nflowlevel_output_state", "What the output is doing.", None, _OUTPUT)
        ends: dict[Output[Any], list[tuple[str, StackView]]] = {}
        for text, stack in zip(_distinct(_label(stack.text) for stack in daemon.stacks), daemon.stacks, strict=True):
            up.add_metric((text,), stack.is_open)
            faults.add_metric((text,), stack.dropped)
            ends.setdefault(stack.output, []).append((text, stack))
        outputs: dict[tuple[str, ...], _Counted] = {}
        for output, stacks in ends.items():
            name = (_label(output.instance), output.name)
            shares = {text: stack.share.counted for text, stack in stacks} if len(stacks) > 1 else {}
            own = ("" if shares else stacks[0][0], *name)
            states.add_metric(own, {"state": _label(output.state)})
            with output.stats.lock:
                output.stats.note()
                outputs |= {(text, *name): _given(giver, output.stats) for text, giver in shares.items()}
                outputs[own] = _rest(output.stats, shares.values())
        for labels, counted in outputs.items():
            for reason, count in counted.dropped.items():
                dropped.add_metric((*labels, reason), count)
        inputs: dict[tuple[str, ...], _Counted] = {}
        for source in (stack.source for stack in daemon.stacks if stack.source.is_open):
            stats = source.input.stats
            inputs[_label(source.input.instance), source.input.name] = _Counted(stats.declared, stats.as_dict())
        yield from (up, faults, dropped, states)
        yield from _prefilters(daemon.prefilters())
        yield from _counters("nflowlevel_input", _INPUT, inputs)
        yield from _counters("nflowlevel_output", _OUTPUT, outputs)

    # -- for the loop --------------------------------------------------------------------------------------------

    @property
    def stats(self) -> PROMETHEUSStats:
        """Objects in, taken, dropped."""
        return self._stats

    @property
    def state(self) -> str:
        """Where it is served."""
        endpoint = self._endpoint
        return f"serving {endpoint.url}" if endpoint else "serving nothing"

    def close(self, timeout: float = 1.0) -> None:
        """Serve no more."""
        if self._endpoint:
            self._endpoint.close()
            self._endpoint = None


class _Counted(NamedTuple):
    """What one source of a metric has counted."""

    declared: Mapping[str, Declared]
    values: Mapping[str, Any]
    dropped: Mapping[str, int] = {}


def _given(giver: Giver, stats: OutputStats) -> _Counted:
    """Return what one of several stacks gave to an output, and what was dropped of it."""
    dropped = {reason: giver.dropped.get(reason, 0) for reason in stats.dropped}
    return _Counted({"records": stats.declared["records"]}, {"records": giver.records}, dropped)


def _rest(stats: OutputStats, givers: Collection[Giver]) -> _Counted:
    """Return what an output has counted, without what is shown for each of several stacks."""
    values: dict[str, Any] = stats.as_dict()
    dropped = {
        reason: count - sum(giver.dropped.get(reason, 0) for giver in givers)
        for reason, count in values["dropped"].items()
    }
    values["records"] -= sum(giver.records for giver in givers)
    return _Counted(stats.declared, values, dropped)


def _label(name: str) -> str:
    """Return a name that is valid UTF-8: its other bytes as `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _distinct(texts: Iterable[str]) -> list[str]:
    """Return the texts with a number behind those that are there already: a configuration may repeat a stack."""
    found: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for text in texts:
        distinct, number = text, numbers.get(text, 1)
        while distinct in found:
            number += 1
            distinct = f"{text} #{number}"
        numbers[text] = number
        found[distinct] = None
    return list(found)


def _prefilters(counted: Mapping[str, PrefilterCounters]) -> Iterator[Metric]:
    """Yield what prefilters counted in the kernel: a cell for each reason and protocol."""
    from prometheus_client.core import CounterMetricFamily

    if not counted:
        return
    from nflowlevel.prefilter.counters import REASONS

    labels = ("prefilter", "decision", "reason", "protocol")
    packets = CounterMetricFamily(
        "nflowlevel_prefilter_packets", "Packets a prefilter decided upon.", None, labels, unit="packets"
    )
    bytes_ = CounterMetricFamily("nflowlevel_prefilter_bytes", "Their bytes.", None, labels, unit="bytes")
    for name, counters in counted.items():
        for reason, row in counters.cells.items():
            for protocol, count in row.items():
                values = (name, REASONS[reason], reason, protocol)
                packets.add_metric(values, count.packets)
                bytes_.add_metric(values, count.bytes)
    yield from (packets, bytes_)


def _counters(prefix: str, labels: tuple[str, ...], counted: Mapping[tuple[str, ...], _Counted]) -> Iterator[Metric]:
    """Yield a family for each counter that is declared, with the values of all that have it."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families: dict[str, Any] = {}
    for values, counters in counted.items():
        for name, about in counters.declared.items():
            # An event has no unit: errors_total, not errors_events_total.
            unit = re.sub("[^a-z0-9]+", "_", about.unit.lower().replace("events", ""))
            metric = f"{prefix}_{name}" if name.endswith(unit) else f"{prefix}_{name}_{unit}"
            if metric not in families:
                family = GaugeMetricFamily if about.gauge else CounterMetricFamily
                families[metric] = family(metric, about.meaning, None, labels, unit=unit)
            families[metric].add_metric(values, counters.values[name])
    yield from families.values()
