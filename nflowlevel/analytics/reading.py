# SPDX-License-Identifier: GPL-2.0-or-later
"""`nfl.read`: one log made of whatever holds records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nflowlevel.analytics.engine import DuckDB
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.progress import Progress
from nflowlevel.analytics.store import Store
from nflowlevel.analytics.wholelines import WholeLines


def read(*sources: str | os.PathLike[str], memory_limit: str | None = None) -> Log:
    """Open a log for questions."""
    store = Store(memory_limit)
    try:
        _add(store, [Path(source) for source in sources])
    except BaseException:
        store.close()
        raise
    return Log(DuckDB(store))


def _add(store: Store, paths: Iterable[Path]) -> None:
    files = [each for path in paths for each in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])]
    archives = [path for path in files if path.suffix == ".parquet"]
    store.add_archives("packets", archives)
    others = [path for path in files if path.suffix != ".parquet"]
    if others:
        with store.adding(), Progress(sum(path.stat().st_size for path in others)) as progress:
            done = 0
            for path in others:
                with WholeLines(path) as lines:
                    number = 1
                    for chunk in lines.chunks():
                        store.add_lines(chunk, str(path), number)
                        number += chunk.count(b"\n")
                        progress.show(path.name, done + lines.position, store.records)
                    done += lines.position
                    if lines.rest.strip() or lines.fault:
                        store.add_damage(
                            str(path), number, lines.fault or "without an end: it is being written, or cut"
                        )
    store.make_views()
