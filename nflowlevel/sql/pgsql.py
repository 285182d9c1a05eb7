# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to PostgreSQL, by psycopg; what becomes of rows is said by the output PGSQL."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nflowlevel.errors import NotSupported
from nflowlevel.logs import NOTICE, log
from nflowlevel.spool.sink import Refused, Unavailable
from nflowlevel.sql.columns import Column, Members
from nflowlevel.sql.database import Database, schema
from nflowlevel.sql.ledger import LEDGER, Cursor, Execute, Ledger
from nflowlevel.sql.options import Access, statement
from nflowlevel.sql.pgcatalogue import columns_of, find_relation
from nflowlevel.sql.pgstore import as_sql, before_values, way_to_store

if TYPE_CHECKING:
    import psycopg

    from nflowlevel.spool.rows import Rows
    from nflowlevel.sql.pgstore import Store
    from nflowlevel.sql.widen import Widening

    Connection = psycopg.Connection[Any]

_CONNECT_SECS = 10
#: Passed where neither the connection string nor, for the first, the environment says otherwise.
_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": _CONNECT_SECS,
    "fallback_application_name": "nflowlevel",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
#: What the options are to libpq.
_NAMES = {"db": "dbname", "user": "user", "host": "host", "pass_": "password", "port": "port"}
_SHOWN = ("service", "dbname", "user", "host", "hostaddr", "port")

#: Classes of SQLSTATE (PostgreSQL's manual, appendix A) that are about the values of a row …
_OF_A_ROW = frozenset(
    (
        "21",  # cardinality: a function's subquery found two rows
        "22",  # data: out of range, too long, not an address, invalid UTF-8 …
        "23",  # constraints, and no partition for the row
        "38",  # raised by a function in another language
        "44",  # check option of a view
        "P0",  # raised by a function in PL/pgSQL
        "20000",  # CASE without a match in PL/pgSQL
        "54000",  # too long for an index
    )
)
#: … and those of PostgreSQL's that are not: connection, transaction, permission, missing objects, resources, operator
#: intervention, mistakes in functions. A class in neither is one that a function raises with a code of its own.
_OF_THE_SERVER = re.compile("0[0-3]|0[89ABFLPZ]|10|20|2[45678BDF]|34|39|3[BDF]|4[02]|5[34578]|72|F0|HV|XX")
_HINTS = {
    "25006": "the server is a standby or read-only; write to the primary (connstring: target_session_attrs=read-write)",
    "42501": "grant it to the user of this connection",
    "42P01": "`nflowlevel sql init` creates what is missing",
    "42703": "table and statement do not fit; `nflowlevel sql check` compares them",
    "42883": "the arguments are the columns of the option table, in their order",
}
_MESSAGE_LENGTH = 300

_SEARCH_PATH = """
    SELECT set_config('search_path',
                      concat_ws(', ', quote_ident(%s), nullif(current_setting('search_path'), '')), %s)"""

_HAS_TABLE = """
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"""


#: Of our own schema.
_HAS_PARTITIONS = "SELECT 1 WHERE to_regprocedure('nflowlevel_make_partitions(integer)') IS NOT NULL"
_MAKE_PARTITIONS = "SELECT nflowlevel_make_partitions(30)"


class PGAccess(Access, Protocol):
    """How to get into a database, as the options of PGSQL say it; what is empty is libpq's own choice."""

    @property
    def db(self) -> str:
        """Database."""

    @property
    def user(self) -> str:
        """User."""

    @property
    def host(self) -> str:
        """Server: a name, an address, or a directory with its socket."""

    @property
    def pass_(self) -> str:
        """Password."""

    @property
    def port(self) -> int:
        """Port; 0: libpq's own choice."""

    @property
    def schema(self) -> str:
        """Schema of table and ledger."""

    @property
    def connstring(self) -> str:
        """Connection string, instead of all these."""


