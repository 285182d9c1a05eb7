# SPDX-License-Identifier: GPL-2.0-or-later
"""What a detector found: an answer with a row for each finding, and the records behind each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nflowlevel.analytics.answer import Answer
from nflowlevel.analytics.detector import Detector
from nflowlevel.analytics.engine import Engine
from nflowlevel.analytics.listed import Records
from nflowlevel.errors import counted


class Findings(Answer):
    """Findings of one detector; `detector` says what they mean."""

    def __init__(
        self,
        engine: Engine,
        sql: str,
        detector: Detector,
        parameters: Mapping[str, object],
        within: Callable[[str], str],
    ) -> None:
        super().__init__(engine, sql, detector.name)
        self.detector = detector
        self._parameters = dict(parameters)
        self._within = within

    def advice(self, form: str = '{name}="{value}"') -> str:
        """Return which time may find something, for who has seen that nothing was found; empty: none is known to.

        `form` says how a parameter is written: with {name} and {value}.
        """
        text = f"SELECT MIN(us) AS first, MAX(us) AS last FROM {self.detector.relation}"
        ((first, last),) = Answer(self._engine, self._within(text)).rows()
        return "" if first is None else self.detector.advice((last - first) // 10**6, form, **self._parameters)

    def __repr__(self) -> str:
        advice = "" if self._head else self.advice()
        return "\n".join([super().__repr__(), *([f"({advice})"] if advice else [])])

    def evidence(self, number: int = 0) -> Answer:
        """Return the records behind a finding, the first unless another number is given.

        IndexError: there are not so many. ValueError: its addresses are none, so no query is made of them.
        """
        if number < 0:
            raise IndexError(f"a finding has a number from 0 on, not {number}")
        rows = self.rows(number + 1)
        if len(rows) <= number:
            raise IndexError(f"{self.detector.name} has {counted(len(rows), 'finding')}; there is no number {number}")
        row = dict(zip(self.columns, rows[number], strict=True))
        return Records(self._engine, self._within(self.detector.evidence(row, **self._parameters)))
