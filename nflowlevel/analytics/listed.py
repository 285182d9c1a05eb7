# SPDX-License-Identifier: GPL-2.0-or-later
"""Records as they are looked at: of ninety columns most have no value, and are left out of the table."""

from __future__ import annotations

from nflowlevel.analytics.answer import SHOWN_ROWS, Answer


class Records(Answer):
    """Records of a log. All columns are in its rows; printed are those with a value in the shown ones."""

    def _filled(self) -> Answer:
        rows = self.rows(SHOWN_ROWS + 1)
        shown = rows[:SHOWN_ROWS]
        places = [at for at in range(len(self.columns)) if not shown or any(row[at] is not None for row in shown)]
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