class PGDatabase(Database):
    """A connection of psycopg."""

    dialect = "pgsql"

    def __init__(self, options: PGAccess) -> None:
        self._options = options
        self._connection: Connection | None = None
        self._store: Store | None = None
        self._session: tuple[int, object] | None = None
        self._secrets: tuple[str, ...] = ()
        self._ledger = Ledger("%s")
        self._said_no_ledger = False
        self._lock = threading.Lock()
        # For another thread to break the connection: a descriptor that nobody closes and reuses under it.
        self._wire: socket.socket | None = None
        self._aborted = False
        self.shown = "PostgreSQL" + (" (connstring)" if options.connstring else _shown(self._given()))

    def load(self) -> None:
        """Import the driver and read the schema."""
        super().load()
        for name in ("psycopg", "psycopg.conninfo", "psycopg.errors", "psycopg.sql"):
            importlib.import_module(name)

    # -- connection ----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect; with several hosts in a connection string the time allowed is for each."""
        try:
            import psycopg
        except ImportError as error:
            raise NotSupported(
                "PGSQL", found=str(error), needed="psycopg 3 (Debian: python3-psycopg; pip: nflowlevel[pgsql])"
            ) from None
        # Its remarks on connections that broke would go to standard error; what matters is raised.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        self.close()
        self._aborted = False
        connection = None
        try:
            connection = psycopg.connect(**self._parameters())
            self._hold(connection)
            self._settle(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            self.close()
            if isinstance(error, (psycopg.Error, ValueError, OSError)):
                text = self._without_secrets(_text(error))
                hint = " — create it with createdb(1)" if re.search('database ".*" does not exist', text) else ""
                raise Unavailable(f"connect to {self.shown}: {text}{hint}") from None
            raise

    def _given(self) -> dict[str, str | int]:
        values = {name: getattr(self._options, option) for option, name in _NAMES.items()}
        return {name: value for name, value in values.items() if value}

    def _parameters(self) -> dict[str, Any]:
        """Return what psycopg.connect is told, and find out what must not be shown."""
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        options = self._options
        self._secrets = (options.pass_,)
        given: dict[str, Any] = self._given()
        if options.connstring:
            try:
                given = conninfo_to_dict(options.connstring)
            except ProgrammingError as error:
                # What is in quotes is a piece of the string, perhaps of a password.
                raise ValueError("connstring: " + re.sub('".*"', '"…"', str(error), flags=re.DOTALL)) from None
            self._secrets = _secrets(options.connstring, str(given.get("password") or ""))
        self.shown = "PostgreSQL" + self._without_secrets(_shown(given))
        defaults = dict(_DEFAULTS)
        if "PGCONNECT_TIMEOUT" in os.environ:
            del defaults["connect_timeout"]
        if options.connect_timeout:
            given["connect_timeout"] = options.connect_timeout
        return {**defaults, **given, "client_encoding": "UTF8"}

    def _hold(self, connection: Connection) -> None:
        with self._lock:
            if self._aborted:
                raise ValueError("broken off")
            self._connection = connection
            self._wire = socket.socket(fileno=os.dup(connection.fileno()))

    def _settle(self, connection: Connection) -> None:
        """Set what the session needs, and end the last one if the server still believes in it: it would hold locks."""
        from psycopg import sql

        if self._session:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid = %s AND backend_start = %s::timestamptz AND usename = current_user",
                self._session,
            )
        # Nobody reads notices, and a server that waits for a reader of them would not read rows any more.
        connection.execute("SELECT set_config('client_min_messages', 'error', false)")
        if self._options.schema != "public":
            connection.execute(_SEARCH_PATH, (self._options.schema, False))
        # With the lock: it is the one that moving the entry takes, and tells whether that is permitted.
        table = before_values(connection, sql.Identifier(self._options.schema, LEDGER))
        self._ledger = Ledger(
            "%s", table=table.as_string(connection), lock=" FOR UPDATE", known=" ON CONFLICT DO NOTHING"
        )
        self._session = connection.execute(
            "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        connection.commit()

    def abort(self) -> None:
        """Break the connection; one that is being made ends by itself, and is not used."""
        with self._lock:
            self._aborted = True
            if self._wire:
                with contextlib.suppress(OSError):
                    self._wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; may be called again."""
        with self._lock:
            wire, self._wire = self._wire, None
        if wire:
            wire.close()
        connection, self._connection, self._store = self._connection, None, None
        if connection:
            connection.close()

    @contextlib.contextmanager
    def _transaction(self, doing: str, *, with_rows: bool = False) -> Iterator[Connection]:
        """One transaction; what goes wrong in it is rolled back and raised as Unavailable or, with rows, as Refused."""
        import psycopg

        connection = self._connection
        if connection is None:
            raise Unavailable(f"{doing}: not connected to {self.shown}")
        try:
            yield connection
            connection.commit()
        except BaseException as error:
            with contextlib.suppress(psycopg.Error):
                connection.rollback()
            if isinstance(error, Unavailable):
                raise Unavailable(f"{self.shown}: {error}") from None
            if not isinstance(error, psycopg.Error):
                raise
            code, text = error.sqlstate or "", _text(error)
            # psycopg itself refuses a value with a NUL byte, without a code.
            if with_rows and (is_of_a_row(code) or isinstance(error, psycopg.DataError)):
                raise Refused(text, code or "22021") from None
            hint = f" — {_HINTS[code]}" if code in _HINTS else ""
            raise Unavailable(f"{doing}, {self.shown}: {text}{f' ({code})' if code else ''}{hint}") from None

    def _without_secrets(self, text: str) -> str:
        for secret in filter(None, self._secrets):
            # As a word only: a short password is part of many others.
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        return text

    # -- table and statement -------------------------------------------------------------------------------------------

    def columns(self) -> list[Column]:
        """Return the columns of the table or view, as the catalogue has them."""
        with self._transaction("read the columns") as connection:
            return columns_of(connection, find_relation(connection, self._options.table, self._options.schema))

    def widening(self, columns: Sequence[Column], members: Members) -> Widening:
        """Return the statements that make all fit; see pgwiden.py."""
        from nflowlevel.sql.pgwiden import widening

        asked = statement(self._options.procedure, self._options.table)
        with self._transaction("look for what does not fit") as connection:
            return widening(connection, self._options.table, asked, self._options.schema, columns, members)

    def prepare(self, columns: Sequence[Column]) -> None:
        """Find the fastest way for these columns, and make the temporary table where one is needed."""
        asked = statement(self._options.procedure, self._options.table)
        with self._transaction("prepare the statement") as connection:
            self._store = way_to_store(connection, asked, columns, self._options.schema)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        """Store the rows in one transaction, the ledger's entry first."""
        with self._transaction("store rows", with_rows=True) as connection:
            if self._store is None:
                raise Unavailable("cannot store rows: no statement is prepared")
            if before is not None:
                self._ledger.move(_in_one_trip(connection), writer, before, rows.last)
            self._store(connection, rows)

    def skip(self, number: int, writer: str, before: int) -> None:
        """Move the ledger's entry alone."""
        with self._transaction("move the ledger") as connection:
            self._ledger.move(_in_one_trip(connection), writer, before, number)

    def tend(self) -> None:
        """Create the partitions of the next days in our own schema; without the permission, rows are stored anyway."""
        try:
            with self._transaction("make partitions") as connection:
                if connection.execute(_HAS_PARTITIONS).fetchone():
                    connection.execute(_MAKE_PARTITIONS)
        except Unavailable as error:
            if self._connection is None or self._connection.closed:
                raise
            log.log(NOTICE, "%s; rows of days without a partition go into the default partition", error)

    def run(self, script: str) -> None:
        """Run a script in one transaction, in which the option's schema is the first of the search path."""
        with self._transaction("run a script") as connection:
            self._run(connection, script)

    def _run(self, connection: Connection, script: str) -> None:
        connection.execute(_SEARCH_PATH, (self._options.schema, True))
        connection.execute(as_sql(script))

    # -- ledger --------------------------------------------------------------------------------------------------------

    def ledger(self, writer: str) -> int | None:
        """Return the number in the writer's entry, once no transaction of an earlier connection holds it any more."""
        from psycopg import errors

        with self._transaction("read the ledger") as connection:
            try:
                return self._entry(connection, writer)
            except errors.InsufficientPrivilege as error:
                connection.rollback()
                self._say_no_ledger(_text(error))
                return None

    def _entry(self, connection: Connection, writer: str) -> int:
        if not connection.execute(_HAS_TABLE, (self._options.schema, LEDGER)).rowcount:
            self._run(connection, schema("pgsql-ledger.sql"))
        return self._ledger.last(_executing(connection), writer)

    def _say_no_ledger(self, reason: str) -> None:
        if not self._said_no_ledger:
            self._said_no_ledger = True
            log.warning(
                "%s: no table %s.%s (%s): a batch whose commit is not answered may be stored twice — "
                "`nflowlevel sql init` makes the table; the user needs SELECT, INSERT and UPDATE on it",
                self.shown,
                self._options.schema,
                LEDGER,
                reason,
            )


# -- statements of the ledger ----------------------------------------------------------------------------------------


def _executing(connection: Connection) -> Execute:
    return lambda text, values: connection.execute(as_sql(text), values)


def _in_one_trip(connection: Connection) -> Execute:
    """BEGIN and the statement in one round trip where libpq can."""
    from psycopg import Pipeline

    def execute(text: str, values: tuple[object, ...]) -> Cursor:
        with connection.pipeline() if Pipeline.is_supported() else contextlib.nullcontext():
            return connection.execute(as_sql(text), values)

    return execute


# -- messages ---------------------------------------------------------------------------------------------------------


def is_of_a_row(code: str) -> bool:
    """Tell whether an SQLSTATE is about the values of a row, so that another row may be taken."""
    if not code:
        return False
    return code in _OF_A_ROW or code[:2] in _OF_A_ROW or not _OF_THE_SERVER.match(code)


def _text(error: BaseException) -> str:
    """Return one line of an error's text, without the row that it is about."""
    text = str(error)
    if diag := getattr(error, "diag", None):
        # PostgreSQL's details of a violated constraint, and the last part of its context, are the row itself.
        where = re.match("COPY [^:]*", diag.context or "")
        text = (diag.message_primary or text) + (f" ({where[0]})" if where else "")
    text = " ".join(text.split())
    return text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + "…"


def _shown(parameters: dict[str, Any]) -> str:
    return "".join(f" {name}={parameters[name]}" for name in _SHOWN if parameters.get(name))


def _secrets(connstring: str, password: str) -> tuple[str, ...]:
    """Return the password of a connection string, and pieces of one that libpq may take for something else."""
    pieces = [password]
    if "://" in connstring:
        rest = connstring.partition("://")[2].partition("?")[0].rpartition("@")[0].partition(":")[2]
        pieces += re.split("[/#@:]", rest)
    return tuple(sorted(filter(None, pieces), key=len, reverse=True))
