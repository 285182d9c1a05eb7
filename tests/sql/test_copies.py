# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of a spool's directory, as cloned machines have them, under the real daemon and on real databases."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fix_daemon import Daemon, config, wait_for
from tests.fix_mariadb import mariadb, mariadb_db
from tests.fix_netns import Pair
from tests.fix_postgres import postgres, postgres_db
from tests.fix_server import Database
from tests.fix_sqlite import execute, rows_of

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

_TABLE = "create table log (oob_prefix varchar(40), oob_seq_local bigint not null)"
_ROWS = "select oob_prefix, oob_seq_local from log"

_COPIES = (1, 2, 3)
_INHERITED = 37
_OWN = 300


class Place:
    """A database, and the section of the configuration that leads there."""

    def __init__(
        self, plugin: str, section: str, execute: Callable[[str], object], rows: Callable[[], list[tuple[str, int]]]
    ) -> None:
        self.plugin, self.section, self.execute, self._rows = plugin, section, execute, rows

    def rows(self) -> list[tuple[str, int]]:
        """Return prefix and number of each row that is in."""
        return self._rows()

    def config(self, pair: Pair, spool: Path, group: int) -> str:
        """Return a configuration for packets of a group."""
        source = f"group={group}\nseq_local=1\nnetwork_namespace_path={pair.fw.path}"
        section = f"{self.section}\ntable=log\nprocedure=INSERT\nspool_directory={spool}"
        return config(f"n:NFLOG,b:BASE,d:{self.plugin}", n=source, d=section)


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        path = tmp_path / "log.sqlite"
        execute(path, "create table other (a)")
        yield Place("SQLITE3", f"db={path}", lambda text: execute(path, text), lambda: rows_of(path, _ROWS))
        return
    name = "postgres" if request.param == "postgresql" else "mariadb"
    request.getfixturevalue(name)
    database = request.getfixturevalue(f"{name}_db")
    assert isinstance(database, Database)
    section = f"db={database.name}\nhost={database.host}\nport={database.port}\nuser={database.user}"
    plugin = "PGSQL" if name == "postgres" else "MYSQL"
    yield Place(plugin, f'{section}\npass="{database.password}"', database.execute, lambda: database.rows(_ROWS))


def _rules(group: int) -> str:
    return (
        "table inet t {\nchain i {\ntype filter hook input priority 0\n"
        f'udp dport 9 log prefix "old" group {group}\n'
        + "".join(f'udp dport 9 log prefix "{number}" group {number}\n' for number in _COPIES)
        + "}\n}\n"
    )


def _written(daemon: Daemon) -> int:
    """Return what an ended daemon says to have written."""
    return int(re.findall(r"\bd\b.*written (\d+)", daemon.stderr)[-1])


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one after another"])
def test_each_row_arrives_once(place: Place, pair: Pair, tmp_path: Path, at_once: bool) -> None:
    pair.fw.nft(_rules(9))
    with Daemon(tmp_path, place.config(pair, tmp_path / "spool", 9)) as daemon:
        pair.send_udp(_INHERITED)
        daemon.says("log")  # the table is missing
    assert f"pending {_INHERITED}" in daemon.stderr
    place.execute(_TABLE)
    daemons = []
    for number in _COPIES:
        shutil.copytree(tmp_path / "spool", tmp_path / str(number))
        daemons.append(Daemon(tmp_path, place.config(pair, tmp_path / str(number), number)))

    def stored(count: int) -> None:
        wait_for(
            lambda: len(place.rows()) >= count,
            f"{count} rows",
            lambda: f"{Counter(prefix for prefix, _ in place.rows())}\n{[each.stderr[-1500:] for each in daemons]}",
        )

    if at_once:
        with contextlib.ExitStack() as running:
            for each in daemons:
                running.enter_context(each)
            for _ in range(10):
                pair.send_udp(_OWN // 10)
            stored(_INHERITED + len(_COPIES) * _OWN)
    else:
        for number, each in enumerate(daemons, 1):
            with each:
                pair.send_udp(_OWN)
                stored(_INHERITED + number * _OWN)
    expected = [("old", n) for n in range(_INHERITED)] + [(str(c), n) for c in _COPIES for n in range(_OWN)]
    assert sorted(place.rows()) == sorted(expected)
    assert sum(map(_written, daemons)) == len(expected)
