# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to MySQL or MariaDB, by PyMySQL; how rows get in is said by the output MYSQL."""

from __future__ import annotations

import configparser
import contextlib
import importlib
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nflowlevel.errors import NotSupported, OutputError
from nflowlevel.logs import NOTICE, log
from nflowlevel.records.keys import BY_NAME, TIME
from nflowlevel.spool.sink import Moved, Refused, Unavailable
from nflowlevel.sql import copytext
from nflowlevel.sql.columns import Column, Members
from nflowlevel.sql.database import Database, schema
from nflowlevel.sql.ledger import Execute, Ledger
from nflowlevel.sql.options import Access, Statement, statement

if TYPE_CHECKING:
    from pymysql.connections import Connection
    from pymysql.cursors import Cursor

    from nflowlevel.spool.rows import Rows
    from nflowlevel.sql.widen import Widening

#: Where servers have their Unix socket: Debian, Red Hat, MySQL's own packages.
_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")

_CONNECT_SECS = 10
#: Rows of one statement; more are no faster. A call is parsed with all tables that its function touches.
_STATEMENT_ROWS = 500
_STATEMENT_CALLS = 100
#: What the server adds to a statement before it compares it with max_allowed_packet, and some more.
_PACKET_EXTRA = 64

_SESSION = """
SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES'), time_zone = '+00:00'
/*M!100300 , idle_write_transaction_timeout = %s */
"""
_COLUMNS = """
SELECT column_name, data_type, column_type, character_maximum_length, extra FROM information_schema.columns
WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s ORDER BY ordinal_position
"""
#: Tables without transactions.
_UNSAFE_TABLES = """
SELECT t.table_name, t.engine FROM information_schema.tables t JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_schema = COALESCE(%s, DATABASE()) AND t.table_type = 'BASE TABLE' AND e.transactions <> 'YES'
ORDER BY t.table_name
"""
_KIND_OF_TABLE = """
SELECT table_type FROM information_schema.tables
WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s
"""
_AUTOMATIC = re.compile(r"auto_increment|(virtual|stored|persistent) generated", re.IGNORECASE)
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_END_OF_STATEMENT = re.compile(r";[ \t]*$", re.MULTILINE)
_IDENTIFIER_PART = re.compile(r"`((?:[^`]|``)+)`|([^.`]+)")

