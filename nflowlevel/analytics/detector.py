# SPDX-License-Identifier: GPL-2.0-or-later
"""What a detector is: one SQL text with parameters, what it means, and the query for the records behind a finding.

The text keeps to what DuckDB, Spark and ClickHouse understand alike, so that it runs on a laptop and on a cluster:

- names with `_`, never quoted; relation `packets` or `flows`; time is `sec` (seconds since 1970) and `us` (µs)
- a bucket of time is `sec - sec % 60`; no date functions, no division of whole numbers
- no QUALIFY, no DISTINCT in a window, no GROUP BY ALL; every ORDER BY with a LIMIT is total
- LAG's first value is NULL in some engines and 0 in others: it is skipped by ROW_NUMBER
- a window that slides is one that hops (`sliding`)
- nothing typed is cast to a name of a type: an empty text is NULLIF('', ''), an empty number NULLIF(0, 0)

Every result begins with the columns `COLUMNS`; `first` and `last` are microseconds since 1970.
"""

from __future__ import annotations

import datetime
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from nflowlevel.analytics.columns import SYN
from nflowlevel.analytics.conditions import seconds
from nflowlevel.errors import printable
from nflowlevel.options import Options, refuse_unknown, taken

#: What every result begins with; what the detector adds stands behind.
COLUMNS = ("finding", "severity", "src_ip", "dest_ip", "dest_port", "first", "last", "count")
#: From the least to the most urgent. `info` is a table to look at, not a suspicion.
SEVERITIES = ("info", "low", "medium", "high")

_DAY = 86_400
_MOST_SECS = 3660 * _DAY
_UNITS = {"d": _DAY, "h": 3600, "m": 60, "s": 1}
_WHOLE = re.compile("[0-9]{1,18}")
#: How much longer than a time is the one that is advised.
_LONGER = 4
_TOLD = "seconds, or a duration such as 90s, 5m, 1h or 7d"
#: What a text of a finding may hold to stand in a query: addresses, and words of our own. Engines read quotes and
#: backslashes each in its own way, so neither gets there.
_SAFE = re.compile(r"[0-9A-Za-z.:%+_-]{1,64}")

#: A time in whole seconds; a program and the command line may also give it as text with a unit.
Duration = Annotated[int, Meta(ge=1, le=_MOST_SECS, extra={"allowed": _TOLD, "duration": True})]
#: A time in which all of a finding, or two parts of it, must lie: a longer one may find more.
Window = Annotated[Duration, Meta(extra={"window": True})]
#: A time from the log's beginning on in which nothing is found: a log that is no longer has no finding.
Known = Annotated[Duration, Meta(extra={"known": True})]
_PORT = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
#: Ports as text with commas between; a program may give a list.
Ports = Annotated[
    str,
    Meta(pattern=rf"\A{_PORT}(?:,{_PORT}){{0,99}}\Z", extra={"allowed": "ports such as 22 or 21,22,23", "ports": True}),
]
Count = Annotated[int, Meta(ge=1, le=10**9)]


class Parameters(Options, frozen=True, kw_only=True):
    """Base of the parameters of every detector; a detector without any uses it as it is."""

    def values(self) -> dict[str, object]:
        """Return what stands for the names in braces in the text: the parameters, and `<duration>_us` in microseconds.

        The product of two small numbers in a text would be too large for 32 bits.
        """
        times = [field.name for field in msgspec.structs.fields(self) if _is(field.type, "duration")]
        micro = {f"{name}_us": getattr(self, name) * 1_000_000 for name in times}
        return {"syn": SYN, **msgspec.structs.asdict(self), **micro}


