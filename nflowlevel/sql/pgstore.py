# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to bring rows into PostgreSQL, from the fastest down; each works within the transaction it is called in.

- COPY into the table: rows pass as they are.
- COPY into a temporary table whose columns have the types that are wanted, then one statement over all of it: an
  INSERT, or a call for each row. For the server that is as fast as calls one by one, and it costs us nothing.
- A statement for each row, sent without waiting for the answers in between; the server finds out the types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nflowlevel.spool.sink import Unavailable
from nflowlevel.sql import copytext
from nflowlevel.sql.columns import Column
from nflowlevel.sql.options import Statement
from nflowlevel.sql.pgcatalogue import find_relation, find_routines, types_of

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    from nflowlevel.spool.rows import Rows

    Connection = psycopg.Connection[Any]
    Store = Callable[[Connection, Rows], None]

_STAGE = "nflowlevel_stage"
#: Rows that are taken apart at once where each has a statement of its own: a value is a Python object then.
_EACH_ROWS = 1000


def way_to_store(connection: Connection, asked: Statement, columns: Sequence[Column], schema: str) -> Store:
    """Return the fastest way to do with rows of these columns what is asked; it may make the temporary table."""
    if asked.form == "insert":
        return _insert(connection, asked.target, columns, schema)
    if asked.form == "text":
        return _each(connection, _values(connection, as_sql(asked.target), columns))
    return _call(connection, asked, columns)


def as_sql(text: str) -> sql.SQL:
    """Return text that is SQL already: of the configuration, the catalogue, or a file of ours."""
    from psycopg import sql

    return sql.SQL(text)


def before_values(connection: Connection, part: sql.Composable) -> sql.SQL:
    """Return a part of a statement that has placeholders, for which psycopg would take any % of a name."""
    return as_sql(part.as_string(connection).replace("%", "%%"))


def _insert(connection: Connection, target: str, columns: Sequence[Column], schema: str) -> Store:
    from psycopg import sql

    relation = find_relation(connection, target, schema)
    if not relation.permitted:
        raise Unavailable(
            f"no permission to insert into {relation.schema}.{relation.name} — GRANT USAGE ON the SCHEMA and "
            f"GRANT INSERT ON the table to {connection.info.user}"
        )
    identifier = sql.Identifier(relation.schema, relation.name)
    if relation.copies:
        return _copy(connection, identifier, columns)
    types = types_of(connection, relation)
    if all(column.name in types for column in columns) and _may_stage(connection):
        into = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
            identifier, _names(columns), _names(columns), _stage()
        )
        return _staged(connection, columns, [types[column.name] for column in columns], into)
    return _each(connection, _values(connection, sql.SQL("INSERT INTO {}").format(identifier), columns))


def _call(connection: Connection, asked: Statement, columns: Sequence[Column]) -> Store:
    from psycopg import sql

    procedure = asked.form == "call"
    name, meanings = find_routines(connection, asked.target, len(columns), procedure=procedure)
    identifier = sql.Identifier(*filter(None, (name.schema, name.exact)))
    types = meanings[0].types
    if len(meanings) > 1 or types is None or not _may_stage(connection):
        arguments = sql.SQL(", ").join([sql.Placeholder() if column.item else sql.NULL for column in columns])
        words = sql.SQL("CALL {}({})") if procedure else sql.SQL("SELECT {}({})")
        return _each(connection, words.format(before_values(connection, identifier), arguments))
    types = types[: len(columns)]
    row = sql.Identifier("r") if procedure else sql.Identifier(_STAGE)
    calls = _calls(connection, identifier, _arguments(row, columns, types), procedure=procedure)
    return _staged(connection, columns, types, calls)


def _copy(connection: Connection, target: sql.Identifier, columns: Sequence[Column]) -> Store:
    from psycopg import sql

    # As bytes: psycopg would quote all names again for each batch.
    copy = sql.SQL("COPY {} ({}) FROM STDIN").format(target, _names(columns)).as_bytes(connection)

    def store(connection: Connection, rows: Rows) -> None:
        with connection.cursor() as cursor, cursor.copy(copy) as into:
            into.write(rows.data)

    return store


def _may_stage(connection: Connection) -> bool:
    found = connection.execute("SELECT has_database_privilege(current_database(), 'TEMPORARY')").fetchone()
    return bool(found and found[0])


def _stage() -> sql.Identifier:
    from psycopg import sql

    return sql.Identifier("pg_temp", _STAGE)


def _staged(connection: Connection, columns: Sequence[Column], types: Sequence[str], then: sql.Composed) -> Store:
    """Make the temporary table, of those columns that rows have; each transaction finds it empty."""
    from psycopg import sql

    filled = [(column, type_) for column, type_ in zip(columns, types, strict=True) if column.item]
    fields = [sql.SQL("{} {}").format(sql.Identifier(column.name), as_sql(type_)) for column, type_ in filled]
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_stage()))
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DELETE ROWS").format(
            sql.Identifier(_STAGE), sql.SQL(", ").join(fields)
        )
    )
    copy = _copy(connection, _stage(), [column for column, _ in filled])
    statement = then.as_bytes(connection)

    def store(connection: Connection, rows: Rows) -> None:
        copy(connection, rows)
        connection.execute(statement)

    return store


def _arguments(row: sql.Identifier, columns: Sequence[Column], types: Sequence[str]) -> sql.Composed:
    from psycopg import sql

    def argument(column: Column, type_: str) -> sql.Composed:
        if column.item:
            return sql.SQL("{}.{}").format(row, sql.Identifier(column.name))
        return sql.SQL("NULL::{}").format(as_sql(type_))

    return sql.SQL(", ").join([argument(column, type_) for column, type_ in zip(columns, types, strict=True)])


def _calls(
    connection: Connection, routine: sql.Identifier, arguments: sql.Composed, *, procedure: bool
) -> sql.Composed:
    """Return a statement that calls a function or procedure for each row of the temporary table, in their order."""
    from psycopg import sql

    if not procedure:
        # count() is the shortest result that needs every call.
        return sql.SQL("SELECT count({}({})) FROM {}").format(routine, arguments, _stage())
    loop = sql.SQL("DECLARE r record; BEGIN FOR r IN SELECT * FROM {} LOOP CALL {}({}); END LOOP; END").format(
        _stage(), routine, arguments
    )
    return sql.SQL("DO {}").format(sql.Literal(loop.as_string(connection)))


def _names(columns: Sequence[Column]) -> sql.Composed:
    from psycopg import sql

    return sql.SQL(", ").join([sql.Identifier(column.name) for column in columns])


def _values(connection: Connection, beginning: sql.Composable, columns: Sequence[Column]) -> sql.Composed:
    from psycopg import sql

    values = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
    return sql.SQL("{} ({}) VALUES ({})").format(
        before_values(connection, beginning), before_values(connection, _names(columns)), values
    )


def _each(connection: Connection, each: sql.Composed) -> Store:
    statement = each.as_bytes(connection)

    def store(connection: Connection, rows: Rows) -> None:
        with connection.cursor() as cursor:
            while rows.count:
                some, rows = rows.split(min(rows.count, _EACH_ROWS))
                cursor.executemany(statement, list(zip(*copytext.columns(some), strict=True)))

    return store
