# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration says about a database: its options, and which statement `procedure` means."""

from __future__ import annotations

import pytest

from nflowlevel.options import ConfigErrors, Value, convert
from nflowlevel.sql.options import SQLOptions, Statement, statement


@pytest.mark.parametrize(
    ("procedure", "meant"),
    [
        ("INSERT", ("insert", "t")),
        ("insert", ("insert", "t")),
        (" INSERT ", ("insert", "t")),
        ("INSERT INTO other", ("insert", "other")),
        ("insert into  s.other ", ("insert", "s.other")),
        ("INSERT IGNORE INTO other", ("text", "INSERT IGNORE INTO other")),
        ("CALL add_packet", ("call", "add_packet")),
        ("call  x.add", ("call", "x.add")),
        ("INSERT_PACKET_FULL", ("select", "INSERT_PACKET_FULL")),
        ("CALL", ("select", "CALL")),
    ],
)
def test_statement(procedure: str, meant: tuple[str, str]) -> None:
    assert statement(procedure, "t") == Statement(*meant)  # type: ignore[arg-type]


def test_options() -> None:
    text = {"table": "ulog", "ring_buffer_size": "1000", "backlog_memcap": "1000000", "when_full": "drop_oldest"}
    values = {name: Value(value, 1) for name, value in text.items()}
    options = convert(SQLOptions, values, plugin="PGSQL", instance="pgsql1")
    assert (options.table, options.procedure, options.ring_buffer_size) == ("ulog", "INSERT", 1000)
    with pytest.raises(ConfigErrors, match=r"when_full.*drop_oldest"):
        convert(SQLOptions, {**values, "when_full": Value("wait", 1)}, plugin="PGSQL", instance="pgsql1")


@pytest.mark.parametrize(("requests", "rows"), [(0, 3_000), (3, 3_000), (4, 4_000), (10, 10_000), (50, 50_000)])
def test_a_backlog_goes_in_statements_of_a_thousand_rows_but_at_least_three(requests: int, rows: int) -> None:
    assert SQLOptions(table="t", backlog_oneshot_requests=requests).backlog_rows == rows