_BINARY_TYPES = frozenset(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"))

_LEDGER = Ledger("%s", row="`row`", insert="INSERT IGNORE")

#: Errors that say that this row will never go in: by number, for not every version of PyMySQL tells the SQLSTATE.
_REFUSED = frozenset(
    (
        *(1048, 1263),  # null where there must be none
        *(1062, 1169, 1557, 1586, 1761, 1762, 1859),  # is there already
        *(1216, 1217, 1451, 1452),  # foreign key
        *(1264, 1265, 1292, 1365, 1366, 1367, 1406, 1411, 1416, 1441, 1690),  # out of range, too long, no such value
        *(1300, 3854, 3988),  # a character that the column's character set lacks
        *(1369, 3819, 4025),  # check
        *(1526, 1748),  # no partition takes it
        1644,  # SIGNAL
        *(3140, 3141, 4037, 4038),  # no JSON
        1118,  # more than a page holds
    )
)
_REFUSED_CLASSES = ("22", "23", "44", "45")
_NO_TABLE = 1146
_NOT_ALLOWED = (1044, 1142, 1143, 1227)
_HINTS: Mapping[int, str] = {
    1021: "make room on the server's disk",
    1040: "raise the server's max_connections, or find out who holds its connections",
    1044: "GRANT the user what it needs",
    1045: "check user and pass (or option_file), and from which hosts the server accepts the user",
    1049: "create the database, then `nflowlevel sql init`",
    1054: "the table has changed; adapt the function or procedure to it",
    1114: "make room for the table",
    1130: "the server does not accept this host",
    1142: "GRANT the user what it needs",
    1146: "`nflowlevel sql init` creates it",
    1205: "another session holds a lock",
    1305: "`nflowlevel sql init` creates tables; load your own functions yourself",
    1318: "`table` must have a column for each argument, in order",
    1364: "give the column a default, or fill it from a key",
    1370: "GRANT EXECUTE to the user",
    2003: "is it running, and does it listen there?",
    2059: "PyMySQL does not support this way of logging in",
}


class MySQLAccess(Access, Protocol):
    """How to get into a database, as the options of MYSQL say it."""

    @property
    def db(self) -> str:
        """Database."""

    @property
    def host(self) -> str:
        """Host name, address, or path of a Unix socket; empty: what `option_file` says, or localhost."""

    @property
    def port(self) -> int:
        """Port; 0: 3306, and on localhost the Unix socket."""

    @property
    def user(self) -> str:
        """User; empty: what `option_file` says, or the daemon's own."""

    @property
    def pass_(self) -> str:
        """Password."""

    @property
    def option_file(self) -> str:
        """A my.cnf; empty: none."""


class MySQLDatabase(Database):
    """A connection to MySQL or MariaDB."""

    dialect = "mysql"

    def __init__(self, options: MySQLAccess) -> None:
        self._options = options
        self._statement = statement(options.procedure, options.table)
        self._connection: Connection[Cursor] | None = None
        self._most_bytes = 1 << 20
        self._text = _Text("", "", "", (), 1)
        self._converters: list[_Convert | None] = []
        #: By row: the number of the last one that is in, and in whose name.
        self._stored = 0
        self._stored_by = ""
        self._said: set[str] = set()
        host = options.host or options.option_file or "localhost"
        self.shown = f"MySQL {options.db} at {host}" + (f":{options.port}" if options.port else "")

    # -- connecting ----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Import the driver and read the schema."""
        super().load()
        for name in ("pymysql.connections", "pymysql.err"):
            importlib.import_module(name)

    def connect(self) -> None:
        """Connect, within the time allowed. A connection that is open is closed first."""
        self.close()
        connections = _driver()
        options, secs = self._options, self._options.connect_timeout or _CONNECT_SECS
        if options.option_file and not os.access(options.option_file, os.R_OK):
            raise Unavailable(f"connect to {self.shown}: cannot read option_file {options.option_file}")
        try:
            connection = connections.Connection(
                host=None if options.host.startswith("/") else options.host or None,
                port=options.port,
                user=options.user or None,
                password=options.pass_.encode(),
                database=options.db,
                charset="utf8mb4",
                autocommit=False,
                connect_timeout=secs,
                read_timeout=secs,
                write_timeout=options.timeout,
                read_default_file=options.option_file or None,
                program_name="nflowlevel",
                defer_connect=True,
            )
            connection.unix_socket = self._socket(connection)
            self._connection = connection
            connection.connect()
            # While it logs in the server has no more time than for connecting.
            connection._read_timeout = options.timeout
            with connection.cursor() as cursor:
                cursor.execute(_SESSION, (options.timeout,))
                cursor.execute("SELECT @@max_allowed_packet")
                (most,) = _only(cursor.fetchall())
            self._most_bytes = int(most) - _PACKET_EXTRA
        except configparser.Error:  # its words have the line in them
            raise Unavailable(
                f"connect to {self.shown}: option_file {options.option_file} must be like a my.cnf: sections with "
                "lines `name = value`"
            ) from None
        except Exception as error:  # also what PyMySQL stumbles over where the peer is no MySQL
            raise self._failed("connect to", error) from error

    def _socket(self, connection: Connection[Cursor]) -> str | None:
        """Return the path of the Unix socket to use, None for TCP."""
        if self._options.host.startswith("/"):
            return self._options.host
        if connection.host != "localhost" or self._options.port:
            return None
        from_file: Any = connection.unix_socket
        return from_file or next(filter(os.path.exists, _SOCKETS), None)

    def abort(self) -> None:
        """Break the connection, so that whoever waits for an answer gets an error. Any thread; never raises."""
        line: socket.socket | None = getattr(self._connection, "_sock", None)
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; may be called again. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    # -- the table -----------------------------------------------------------------------------------------------------

    def columns(self) -> list[Column]:
        """Return the columns of the option `table`, in order."""
        table = self._options.table
        found = self._columns_of(_schema_and_name(table))
        if not found:
            raise Unavailable(
                f"table {table} of {self.shown} does not exist, or this user may not see it — {_HINTS[_NO_TABLE]}"
            )
        return found

    def _columns_of(self, table: tuple[str | None, str]) -> list[Column]:
        with self._transaction("read the columns of", table[1]) as cursor:
            cursor.execute(_COLUMNS, table)
            found = cursor.fetchall()
        return [
            Column(name, data_type.lower() + (" unsigned" if "unsigned" in full else ""), size, _is_automatic(extra))
            for name, data_type, full, size, extra in found
        ]

    def widening(self, columns: Sequence[Column], members: Members) -> Widening:
        """Return the statements that make all fit; see mywiden.py."""
        from nflowlevel.sql.mywiden import widening

        form, target = self._statement
        table = _schema_and_name(target if form == "insert" else self._options.table)
        called = _schema_and_name(target) if form in ("select", "call") else None
        stored = self._columns_of(table) if form == "insert" else columns
        with self._transaction("look for what does not fit in", table[1]) as cursor:
            return widening(cursor, table, called, columns, stored, members)

    def prepare(self, columns: Sequence[Column]) -> None:
        """Make the statement for these columns: each either has an `item` of the layout or gets a null."""
        parameters = [_parameter(column) for column in columns]
        names = ", ".join(_identifier(f"`{column.name}`") for column in columns)
        self._text = _Text.of(self._statement, names, [parameter.slot for parameter in parameters])
        self._converters = [parameter.convert for parameter in parameters if parameter.slot]
        with self._transaction("read the engines of the tables of", "") as cursor:
            unsafe = self._unsafe_tables(cursor)
        self.by_row = bool(unsafe)
        if unsafe:
            self._say(
                NOTICE,
                f"{self.shown}: {', '.join(unsafe)} without transactions: rows are stored one by one, and a row may "
                "come twice when the connection breaks — ALTER TABLE … ENGINE=InnoDB prevents that, and is faster",
            )

    def _unsafe_tables(self, cursor: Cursor) -> list[str]:
        form, target = self._statement
        database, name = _schema_and_name(target if form != "text" else self._options.table)
        cursor.execute(_KIND_OF_TABLE, (database, name))
        is_table = form == "insert" and ("BASE TABLE",) in cursor.fetchall()
        cursor.execute(_UNSAFE_TABLES, (database,))
        found = cursor.fetchall()
        return [f"{table} ({engine})" for table, engine in found if not is_table or table.lower() == name.lower()]

    def run(self, script: str) -> None:
        """Run a script of several statements, each ended by a `;` at the end of a line. Each is a transaction here."""
        for text in _END_OF_STATEMENT.split(_COMMENT.sub("", script)):
            if text.strip():
                with self._transaction("create tables in", "") as cursor:
                    cursor.execute(text)

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def ledger(self, writer: str) -> int | None:
        """Return the number of this writer's last row that is in; 0 for none yet, None where no ledger can be had."""
        try:
            try:
                return self._ledger_entry(writer)
            except Unavailable as missing:
                if _number(missing.__cause__) != _NO_TABLE:
                    raise
            self.run(schema("mysql-ledger.sql"))
            return self._ledger_entry(writer)
        except Unavailable as error:
            if _number(error.__cause__) not in _NOT_ALLOWED:
                raise
            self._say(NOTICE, f"{error}; without the ledger, rows may come twice after a broken connection")
            return None

    def _ledger_entry(self, writer: str) -> int:
        with self._transaction("read the ledger of", "") as cursor:
            return _LEDGER.last(_execute(cursor), writer)

    def skip(self, number: int, writer: str, before: int) -> None:
        """Move the ledger alone: the row of that number is in the dead-letter file. Raises Moved or Unavailable."""
        with self._transaction("move the ledger of", "") as cursor:
            _LEDGER.move(_execute(cursor), writer, before, number)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        """Store the rows, all or none, in one transaction that also moves the ledger from `before` to `rows.last`.

        Where there are no transactions those before one that is refused are in, and left out the next time.
        """
        if self.by_row:
            self._write_by_row(rows, writer, before)
            return
        with self._transaction("write to", self._statement.target) as cursor:
            if before is not None:
                _LEDGER.move(_execute(cursor), writer, before, rows.last)
            for part in _parts(rows, self._text.most_rows):
                self._store(cursor, self._values(part))

    def _write_by_row(self, rows: Rows, writer: str, before: int | None) -> None:
        for number, values in enumerate(zip(*self._values(rows), strict=True), rows.first):
            if number > self._stored:
                with self._transaction("write to", self._statement.target) as cursor:
                    if before is not None:
                        at = max(before, self._stored) if writer == self._stored_by else before
                        _LEDGER.move(_execute(cursor), writer, at, number)
                    self._store(cursor, [(value,) for value in values])
                self._stored, self._stored_by = number, writer

    def _values(self, rows: Rows) -> list[Sequence[object]]:
        """Return the columns of the rows as they are bound."""
        return [
            values if convert is None else copytext.converted(values, convert)
            for values, convert in zip(copytext.columns(rows), self._converters, strict=True)
        ]

    def _store(self, cursor: Cursor, columns: Sequence[Sequence[object]]) -> None:
        """Execute the statement with these rows; with half of them at a time where they are too much for the server."""
        count = len(columns[0])
        # Columns without any value are most of many tables, and each null costs as much as a value.
        nulls = [values.count(None) == count for values in columns]
        given = [values for values, is_null in zip(columns, nulls, strict=True) if not is_null]
        text = cursor.mogrify(self._text.of_rows(count, nulls), tuple(chain.from_iterable(zip(*given, strict=True))))
        size = len(text.encode())
        if size <= self._most_bytes:
            cursor.execute(text)
        elif count > 1:
            self._store(cursor, [values[: count // 2] for values in columns])
            self._store(cursor, [values[count // 2 :] for values in columns])
        else:
            raise Refused(f"a row of {size} bytes is more than the server's max_allowed_packet", "1153")

    # -- errors --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self, tried: str, what: str) -> Iterator[Cursor]:
        """Commit what is done inside, all or nothing; errors become Refused and Unavailable."""
        connection = self._connection
        if connection is None:
            raise Unavailable(f"{tried} {what} of {self.shown}: not connected")
        try:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
        except _errors() as error:
            self._roll_back(connection)
            raise self._failed(f"{tried} {what} of" if what else tried, error) from error
        except (Refused, Moved):
            self._roll_back(connection)
            raise

    def _roll_back(self, connection: Connection[Cursor]) -> None:
        """Undo what the transaction did. Where that fails the connection has ended, and the server does it."""
        with contextlib.suppress(*_errors()):
            connection.rollback()

    def _failed(self, tried: str, error: Exception) -> OutputError:
        """Return what an error means. The server's words never have the password."""
        number, message = _number(error), _words(error)
        if number in _REFUSED or str(getattr(error, "sqlstate", None))[:2] in _REFUSED_CLASSES:
            return Refused(message, str(number))
        hint = f" — {_HINTS[number]}" if number in _HINTS else ""
        return Unavailable(f"{tried} {self.shown}: {message}" + (f" ({number})" if number else "") + hint)

    def _say(self, level: int, message: str) -> None:
        """Log it once, however often it is connected anew."""
        if message not in self._said:
            self._said.add(message)
            log.log(level, "%s", message)


# -- statements -------------------------------------------------------------------------------------------------------


class _Text(NamedTuple):
    """The text of a statement but for its values, which PyMySQL fills in."""

    head: str
    before_row: str
    after_row: str
    slots: Sequence[str]
    """For each column or argument the place of its value; empty: always a null."""
    most_rows: int

    @classmethod
    def of(cls, wanted: Statement, names: str, slots: Sequence[str]) -> _Text:
        """Return the text for columns of these names."""
        form, target = wanted
        if form == "select":
            # Without a name of its own a result has the text of the call as its name.
            return cls("SELECT ", f"{_identifier(target)}(", ") r", slots, _STATEMENT_CALLS)
        if form == "call":
            return cls("CALL ", f"{_identifier(target)}(", ")", slots, 1)
        into = f"INSERT INTO {_identifier(target)}" if form == "insert" else target.replace("%", "%%")
        return cls(f"{into} ({names}) VALUES ", "(", ")", slots, _STATEMENT_ROWS)

    def of_rows(self, count: int, nulls: Iterable[bool]) -> str:
        """Return the statement for so many rows; `nulls` tells of each slot whether there is no value at all for it."""
        all_null = iter(nulls)
        slots = ["NULL" if not slot or next(all_null) else slot for slot in self.slots]
        row = self.before_row + ", ".join(slots) + self.after_row
        return self.head + ", ".join([row] * count)


def _parts(rows: Rows, most: int) -> Iterator[Rows]:
    while rows.count > most:
        first, rows = rows.split(most)
        yield first
    yield rows


def _schema_and_name(written: str) -> tuple[str | None, str]:
    """Return what a name means, as written in a configuration: `name`, `database.name`, each perhaps in backquotes."""
    parts = [quoted.replace("``", "`") or plain for quoted, plain in _IDENTIFIER_PART.findall(written)]
    return (parts[-2] if len(parts) > 1 else None), parts[-1] if parts else written


def _identifier(written: str) -> str:
    """Return a name quoted, for a text that values are filled into."""
    quoted = ("`" + part.replace("`", "``") + "`" for part in _schema_and_name(written) if part)
    return ".".join(quoted).replace("%", "%%")


def _is_automatic(extra: str) -> bool:
    return bool(_AUTOMATIC.search(extra))


# -- values -----------------------------------------------------------------------------------------------------------

_Convert = Callable[[str], str | int]


class _Parameter(NamedTuple):
    """How a column gets its value: its place in the statement, and what the text of a row becomes for it."""

    slot: str = "%s"
    convert: _Convert | None = None


def _parameter(column: Column) -> _Parameter:
    key = BY_NAME.get(column.item)
    kind = key.kind if key else ""
    if not column.item:
        return _Parameter(slot="")
    if column.item == TIME:
        return _Parameter(convert=_without_zone)
    if column.type == "bit":
        return _Parameter(convert=int)
    if kind in ("bytes", "fixed", "addrbin") and column.type in (*_BINARY_TYPES, "inet6"):
        return _Parameter("UNHEX(%s)", _hex_digits)
    if kind in ("addr", "addr4") and column.type == "binary":
        return _Parameter("UNHEX(%s)", _mapped_hex)
    if kind in ("addr", "addr4") and column.type == "inet6":
        return _Parameter(convert=_mapped)
    return _Parameter()


def _without_zone(text: str) -> str:
    return text.removesuffix("+00")


def _hex_digits(text: str) -> str:
    """Return the digits of `0x…` (IP2BIN) or `\\x…` (raw keys)."""
    return text[2:]


def _mapped(text: str) -> str:
    """Return an address as IPv6, one of IPv4 mapped (RFC 4291, 2.5.5.2)."""
    return text if ":" in text else "::ffff:" + text


def _mapped_hex(text: str) -> str:
    return socket.inet_pton(socket.AF_INET6, _mapped(text)).hex()


# -- PyMySQL ----------------------------------------------------------------------------------------------------------


def _driver() -> Any:
    try:
        return importlib.import_module("pymysql.connections")
    except ImportError as error:
        raise NotSupported(
            "output MYSQL", found=str(error), needed="PyMySQL: Debian's python3-pymysql, or nflowlevel[mysql]"
        ) from error


def _execute(cursor: Cursor) -> Execute:
    def execute(text: str, values: tuple[object, ...]) -> Cursor:
        cursor.execute(text, values)
        return cursor

    return execute


def _errors() -> tuple[type[Exception], ...]:
    return (importlib.import_module("pymysql.err").Error, OSError)


def _number(error: BaseException | None) -> int:
    number = error.args[0] if error is not None and error.args else 0
    return number if isinstance(number, int) else 0


def _words(error: Exception) -> str:
    said = error.args[1] if _number(error) and len(error.args) > 1 else error
    return str(said) or "the connection is closed"


def _only(rows: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    (row,) = rows
    return row
