# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo of databases runs as it is, as root and without, and what it says at the end is the truth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import fix_netns, fix_postgres
from tests.test_demo import _ORDINARY_USER as ORDINARY_USER

ROOT = Path(__file__).resolve().parent.parent

_VERDICT = re.compile(r"(\w+): counted by the rule ([\d,]+), rows ([\d,]+), lost 0, twice 0")
_WITHOUT_POSTGRESQL = (
    "unshare", "--mount", "--", "sh", "-c", 'mount -t tmpfs none /usr/lib/postgresql && exec "$@"', "sh"
)  # fmt: skip


def _run(directory: Path, *wrapper: str) -> list[str]:
    if fix_netns.missing():
        pytest.skip(fix_netns.missing())
    done = subprocess.run(
        [*wrapper, sys.executable, "demo/sql.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(directory.iterdir()) == [], "something is left over"
    return done.stdout.splitlines()


def _verdicts(lines: list[str]) -> dict[str, int]:
    found = [told for line in lines if (told := _VERDICT.fullmatch(line))]
    for told in found:
        assert told[2] == told[3]
    return {told[1]: int(told[2].replace(",", "")) for told in found}


@pytest.mark.kernel
@pytest.mark.parametrize("wrapper", [(), ORDINARY_USER], ids=["root", "ordinary user"])
def test_demo_loses_nothing_while_postgresql_is_away(wrapper: tuple[str, ...], open_to_all: Path) -> None:
    if fix_postgres.missing():
        pytest.skip(fix_postgres.missing())
    lines = _run(open_to_all, *wrapper)
    assert _verdicts(lines) == {"SQLite": 4_000, "PostgreSQL": 16_000}
    seconds = [line.split() for line in lines if re.fullmatch(r" +(\d+|end) +[\d,]+ +([\d,]+|stopped)", line)]
    away = [int(packets.replace(",", "")) for _, packets, rows in seconds if rows == "stopped"]
    assert len(away) >= 2
    assert away[0] < away[-1], "packets arrive while it is away"
    assert seconds[-1] == ["end", "16,000", "16,000"]


@pytest.mark.kernel
def test_demo_without_postgresql_says_what_is_missing(open_to_all: Path) -> None:
    if fix_postgres.missing():
        pytest.skip(fix_postgres.missing())
    lines = _run(open_to_all, *_WITHOUT_POSTGRESQL)
    assert _verdicts(lines) == {"SQLite": 4_000}
    assert "* PostgreSQL is left out: install the server (Debian: postgresql)" in lines
