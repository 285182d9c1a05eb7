# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes a table of PostgreSQL hold what packets carry: statements for psql, in an order that works.

PostgreSQL changes no column that a view uses, so the views on it go first and come back, with all that belongs to
them. An argument's type is a part of a function's name: a wider one makes another function, and the old one has to go,
or a call would fit both. All is one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, NamedTuple

from nflowlevel.sql.bodies import Body
from nflowlevel.sql.columns import Column, Members, match
from nflowlevel.sql.options import Statement
from nflowlevel.sql.pgcatalogue import Relation, columns_of, find_relation, parse_name
from nflowlevel.sql.widen import Change, Widening, arguments, changes, size

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_KIND = "SELECT relkind FROM pg_class WHERE oid = %s"
_ATTRIBUTES = "SELECT attnum, attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
_TABLE = """
    SELECT format('%%I.%%I', n.nspname, c.relname), c.reltuples, pg_total_relation_size(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s"""
_DEPENDENTS = """
    WITH RECURSIVE uses(user_, used) AS (
        SELECT r.ev_class, d.refobjid FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
        JOIN unnest(%s::oid[], %s::int[]) changed(relation, number)
             ON d.refobjid = changed.relation AND d.refobjsubid = changed.number
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class <> d.refobjid
        UNION
        SELECT r.ev_class, d.refobjid FROM uses u
        JOIN pg_depend d ON d.refobjid = u.user_ JOIN pg_rewrite r ON r.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class <> d.refobjid)
    SELECT user_, used FROM uses"""
_VIEW = """
    SELECT c.relkind, format('%%I.%%I', n.nspname, c.relname), pg_get_viewdef(c.oid),
           array_to_string(c.reloptions, ', ')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s"""
_OF_VIEW = """
    WITH v AS (SELECT c.*, format('%%I.%%I', n.nspname, c.relname) AS name
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s)
    SELECT format('ALTER VIEW %%s ALTER COLUMN %%I SET DEFAULT %%s;', v.name, a.attname,
                  pg_get_expr(d.adbin, d.adrelid))
    FROM v JOIN pg_attrdef d ON d.adrelid = v.oid JOIN pg_attribute a ON a.attrelid = v.oid AND a.attnum = d.adnum
    UNION ALL SELECT pg_get_ruledef(r.oid) FROM v JOIN pg_rewrite r ON r.ev_class = v.oid WHERE r.rulename <> '_RETURN'
    UNION ALL SELECT pg_get_triggerdef(t.oid) || ';'
    FROM v JOIN pg_trigger t ON t.tgrelid = v.oid WHERE NOT t.tgisinternal
    UNION ALL SELECT format('COMMENT ON VIEW %%s IS %%L;', v.name, obj_description(v.oid, 'pg_class'))
    FROM v WHERE obj_description(v.oid, 'pg_class') IS NOT NULL
    UNION ALL SELECT format('COMMENT ON COLUMN %%s.%%I IS %%L;', v.name, a.attname, col_description(v.oid, a.attnum))
    FROM v JOIN pg_attribute a ON a.attrelid = v.oid WHERE col_description(v.oid, a.attnum) IS NOT NULL
    UNION ALL SELECT format('GRANT %%s ON %%s TO %%s%%s;', g.privilege_type, v.name,
                            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM v, aclexplode(v.relacl) g WHERE g.grantee <> v.relowner
    UNION ALL SELECT format('GRANT %%s (%%I) ON %%s TO %%s%%s;', g.privilege_type, a.attname, v.name,
                            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM v JOIN pg_attribute a ON a.attrelid = v.oid, aclexplode(a.attacl) g WHERE g.grantee <> v.relowner
    UNION ALL SELECT format('ALTER VIEW %%s OWNER TO %%I;', v.name, pg_get_userbyid(v.relowner)) FROM v"""
