# SPDX-License-Identifier: GPL-2.0-or-later
"""An answer as a picture: bars as SVG, made of text alone. It draws with the colour of the text around it."""

from __future__ import annotations

import html
from collections.abc import Sequence

_WIDTH, _BAR, _LABEL, _NUMBER = 720, 18, 220, 90
_HEIGHT = 160
#: More bars than this are nothing to look at.
MOST_BARS = 40


class Picture:
    """A picture; a notebook shows it. `svg` is its text."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Picture: {len(self.svg):,} characters of SVG>"


def bars(title: str, labels: Sequence[str], values: Sequence[float]) -> Picture:
    """Return a bar for each label, from above to below."""
    most = max(values, default=0) or 1
    room = _WIDTH - _LABEL - _NUMBER
    rows = [
        f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{html.escape(label)}</text>'
        f'<rect x="{_LABEL}" y="{y + 2}" width="{max(0.0, room * value / most):.1f}" height="{_BAR - 5}"/>'
        f'<text x="{_LABEL + max(0.0, room * value / most) + 6:.1f}" y="{y + 13}">{value:,.6g}</text>'
        for y, label, value in zip(range(4, 1 << 30, _BAR), labels, values, strict=False)
    ]
    return _picture(title, len(labels) * _BAR + 8, "".join(rows))


def spans(
    title: str, labels: Sequence[str], starts: Sequence[float], values: Sequence[float], length: float
) -> Picture:
    """Return a bar for each span of time, from left to right; what lies between them without one is empty."""
    most, first = max(values, default=0) or 1, min(starts, default=0)
    whole = max(starts, default=0) + length - first or 1
    drawn = [
        f'<rect x="{_WIDTH * (start - first) / whole:.2f}" y="{_HEIGHT * (1 - value / most):.1f}" '
        f'width="{max(0.5, _WIDTH * length / whole * 0.9):.2f}" height="{_HEIGHT * value / most:.1f}">'
        f"<title>{html.escape(label)}: {value:,.6g}</title></rect>"
        for label, start, value in zip(labels, starts, values, strict=True)
    ]
    ends = [(0, "start", labels[0]), (_WIDTH, "end", labels[-1])] if labels else []
    words = "".join(
        f'<text x="{x}" y="{_HEIGHT + 16}" text-anchor="{anchor}">{html.escape(label)}</text>'
        for x, anchor, label in ends
    )
    return _picture(title, _HEIGHT + 24, "".join(drawn) + words)


def _picture(title: str, height: int, inside: str) -> Picture:
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor"><title>{html.escape(title)}</title>'
        f"{inside}</svg>"
    )
