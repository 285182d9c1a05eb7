# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses by where they are registered: each is looked up once, and one's own names count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nflowlevel.analytics.geo import Place, Places
from nflowlevel.analytics.placed import COLUMNS, checked
from nflowlevel.analytics.reading import read
from tests.fix_logs import log_file, record

RECORDS = [
    *(record(n, src_ip="193.0.6.139", dest_ip="10.1.2.3") for n in range(3)),
    *(record(n, src_ip="8.8.8.8", dest_ip="10.1.2.3") for n in range(2)),
    record(9, src_ip="8.8.4.4", dest_ip="10.9.9.9"),
    record(10, src_ip="10.0.0.1", dest_port=23),
]


def test_countries(tmp_path: Path) -> None:
    log = read(log_file(tmp_path / "log.json", RECORDS))
    answer = log.syn.count("src_ip", geo="country")
    assert answer.columns == ("country", "n", "addresses")
    assert sorted(answer.rows(), key=str) == [("NL", 3, 1), ("US", 3, 2), (None, 1, 1)]
    assert log.where(dest_port=23).count("src_ip", "dest_port", geo="country").rows() == [(None, 23, 1, 1)]
    assert log.where(dest_port=9).count("src_ip", geo="country").rows() == []


def test_records_from_a_country(tmp_path: Path) -> None:
    log = read(log_file(tmp_path / "log.json", RECORDS))
    found = log.placed("src_ip", geo="country", value="US")
    assert found.count("src_ip").rows() == [("8.8.8.8", 2), ("8.8.4.4", 1)]
    assert log.placed("src_ip", geo="country", value="US", exclude=True).count().value() == 4
    assert log.placed("src_ip", geo="country", value=None).count("src_ip").rows() == [("10.0.0.1", 1)]
    # Narrowed further, and by what was narrowed before.
    assert found.where(dest_ip="10.9.9.9").count().value() == 1
    assert log.where(dest_port=23).placed("src_ip", geo="country", value="US").count().value() == 0
    assert [row["src_ip"] for row in found.find("top_sources").dicts()] == ["8.8.8.8", "8.8.4.4"]
    with pytest.raises(ValueError, match="did you mean 'country'"):
        log.placed("src_ip", geo="contry", value="US")
    with pytest.raises(ValueError, match="needs a column with addresses"):
        log.placed("dest_port", geo="country", value="US")


def test_an_address_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    of = Places.of

    def counted(self: Places, addresses: Any) -> dict[str, Place]:
        found = list(addresses)
        asked.extend(found)
        return of(self, found)

    monkeypatch.setattr(Places, "of", counted)
    log = read(log_file(tmp_path / "log.json", RECORDS))
    log.where(src_ip="8.8.8.8").count("src_ip", geo="country").rows()
    log.count("src_ip", geo="asn").rows()
    log.count("src_ip", geo="country").rows()
    assert sorted(asked) == ["10.0.0.1", "193.0.6.139", "8.8.4.4", "8.8.8.8"]


def test_names_of_ones_own(tmp_path: Path) -> None:
    names = tmp_path / "networks.csv"
    names.write_text("10.1.0.0/16,it's us\n")
    log = read(log_file(tmp_path / "log.json", RECORDS), networks=str(names))
    assert log.count("dest_ip", geo="network", top=2).rows()[0] == ("it's us", 5, 1)


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    log = read(log_file(tmp_path / "log.json", RECORDS))
    with pytest.raises(ValueError, match="did you mean 'country'"):
        log.count("src_ip", geo="contry")
    with pytest.raises(ValueError, match="needs a column with addresses first, such as src_ip, not 'dest_port'"):
        log.count("dest_port", geo="country")
    with pytest.raises(ValueError, match="needs a column with addresses"):
        log.count(geo="country")


def test_what_is_known() -> None:
    assert [checked(name) for name in COLUMNS] == list(Place._fields)
