# SPDX-License-Identifier: GPL-2.0-or-later
"""The detectors are those whose files are there, and each has what it needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nflowlevel.analytics import detectors
from nflowlevel.analytics.detector import COLUMNS
from nflowlevel.analytics.registry import all_detectors, find_detector, names
from tests.fix_detectors import Engine, packet

_FILES = {path.stem for path in Path(detectors.__file__).parent.glob("*.py")} - {"__init__"}


def test_each_file_is_a_detector_and_there_is_no_other_list() -> None:
    assert set(names()) == _FILES
    assert list(names()) == sorted(names())
    assert [detector.name for detector in all_detectors()] == list(names())


def test_an_unknown_one_is_told_the_nearest_or_all() -> None:
    with pytest.raises(ValueError, match=r"^unknown detector 'beakon' — did you mean 'beacon'\?$"):
        find_detector("beakon")
    with pytest.raises(ValueError, match=r"^unknown detector 'x'; available: ack_scan, beacon, "):
        find_detector("x")


@pytest.mark.parametrize("name", names())
def test_it_says_what_it_means_its_limits_and_what_it_confuses(name: str) -> None:
    detector = find_detector(name)
    first, *_, limits, confuses = detector.meaning.strip().split("\n\n")
    assert first.startswith(f"{name}: {detector.summary}")
    assert re.fullmatch(r"[A-Z].*\.", detector.summary)
    assert limits.startswith("Limits: ")
    assert confuses.startswith("Confuses: ")
    # A bound of false findings.
    assert re.search(r"one finding|nobody|hardly anything|at most|always", " ".join(confuses.split()))


@pytest.mark.parametrize("name", names())
def test_parameters_are_described_and_stand_in_the_text(name: str) -> None:
    detector = find_detector(name)
    for field in detector.parameters.__struct_fields__:
        used = {f"{{{field}}}", f"{{{field}_us}}"} | ({"{hop}"} if field == "within" else set())
        assert any(each in detector.text for each in used), field
        assert f"`{field}`" in detector.meaning, field


@pytest.mark.parametrize("name", names())
def test_results_begin_with_the_same_columns_and_the_text_keeps_to_the_subset(name: str) -> None:
    detector = find_detector(name)
    answer = Engine([packet(1, "10.0.0.1", "10.0.0.2", 80)])
    text = detector.sql()
    columns = answer._connection.sql(text).columns
    assert tuple(columns[: len(COLUMNS)]) == COLUMNS
    assert f"'{name}' AS finding, '{detector.severity}' AS severity" in text
    assert not re.search(r'"|QUALIFY|GROUP BY ALL|DISTINCT \w+\) OVER|//|::|CAST|INTERVAL|IS NULL', text)
    assert not re.search(r"LAG\(", text) or re.search(r"ROW_NUMBER\(\)", text)
    for limit in re.finditer(r"ORDER BY ([^()]*) LIMIT", text):
        assert "," in limit[1], "an order that is not total has a LIMIT"


@pytest.mark.parametrize("name", names())
def test_it_is_compared_with_a_model_and_a_bound_of_false_findings_is_stated(name: str) -> None:
    text = (Path(__file__).parent / "detectors" / f"test_{name}.py").read_text()
    assert f'agrees("{name}", model' in text or re.search(rf'agrees\(\s*"{name}",\s*model', text)
    assert re.search(r"(findings|accused)\(", text)
    assert '"""Bound: ' in text
