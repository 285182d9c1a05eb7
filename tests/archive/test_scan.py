# SPDX-License-Identifier: GPL-2.0-or-later
"""Scanner: what it reads is what DuckDB reads of the same lines, and what it does not read is handed back whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nflowlevel.archive.scan import ROWS, Scanner
from nflowlevel.archive.schema import PACKETS, json_columns
from nflowlevel.records.keys import added_key
from tests.fix_archive import SECOND, log, record
from tests.fix_group import run_python

DATABASE = duckdb.connect()
SCANNER = Scanner(PACKETS, ["sum.name"])
NAMES = ", ".join(["sec", "us", *(column.name for column in SCANNER.columns)])


def scanned(lines: bytes, scanner: Scanner = SCANNER, names: str = NAMES) -> tuple[list[tuple[Any, ...]], bytes]:
    """Return the rows of lines, and the lines that are handed back."""
    at, rows, left = 0, [], b""
    DATABASE.register("scanned", scanner)
    while at < len(lines):
        at, odd = scanner.scan(lines, at)
        left += odd
        rows += DATABASE.execute(f"SELECT {names} FROM scanned").fetchall()
        scanner.clear()
    return rows, left


def read(lines: bytes, path: Path) -> list[tuple[Any, ...]]:
    """Return the rows that DuckDB's own reader makes."""
    path.write_bytes(lines)
    source = f"read_json($1, format='newline_delimited', columns={json_columns(PACKETS)})"
    return (
        duckdb.connect()
        .execute(f"SELECT {NAMES} FROM (SELECT {PACKETS.select()} FROM {source})", [str(path)])
        .fetchall()
    )


NUMBERS = [
    0,
    1,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**32 - 1,
    2**32,
    10**18,
    2**63,
    2**64 - 1,
    2**64,
    -1,
    1.5,
    None,
    True,
]
VALUES = st.one_of(
    st.sampled_from(NUMBERS),
    st.text(st.characters(codec="ascii"), max_size=20),
    st.text("abc ,:{}[]0123456789", max_size=30),
    st.sampled_from(["blocked", "allowed", 'a"b', "\\", "ü", "\n", [], {"a": 1}]),
)
MEMBERS = [*PACKETS.json_types, "action", "sum.name", "third.party", "", "oob.prefi", "oob.prefixx"]
OBJECTS = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=8).map(lambda o: {"oob.time.sec": SECOND, **o})
FORMS = st.sampled_from([(", ", ": "), (",", ":"), (" ,\t", " :  ")])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(OBJECTS, FORMS, st.booleans()), min_size=1, max_size=12))
def test_it_reads_what_duckdb_reads(
    tmp_path: Path, objects: list[tuple[dict[str, Any], tuple[str, str], bool]]
) -> None:
    lines = [
        json.dumps(found, separators=form, ensure_ascii=ascii_).encode() + b"\n" for found, form, ascii_ in objects
    ]
    rows, left = scanned(b"".join(lines))
    handed_back = left.splitlines(keepends=True)
    # In their order, as they were.
    plain = list(lines)
    for line in handed_back:
        plain.remove(line)
    assert len(rows) == len(plain)
    assert rows == (read(b"".join(plain), tmp_path / "x") if plain else [])


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_what_is_no_record_is_handed_back(data: bytes, at: int) -> None:
    lines = record(1)
    mixed = lines[: at % len(lines)] + data + lines[at % len(lines) :]
    rows, left = scanned(mixed)
    assert len(left) <= len(mixed)
    assert len(rows) + left.count(b"\n") + (not left.endswith(b"\n") and left != b"") == mixed.count(b"\n") + (
        not mixed.endswith(b"\n")
    )


def test_a_cut_line_is_no_record() -> None:
    line = record(1)
    for size in range(1, len(line)):
        rows, left = scanned(line[:size], names="sec")
        # Only the newline may be missing.
        assert (rows, left) == (([(SECOND,)], b"") if size == len(line) - 1 else ([], line[:size]))


def test_more_rows_than_it_takes_at_once() -> None:
    count = 2 * ROWS + 7
    rows, left = scanned(log(range(count)), names="oob_mark")
    assert rows == [(number,) for number in range(count)]
    rows, left = scanned(b"{\n" * count + log(range(3)), names="oob_mark")
    assert rows == [(0,), (1,), (2,)]
    assert left == b"{\n" * count


