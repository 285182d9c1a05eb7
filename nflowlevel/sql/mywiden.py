# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes a table of MySQL or MariaDB hold what packets carry: statements for its own client, in their order.

A view follows the table by itself. A function has to be made again: MariaDB does that in one step, and keeps who may
call it; MySQL cannot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nflowlevel.sql.bodies import Body, Token, parts, tokens
from nflowlevel.sql.columns import Column, Members, match
from nflowlevel.sql.widen import Change, Widening, arguments, changes, size

if TYPE_CHECKING:
    from pymysql.cursors import Cursor

_VIEW = "SELECT view_definition FROM information_schema.views WHERE table_schema = %s AND table_name = %s"
_TYPE = """
SELECT column_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s AND column_name = %s
"""
_SIZE = """
SELECT COALESCE(table_rows, 0), COALESCE(data_length + index_length, 0) FROM information_schema.tables
WHERE table_schema = %s AND table_name = %s
"""
_ROUTINES = """
SELECT routine_name, routine_type, definer FROM information_schema.routines
WHERE routine_schema = %s AND routine_body = 'SQL'
"""
_PARAMETERS = """
SELECT specific_name, parameter_name, data_type, dtd_identifier, character_maximum_length
FROM information_schema.parameters WHERE specific_schema = %s AND ordinal_position > 0 ORDER BY ordinal_position
"""
_COLUMN_LINE = re.compile(r"^  (`(?:[^`]|``)+`) (.*?),?$", re.MULTILINE)
_PARAMETER_TYPE = re.compile(r"\s*\w+(?:\s*\([^()]*\))?(?:\s+(?:unsigned|signed|zerofill)\b)*", re.IGNORECASE)
_MODES = frozenset(("in", "out", "inout"))
_DELIMITER = "$$"
#: Types as `check.wider` calls them in all databases.
_OWN_NAMES = {"integer": "int", "double precision": "double"}


class _Unfit(Exception):
    """No statement can be made; the text says why."""


class _Target(NamedTuple):
    """A column of a table, behind views or not."""

    table: tuple[str, str]
    """Database and name."""
    column: str
    type: str


class _Routine(NamedTuple):
    name: str
    kind: str
    """FUNCTION or PROCEDURE."""
    columns: Sequence[Column]
    """Its arguments."""
    text: str
    """Empty where this user may not see it."""
    sql_mode: str
    definer: str


def widening(
    cursor: Cursor,
    named: tuple[str | None, str],
    called: tuple[str | None, str] | None,
    columns: Sequence[Column],
    table_columns: Sequence[Column],
    members: Members,
) -> Widening:
    """Return what makes all fit that an output stores.

    `named` is the table or view that it fills, and has `table_columns`; or the one whose columns, `columns`, are the
    arguments of the routine `called`.
    """
    cursor.execute("SELECT DATABASE(), VERSION()")
    current, version = cursor.fetchall()[0]
    wanted, remarks = changes(table_columns, members)
    targets: list[_Target] = []
    for change in wanted:
        try:
            targets.append(_behind(cursor, (named[0] or current, named[1]), change))
        except _Unfit as error:
            remarks.append(str(error))
    lines: list[str] = []
    for table in dict.fromkeys(target.table for target in targets):
        lines += _of_table(cursor, table, targets)
    problems: list[str] = []
    if called is not None:
        filled = match(columns, members, arguments=True)
        place = called[0] or current, called[1]
        try:
            told, more, made = _of_routines(
                cursor, place, [column.item for column in filled], members, "MariaDB" in version
            )
            problems += told
            remarks += more
            lines += made
        except _Unfit as error:
            remarks.append(str(error))
    return Widening(lines, problems, remarks)


# -- tables and views -------------------------------------------------------------------------------------------------


def _behind(cursor: Cursor, place: tuple[str, str], change: Change) -> _Target:
    """Return the column of a table that a column of this table or view is."""
    name, seen = change.name, [place]
    while True:
        cursor.execute(_VIEW, place)
        found = cursor.fetchall()
        if not found:
            return _Target(place, name, _OWN_NAMES.get(change.type, change.type))
        if not found[0][0]:
            raise _Unfit(
                f"{change.name} is a column of the view {place[1]}, which this user may not look into: GRANT SHOW VIEW"
            )
        place, name = _origin(found[0][0], place, name)
        if place in seen:
            raise _Unfit(f"{change.name}: the view {place[1]} is not understood")
        seen.append(place)


def _origin(definition: str, view: tuple[str, str], name: str) -> tuple[tuple[str, str], str]:
    """Return the table and column that a view has under a name: `db`.`table`.`column` AS `name`, as the server says."""
    pieces = [*tokens(definition)]
    column = next((index for index in range(1, len(pieces)) if _is_named(pieces, index, name)), None)
    if column is None:
        raise _Unfit(f"{name} is computed by the view {view[1]}: change the view by hand")
    path = [pieces[at] for at in range(column, max(column - 5, -1), -2)]
    if len(path) == 3 and all(pieces[column - step].text == "." for step in (1, 3)):
        return (_plain(path[2]), _plain(path[1])), _plain(path[0])
    if pieces[column - 1].text != ".":
        raise _Unfit(f"{name} is computed by the view {view[1]}: change the view by hand")
    return _of_alias(pieces, path[1], view), _plain(path[0])


def _is_named(pieces: Sequence[Token], at: int, name: str) -> bool:
    """Tell whether the column at this place is the view's column of that name."""
    after = pieces[at + 1 : at + 3]
    named = len(after) == 2 and after[0].text.lower() == "as" and _plain(after[1]).lower() == name.lower()
    return named and pieces[at].kind == "quoted"


