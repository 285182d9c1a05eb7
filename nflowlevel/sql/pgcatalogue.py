# SPDX-License-Identifier: GPL-2.0-or-later
"""What PostgreSQL's catalogue says about a table, a view, a function or a procedure that an option names.

Names are read as SQL reads them: a schema may stand before, what has no quotes is in lower case. What SQL would not
find that way is looked for as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nflowlevel.spool.sink import Unavailable
from nflowlevel.sql.columns import Column

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_PART = r'(?:"((?:[^"]|"")+)"|([^\W\d][\w$]*))'
_NAME = re.compile(rf"(?:{_PART}\.)?{_PART}")
_ASCII_CAPITALS = re.compile("[A-Z]+")

# Triggers: 69 is row | insert | instead of (pg_trigger.h). An insert rule is event 3 of pg_rewrite.
_RELATION = """
    SELECT c.oid, n.nspname, c.relname,
           has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'INSERT'),
           NOT row_security_active(c.oid)
           AND NOT EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '3')
           AND (c.relkind <> 'v' OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgtype & 69 = 69))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname IN (%s, %s) AND c.relkind IN ('r', 'p', 'v', 'f')
    ORDER BY c.relname = %s DESC LIMIT 1"""

_COLUMNS = """
    SELECT a.attname, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL),
           CASE WHEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod > 4 THEN a.atttypmod - 4 END,
           a.attidentity <> '' OR a.attgenerated <> ''
           OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%', false),
           format_type(a.atttypid, -1)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum"""

# The types: where each argument can be a column of a temporary table, and one value comes back.
_ROUTINES = """
    SELECT p.proname, p.prokind = 'p', p.pronargs - p.pronargdefaults,
           CASE WHEN p.provariadic <> 0 THEN 100 WHEN p.prokind = 'p'
                THEN greatest(p.pronargs, cardinality(p.proallargtypes)) ELSE p.pronargs END,
           CASE WHEN p.provariadic = 0 AND NOT p.proretset AND (p.prokind = 'f' OR p.proargmodes IS NULL)
                     AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) a(oid) JOIN pg_type t USING (oid)
                                     WHERE t.typtype = 'p')
                THEN ARRAY(SELECT format_type(a.oid, -1) FROM unnest(p.proargtypes) WITH ORDINALITY a(oid, place)
                           ORDER BY place) END
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prokind IN ('f', 'p') AND p.proname IN (%(folded)s, %(exact)s)
          AND (n.nspname = %(schema)s OR %(schema)s::text IS NULL AND pg_function_is_visible(p.oid))"""


class Name(NamedTuple):
    """A name as it is written in SQL."""

    schema: str | None
    """The schema before it, where there is one."""
    folded: str
    """The name that SQL means: what has no quotes is in lower case."""
    exact: str
    """The name as it is written."""


def parse_name(text: str) -> Name:
    """Return what a name means; text that SQL could not read as a name is one as it is."""
    found = _NAME.fullmatch(text.strip())
    if not found:
        return Name(None, text, text)
    quoted_schema, plain_schema, quoted, plain = (part.replace('""', '"') if part else "" for part in found.groups())
    return Name((quoted_schema or _fold(plain_schema)) or None, quoted or _fold(plain), quoted or plain)


def _fold(name: str) -> str:
    return _ASCII_CAPITALS.sub(lambda found: found[0].lower(), name)


class Relation(NamedTuple):
    """A table or view."""

    oid: int
    schema: str
    name: str
    permitted: bool
    """Whether the user may insert."""
    copies: bool
    """Whether COPY does what INSERT does: no rules, no row security; a view has a trigger instead of INSERT."""


def find_relation(connection: Connection, text: str, default_schema: str) -> Relation:
    """Return the table or view of that name; Unavailable says what to do where there is none."""
    name = parse_name(text)
    schema = name.schema or default_schema
    found = connection.execute(_RELATION, (schema, name.folded, name.exact, name.folded)).fetchone()
    if found is None:
        raise Unavailable(
            f"no table or view {text} in schema {schema} — create it (`nflowlevel sql init` creates one), or correct "
            "the options table and schema"
        )
    return Relation(*found)


def columns_of(connection: Connection, relation: Relation) -> list[Column]:
    """Return its columns in their order; a domain counts as the type below it."""
    found = connection.execute(_COLUMNS, (relation.oid,)).fetchall()
    return [Column(name, type_.lower(), size, automatic) for name, type_, size, automatic, _ in found]


def types_of(connection: Connection, relation: Relation) -> dict[str, str]:
    """Return the type of each column, as SQL writes it."""
    return {name: type_ for name, *_, type_ in connection.execute(_COLUMNS, (relation.oid,))}


class Routine(NamedTuple):
    """One meaning of the name of a function or procedure."""

    name: str
    is_procedure: bool
    least: int
    """Arguments it takes at least."""
    most: int
    types: Sequence[str] | None
    """Types of its arguments, as SQL writes them; None: they depend on the call, or it returns several values."""


def find_routines(connection: Connection, text: str, count: int, *, procedure: bool) -> tuple[Name, list[Routine]]:
    """Return the name, with the spelling that is there, and what it can mean in a call with so many arguments.

    Unavailable says what is wrong where it can mean nothing.
    """
    name = parse_name(text)
    all_found = [Routine(*row) for row in connection.execute(_ROUTINES, name._asdict())]
    spelling = name.folded if any(routine.name == name.folded for routine in all_found) else name.exact
    found = [routine for routine in all_found if routine.name == spelling]
    fit = [one for one in found if one.is_procedure == procedure and one.least <= count <= one.most]
    if not fit:
        raise Unavailable(_nothing_to_call(text, found, count, procedure))
    return name._replace(exact=spelling), fit


def _nothing_to_call(text: str, found: Sequence[Routine], count: int, procedure: bool) -> str:
    if not found:
        kind = "procedure" if procedure else "function"
        return f"no {kind} {text} in the search path — create it, or correct the options procedure and schema"
    right = [routine for routine in found if routine.is_procedure == procedure]
    if not right and procedure:
        return f'{text} is a function — write procedure="{text}"'
    if not right:
        return f'{text} is a procedure — write procedure="CALL {text}"'
    takes = sorted({str(one.least) if one.least == one.most else f"{one.least} to {one.most}" for one in right})
    return f"{text} takes {' or '.join(takes)} arguments, but the option table has {count} columns"
