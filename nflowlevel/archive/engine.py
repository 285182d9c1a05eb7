# SPDX-License-Identifier: GPL-2.0-or-later
"""DuckDB, as the archive uses it: within a bound of memory, and with nothing but the files that it is given."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nflowlevel.errors import NotSupported

#: Most memory of DuckDB; what does not fit goes to files of its own.
MEMORY_BYTES = 1 << 30
#: Where the kernel says which control groups this process is in, and what these are.
_GROUP, _GROUPS = "/proc/self/cgroup", "/sys/fs/cgroup"
#: Versions before this one lose rows of a stream that is read more than once (scan.py).
_LEAST_VERSION = (1, 5)


def memory() -> int:
    """Return the bytes of memory that this process may take: the machine's, or a limit of its own or its group's."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_of_control_groups()]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min(found if soft == resource.RLIM_INFINITY else [*found, soft])


def _of_control_groups() -> Iterator[int]:
    """Yield the limits of the control group and of those above it (cgroups(7)), as of a service or a container."""
    try:
        lines = Path(_GROUP).read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, found = line.partition(":")
        controllers, _, path = found.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        directory = Path(_GROUPS, "memory" if controllers else "")
        for part in ("", *path.strip("/").split("/")):
            directory /= part
            with contextlib.suppress(OSError, ValueError):  # none of this name, or "max"
                yield int((directory / ("memory.limit_in_bytes" if controllers else "memory.max")).read_text())


def connect(directory: str, *, threads: int = 1, memory_bytes: int = MEMORY_BYTES) -> Any:
    """Return a new database in memory, whose files for what does not fit are in `directory`.

    NotSupported: DuckDB is not installed. It loads no extension from anywhere.
    """
    config = {
        "threads": str(threads),
        "memory_limit": f"{min(memory_bytes, memory() // 2)}B",
        "temp_directory": os.path.join(directory, "spill"),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    database = duckdb().connect(":memory:", config=config)
    # It would be drawn on standard output, also where that is a file.
    database.execute("SET enable_progress_bar = false")
    return database


def duckdb() -> Any:
    """Return the module; NotSupported where it is not installed, or too old."""
    try:
        module = importlib.import_module("duckdb")
    except ImportError:
        raise NotSupported(
            "the archive", found="no Python module duckdb", needed="pip install 'nflowlevel[analytics]'"
        ) from None
    version = module.__version__
    if tuple(map(int, re.findall(r"[0-9]+", version)[:2])) < _LEAST_VERSION:
        raise NotSupported("the archive", found=f"DuckDB {version}", needed="pip install --upgrade 'duckdb>=1.5'")
    return module


def fullness(error: Exception) -> str:
    """Return what the system says of a full disk, where that is what an error is about, DuckDB's too; else nothing."""
    texts = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
    return next((text for text in texts if text in str(error)), "")


def is_short(error: Exception) -> bool:
    """Whether there was too little memory, or room on the disk: another way may do with less."""
    return bool(fullness(error)) or isinstance(error, duckdb().OutOfMemoryException)


def was_interrupted(error: Exception) -> bool:
    """Whether Ctrl-C ended a query: DuckDB raises a RuntimeError of its own in place of KeyboardInterrupt."""
    return type(error) is RuntimeError and str(error) == "Query interrupted"


def told(error: Exception) -> str:
    """Return an error of DuckDB's in one line; of a full disk with what to do."""
    if full := fullness(error):
        return f"write temporary files: {full}; make room there, or set TMPDIR to a directory that has more"
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def literal(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
