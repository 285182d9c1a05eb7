# SPDX-License-Identifier: GPL-2.0-or-later
"""Records as they are looked at: of ninety columns most have no value, and are left out of the table."""

from __future__ import annotations

from nflowlevel.analytics.answer import SHOWN_ROWS, Answer
from nflowlevel.analytics.engine import Engine

#: What one looks at first; a terminal is narrower than a record.
_FIRST = (
    "us", "oob_prefix", "src_ip", "src_port", "dest_ip", "dest_port", "tcp_window", "ip_ttl", "ip_totlen", "ip_id",
)  # fmt: skip


class Records(Answer):
    """Records of a log. All columns are in its rows; printed are those with a value in the shown ones.

    Where nobody `named` the columns, those that are looked at first come first, and of the time only the exact one.
    """

    def __init__(self, engine: Engine, sql: str, title: str = "", *, named: bool = False) -> None:
        super().__init__(engine, sql, title)
        self._named = named

    def _filled(self) -> Answer:
        rows = self.rows(SHOWN_ROWS + 1)
        shown = rows[:SHOWN_ROWS]
        places = [at for at in range(len(self.columns)) if not shown or any(row[at] is not None for row in shown)]
        if not self._named:
            names = self.columns
            places = [at for at in places if names[at] != "sec" or "us" not in names]
            places.sort(key=lambda at: _FIRST.index(names[at]) if names[at] in _FIRST else len(_FIRST))
        filled = Answer(self._engine, self.sql, self.title)
        filled.columns = tuple(self.columns[place] for place in places)
        filled._head = [tuple(row[place] for place in places) for row in rows]
        return filled

    def __repr__(self) -> str:
        return repr(self._filled())

    def to_html(self) -> str:
        """Return a table of HTML, without style and script."""
        return self._filled().to_html()

    _repr_html_ = to_html
