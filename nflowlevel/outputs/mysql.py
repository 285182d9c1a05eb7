# SPDX-License-Identifier: GPL-2.0-or-later
"""MYSQL: rows into MySQL or MariaDB, each once.

Needs PyMySQL (Debian: python3-pymysql, or the extra `mysql`). `table` says which keys are stored: a `_` of a column is
a `.` of a key. `procedure` is `INSERT`, `INSERT INTO name`, `CALL name`, or a function such as INSERT_PACKET_FULL of
ulogd2's schema, whose view `ulog` has the addresses as binary(16): put IP2BIN into the stack for them. A binary(16)
column takes `ip.saddr` as well, and so do MariaDB's types inet4 and inet6. Times are UTC.

`host=localhost`, the default, means the server's Unix socket where there is one and no `port` is set; a path is that
socket. `option_file` is a my.cnf whose section [client] can hold what is not for the configuration: password, TLS
certificates.

Rows go in statements of many rows, one transaction for what waits; functions are called many in a SELECT, procedures
one by one. The session is strict: what a column cannot hold is refused and goes to the dead-letter file with the
reason, never cut to fit. (In ulogd2's schema that includes IPv6 packets where there is an `oob.protocol`: the column is
a signed smallint, 0x86dd is beyond it. `ALTER TABLE` to `smallint unsigned` mends it, in the full schema together with
the parameters of its functions.) A refused row does not harm the others. When the server is away, hangs or is full,
rows wait: in memory, then in the spool.

A table without transactions (MyISAM, Aria) is filled row by row, and so is what a function or procedure stores in a
database that has such a table; the log says so. There the row that was on its way when a connection broke may come
twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from nflowlevel.options import PortNumber
from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.sql.mysql import MySQLDatabase
from nflowlevel.sql.options import SQLOptions

if TYPE_CHECKING:
    from nflowlevel.sql.database import Database


class MYSQLOptions(SQLOptions, frozen=True, kw_only=True):
    """Options of MYSQL; names as in ulogd.conf."""

    db: Annotated[str, Meta(min_length=1, description="Database.")]
    host: Annotated[
        str,
        Meta(description="Host name, address, or path of a Unix socket; empty: what `option_file` says, or localhost."),
    ] = ""
    port: Annotated[PortNumber, Meta(description="Port; 0: 3306, and on localhost the Unix socket.")] = 0
    user: Annotated[str, Meta(description="User; empty: what `option_file` says, or the daemon's own.")] = ""
    pass_: Annotated[str, Meta(description="Password; `option_file` keeps it out of the configuration.")] = field(
        default="", name="pass"
    )
    option_file: Annotated[str, Meta(description="A my.cnf, whose section [client] says what is not said here.")] = ""


class MYSQL(SQLOutput[MYSQLOptions]):
    """The MYSQL plugin; see the module."""

    name = "MYSQL"
    Options = MYSQLOptions

    def database(self) -> Database:
        """Return a connection, not connected yet."""
        return MySQLDatabase(self.options)
