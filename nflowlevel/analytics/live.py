# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes in now: the busiest values of the last minute, and what detectors find in the last minutes.

All that comes is lines of JSON, from a group, from flows or from a file that grows. Memory is bounded: a second is a
few counters with at most `MOST_VALUES` values each, and no more than `MOST_LINES` lines are kept for the detectors.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

#: What is counted: a heading, and the members of JSON that have the value, the first that is there.
PANELS: Mapping[str, tuple[str, ...]] = {
    "sources": ("src_ip", "orig.ip.saddr.str"),
    "ports": ("dest_port", "orig.l4.dport"),
    "rules": ("oob.prefix",),
}
MOST_VALUES = 10_000
MOST_LINES = 200_000
#: Those that need only minutes, by name.
DETECTORS = ("ack_scan", "brute_force", "port_scan", "stealth_scan", "sweep", "syn_flood", "udp_scan")
_FINDING_SECS = 300


#: Returns the countries of addresses, of those that it knows.
CountriesOf: TypeAlias = Callable[[Sequence[str]], Mapping[str, str | None]]


@dataclass
class _Second:
    """What came in one second."""

    at: int
    records: int = 0
    blocked: int = 0
    values: dict[str, Counter[Any]] = field(default_factory=lambda: {name: Counter() for name in PANELS})


@dataclass(frozen=True)
class Found:
    """A finding, as a line of the display."""

    detector: str
    severity: str
    src_ip: str
    dest_ip: str
    dest_port: int | None
    count: int


class Live:
    """The last `secs` seconds of what comes: `add` takes in lines; `top`, `rate` and `findings` say what to show."""

    def __init__(self, secs: int = 60) -> None:
        self.secs = secs
        self.records = 0
        self.damaged = 0
        self._seconds: deque[_Second] = deque()
        self._lines: deque[tuple[int, bytes]] = deque(maxlen=MOST_LINES)
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    def add(self, lines: Iterable[bytes], now: float) -> None:
        """Take in lines that came at a time (seconds)."""
        second = self._second(int(now))
        for line in lines:
            try:
                record = self._decode(line)
            except msgspec.DecodeError:
                self.damaged += 1
                continue
            second.records += 1
            second.blocked += record.get("raw.label") == 0 or record.get("action") == "blocked"
            for name, members in PANELS.items():
                value = next((record[member] for member in members if member in record), None)
                counts = second.values[name]
                # What is new beyond that is no busy value.
                if value is not None and (value in counts or len(counts) < MOST_VALUES):
                    counts[value] += 1
            self._lines.append((int(now), line))
            self.records += 1

    def _second(self, now: int) -> _Second:
        if not self._seconds or self._seconds[-1].at < now:
            self._seconds.append(_Second(now))
        self._forget(now)
        return self._seconds[-1]

    def _forget(self, now: int) -> None:
        while self._seconds and self._seconds[0].at <= now - self.secs:
            self._seconds.popleft()
        while self._lines and self._lines[0][0] <= now - _FINDING_SECS:
            self._lines.popleft()

    def rate(self, now: float) -> tuple[float, float]:
        """Return the records and the blocked ones a second, over the seconds that are looked at."""
        self._forget(int(now))
        records = sum(each.records for each in self._seconds)
        return records / self.secs, sum(each.blocked for each in self._seconds) / self.secs

    def top(self, panel: str, most: int, now: float) -> list[tuple[Any, int]]:
        """Return the busiest values of a panel, the busiest first."""
        self._forget(int(now))
        total: Counter[Any] = Counter()
        for each in self._seconds:
            total.update(each.values[panel])
        return sorted(total.items(), key=lambda item: (-item[1], str(item[0])))[:most]

    def countries(self, most: int, now: float, of: CountriesOf) -> list[tuple[str, int]]:
        """Return the countries from which most records came, as far as `of` knows them."""
        sources = self.top("sources", MOST_VALUES, now)
        known = of([str(source) for source, _ in sources])
        total: Counter[str] = Counter()
        for source, count in sources:
            if country := known.get(str(source)):
                total[country] += count
        return sorted(total.items(), key=lambda item: (-item[1], item[0]))[:most]

    def findings(self, detectors: Sequence[str] = DETECTORS) -> list[Found]:
        """Return what detectors find in the lines of the last minutes, the most urgent first."""
        from nflowlevel.analytics.detector import SEVERITIES
        from nflowlevel.analytics.engine import DuckDB
        from nflowlevel.analytics.log import Log
        from nflowlevel.analytics.store import Store

        lines = b"".join(line.rstrip(b"\n") + b"\n" for _, line in self._lines)
        store = Store()
        try:
            store.add_lines(lines, "what came")
            store.make_views()
            log = Log(DuckDB(store))
            found = [
                Found(name, row["severity"], row["src_ip"] or "", row["dest_ip"] or "", row["dest_port"], row["count"])
                for name in detectors
                for row in log.find(name).dicts()
            ]
        finally:
            store.close()
        return sorted(
            found, key=lambda each: (-SEVERITIES.index(each.severity), each.detector, -each.count, each.src_ip)
        )
