# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures as SVG, drawn line by line: bars, and a series over time. Nothing of others gets in but as escaped text.

A picture says in words what it shows (`role="img"` and its label), and each part of it has its numbers as a title. It
is as wide as there is room: only widths are shares of it, so that texts keep their size on a phone. page/report.css
leaves room for texts on its sides.
"""

from __future__ import annotations

import html
from calendar import timegm
from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime

from nflowlevel.errors import printable

#: Heights, in pixels.
_ROW, _SERIES_HEIGHT = 20, 150
#: What can be seen of a bar, in percent of the widest.
_LEAST_BAR, _LEAST_PART = 0.4, 0.06
#: Labels of the axis that a phone has room for.
_FEW_LABELS = 4
#: From where on, in percent, a label has no room behind it: on a phone, and at all. Its mark is seen then.
_LATE, _LAST = 80, 93
_MOST_CHARACTERS = 24
_DAY = 86_400
#: Months between labels.
_MONTHS = (1, 2, 3, 6, *(12 * years for years in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)))


def cut(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Return a text that is not too long to be drawn."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def bars(title: str, rows: Sequence[tuple[object, int]], marked: frozenset[object] = frozenset()) -> str:
    """Return a bar for each value and its count, the largest as wide as there is room; `marked` values stand out."""
    most = max((count for _, count in rows), default=1) or 1
    parts = []
    for number, (value, count) in enumerate(rows):
        top, name = number * _ROW, "(none)" if value is None else printable(str(value), None)
        width = max(_LEAST_BAR, 100 * count / most)
        kind = "blocked" if value in marked else "allowed"
        parts.append(
            f'<text x="-8" y="{top + 14}" class="name">{html.escape(cut(name))}</text>'
            f'<rect x="0" y="{top + 3}" width="{width:.1f}%" height="{_ROW - 6}" class="{kind}">'
            f"<title>{html.escape(cut(name, 200))}: {count:,}</title></rect>"
            f'<text x="{width:.1f}%" dx="5" y="{top + 14}" class="count">{count:,}</text>'
        )
    return _figure(title, "bars", _ROW * len(rows) + 4, parts)


def series(title: str, rows: Sequence[tuple[int, int, int, int]], step: int) -> str:
    """Return stacked bars over time: (second, allowed, blocked, neither), one for each `step` seconds."""
    if not rows:
        return ""
    first, end = rows[0][0], rows[-1][0] + step
    most = max(sum(row[1:]) for row in rows) or 1
    scale, high = 100 / (end - first), _SERIES_HEIGHT - 6
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = 6 + high * (1 - share)
        parts.append(
            f'<line x1="0" x2="100%" y1="{y:.0f}" y2="{y:.0f}" class="grid"/>'
            f'<text x="-8" y="{y + 4:.0f}" class="name">{most * share:,.0f}</text>'
        )
    for second, *counts in rows:
        allowed, blocked, other = counts
        x, bottom = (second - first) * scale, float(_SERIES_HEIGHT)
        said = f"{moment(second)}: {allowed:,} allowed, {blocked:,} blocked" + (f", {other:,} neither" if other else "")
        parts.append(f"<g><title>{said}</title>")
        for count, kind in ((blocked, "blocked"), (allowed, "allowed"), (other, "other")):
            if count:
                height = high * count / most
                bottom -= height
                width = max(step * scale * 0.92, _LEAST_PART)
                parts.append(
                    f'<rect x="{x:.2f}%" y="{bottom:.1f}" width="{width:.2f}%" height="{height:.1f}" class="{kind}"/>'
                )
        parts.append("</g>")
    dates = _dates(first, end, scale)
    parts += [f'<g class="{"dates many" if len(dates) > _FEW_LABELS else "dates"}">', *dates, "</g>"]
    return _figure(title, "series", _SERIES_HEIGHT + 24, parts)


def _dates(first: int, end: int, scale: float) -> list[str]:
    """Return the labels of the axis, at most a dozen: hours, days, months or years, as the time is long."""
    apart = next((each for each in (3600, 3 * 3600, 6 * 3600, _DAY, 7 * _DAY) if (end - first) / each <= 12), None)
    if apart is None:
        found, form = _months(first, end)
    else:
        found, form = range(-(-first // apart) * apart, end, apart), "%d %b" if apart >= _DAY else "%H:%M"
    labels = []
    for second in found:
        x = (second - first) * scale
        late = ' data-late="phone"' if x > _LATE else ""
        late = ' data-late="always"' if x > _LAST else late
        labels.append(
            f'<text{late} x="{x:.2f}%" y="{_SERIES_HEIGHT + 17}" class="date">{_written(second, form)}</text>'
            f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="{_SERIES_HEIGHT}" y2="{_SERIES_HEIGHT + 5}" class="grid"/>'
        )
    return labels


def _months(first: int, end: int) -> tuple[Sequence[int], str]:
    """Return the seconds in which every so many months begin, and how they are written."""
    apart = next((each for each in _MONTHS if (end - first) / (each * 30 * _DAY) <= 12), _MONTHS[-1])
    # At least from the first year on, and up to the last; what is outside is left out.
    years = max(MINYEAR, 1970 + first // (366 * _DAY)), min(MAXYEAR, 1970 + end // (365 * _DAY))
    months = range(-(-years[0] * 12 // apart) * apart, years[1] * 12 + 12, apart)
    seconds = (timegm((month // 12, month % 12 + 1, 1, 0, 0, 0)) for month in months)
    return [second for second in seconds if first <= second < end], "%Y" if apart >= 12 else "%b %Y"


def _figure(title: str, kind: str, height: int, parts: Sequence[str]) -> str:
    said = html.escape(title, quote=True)
    return (
        f"<figure><figcaption>{said}</figcaption>"
        f'<svg class="{kind}" height="{height}" role="img" aria-label="{said}">{"".join(parts)}</svg></figure>'
    )


def moment(second: int) -> str:
    """Return a second as people read it, in UTC; what is no time of a calendar as its number."""
    return _written(second, "%Y-%m-%d %H:%M:%S")


def _written(second: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(second, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return str(second)
