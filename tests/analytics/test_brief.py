# SPDX-License-Identifier: GPL-2.0-or-later
"""A brief of the packets: what it answers is what the whole relation answers, and it answers nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import nflowlevel as nfl
from nflowlevel.analytics import brief as briefs
from nflowlevel.analytics.answer import Answer
from nflowlevel.analytics.brief import Brief
from nflowlevel.analytics.explore import BRIEF, PANELS, answer, selected
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.placed import Placed
from nflowlevel.analytics.store import Span
from tests.fix_logs import START, hourly_files, lines, log_file, parquet_file, record


def _records(dice: random.Random) -> Iterator[dict[str, Any]]:
    """Yield packets at different times, with values that are missing, empty, and ordered otherwise than numbers are."""
    for number in range(600):
        found = record(
            7 * number, oob__time__usec=dice.randrange(10**6), tcp__window=dice.choice((0, 1024, 16384, 64240)),
            src_ip=f"192.0.2.{dice.randrange(30)}", dest_ip=dice.choice(("198.51.100.7", "2001:db8::7", "10.0.0.9")),
            src_port=dice.choice((1, 6000, 65535)), dest_port=dice.choice((22, 80, 443)), ip__ttl=dice.randrange(256),
            oob__prefix=dice.choice(("", "a", "A", "ä", "it's 1", "src_ip")),
            oob__in=dice.choice(("eth0", "eth10", "eth2")),
            raw__label=dice.choice((0, 1, 2)), dvc=dice.choice(("fw1", "fw2")), ip__protocol=dice.choice((6, 17)),
        )  # fmt: skip
        for name in dice.sample(sorted(found.keys() - {"timestamp", "oob.time.sec", "oob.time.usec"}), 4):
            del found[name]
        yield found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    """Return packets of which a part was read and a part is looked into."""
    dice, directory = random.Random(3), tmp_path_factory.mktemp("brief")
    records = list(_records(dice))
    old, new = parquet_file(directory / "old.parquet", records[:400]), log_file(directory / "new.json", records[400:])
    with nfl.read(old, new) as log:
        yield log


@pytest.fixture(scope="module")
def brief(log: Log) -> Brief:
    made = log.brief(*BRIEF)
    assert made is not None
    return made


def _states(log: Log) -> Iterator[list[tuple[str, str]]]:
    """Yield states of the page: what was clicked, and filters as text."""
    dice = random.Random(5)
    values = {name: [row[0] for row in log.count(name).rows()] for name in (*PANELS, "dvc", "raw_label")}
    yield []
    for name, found in values.items():
        given = ["" if value is None else str(value) for value in dice.sample(found, min(2, len(found)))]
        yield from ([(sign + name, value)] for value in given for sign in ("", "!"))
    for name in ("src_ip", "dest_ip"):
        yield from (
            [(sign + name, value)] for value in ("192.0.2.8/29", "2001:db8::/32", "9.9.9.9") for sign in ("", "!")
        )
    yield from ([("geo", "country"), (name, value)] for name in ("country", "!country") for value in ("NL", ""))
    for text in (
        "tcp.dport == 22 && ip.ttl < 40",
        "ip.saddr == 192.0.2.16/28",
        'oob.prefix == "it\'s 1"',
        "raw.label > 0",
        "tcp.dport == 22 || ip.ttl < 40",
        "!(udp.dport == 53) && ip.ttl > 0",
    ):
        yield [("where", text)]
    for _ in range(20):
        state = []
        if dice.random() < 0.5:
            first = START + dice.randrange(4200)
            state += [("from", str(first)), ("to", str(first + dice.choice((1, 7, 700, 4200))))]
        for name in dice.sample(sorted(values), dice.randrange(1, 4)):
            value = dice.choice(values[name])
            state.append((dice.choice(("", "!")) + name, "" if value is None else str(value)))
        yield state


def test_it_answers_as_the_whole_does(log: Log, brief: Brief) -> None:
    empty = full = 0
    for state in _states(log):
        wanted, found = answer(log, state), answer(log, state, brief)
        chosen = selected(log, state)
        assert chosen.asked(brief) is not chosen, state
        del wanted["milliseconds"], found["milliseconds"]
        assert found == wanted, state
        empty, full = empty + (not wanted["count"]), full + (wanted["count"] > 0)
    assert empty > 5
    assert full > 50


def test_times_are_exact(log: Log, brief: Brief) -> None:
    times = [us for (us,) in log.records("us").rows()]
    for us in times[::50]:
        chosen = log.packets._during(us, us + 1)
        assert chosen.asked(brief).records("us").rows() == chosen.records("us").rows() == [(us,)]


@pytest.mark.parametrize(
    "state", [[("icmp_type", "")], [("where", "tcp.syn == 1")], [("src_port", "1"), ("!tcp_ack", "1")]]
)
def test_other_columns_are_asked_of_the_whole(log: Log, brief: Brief, state: list[tuple[str, str]]) -> None:
    chosen = selected(log, state)
    assert chosen.asked(brief) is chosen
    found, wanted = answer(log, state, brief), answer(log, state)
    assert found["count"] == wanted["count"] > 0
    assert log.flows.asked(brief).count().value() == 0


def test_texts_are_numbers(log: Log, brief: Brief) -> None:
    described = "SELECT column_name, column_type FROM (DESCRIBE packets)"
    whole, types = dict(log.sql(described).rows()), dict(log.packets.asked(brief).sql(described).rows())
    texts = {name for name, type_ in whole.items() if type_ == "VARCHAR"} & types.keys()
    assert texts == {"dvc", "oob_prefix", "oob_in", "src_ip", "dest_ip"}
    assert types == {name: whole[name] for name in types} | dict.fromkeys(texts, "UINTEGER")


def test_many_numbers_are_a_table(log: Log, brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(briefs, "_MOST_LISTED", 1)
    test_it_answers_as_the_whole_does(log, brief)


def test_columns_of_few_values_are_counted_together(log: Log, brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("src_ip", "dest_ip", "ip_ttl", "oob_prefix", "ip_protocol", "oob_in")
    assert brief.few(*PANELS) == few
    counted: list[tuple[str, ...]] = []
    count = Log.count

    def noted(log: Log, *names: str, **more: Any) -> Answer:
        counted.append(names)
        return count(log, *names, **more)

    monkeypatch.setattr(Log, "count", noted)
    answer(log, [("!tcp_window", "1024")], brief)
    assert few in counted
    assert len(counted) == len(PANELS) - len(few) + 1
    monkeypatch.setattr(briefs, "_MOST_COMBINED", 5)
    assert brief.few(*few) == ()
    monkeypatch.setattr(briefs, "_MOST_FEW", 3)
    assert brief.few("oob_prefix", "oob_in", "tcp_window") == ("oob_in",)
    with monkeypatch.context() as apart:
        apart.setattr(brief, "_few", {PANELS: ()})
        test_it_answers_as_the_whole_does(log, brief)


def test_it_is_made_in_parts_and_waits_in_between(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(briefs, "_PART", 50)
    sizes: list[int] = []

    def pause() -> None:
        text = "SELECT estimated_size FROM duckdb_tables() WHERE regexp_matches(table_name, '^brief_[0-9]+$')"
        sizes.append(sum(size for (size,) in log.sql(text).rows()))

    made = log.brief(*BRIEF, pause=pause)
    assert made is not None
    assert len(sizes) > 600 // 50
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 5
    test_it_answers_as_the_whole_does(log, made)
    test_times_are_exact(log, made)


def test_places_are_looked_up_once(log: Log, brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = answer(log, [("country", "NL")]), answer(log, [("!country", "")])
    log.know(brief)
    asked: list[str] = []
    know = Placed.know

    def noted(placed: Placed, engine: Any, query: str) -> None:
        asked.append(query)
        know(placed, engine, query)

    monkeypatch.setattr(Placed, "know", noted)
    found = answer(log, [("country", "NL")], brief), answer(log, [("!country", "")], brief)
    for each in (*found, *wanted):
        del each["milliseconds"]
    assert found == wanted
    assert asked == []
    other = log.brief("src_ip", "dest_ip")
    assert other is not None
    log.know(other)
    assert asked == [f"SELECT text FROM {other.texts[name]}" for name in ("src_ip", "dest_ip")]
    log.placed("src_ip", geo="country", value="NL")
    assert len(asked) == 2


def test_an_old_one_does_not_answer(tmp_path: Path) -> None:
    """Not after records were added, and not after a file was replaced or went."""
    old = parquet_file(tmp_path / "old.parquet", [record(1)])
    with nfl.read(old, log_file(tmp_path / "new.json", [record(2)])) as log:
        first = log.brief("src_ip")
        assert first is not None
        assert log.packets.asked(first).count("src_ip").rows() == [("192.0.2.66", 2)]
        assert log._store is not None
        log._store.add_lines(lines([record(3)]), "more")
        packets = log.packets
        assert packets.asked(first) is packets
        assert packets.asked(first).count().value() == 3
        second = log.brief("src_ip")
        assert second is not None
        assert packets.asked(second).count("src_ip").rows() == [("192.0.2.66", 3)]
        os.replace(parquet_file(tmp_path / "newer.parquet", [record(1), record(4)]), old)
        assert packets.asked(second) is packets
        assert packets.count().value() == 4
        third = log.brief("src_ip")
        assert third is not None
        old.unlink()
        assert packets.asked(third) is packets


def test_one_of_a_span_opens_only_the_files_that_have_records_in_it(tmp_path: Path) -> None:
    paths = hourly_files(tmp_path)
    with nfl.read(tmp_path) as log:
        paths[0].unlink()
        last = log.between(START + 3600)
        made = last.brief("src_ip", "sec")
        assert made is not None
        assert made.span == Span((START + 3600) * 10**6, None)
        assert last.packets.asked(made).count("src_ip").rows() == [("192.0.2.66", 4)]
        assert log.between(START + 7200, START + 7201).asked(made).count().value() == 1
        earlier = log.between(START + 3599)
        assert earlier.asked(made) is earlier
        with pytest.raises(duckdb.Error):
            log.brief("src_ip")


def test_one_that_memory_has_no_room_for_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with nfl.read(log_file(tmp_path / "a.json", [record(1), record(2)]), memory_limit="64MiB") as log:
        monkeypatch.setattr("nflowlevel.analytics.log.PACKET_BYTES", 16 << 20)
        assert log.brief("src_ip") is not None
        monkeypatch.setattr("nflowlevel.analytics.log.PACKET_BYTES", (16 << 20) + 1)
        assert log.brief("src_ip") is None


def test_a_file_that_went_leaves_nothing_behind(tmp_path: Path) -> None:
    old = parquet_file(tmp_path / "old.parquet", [record(1)])
    with nfl.read(old) as log:
        old.unlink()
        with pytest.raises(duckdb.Error):
            log.brief("src_ip", "us")
        assert log.sql("SELECT COUNT(*) FROM duckdb_tables() WHERE table_name LIKE 'brief%'").value() == 0


#: Texts that sort, compare or look otherwise than they seem to, and none.
_ODD = (
    "",
    "::ffff:192.0.2.1",
    "192.0.2.1",
    "no address",
    "a\0b",
    "\u00e9",
    "e\u0301",
    "1.2.3",
    "::1",
    "0:0:0:0:0:0:0:1",
    " 192.0.2.1",
    "NULL",
    "'",
    "%",
    "\U0001f600",
    None,
)


def test_odd_texts(tmp_path: Path) -> None:
    dice, records = random.Random(1), []
    prefixes = (*_ODD, *(f"p{number}" for number in range(10_000)))
    for number in range(800):
        found = record(
            number, src_ip=dice.choice(_ODD), dest_ip=dice.choice(_ODD), oob__prefix=dice.choice(prefixes),
            oob__in=dice.choice(_ODD),
        )  # fmt: skip
        records.append({name: value for name, value in found.items() if value is not None})
    with nfl.read(log_file(tmp_path / "a.json", records)) as log:
        assert log.damaged.count == 0
        made = log.brief(*BRIEF)
        assert made is not None
        numbered = log.numbered("us", "src_ip", "dest_ip", "oob_prefix")
        for name in ("src_ip", "dest_ip", "oob_prefix"):
            assert numbered.count(name).rows() == log.count(name).rows()
        values = {name: [row[0] for row in log.count(name).rows()] for name in ("src_ip", "dest_ip", "oob_in")}
        for _ in range(12):
            state = [("geo", "country")] if dice.random() < 0.3 else []
            for name in dice.sample(sorted(values), 2):
                state.append((dice.choice(("", "!")) + name, dice.choice(values[name]) or ""))
            assert _outcome(log, state, made) == _outcome(log, state)


def _outcome(log: Log, state: list[tuple[str, str]], *made: Brief) -> dict[str, Any] | str:
    """Return what the page shows, or says is wrong."""
    try:
        found = answer(log, state, *made)
    except ValueError as error:
        return str(error)
    del found["milliseconds"]
    return found