class Sliding(Parameters, frozen=True, kw_only=True):
    """Base of parameters with a window that slides.

    It is one that hops: a new one of the length `within` begins with each of its `hops` parts, and each record belongs
    to `hops` of them. Records that lie at most `within` less one part apart are in one window for certain; of
    those that lie farther apart, but less than `within`, some are.
    """

    hops: ClassVar[int] = 2
    within: Window

    def __post_init__(self) -> None:
        """Check that the window has whole parts."""
        if self.within % self.hops:
            raise ValueError(f"within must be a multiple of {self.hops} seconds, not {self.within}")

    def values(self) -> dict[str, object]:
        """Return what stands for the names in braces: also the part, and the numbers of parts to go back."""
        numbers = " UNION ALL ".join(f"SELECT {k} AS k" for k in range(self.hops))
        return {**super().values(), "hop": self.within // self.hops, "hops": numbers}


@dataclass(frozen=True)
class Detector:
    """A question to a log. `name` and `meaning` are the name and the docstring of its module."""

    name: str
    meaning: str
    severity: Literal["info", "low", "medium", "high"]
    parameters: type[Parameters]
    text: str
    """SQL with parameters in braces."""
    behind: str
    """The condition of the records behind a finding: parameters in braces, columns of the finding as {row.src_ip}."""
    relation: Literal["packets", "flows"] = "packets"
    culprit: bool = False
    """Whether `src_ip` is whom one would block: a sender that had to receive answers, or that is hard to mistake."""
    keeps_time: bool = True
    """Whether the records behind a finding lie between its `first` and `last`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return self.parameters.__struct_fields__

    def options(self, given: Mapping[str, object]) -> Parameters:
        """Return the parameters; TypeError or ValueError says which of those given cannot be."""
        fields = {field.name: field for field in msgspec.structs.fields(self.parameters)}
        refuse_unknown(self.name, given, fields)
        read = {name: _read(name, value, fields[name].type) for name, value in given.items()}
        return self.parameters(**taken(self.parameters, read))

    def sql(self, **given: object) -> str:
        """Return the text with these parameters, for an engine that has the relation."""
        return inspect.cleandoc(self.text.format_map(self.options(given).values()))

    def evidence(self, row: Mapping[str, Any], **given: object) -> str:
        """Return the query for the records behind a finding, found with these parameters, in the order of time."""
        condition = self.behind.format_map({**self.options(given).values(), "row": _Literals(row)})
        time = f"us >= {int(row['first'])} AND us <= {int(row['last'])} AND " if self.keeps_time else ""
        return inspect.cleandoc(f"SELECT * FROM {self.relation} WHERE {time}{condition} ORDER BY us")

    def advice(self, length: int, form: str, /, **given: object) -> str:
        """Return which time may find something in a log of `length` seconds that has no finding; empty: none.

        `form` says how a parameter is given: with {name} and {value}.
        """
        chosen = self.options(given)
        for field in msgspec.structs.fields(self.parameters):
            if not _is(field.type, "duration"):
                continue
            secs, name = getattr(chosen, field.name), field.name
            told = f"{name} is {_told(secs)}, and the log spans {_told(length, is_rough=True)}"
            if _is(field.type, "window") and length > secs:
                longer = form.format(name=name, value=_told(min(_LONGER * secs, _MOST_SECS)))
                return f"{told}: {longer} may find what is slower"
            if _is(field.type, "known") and 1 < length <= secs:
                shorter = form.format(name=name, value=_told(max(1, length // _LONGER), is_rough=True))
                return f"{told}, so nothing can be new: ask more of the log, or {shorter}"
        return ""

    @property
    def summary(self) -> str:
        """The first sentence of what it means."""
        return self.meaning.partition(": ")[2].partition("\n\n")[0].replace("\n", " ")


class _Literals:
    """The columns of a finding as literals of SQL."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row

    def __getattr__(self, column: str) -> str:
        value = self._row[column]
        if isinstance(value, str):
            if not _SAFE.fullmatch(value):
                raise ValueError(f"{column} is '{printable(value)}': that is not an address, so no query is made of it")
            return f"'{value}'"
        return str(int(value))


def detector(
    module: str,
    meaning: str | None,
    *,
    severity: Literal["info", "low", "medium", "high"],
    text: str,
    behind: str,
    parameters: type[Parameters] = Parameters,
    relation: Literal["packets", "flows"] = "packets",
    culprit: bool = False,
    keeps_time: bool = True,
) -> Detector:
    """Return the detector of a module, given its `__name__` and `__doc__`."""
    name = module.rpartition(".")[2]
    return Detector(name, meaning or "", severity, parameters, text, behind, relation, culprit, keeps_time)


def _read(name: str, value: object, annotation: object) -> object:
    """Return a value in the form that is checked then: durations are seconds, lists are text, numbers are numbers."""
    if isinstance(value, datetime.timedelta):
        return int(value.total_seconds())
    if _is(annotation, "ports"):
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return ",".join(map(str, value)) if isinstance(value, (list, tuple, range)) else value
    if isinstance(value, str):
        if _is(annotation, "duration"):
            try:
                return int(value) if _WHOLE.fullmatch(value) else int(seconds(value))
            except ValueError:
                raise ValueError(f"{name} must be {_TOLD}, not '{printable(value)}'") from None
        if _WHOLE.fullmatch(value):
            return int(value)
    return value


def _told(secs: int, *, is_rough: bool = False) -> str:
    """Return a time as one gives it, such as 90s or 4h; a rough one is cut to two or more of its unit."""
    for unit, each in _UNITS.items():
        if secs >= 2 * each if is_rough else not secs % each:
            return f"{secs // each}{unit}"
    return f"{secs}s"


def _is(annotation: object, mark: str) -> bool:
    """Tell whether the type of a parameter bears a mark in the `extra` of its Meta."""
    return any(meta.extra and meta.extra.get(mark) for meta in getattr(annotation, "__metadata__", ()))


# -- texts that several detectors share --------------------------------------------------------------------------------


def sliding(
    finding: str,
    severity: str,
    *,
    by: tuple[str, ...],
    distinct: str,
    called: str,
    where: str,
    having: str = "",
    dense: bool = False,
) -> str:
    """Return a text that counts the `distinct` values of a column in windows that slide, for each of the keys `by`.

    A window counts if it has at least `{<called>}` of them and `having` is true of its records (aggregates). Windows of
    the same keys are one finding: `first` and `last` are of all of them, `count` and the column `called` the greatest.
    Keys that are not among the first columns of a result stand at its end. `dense` see `busy`.
    """
    keys = ", ".join(by)
    columns = ", ".join(dict.fromkeys((*by, distinct)))
    shown = {name: name if name in by else empty for name, empty in _EMPTY.items()}
    head = ", ".join(f"{text} AS {name}" for name, text in shown.items())
    more = "".join(f", {name} AS {name}" for name in by if name not in shown)
    joined = " AND ".join(f"b.{name} = p.{name}" for name in by)
    return f"""\
WITH busy AS ({busy(by, distinct, called, where, dense)}),
rows_of AS (
  SELECT p.sec AS sec, p.us AS us, {", ".join(f"p.{name} AS {name}" for name in columns.split(", "))}
    FROM (SELECT sec, us, {columns} FROM packets WHERE {where}) AS p JOIN busy AS b ON {joined})
SELECT '{finding}' AS finding, '{severity}' AS severity, {head},
       MIN(first_us) AS first, MAX(last_us) AS last, MAX(n) AS count, MAX(distinct_n) AS {called}{more}
  FROM (SELECT start, {keys}, COUNT(*) AS n, COUNT(DISTINCT {distinct}) AS distinct_n,
               MIN(us) AS first_us, MAX(us) AS last_us
          FROM (SELECT sec - sec % {{hop}} - k * {{hop}} AS start, us, {columns}
                  FROM rows_of CROSS JOIN ({{hops}}) AS w) AS x
         GROUP BY start, {keys}
        HAVING COUNT(DISTINCT {distinct}) >= {{{called}}}{having}) AS y
 GROUP BY {keys} ORDER BY {called} DESC, {keys}"""


def busy(by: tuple[str, ...], distinct: str, called: str, where: str, dense: bool = False) -> str:
    """Return a query for the keys that may have a window with enough values: before rows multiply, the others go.

    Most keys never have so many values in all. Where nearly every record has another value (`dense`), few have half
    as many records in any part of time as long as a window, and a window overlaps no more than two such parts.
    """
    keys, columns = ", ".join(by), ", ".join(dict.fromkeys((*by, distinct)))
    if dense:
        return f"""
  SELECT {keys} FROM (SELECT {keys}, COUNT(*) AS n FROM packets
                       WHERE {where} GROUP BY {keys}, sec - sec % {{within}}) AS d
   WHERE 2 * n >= {{{called}}} GROUP BY {keys}"""
    return f"""
  SELECT {keys} FROM (SELECT {columns} FROM packets WHERE {where} GROUP BY {columns}) AS d
   GROUP BY {keys} HAVING COUNT(*) >= {{{called}}}"""


_EMPTY = {"src_ip": "NULLIF('', '')", "dest_ip": "NULLIF('', '')", "dest_port": "NULLIF(0, 0)"}
