# SPDX-License-Identifier: GPL-2.0-or-later
"""What all databases share: schemas of our own, and a connection that is not asked for what only some can do."""

from __future__ import annotations

import pytest

from nflowlevel.sql.database import Database, schema
from tests.fix_database import Scripted, Server


@pytest.mark.parametrize("database", ["pgsql", "mysql", "sqlite3"])
def test_schemas_are_part_of_the_package(database: str) -> None:
    assert "CREATE TABLE" in schema(f"{database}.sql")
    assert "nflowlevel_ledger" in schema(f"{database}-ledger.sql")


def test_most_databases_have_nothing_to_tend() -> None:
    server = Server()
    Database.tend(Scripted(server))
    assert server.calls == []
