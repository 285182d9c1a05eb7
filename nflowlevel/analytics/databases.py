# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of our own and ulogd2's SQL tables as lines of JSON, read through the databases' own drivers.

    sqlite:///var/log/ulogd.sqlite3db      postgresql://user@host/logs?table=packets      ulogd.sqlite3db
    mysql://user@host:3306/logs            mariadb://localhost/logs?socket=/run/mysqld/mysqld.sock&option_file=my.cnf

MySQL's URL is ours: `socket` is a path, and `option_file` a my.cnf whose section [client] may hold user and password.
Without `table=`, all tables and views are read that have the name of one of ours or of ulogd2's; of the view `ulog`
and the table `ulog2` behind it, only the view. A column has the name of its key, with `_` for each dot; others are left
out.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import msgspec

from nflowlevel.binding.rootpath import open_to_read
from nflowlevel.errors import NotSupported, printable
from nflowlevel.records.keys import CATALOGUE, Key

#: Tables by the names that they have in schemas; of names that stand together, the first that is there.
_TABLES = (("packets",), ("flows",), ("sums",), ("ulog", "ulog2"), ("ulog_pkt",), ("ulog_ct", "ulog2_ct"), ("nfacct",))
#: What begins the URL of a database of MySQL's.
MYSQL = ("mysql", "mariadb")
#: The options of such a URL, with what PyMySQL calls them.
_MYSQL_OPTIONS = {"socket": "unix_socket", "option_file": "read_default_file"}
_CONNECT_SECS, _READ_SECS = 10, 600
#: The server waits so long while rows go elsewhere. Times without a zone are in UTC, as the outputs write them.
_MYSQL_SESSION = f"SET SESSION time_zone = '+00:00', net_write_timeout = {_READ_SECS}"
#: Rows that are rendered at once.
_ROWS = 10_000
_ADDRESS_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A URL: its scheme, what it says of user and host, and the rest.
URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<ends>[^/?#]*)(?P<rest>.*)", re.DOTALL)

#: A value of a column as members of JSON.
_Member = Callable[[Any], dict[str, Any]]


class Table(NamedTuple):
    """A table that can be read."""

    name: str
    columns: tuple[str, ...]


def _keys() -> dict[str, Key]:
    found: dict[str, Key] = {}
    for key in CATALOGUE:
        found.setdefault(key.name.replace(".", "_"), key)
    return found


_KEYS = _keys()


def database_lines(url: str) -> Iterator[bytes]:
    """Yield the rows of a database as lines of JSON.

    ValueError: no such table, or none that can be read; NotSupported: no driver is installed; the driver's own errors.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may have the password in it
        told = "it is no URL; write special characters as %XX"
        raise ValueError(f"read {printable(without_password(url), None)}: {told}") from None
    options = dict(parse_qsl(parts.query))
    wanted = options.pop("table", None)
    if parts.scheme == "sqlite":
        if parts.netloc:
            raise ValueError(
                f"read {printable(url, None)}: a path follows three slashes, as in sqlite:///var/log/x.sqlite3db"
            )
        yield from sqlite_lines(unquote(parts.path), wanted)
    elif parts.scheme in MYSQL:
        yield from _mysql_lines(parts, options, wanted)
    else:
        yield from _postgresql_lines(urlunsplit(parts._replace(query=urlencode(options))), wanted)


def driver_errors() -> tuple[type[Exception], ...]:
    """Return what the drivers raise that have been imported: for who tells of an error in one line."""
    names = (("sqlite3", "Error"), ("psycopg", "Error"), ("pymysql.err", "Error"))
    return tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)


def sqlite_lines(path: str, wanted: str | None = None) -> Iterator[bytes]:
    """Yield the rows of a file of SQLite."""
    # SQLite would not say which file is missing.
    fd, is_roots = open_to_read(path, os.O_NONBLOCK)
    try:
        yield from _sqlite_lines(path, wanted, None if is_roots else fd)
    finally:
        # Not before SQLite has closed it: it would lose its locks.
        os.close(fd)


def _sqlite_lines(path: str, wanted: str | None, checked: int | None) -> Iterator[bytes]:
    """Yield the rows. SQLite opens a file by its name: where others can change that, it has to be the checked one."""
    import sqlite3

    quoted = "".join(f"%{byte:02x}" for byte in path.encode("utf-8", "surrogateescape"))
    before = _descriptors_of(checked)
    connection = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True)
    try:
        connection.execute("PRAGMA schema_version")
        if checked is not None and _descriptors_of(checked) == before:
            raise OSError(errno.ELOOP, "others replaced it just now", path)
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        ]
        for name in _chosen(path, names, wanted):
            cursor = connection.execute(f"SELECT * FROM {_quoted(name)}")
            yield from _lines(path, Table(name, tuple(column[0] for column in cursor.description)), cursor)
    finally:
        connection.close()


def _descriptors_of(fd: int | None) -> int:
    """Return how many descriptors this process has of a file."""
    if fd is None:
        return 0
    wanted, count = os.fstat(fd), 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.path.samestat(os.stat(f"/proc/self/fd/{name}"), wanted)
    return count


def _postgresql_lines(url: str, wanted: str | None) -> Iterator[bytes]:
    try:
        import psycopg
        import psycopg.conninfo
        from psycopg import sql
    except ImportError:
        needed = "pip install 'nflowlevel[pgsql]'"
        raise NotSupported("reading from PostgreSQL", found="no Python module psycopg", needed=needed) from None
    shown = without_password(url)
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Its message may have the password in it.
        told = "it is no URL that PostgreSQL takes; write special characters as %XX"
        raise ValueError(f"read {printable(shown, None)}: {told}") from None
    with psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v', 'p', 'm', 'f') AND pg_table_is_visible(oid)"
        ).fetchall()
        for name in _chosen(shown, [name for (name,) in found], wanted):
            with connection.cursor(name="nflowlevel") as cursor:
                cursor.itersize = _ROWS
                cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name)))
                columns = tuple(column.name for column in cursor.description or ())
                yield from _lines(shown, Table(name, columns), cursor)


def _mysql_lines(parts: SplitResult, options: Mapping[str, str], wanted: str | None) -> Iterator[bytes]:
    try:
        import pymysql
        from pymysql.cursors import SSCursor
    except ImportError:
        needed = "pip install 'nflowlevel[mysql]'"
        raise NotSupported("reading from MySQL", found="no Python module pymysql", needed=needed) from None
    shown = without_password(urlunsplit(parts))
    given = _mysql_parameters(parts, options, shown)
    # Its cursor takes rows one by one: they need no more memory here than those that are rendered at once.
    with (
        pymysql.connect(**given, charset="utf8mb4", connect_timeout=_CONNECT_SECS, read_timeout=_READ_SECS) as found,
        SSCursor(found) as cursor,
    ):
        cursor.execute(_MYSQL_SESSION)
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute("SHOW TABLES")
        for name in _chosen(shown, [name for (name,) in cursor.fetchall()], wanted):
            cursor.execute(f"SELECT * FROM {_quoted(name, '`')}")
            columns = tuple(column[0] for column in cursor.description or ())
            yield from _lines(shown, Table(name, columns), iter(cursor.fetchone, None))


def _mysql_parameters(parts: SplitResult, options: Mapping[str, str], shown: str) -> dict[str, Any]:
    """Return what PyMySQL takes of a URL; a message has the URL without its password."""
    for name in options:
        if name not in _MYSQL_OPTIONS:
            available = ", ".join((*_MYSQL_OPTIONS, "table"))
            raise ValueError(
                f"read {printable(shown, None)}: unknown option '{printable(name)}'; available: {available}"
            )
    try:
        port, database = parts.port, unquote(parts.path.removeprefix("/"))
    except ValueError:
        port, database = None, ""
    if not database or "/" in database:
        told = "a URL of MySQL's is mysql://user@host:port/database; write special characters as %XX"
        raise ValueError(f"read {printable(shown, None)}: {told}")
    given = {"host": parts.hostname, "port": port, "user": parts.username, "password": parts.password}
    texts = {name: unquote(value) if isinstance(value, str) else value for name, value in given.items()}
    texts |= {_MYSQL_OPTIONS[name]: value for name, value in options.items()}
    return {"database": database, **{name: value for name, value in texts.items() if value is not None}}


def without_password(name: str) -> str:
    """Return a URL without user, password and options, as anybody may see it; another name as it is."""
    found = URL.fullmatch(name)
    if not found or found["scheme"].lower() == "sqlite" or os.path.lexists(name):
        return name
    if "@" in found["rest"]:
        # A password with an unescaped / or ?: nobody can tell where it ends.
        return f"{found['scheme']}://…"
    path = re.split("[?#]", found["rest"])[0]
    return f"{found['scheme']}://{found['ends'].rpartition('@')[2]}{path}"


def _chosen(source: str, names: Sequence[str], wanted: str | None) -> list[str]:
    """Return the tables to read."""
    if wanted is not None:
        if wanted not in names:
            raise ValueError(
                f"read {printable(source, None)}: there is no table '{printable(wanted)}'; {_available(names)}"
            )
        return [wanted]
    found = [next((name for name in group if name in names), None) for group in _TABLES]
    chosen = [name for name in found if name is not None]
    if not chosen:
        raise ValueError(
            f"read {printable(source, None)}: no table of a log is there; name it with ?table=…; {_available(names)}"
        )
    return chosen


def _available(names: Iterable[str]) -> str:
    return f"available: {', '.join(map(printable, sorted(names))) or 'none'}"


def _quoted(name: str, mark: str = '"') -> str:
    return mark + name.replace(mark, 2 * mark) + mark


def _lines(source: str, table: Table, rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    members = [(place, _member(column)) for place, column in enumerate(table.columns)]
    known = [(place, member) for place, member in members if member is not None]
    times = {"oob_time", "oob_time_sec", "flow_end_sec", "flow_start_sec", "timestamp"}
    if not times & set(table.columns) or len(known) < 2:
        raise ValueError(
            f"read {printable(source, None)}: table '{printable(table.name)}' has no time, or no columns of keys"
        )
    encoder = msgspec.json.Encoder()
    made: list[dict[str, Any]] = []
    for row in rows:
        record: dict[str, Any] = {}
        for place, member in known:
            value = row[place]
            if value is not None:
                record.update(member(value))
        made.append(record)
        if len(made) >= _ROWS:
            yield encoder.encode_lines(made)
            made = []
    if made:
        yield encoder.encode_lines(made)


def _member(column: str) -> _Member | None:
    """Return what makes members of JSON of the values of a column; None: it holds nothing that is known."""
    if column == "oob_time":
        return _time
    if column == "timestamp":
        return lambda value: {"timestamp": value.isoformat() if isinstance(value, datetime) else str(value)}
    if column == "dvc":
        return lambda value: {"dvc": str(value)}
    key = _KEYS.get(column)
    if key is None:
        return None
    if key.kind == "addrnumber" or key.type == "rawstr":
        key = _KEYS[f"{_address_of(column)}_str"]
        return partial(_address, key.cim or key.name)
    if key.type == "ipaddr":
        text = _KEYS.get(f"{column}_str")
        # A number may be in either order of bytes: nothing says so.
        return text and partial(_text_address, text.cim or text.name)
    if key.type == "raw":
        return None
    return partial(_typed, key.cim or key.name, key.type)


def _address_of(column: str) -> str:
    """Return the name of the address that a column has in another form: `ip_saddr_bin`, `ip_hsaddr`."""
    return column.removesuffix("_bin").replace("_hsaddr", "_saddr").replace("_hdaddr", "_daddr")


def _typed(name: str, type_: str, value: Any) -> dict[str, Any]:
    return {name: _value(value, type_)}


def _value(value: Any, type_: str) -> Any:
    if type_ == "string":
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if isinstance(value, (bool, Decimal)):
        return int(value)
    return value if isinstance(value, (int, float)) else str(value)


def _time(value: Any) -> dict[str, Any]:
    """Return a time that is one value: a timestamp, or text in UTC."""
    if not isinstance(value, datetime):
        try:
            value = datetime.fromisoformat(str(value))
        except ValueError:
            return {}
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    since = value - _EPOCH
    return {"oob.time.sec": since.days * 86_400 + since.seconds, "oob.time.usec": since.microseconds}


def _address(name: str, value: Any) -> dict[str, Any]:
    """Return an address of 16 bytes, or of a number of 32 bits."""
    try:
        found = ipaddress.ip_address(bytes(value) if isinstance(value, (bytes, memoryview)) else int(value))
    except (ValueError, TypeError):
        return {}
    mapped = getattr(found, "ipv4_mapped", None)
    return {name: str(mapped or found)}


def _text_address(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bytes) and len(value) == _ADDRESS_BYTES:
        return _address(name, value)  # binary(16) of ulogd2's schema for MySQL
    return {} if isinstance(value, (int, bytes)) else {name: str(value)}