def _of_alias(pieces: Sequence[Token], alias: Token, view: tuple[str, str]) -> tuple[str, str]:
    """Return the table that has this name in a view: `db`.`name`, or `db`.`table` `name`."""
    for at in range(3, len(pieces) + 1):
        database, dot, table, *after = pieces[at - 3 : at + 1]
        names = [table.text, *(piece.text for piece in after)]
        if alias.text in names and dot.text == "." and {database.kind, table.kind} == {"quoted"}:
            return _plain(database), _plain(table)
    raise _Unfit(f"the view {view[1]} is not understood: change it by hand")


def _of_table(cursor: Cursor, table: tuple[str, str], targets: Sequence[_Target]) -> Iterator[str]:
    """Yield a statement that changes columns of a table, and what it does to a big one."""
    cursor.execute(f"SHOW CREATE TABLE {_identifier(*table)}".replace("%", "%%"), ())
    lines = {_unquoted(name): text for name, text in _COLUMN_LINE.findall(cursor.fetchall()[0][1])}
    clauses = []
    for target in targets:
        if target.table != table:
            continue
        cursor.execute(_TYPE, (*table, target.column))
        (old,) = cursor.fetchall()[0]
        name = next(name for name in lines if name.lower() == target.column.lower())
        # What stands behind the type, such as a default, would be gone if it was not said again.
        clauses.append(f"    MODIFY {_identifier(name)} {target.type}{lines[name].removeprefix(old)}")
    cursor.execute(_SIZE, table)
    rows, octets = cursor.fetchall()[0]
    shown = _identifier(*table).replace("\n", " ")
    yield f"-- {shown} ({size(rows, octets)}) is rewritten, and locked for writers meanwhile: rows wait in the daemon"
    yield f"ALTER TABLE {_identifier(*table)}\n" + ",\n".join(clauses) + ";"


# -- functions --------------------------------------------------------------------------------------------------------


def _of_routines(
    cursor: Cursor, place: tuple[str, str], items: Sequence[str], members: Members, is_mariadb: bool
) -> tuple[list[str], list[str], list[str]]:
    """Return problems, remarks and statements about a routine's arguments and those of the routines that it calls."""
    database, name = place
    routines = _routines(cursor, database)
    if name.lower() not in routines:
        raise _Unfit(f"there is no routine {name} in {database}")
    bodies = {key: Body(one.name, [column.name for column in one.columns], one.text) for key, one in routines.items()}
    types = {key: one.columns for key, one in routines.items()}
    needed = arguments(bodies[name.lower()], items, bodies, types, members)
    lines: list[str] = []
    remarks = needed.remarks
    for key, wanted in needed.changes.items():
        if routines[key].text:
            lines += _remade(database, routines[key], wanted, is_mariadb)
        else:
            one = routines[key]
            remarks.append(
                f"{one.name}, and what it calls: only {one.definer}, who made it, sees its text; check as that user"
            )
    if lines:
        lines = [f"USE {_identifier(database)};", f"DELIMITER {_DELIMITER}", *lines, "DELIMITER ;"]
    return needed.problems, remarks, lines


def _routines(cursor: Cursor, database: str) -> dict[str, _Routine]:
    """Return the routines of a database, by their names in lower case."""
    cursor.execute(_PARAMETERS, (database,))
    columns: dict[str, list[Column]] = {}
    for routine, name, type_, full, most in cursor.fetchall():
        unsigned = " unsigned" if "unsigned" in full.lower() else ""
        columns.setdefault(routine.lower(), []).append(Column(name, type_.lower() + unsigned, most))
    cursor.execute(_ROUTINES, (database,))
    found = {}
    for name, kind, definer in cursor.fetchall():
        cursor.execute(f"SHOW CREATE {kind} {_identifier(database, name)}".replace("%", "%%"), ())
        _, sql_mode, text, *_ = cursor.fetchall()[0]
        found[name.lower()] = _Routine(name, kind, columns.get(name.lower(), []), text or "", sql_mode, definer)
    return found


def _remade(database: str, routine: _Routine, wanted: Mapping[int, str], is_mariadb: bool) -> Iterator[str]:
    """Yield the statements that make a routine with wider arguments."""
    pieces = [*tokens(routine.text)]
    opening = next(at for at, piece in enumerate(pieces) if piece.text == "(")
    given, _ = parts(pieces, opening)
    text = routine.text
    for at in sorted(wanted, reverse=True):
        name = next(piece for piece in given[at] if piece.text.lower() not in _MODES)
        old = _PARAMETER_TYPE.match(text, name.end)
        end = old.end() if old else name.end
        type_ = _OWN_NAMES.get(wanted[at], wanted[at])
        text = f"{text[: name.end]} {type_}{text[end:]}"
    yield f"SET SESSION sql_mode = '{routine.sql_mode}'{_DELIMITER}"
    if is_mariadb:
        yield text.replace("CREATE ", "CREATE OR REPLACE ", 1) + _DELIMITER
        return
    yield f"-- MySQL forgets who may execute it: GRANT EXECUTE ON {routine.kind} again where you had"
    yield f"DROP {routine.kind} {_identifier(database, routine.name)}{_DELIMITER}"
    yield text + _DELIMITER


# -- names ------------------------------------------------------------------------------------------------------------


def _plain(piece: Token) -> str:
    return _unquoted(piece.text)


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _identifier(*names: str) -> str:
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)
