# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows: blocks of lines become rows, all of them or those that are records; what makes a file, and in which order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from nflowlevel.archive import engine
from nflowlevel.archive import rows as module
from nflowlevel.archive.rows import Rows, Slice
from nflowlevel.archive.scan import Scanner
from nflowlevel.archive.schema import PACKETS, SUMS
from nflowlevel.errors import NflowError
from tests.fix_archive import SECOND, log, record


@pytest.fixture
def made(tmp_path: Path) -> tuple[Rows, list[bytes]]:
    kept: list[bytes] = []
    return Rows(engine.connect(str(tmp_path)), dvc="", host="here", damaged=kept.append), kept


def written(rows: Rows, part: Slice, path: Path) -> list[Any]:
    """Write a slice; return the numbers of its records in their order."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    rows.write(part, fd, {"it's": "said"})
    os.close(fd)
    assert duckdb.connect().execute("SELECT key, value FROM parquet_kv_metadata($1)", [str(path)]).fetchall() == [
        (b"it's", b"said")
    ]
    return [row[0] for row in duckdb.connect().execute("SELECT oob_mark FROM read_parquet($1)", [str(path)]).fetchall()]


def test_slices_are_by_relation_firewall_and_day(made: tuple[Rows, list[bytes]]) -> None:
    rows, kept = made
    rows.add(log(range(3)) + record(4, **{"oob.time.sec": SECOND + 86_400}) + b'{"oob.time.sec": 5, "sum.name": "a"}\n')
    assert [(part.relation.name, *part[1:]) for part in rows.slices()] == [
        ("packets", "fw", SECOND, SECOND, 3),
        ("packets", "fw", SECOND + 86_400, SECOND + 86_400, 1),
        (SUMS.name, "here", 5, 5, 1),
    ]
    assert (rows.rows, kept) == (5, [])
    rows.clear()
    assert (rows.rows, rows.slices()) == (0, [])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0]])
def test_a_file_is_sorted_by_time(made: tuple[Rows, list[bytes]], tmp_path: Path, order: list[int]) -> None:
    rows, _ = made
    rows.add(b"".join(record(number) for number in order))
    (part,) = rows.slices()
    assert part.relation.name == PACKETS.name
    assert written(rows, part, tmp_path / "x.parquet") == [0, 1, 2, 3]


def test_plain_lines_and_others_are_one_file(made: tuple[Rows, list[bytes]], tmp_path: Path) -> None:
    rows, kept = made
    for first in (0, 100):
        rows.add(record(first + 3))
        # Not plain, a damaged one, and a column that no line before had.
        rows.add(record(first + 1, **{"oob.prefix": 'a "word"'}) + b"{\n" + record(first, **{"tcp.seq": 7}))
        rows.add(record(first + 2, **{"udp.len": 8}))
        (part,) = rows.slices()
        path = tmp_path / f"{first}.parquet"
        assert written(rows, part, path) == [first, first + 1, first + 2, first + 3]
        sql = "SELECT oob_prefix, tcp_seq, udp_len FROM read_parquet($1)"
        assert duckdb.connect().execute(sql, [str(path)]).fetchall() == [
            ("in: ", 7, None), ('a "word"', None, None), ("in: ", None, 8), ("in: ", None, None)
        ]  # fmt: skip
        rows.clear()
        assert rows.slices() == []
        rows.clear()
    assert kept == [b"{\n"] * 2


@pytest.mark.parametrize("given", ["", "it's"])
@pytest.mark.parametrize("names", [["a'b", "a'b"], [None, None], ["", ""], ["", "fw"], ["fw", None], ["fw", "gw"]])
def test_the_firewall_is_the_one_that_is_given_or_the_record_s_or_the_host(
    tmp_path: Path, given: str, names: list[str | None]
) -> None:
    kept: list[bytes] = []
    rows = Rows(engine.connect(str(tmp_path)), dvc=given, host="my 'host'", damaged=kept.append)
    for number, name in enumerate(names):
        rows.add(record(number, dvc=name))
    expected = [given or name or "my 'host'" for name in names]
    found: dict[int, str] = {}
    for part in rows.slices():
        path = tmp_path / f"{len(found)}.parquet"
        for number in written(rows, part, path):
            found[number] = part.dvc
        assert duckdb.connect().execute("SELECT DISTINCT dvc FROM read_parquet($1)", [str(path)]).fetchall() == [
            (part.dvc,)
        ]
    assert (found, kept) == (dict(enumerate(expected)), [])


def test_rows_that_duckdb_does_not_have_are_missed(
    made: tuple[Rows, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = made
    rows.add(log(range(5)))
    assert sum(part.rows for part in rows.slices()) == 5
    empty, stream = Scanner(PACKETS, []), Scanner.__arrow_c_stream__
    monkeypatch.setattr(Scanner, "__arrow_c_stream__", lambda *_: stream(empty))
    with pytest.raises(NflowError, match=r"has 0 of 5 records that were read; the log stays as it is"):
        rows.slices()


def test_one_value_in_all_rows_is_written_as_it_is(made: tuple[Rows, list[bytes]], tmp_path: Path) -> None:
    rows, _ = made
    values = {"oob.prefix": "it's a prefix that no view holds", "oob.in": "", "raw.pktlen": 2**32 - 1, "ip.ttl": 0}
    for _ in range(2):
        rows.add(log(range(3), **values))
    (part,) = rows.slices()
    written(rows, part, tmp_path / "x.parquet")
    sql = "SELECT DISTINCT oob_prefix, oob_in, raw_pktlen, ip_ttl, tcp_seq, typeof(ip_ttl) FROM read_parquet($1)"
    assert duckdb.connect().execute(sql, [str(tmp_path / "x.parquet")]).fetchall() == [
        (*values.values(), None, "UTINYINT")
    ]


@pytest.mark.parametrize("odd", [{}, {"oob.prefix": 'a "word"', "udp.len": 8}])
def test_a_large_file_lacks_the_columns_of_protocols_that_it_has_not(
    made: tuple[Rows, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any]
) -> None:
    monkeypatch.setattr(module, "_MANY_ROWS", 3)
    rows, _ = made
    rows.add(log(range(3)) + record(3, **odd) + log(range(4, 6), **{"oob.time.sec": SECOND + 86_400}))
    columns = []
    for number, part in enumerate(rows.slices()):
        path = tmp_path / f"{number}.parquet"
        assert len(written(rows, part, path)) == part.rows
        columns.append([row[0] for row in duckdb.connect().execute(f"DESCRIBE FROM '{path}'").fetchall()])
    large, small = columns
    assert small == [column.name for column in PACKETS]
    # What has one value has all columns of its kind, filled or not.
    kinds = ("oob_", "tcp_", "udp_") if odd else ("oob_", "tcp_")
    assert large == [name for name in small if name in ("sec", "us", "dvc", "src_ip") or name.startswith(kinds)]


def test_rows_in_tables_are_seen_by_others(tmp_path: Path) -> None:
    database = engine.connect(str(tmp_path))
    reader = database.cursor()
    reader.execute("CREATE SCHEMA read")
    reader.execute("USE read")
    kept: list[bytes] = []
    rows = Rows(reader, dvc="", host="", damaged=kept.append, in_tables=True)
    rows.add(log(range(3)) + b"{\n" + record(3, **{"oob.prefix": 'a "word"'}))
    rows.add(b'{"oob.time.sec": 5, "sum.name": "a"}\n' + record(4))
    assert database.cursor().execute("SELECT oob_mark FROM read.packets ORDER BY us").fetchall() == [
        (n,) for n in range(5)
    ]
    assert database.cursor().execute("SELECT sum_name FROM read.sums").fetchall() == [("a",)]
    assert (rows.rows, kept) == (6, [b"{\n"])


def test_a_refused_block_adds_nothing_of_it(made: tuple[Rows, list[bytes]]) -> None:
    rows, kept = made
    # The first kind is added before the second one is refused.
    rows.add(log(range(2)) + b'{"oob.time.sec": 5, "sum.name": "a", "sum.pkts": -1}\n')
    assert (rows.rows, len(kept)) == (2, 1)


def test_what_the_look_at_single_lines_misses_halving_finds(
    made: tuple[Rows, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, kept = made
    monkeypatch.setattr(Rows, "_stamp_of", lambda self, line: "")
    rows.add(log(range(10)) + b"{\n" + log(range(10, 25)) + b"[]\n")
    assert (rows.rows, kept) == (25, [b"{\n", b"[]\n"])


def test_no_line_that_duckdb_takes_is_suspected(made: tuple[Rows, list[bytes]]) -> None:
    rows, kept = made
    odd = [
        b'{"oob.time.sec": 1e1}\n',
        b'{"oob.time.sec": 1.5}\n',
        b'{"oob.time.sec": true}\n',
        b'{"oob.time.sec": 1, "tcp.window": null}\n',
        b'{"oob.time.sec": 1, "tcp.window": "7"}\n',
        b'{"oob.time.sec": 1, "oob.prefix": {"a": [1]}, "oob.in": 7}\n',
        b'{"oob.time.sec": 1}\r\n',
        b'{"oob.time.sec": "7"}\n',
        b'{"oob.time.sec": null, "timestamp": "2026-11-23 18:54:44+01"}\n',
        b'{"timestamp": null, "@timestamp": "2026-11-23T18:54:44Z"}\n',
        b'{"flow.end.sec": 0, "timestamp": "2026-11-23T18:54:44Z"}\n',
        b'{"oob.time.sec": " 7 ", "ip.ttl": 255.4, "oob.prefix": "\\ud83d\\ude00\\u0000"}\n',
        b'{"oob.time.sec": 4294967295, "x": ' + b"[" * 900 + b"]" * 900 + b"}\n",
        b'{"oob.time.sec": 1, "x": [NaN, 1e999]}\n',
    ]
    for line in odd:
        rows.add(line)
    assert kept == []
    rows.add(b"".join(odd) + b"{\n")
    assert (rows.rows, kept) == (2 * len(odd), [b"{\n"])


@pytest.mark.parametrize(
    "line",
    [
        b'{"oob.time.sec": 1, "ip.ttl": 1e300}',
        b'{"oob.time.sec": 1, "ip.ttl": "1e300"}',
        b'{"oob.time.sec": 1, "ip.ttl": "1_0"}',
        b'{"oob.time.sec": 1, "ip.ttl": "1.5"}',
        b'{"oob.time.sec": 1, "ip.ttl": ""}',
        b'{"oob.time.sec": 1, "ip.ttl": "inf"}',
        b'{"oob.time.sec": 1, "ip.ttl": NaN}',
        b'{"oob.time.sec": 1, "ip.ttl": 1e999}',
        b'{"oob.time.sec": 1, "oob.prefix": "\\ud800"}',
        b'{"oob.time.sec": 1e11}',
        b'{"oob.time.sec": "0", "x": 1}',
        b'{"flow.end.sec": null, "flow.event": 1, "oob.time.sec": 5, "orig.ip.protocol": 6}',
        b'{"timestamp": "27/Nov/2026:10:00:00 +0000"}',
        b'{"timestamp": "1969-12-31T23:59:59Z"}',
        b'{"@timestamp": "\\u0000"}',
        '{"oob.time.sec": 1}'.encode("utf-16-le").replace(b"\n", b""),
    ],
)
def test_what_is_no_record_is_told_without_reading_halves(
    made: tuple[Rows, list[bytes]], monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    # A read of DuckDB's takes a tenth of a second: a foreign log of a million such lines would take a day.
    rows, kept = made
    reads = []
    whole = Rows._try

    def counted(self: Rows, lines: bytes) -> bool:
        reads.append(lines)
        return whole(self, lines)

    monkeypatch.setattr(Rows, "_try", counted)
    good = b'{"oob.time.sec": 7, "timestamp": "x", "ip.ttl": 64.0}\n'
    rows.add((line + b"\n") * 20 + good)
    assert (rows.rows, kept) == (1, [line + b"\n"] * 20)
    assert reads[1:] == [good]