_START = """
    SELECT p.oid, p.pronamespace FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prokind = %(kind)s AND p.proname = %(name)s
          AND %(count)s BETWEEN p.pronargs - p.pronargdefaults AND p.pronargs
          AND (n.nspname = %(schema)s OR %(schema)s::text IS NULL AND pg_function_is_visible(p.oid))"""
_ROUTINES = """
    SELECT p.oid, p.proname, p.prosrc, coalesce(p.proargnames, array_fill(''::text, ARRAY[p.pronargs::int])),
           ARRAY(SELECT format_type(a.oid, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a(oid, place)
                 ORDER BY place)
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace = %s AND p.prokind IN ('f', 'p') AND l.lanname IN ('sql', 'plpgsql')"""
_ROUTINE = """
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, format('%%I.%%I', n.nspname, p.proname),
           pg_get_function_arguments(p.oid), pg_get_functiondef(p.oid),
           ARRAY(SELECT CASE WHEN p.proargnames[place] <> '' THEN quote_ident(p.proargnames[place]) || ' ' ELSE '' END
                 FROM generate_series(1, p.pronargs) place ORDER BY place),
           ARRAY(SELECT format_type(a.oid, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a(oid, place)
                 ORDER BY place),
           ARRAY(SELECT coalesce(' DEFAULT ' || pg_get_function_arg_default(p.oid, place), '')
                 FROM generate_series(1, p.pronargs) place ORDER BY place)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = %s"""
_OF_ROUTINE = """
    WITH f AS (SELECT p.*, %s AS name FROM pg_proc p WHERE p.oid = %s)
    SELECT format('COMMENT ON %%s IS %%L;', f.name, obj_description(f.oid, 'pg_proc'))
    FROM f WHERE obj_description(f.oid, 'pg_proc') IS NOT NULL
    UNION ALL SELECT format('REVOKE ALL ON %%s FROM PUBLIC;', f.name) FROM f
    WHERE f.proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(f.proacl) g WHERE g.grantee = 0)
    UNION ALL SELECT format('GRANT EXECUTE ON %%s TO %%I%%s;', f.name, pg_get_userbyid(g.grantee),
                            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM f, aclexplode(f.proacl) g WHERE g.grantee NOT IN (0, f.proowner)
    UNION ALL SELECT format('ALTER %%s OWNER TO %%I;', f.name, pg_get_userbyid(f.proowner)) FROM f"""


class _Unfit(Exception):
    """No statement can be made; the text says why."""


class _Target(NamedTuple):
    """A column of a table, behind views or not."""

    oid: int
    number: int
    change: Change


def widening(
    connection: Connection, table: str, asked: Statement, schema: str, columns: Sequence[Column], members: Members
) -> Widening:
    """Return what makes all fit that this output stores; the transaction is left to end without a trace."""
    search_path = _only(connection, "SELECT current_setting('search_path')")
    named = asked.target if asked.form == "insert" else table
    relation = find_relation(connection, named, schema)
    wanted, remarks = changes(columns_of(connection, relation), members)
    start = None
    if asked.form in ("select", "call"):
        start = _start(connection, asked, len(match(columns, members, arguments=True)))
        if start is None:
            remarks.append(f"{asked.target} is not one function with so many arguments: change it by hand")
    # What is printed then names everything with its schema.
    connection.execute("SELECT set_config('search_path', '', true)")
    problems: list[str] = []
    targets: list[_Target] = []
    for change in wanted:
        try:
            targets.append(_behind(connection, relation, change))
        except _Unfit as error:
            remarks.append(str(error))
    lines: list[str] = []
    try:
        lines += _of_tables(connection, targets)
    except _Unfit as error:
        remarks.append(str(error))
    if start is not None:
        items = [column.item for column in match(columns, members, arguments=True)]
        told, more, made = _of_routines(connection, start, items, members)
        problems += told
        remarks += more
        lines += made
    if lines:
        path = search_path or "''"
        comments = [line for line in lines if line.startswith("--")]
        rest = [line for line in lines if not line.startswith("--")]
        lines = [*comments, "BEGIN;", f"SET LOCAL search_path = {path};", *rest, "COMMIT;"]
    return Widening(lines, problems, remarks)


