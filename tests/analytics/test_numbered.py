# SPDX-License-Identifier: GPL-2.0-or-later
"""Records with numbers for addresses: all that a report asks has the same answer as with texts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

import nflowlevel as nfl
from nflowlevel.analytics import numbered as module
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.numbered import Numbered
from nflowlevel.analytics.registry import all_detectors
from nflowlevel.archive.schema import PACKETS
from nflowlevel.errors import NotSupported
from tests.fix_logs import log_file, record

_SUSPICIONS = [each for each in all_detectors() if each.severity != "info" and each.relation == "packets"]
_COLUMNS = [column.name for column in PACKETS]
#: Their order as texts is neither that of numbers nor that of their first packets.
_ADDRESSES = ("10.0.0.9", "10.0.0.10", "9.9.9.9", "2001:db8::7", "", "192.0.2.66", "198.51.100.7")


def _records(dice: random.Random) -> Iterator[dict[str, Any]]:
    """Yield packets of few hosts at any time, some without an address, and some attacks of each kind."""
    day = 86_400
    for _ in range(1500):
        found = record(
            dice.randrange(3 * day), src_ip=dice.choice(_ADDRESSES), dest_ip=dice.choice(_ADDRESSES),
            src_port=dice.choice((40000, 6000, 53)), dest_port=dice.choice((22, 80, 443)), tcp__psh=0, tcp__urg=0,
            tcp__window=dice.choice((1024, 64240)), raw__label=dice.choice((0, 1)),
        )  # fmt: skip
        for name in dice.sample(("src_ip", "dest_ip", "dest_port", "raw.label"), dice.randrange(2)):
            del found[name]
        yield found
    flags = {"tcp__psh": 0, "tcp__urg": 0}
    for source in ("203.0.113.9", "203.0.113.10"):
        for port in range(1, 180):
            yield record(port // 9, src_ip=source, dest_port=port, **flags)
            yield record(500 + port // 9, src_ip=source, dest_ip="10.6.6.6", dest_port=port, tcp__syn=0, tcp__ack=1,
                         **flags)  # fmt: skip
            yield record(900 + port // 9, src_ip=source, dest_port=port, ip__protocol=17, src_port=999)
            yield record(1200 + port // 9, src_ip=source, dest_ip="10.7.7.7", ip__protocol=port % 99)
            yield record(1300 + port // 9, src_ip=source, dest_ip="10.5.5.5", dest_port=port, tcp__syn=0, **flags)
        for host in range(60):
            yield record(1700 + host, src_ip=source, dest_ip=f"10.1.3.{host}")
            yield record(2 * day + host // 3, src_ip=source, dest_ip=f"10.1.1.{host}", src_port=50000 + host, **flags)
        for attempt in range(60):
            yield record(1800 + attempt, src_ip=source, src_port=50000 + attempt, tcp__window=64240, **flags)
            yield record(1800 + attempt, oob__time__usec=500, src_ip=source, src_port=50000 + attempt, ip__ttl=63,
                         tcp__syn=0, tcp__rst=1)  # fmt: skip
            yield record(2 * day + attempt, src_ip="198.51.100.7", src_port=8443, tcp__ack=1,
                         dest_ip=f"10.1.2.{attempt}")  # fmt: skip
        for beat in range(150):
            yield record(60 * beat, src_ip=source, dest_ip="192.0.2.77", dest_port=4444, **flags)
            yield record(60 * beat, src_ip=source, dest_ip="192.0.2.53", dest_port=53, ip__protocol=17)
    for number in range(1200):
        yield record(3000, src_ip=f"10.{number % 200}.9.{number // 200}", dest_port=80, **flags)
    for number in range(30 * 4):
        yield record(4000 + number, src_ip=f"10.8.8.{number % 30}", dest_ip="192.0.2.99", src_port=50000 + number)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    found = sorted(_records(random.Random(7)), key=lambda each: int(each["oob.time.sec"]))
    with nfl.read(log_file(tmp_path_factory.mktemp("numbered") / "a.json", found)) as log:
        yield log


@pytest.fixture(scope="module")
def numbered(log: Log) -> Log:
    return log.numbered(*_COLUMNS)


@pytest.mark.parametrize("detector", [each.name for each in _SUSPICIONS])
def test_detectors_find_the_same(log: Log, numbered: Log, detector: str) -> None:
    wanted, found = log.find(detector), numbered.find(detector)
    assert found.columns == wanted.columns
    assert found.rows() == wanted.rows()
    assert wanted.rows()


def test_counts_are_the_same(log: Log, numbered: Log) -> None:
    assert isinstance(numbered._engine, Numbered)
    for names in (("src_ip",), ("dest_ip",), ("src_ip", "dest_ip"), ("oob_prefix",), ("dest_port",), ()):
        assert numbered.count(*names).rows() == log.count(*names).rows()
        assert numbered.syn.count(*names, top=3).rows(2) == log.syn.count(*names, top=3).rows(2)
    text = "SELECT COUNT(DISTINCT src_ip) AS n, MIN(dest_ip) AS dest_ip, MAX(src_ip) AS src_ip FROM packets"
    assert numbered.sql(text).rows() == log.sql(text).rows()
    distinct = "SELECT DISTINCT typeof(src_ip) AS type FROM packets"
    assert numbered.sql(distinct).rows() == [("UINTEGER",)]


def test_many_texts_are_fetched_at_once(log: Log, numbered: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_LISTED", 2)
    assert numbered.count("src_ip").rows() == log.count("src_ip").rows()


def test_a_part_of_a_log(log: Log) -> None:
    chosen = log.last("1d").where(src_ip="203.0.113.0/24")
    found = chosen.numbered("us", "src_ip", "dest_port")
    assert found.records("us", "src_ip").rows() == chosen.records("us", "src_ip").rows()
    assert found.count("dest_port").rows() == chosen.count("dest_port").rows()
    assert chosen.numbered("us", "dest_port").count("dest_port").rows() == chosen.count("dest_port").rows()
    assert log.count().value() > chosen.count().value() > 0


def test_there_are_rows_only(numbered: Log) -> None:
    for form in (numbered.count("src_ip").df, numbered.count("src_ip").arrow):
        with pytest.raises(NotSupported, match="numbers for addresses"):
            form()
