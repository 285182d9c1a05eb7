# SPDX-License-Identifier: GPL-2.0-or-later
"""MYSQL: rows into MySQL or MariaDB, each once.

This output needs PyMySQL (Debian: python3-pymysql, or the extra `mysql`). The columns of `table` say which keys are
stored: a `_` in a column stands for a `.` in a key. `procedure` is `INSERT`, `INSERT INTO name`, `CALL name`, or a
function such as INSERT_PACKET_FULL of ulogd2's schema. The view `ulog` of that schema has addresses as binary(16): add
IP2BIN to the stack for them. A binary(16) column also takes `ip.saddr`, and so do MariaDB's types inet4 and inet6.
Times are UTC.

`host=localhost`, the default, means the server's Unix socket if there is one and no `port` is set; a path names that
socket. `option_file` is a my.cnf whose section [client] can hold what should not be in the configuration: password and
TLS certificates.

All waiting rows go into one transaction, in statements of many rows. Many functions are called in one SELECT,
procedures one by one. The session is strict: a value that does not fit its column is refused, never cut to fit, and the
row goes to the dead-letter file with the reason. (In ulogd2's schema that includes IPv6 packets if the record has an
`oob.protocol`: the column is a signed smallint, and 0x86dd exceeds it. `nflowlevel sql check` prints the statements
that make room, in the full schema with its functions.) A refused row does not affect the others. When the
server is unavailable, hangs or is full, rows wait: first in memory, then in the spool.

A table without transactions (MyISAM, Aria) is filled row by row; the log says so. The same applies to functions and
procedures in a database that has such a table. In these cases the row that was being sent when a connection broke may
be stored twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from nflowlevel.options import PortNumber
from nflowlevel.plugin.contract import Finding
from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.sql.mysql import MySQLDatabase
from nflowlevel.sql.options import SQLOptions

if TYPE_CHECKING:
    from nflowlevel.sql.database import Database


class MYSQLOptions(SQLOptions, frozen=True, kw_only=True):
    """Options of MYSQL; names as in ulogd.conf."""

    db: Annotated[str, Meta(min_length=1, description="Name of the database.")]
    host: Annotated[
        str,
        Meta(description="Host name, address, or path of a Unix socket; empty: from `option_file`, or localhost."),
    ] = ""
    port: Annotated[PortNumber, Meta(description="Port; 0: 3306, or on localhost the Unix socket.")] = 0
    user: Annotated[str, Meta(description="User name; empty: from `option_file`, or the daemon's user.")] = ""
    pass_: Annotated[str, Meta(description="Password; use `option_file` to keep it out of the configuration.")] = field(
        default="", name="pass"
    )
    option_file: Annotated[str, Meta(description="A my.cnf; its section [client] supplies what is not set here.")] = ""


class MYSQL(SQLOutput[MYSQLOptions]):
    """The MYSQL plugin; see the module."""

    name = "MYSQL"
    Options = MYSQLOptions

    def needs(self) -> Iterator[Finding]:
        """The driver, and what all need."""
        from nflowlevel.plugin import reach

        yield from reach.package("pymysql", "install Debian's python3-pymysql, or nflowlevel[mysql]")
        yield from super().needs()

    def database(self) -> Database:
        """Return a connection, not connected yet."""
        return MySQLDatabase(self.options)
