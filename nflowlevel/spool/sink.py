# SPDX-License-Identifier: GPL-2.0-or-later
"""What the place that rows are brought to can say of them: refused for ever, not now, or that some are in already."""

from __future__ import annotations

from nflowlevel.errors import OutputError


class Refused(OutputError):
    """It will never take this row (or one of these): `code` is its SQLSTATE or number."""

    def __init__(self, message: str, code: str) -> None:
        self.code = code
        super().__init__(message, retryable=False)


class Unavailable(OutputError):
    """It cannot take anything now: away, full, locked, the table missing, permission denied."""


class Moved(OutputError):
    """The writer's entry in the ledger is not where it was left: an earlier transaction has arrived after all."""