# -- tables and views -------------------------------------------------------------------------------------------------


def _behind(connection: Connection, relation: Relation, change: Change) -> _Target:
    """Return the column of a table that a column of this table or view is."""
    oid, name = relation.oid, change.name
    while True:
        numbers = {column: number for number, column in connection.execute(_ATTRIBUTES, (oid,))}
        kind = _only(connection, _KIND, oid)
        if kind in ("r", "p"):
            return _Target(oid, numbers[name], change)
        if kind != "v":
            raise _Unfit(f"{name} is a column of a foreign table: change it there")
        oid, number = _origin(connection, oid, list(numbers).index(name))
        if not oid:
            raise _Unfit(f"{name} is computed by the view {relation.name}: change the view by hand")
        name = next(column for attribute, column in connection.execute(_ATTRIBUTES, (oid,)) if attribute == number)


def _origin(connection: Connection, view: int, at: int) -> tuple[int, int]:
    """Return the table or view, and the number of its column, that a view has as its column at this place; or zeros.

    The server tells that of a statement that is prepared. To prepare it needs no right to read the table.
    """
    definition = str(_only(connection, "SELECT pg_get_viewdef(%s::oid)", view)).rstrip("; \n")
    for result in (
        connection.pgconn.prepare(b"", definition.encode()),
        described := connection.pgconn.describe_prepared(b""),
    ):
        if result.error_message:
            raise _Unfit(f"the view is not understood: {result.error_message.decode(errors='replace').strip()}")
    return described.ftable(at), described.ftablecol(at)


def _of_tables(connection: Connection, targets: Sequence[_Target]) -> Iterator[str]:
    """Yield statements that change columns of tables, and what they do to a big one."""
    if not targets:
        return
    oids, numbers = [target.oid for target in targets], [target.number for target in targets]
    uses: dict[int, set[int]] = {}
    for user, used in connection.execute(_DEPENDENTS, (oids, numbers)):
        uses.setdefault(user, set()).add(used)
    order = [oid for oid in TopologicalSorter(uses).static_order() if oid in uses]
    views = [(oid, *_row(connection, _VIEW, oid)) for oid in order]
    for _, kind, name, *_ in views:
        if kind != "v":
            what = "materialized view" if kind == "m" else "rule of the table"
            raise _Unfit(f"the {what} {name} uses what is to be changed: drop it first and make it again afterwards")
    made = []
    for oid in dict.fromkeys(oids):
        table, rows, octets = _row(connection, _TABLE, oid)
        of_table = [target for target in targets if target.oid == oid]
        names = dict(connection.execute(_ATTRIBUTES, (oid,)).fetchall())
        clauses = [
            f"    ALTER COLUMN {_quoted(connection, names[target.number])} TYPE {target.change.type}"
            for target in of_table
        ]
        rewritten = any(not target.change.type.startswith("varchar") for target in of_table)
        yield (
            f"-- {_in_comment(table)} ({size(rows, octets)}) is "
            + ("rewritten, and locked meanwhile: rows wait in the daemon" if rewritten else "locked for a moment")
        )
        made.append(f"ALTER TABLE {table}\n" + ",\n".join(clauses) + ";")
    yield from (f"DROP VIEW {name};" for _, _, name, *_ in reversed(views))
    yield from made
    for oid, _, name, definition, options in views:
        with_ = f" WITH ({options})" if options else ""
        yield f"CREATE VIEW {name}{with_} AS\n{definition}"
        yield from (text for (text,) in connection.execute(_OF_VIEW, (oid,)))


# -- functions --------------------------------------------------------------------------------------------------------


