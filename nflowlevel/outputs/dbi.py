# SPDX-License-Identifier: GPL-2.0-or-later
"""DBI: ulogd2's output through libdbi, for configurations that use it: does what PGSQL, MYSQL or SQLITE3 does.

`dbtype` is the name of libdbi's driver and selects one of them: `pgsql`, `mysql` or `sqlite3`. libdbi itself is not
needed; its other drivers are not supported. ulogd2 reads `port` and `schema` but ignores them; this output uses them
(`schema` with pgsql only).

With sqlite3, `db` is the full path of the file. libdbi looks for a name without a path in a directory that was set when
it was built; in Debian's package that is /usr/var/lib/libdbi/sqlite3.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, field

from nflowlevel.options import PortNumber
from nflowlevel.plugin.contract import Member
from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.spool.feed import SpoolStats
from nflowlevel.sql.database import Database
from nflowlevel.sql.options import SQLOptions

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch

#: The plugin for each of libdbi's drivers, and which options it takes beside those that all have.
_PLUGINS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "pgsql": ("PGSQL", ("db", "user", "host", "pass_", "port", "schema")),
    "mysql": ("MYSQL", ("db", "user", "host", "pass_", "port")),
    "sqlite3": ("SQLITE3", ("db",)),
}


class DBIOptions(SQLOptions, frozen=True, kw_only=True):
    """Options of DBI; names as in ulogd.conf."""

    dbtype: Annotated[str, Meta(description="libdbi's name for the database: `pgsql`, `mysql` or `sqlite3`.")]
    db: Annotated[str, Meta(min_length=1, description="Name of the database; with sqlite3 the full path of the file.")]
    user: Annotated[str, Meta(description="User name.")] = ""
    host: Annotated[str, Meta(description="Server; empty: this machine.")] = ""
    pass_: Annotated[str, Meta(description="Password.")] = field(name="pass", default="")
    port: Annotated[PortNumber, Meta(description="Port; 0: the default port of the database.")] = 0
    schema: Annotated[str, Meta(min_length=1, description="Schema of the table and the ledger, with pgsql.")] = "public"

    def __post_init__(self) -> None:
        """ValueError where the other plugin would not take the options, or there is none."""
        self.output("")

    def output(self, instance: str) -> SQLOutput[Any]:
        """Return the plugin that does the work, with its own options."""
        if self.dbtype not in _PLUGINS:
            raise ValueError(f"dbtype={self.dbtype}: no output supports it; available: {', '.join(_PLUGINS)}")
        if self.dbtype == "sqlite3" and not os.path.isabs(self.db):
            raise ValueError(
                f"db={self.db}: libdbi keeps such files in a directory of its own; give the full path of the file"
            )
        name, own = _PLUGINS[self.dbtype]
        # Late: each brings its driver with it.
        plugin: type[SQLOutput[Any]] = getattr(importlib.import_module(f"nflowlevel.outputs.{name.lower()}"), name)
        given = {name: getattr(self, name) for name in (*SQLOptions.__struct_fields__, *own)}
        return plugin(instance, plugin.Options(**given))


class DBI(SQLOutput[DBIOptions]):
    """The DBI plugin; see the module."""

    name = "DBI"
    Options = DBIOptions

    def __init__(self, instance: str, options: DBIOptions) -> None:
        super().__init__(instance, options)
        self._output = options.output(instance)

    def database(self) -> Database:
        """Return a connection of the other plugin's, not connected yet."""
        return self._output.database()

    def bind(self, members: tuple[Member, ...]) -> None:
        """Learn which keys there are."""
        super().bind(members)
        self._output.bind(members)

    def open(self) -> None:
        """Start the other plugin."""
        self._output.open()

    def write(self, batch: Batch) -> None:
        """Queue the batch's rows; never waits."""
        self._output.write(batch)

    def reopen(self) -> None:
        """Connect anew."""
        self._output.reopen()

    @property
    def deadline(self) -> float | None:
        """When `retry` wants to be called."""
        return self._output.deadline

    def retry(self) -> None:
        """Break a connection that hangs."""
        self._output.retry()

    @property
    def stats(self) -> SpoolStats:
        """Rows in, stored, waiting, dropped."""
        return self._output.stats

    @property
    def state(self) -> str:
        """Which database, and how it is."""
        return self._output.state

    def directories(self) -> Iterator[str]:
        """Yield the other plugin's."""
        return self._output.directories()

    def close(self, timeout: float = 1.0) -> None:
        """Have what waits stored, as far as it goes in time."""
        self._output.close(timeout)