def test_a_row_that_was_begun_is_taken_back() -> None:
    half = record(9, **{"oob.prefix": "x", "tcp.window": 70_000})
    rows, left = scanned(
        half + record(1, **{"oob.prefix": None, "tcp.window": None}), names="oob_mark, oob_prefix, tcp_window"
    )
    assert rows == [(1, None, None)]
    assert left == half


def test_columns_with_values() -> None:
    scanner = Scanner(PACKETS, [])
    scanner.scan(b'{"oob.time.sec": 1, "tcp.window": 2}\n{"oob.time.sec": 1, "raw.label": 0}\n', 0)
    assert scanner.filled() == ["raw_label", "tcp_window"]
    scanner.scan(b'{"oob.time.sec": 1, "ip.ttl": 2}\n', 0)
    assert set(scanner.filled()) == {"raw_label", "tcp_window", "ip_ttl"}
    scanner.clear()
    assert scanner.filled() == []


LONG = "a text that no view holds"


@given(
    st.lists(
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "oob.prefix": st.sampled_from([LONG, LONG[:-1] + "!", "short", ""]),
                    "tcp.window": st.sampled_from([0, 1, 65_535]),
                    "oob.mark": st.sampled_from([7, 2**32 - 1]),
                    "orig.raw.pktlen": st.just(2**63),
                    "ip.ttl": st.just(64),
                },
            ),
            min_size=1,
            max_size=20,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_columns_of_one_value(blocks: list[list[dict[str, Any]]]) -> None:
    scanner = Scanner(PACKETS, [])
    for objects in blocks:
        lines = b"".join(json.dumps({"oob.time.sec": SECOND, **found}).encode() + b"\n" for found in objects)
        assert scanner.scan(lines, 0) == (len(lines), b"")
    every = [found for objects in blocks for found in objects]
    names = {column.members[0]: column.name for column in scanner.columns}
    for member in {member for found in every for member in found if member in names}:
        values = {found.get(member) for found in every}
        assert scanner.constants().get(names[member]) == (values.pop() if len(values) == 1 else None)
    assert set(scanner.constants()) <= set(scanner.filled())


def test_rows_are_kept_until_they_are_cleared() -> None:
    scanner = Scanner(PACKETS, [])
    DATABASE.register("scanned", scanner)
    sql = "SELECT oob_mark, oob_prefix, tcp_window FROM scanned"
    for _ in range(2):
        expected = []
        for number in range(3):
            # The lines are no longer needed.
            lines = bytearray(
                record(number, **{"oob.prefix": f"{LONG} {number}"}) + record(number, **{"tcp.window": number})
            )
            scanner.scan(memoryview(lines), 0)
            lines[:] = b"x" * len(lines)
            expected += [(number, f"{LONG} {number}", 16384), (number, "in: ", number)]
        assert DATABASE.execute(sql).fetchall() == expected
        assert DATABASE.execute(sql).fetchall() == expected
        assert (scanner.rows, scanner.held_bytes > 0) == (6, True)
        scanner.clear()
        assert (scanner.rows, scanner.held_bytes, DATABASE.execute(sql).fetchall()) == (0, 0, [])


def test_what_another_type_than_json_s_has_is_handed_back() -> None:
    scanner = Scanner(PACKETS.with_keys([added_key("geo.lat", "double", "Where.")]), [])
    line = b'{"oob.time.sec": 1, "geo.lat": 2}\n'
    assert scanned(line, scanner, "sec") == ([], line)


def test_no_package_is_needed_but_duckdb() -> None:
    done = run_python("""if True:
        import sys
        sys.modules["pyarrow"] = sys.modules["numpy"] = sys.modules["pandas"] = None
        import duckdb
        from nflowlevel.archive.scan import Scanner
        from nflowlevel.archive.schema import PACKETS
        scanner = Scanner(PACKETS, [])
        scanner.scan(b'{"oob.time.sec": 1, "oob.prefix": "a text of many characters"}\\n', 0)
        print(duckdb.connect().register("scanned", scanner).execute("SELECT sec, oob_prefix FROM scanned").fetchall())
    """)
    assert done.stdout == "[(1, 'a text of many characters')]\n", done.stderr