def _start(connection: Connection, asked: Statement, count: int) -> tuple[int, int] | None:
    """Return the routine that the output calls, and its schema; None where it is not one."""
    name = parse_name(asked.target)
    kind = "p" if asked.form == "call" else "f"
    for spelling in dict.fromkeys((name.folded, name.exact)):
        given = {"kind": kind, "name": spelling, "count": count, "schema": name.schema}
        found = connection.execute(_START, given).fetchall()
        if found:
            return (found[0][0], found[0][1]) if len(found) == 1 else None
    return None


def _of_routines(
    connection: Connection, start: tuple[int, int], items: Sequence[str], members: Members
) -> tuple[list[str], list[str], list[str]]:
    """Return problems, remarks and statements about a routine's arguments and those of the routines that it calls."""
    oid, schema = start
    found: dict[str, list[tuple[int, Body, list[Column]]]] = {}
    for number, name, text, names, types in connection.execute(_ROUTINES, (schema,)):
        body = Body(name, names[: len(types)], text)
        columns = [Column(argument, type_) for argument, type_ in zip(body.parameters, types, strict=True)]
        found.setdefault(name.lower(), []).append((number, body, columns))
    # Of several of a name only a call itself could say which is meant, but the one where it begins is known.
    known = {
        name: same[0] if len(same) == 1 else next((one for one in same if one[0] == oid), None)
        for name, same in found.items()
    }
    routines = {name: one for name, one in known.items() if one is not None}
    begin = next((body for number, body, _ in routines.values() if number == oid), None)
    if begin is None:
        return [], ["the function is in a language that is not looked into: change it by hand"], []
    bodies = {name: body for name, (_, body, _) in routines.items()}
    needed = arguments(begin, items, bodies, {name: columns for name, (_, _, columns) in routines.items()}, members)
    drops, makes, remarks = [], [], [*needed.remarks]
    for name, types in needed.changes.items():
        try:
            drop, make = _remade(connection, routines[name][0], types)
        except _Unfit as error:
            remarks.append(str(error))
            continue
        drops.append(drop)
        makes += make
    return needed.problems, remarks, [*reversed(drops), *makes]


def _remade(connection: Connection, oid: int, types: Mapping[int, str]) -> tuple[str, list[str]]:
    """Return the statement that drops a routine, and those that make it with wider arguments."""
    kind, name, written, definition, names, old, defaults = _row(connection, _ROUTINE, oid)
    new = [types.get(at, type_) for at, type_ in enumerate(old)]
    before = _list(names, old, defaults, "IN " if kind == "PROCEDURE" else "")
    if written != before or definition.count(f"({written})") < 1:
        raise _Unfit(f"{name} has arguments of a kind that is not understood: change it by hand")
    after = _list(names, new, defaults, "IN " if kind == "PROCEDURE" else "")
    signature = f"{kind} {name}({', '.join(new)})"
    made = definition.replace(f"({written})", f"({after})", 1).rstrip() + ";"
    more = [text for (text,) in connection.execute(_OF_ROUTINE, (signature, oid))]
    return f"DROP {kind} {name}({', '.join(old)});", [made, *more]


def _list(names: Sequence[str], types: Sequence[str], defaults: Sequence[str], mode: str) -> str:
    return ", ".join(
        f"{mode}{name}{type_}{default}" for name, type_, default in zip(names, types, defaults, strict=True)
    )


# -- asking -----------------------------------------------------------------------------------------------------------


def _row(connection: Connection, query: str, oid: int) -> tuple[Any, ...]:
    found: tuple[Any, ...] | None = connection.execute(_sql(query), (oid,)).fetchone()
    if found is None:
        raise _Unfit("the catalogue has changed meanwhile: ask again")
    return found


def _only(connection: Connection, query: str, *arguments: object) -> Any:
    found = connection.execute(_sql(query), arguments or None).fetchone()
    return found[0] if found else None


def _sql(text: str) -> Any:
    return text


def _quoted(connection: Connection, name: str) -> str:
    from psycopg import sql

    return sql.Identifier(name).as_string(connection)


def _in_comment(name: str) -> str:
    """A newline in a name would end the comment."""
    return name.replace("\n", " ").replace("\r", " ")
