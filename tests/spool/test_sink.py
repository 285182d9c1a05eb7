# SPDX-License-Identifier: GPL-2.0-or-later
"""What a sink says, and whether trying again can help."""

from __future__ import annotations

from pathlib import Path

import pytest

from nflowlevel.spool.sink import Moved, Refused, Sink, Unavailable
from tests.fix_sink import BarePlace, Store


def test_a_refusal_is_for_ever_and_has_its_code() -> None:
    refused = Refused("value too long", "22001")
    assert (str(refused), refused.code, refused.retryable) == ("value too long", "22001", False)


def test_what_is_away_is_tried_again() -> None:
    assert Unavailable("the server is away").retryable
    assert Moved("the entry is not at 7").retryable


def test_a_sink_without_a_ledger_needs_no_word_about_it(tmp_path: Path) -> None:
    sink = BarePlace(Store(tmp_path / "journal.jsonl")).sink()
    assert sink.last("me") is None
    Sink.tend(sink)
    with pytest.raises(NotImplementedError, match="BareSink has a ledger, and has to say how it is moved"):
        sink.skip(1, "me", 0)
