# SPDX-License-Identifier: GPL-2.0-or-later
"""What a sink says, and whether trying again can help."""

from __future__ import annotations

from nflowlevel.spool.sink import Moved, Refused, Unavailable


def test_a_refusal_is_for_ever_and_has_its_code() -> None:
    refused = Refused("value too long", "22001")
    assert (str(refused), refused.code, refused.retryable) == ("value too long", "22001", False)


def test_what_is_away_is_tried_again() -> None:
    assert Unavailable("the server is away").retryable
    assert Moved("the entry is not at 7").retryable
