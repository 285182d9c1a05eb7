# SPDX-License-Identifier: GPL-2.0-or-later
"""PGSQL: rows into a table of PostgreSQL (11 or later), or a call of a function or procedure for each of them.

`table` is a table or a view of `schema`. Its columns say what is stored: a `_` in a column stands for a `.` in a key,
and a column without a key keeps its default. ulogd2's schemas work unchanged; `nflowlevel sql init` creates one that
fits the values better. `procedure` says what is done with a row:

- `INSERT` puts it into `table`, `INSERT INTO name` into another one with these columns. It uses COPY, or INSERT where
  COPY would behave differently (a view without INSTEAD OF trigger, rules, row security).
- `CALL name` calls a procedure, any other name a function. The arguments are the columns of `table`, in their order:
  ulogd2's `INSERT_PACKET_FULL` with its view `ulog`, `INSERT_CT` with `ulog2_ct`, `INSERT_NFACCT` with `nfacct`. A
  batch goes into a temporary table, and the calls are made from there. If the user may not create one, or if the name
  has several meanings, the calls are made one by one.

How to connect: libpq supplies whatever `db`, `user`, `host`, `pass`, `port` and `connstring` leave open, so its
environment (PGHOST, PGSERVICE, PGSSLMODE …), service file and password file work. Only `table` is therefore mandatory.
The output opens one connection. A pooler in front of the server must keep sessions (PgBouncer: `pool_mode=session`).

A batch is one transaction. It also updates this output's row in the table `nflowlevel_ledger`, which tells what has
arrived after a connection broke: each row is stored exactly once. The first connect creates that table in `schema`. If
this is not permitted, a batch whose commit was not answered may be stored twice, and the log says so.

A row that the server refuses because of its values goes to the dead-letter file with the reason (SQLSTATE classes 21,
22, 23, 38, 44 and P0, 20000, 54000, and any class that only your own RAISE can have). After any other error rows wait
until the cause is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from nflowlevel.options import PortNumber
from nflowlevel.plugin.contract import Finding
from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.sql.options import SQLOptions
from nflowlevel.sql.pgsql import PGDatabase

if TYPE_CHECKING:
    from nflowlevel.sql.database import Database


class PGSQLOptions(SQLOptions, frozen=True, kw_only=True):
    """Options of PGSQL; names as in ulogd.conf."""

    db: Annotated[str, Meta(description="Name of the database; empty: libpq's default.")] = ""
    user: Annotated[str, Meta(description="User name; empty: libpq's default.")] = ""
    host: Annotated[
        str, Meta(description="Server: a name, an address or the directory of its socket; empty: libpq's default.")
    ] = ""
    pass_: Annotated[str, Meta(description="Password; libpq's password file is a better place for it.")] = field(
        name="pass", default=""
    )
    port: Annotated[PortNumber, Meta(description="Port; 0: libpq's default.")] = 0
    schema: Annotated[
        str,
        Meta(
            min_length=1,
            description="Schema of table and ledger; unless it is `public`, it also comes first in the search path.",
        ),
    ] = "public"
    connstring: Annotated[
        str, Meta(description="Connection string for libpq, instead of db, user, host, pass and port.")
    ] = ""


class PGSQL(SQLOutput[PGSQLOptions]):
    """The PGSQL plugin; see the module."""

    name = "PGSQL"
    Options = PGSQLOptions

    def needs(self) -> Iterator[Finding]:
        """The driver, and what all need."""
        from nflowlevel.plugin import reach

        yield from reach.package("psycopg", "install Debian's python3-psycopg, or nflowlevel[pgsql]")
        yield from super().needs()

    def database(self) -> Database:
        """Return a connection to PostgreSQL."""
        return PGDatabase(self.options)
