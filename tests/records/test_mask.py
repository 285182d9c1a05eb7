# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters over batches and dicts: the table of cases, and random filters against Python."""

from __future__ import annotations

import pytest

from nflowlevel.records.mask import mask, rows
from tests.fix_filters import CASES, Case, meant, packets


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_cases(case: Case) -> None:
    _, batch, wanted = packets()
    assert mask(case.text, batch).nonzero()[0].tolist() == meant(case, wanted)
    assert rows(case.text, batch) == meant(case, wanted)
    assert rows(case.text, batch.to_dicts()) == meant(case, wanted)
