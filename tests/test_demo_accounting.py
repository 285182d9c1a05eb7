# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo of accounting runs as it is, draws its chart, and its last lines are the truth."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_acct import environment
from tests.fix_debian import need
from tests.fix_netns import missing

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.kernel
def test_demo_shows_counters_moving() -> None:
    if missing():
        pytest.skip(missing())
    need("ip6tables")
    command = [sys.executable, "demo/accounting.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    bars = [re.findall(r"(█*)[▏▎▍▌▋▊▉]? +(\d+) kB/s", line) for line in lines if "kB/s" in line]
    assert [len(row) for row in bars] == [2] * 8
    rates = [int(rate) for row in bars for _, rate in row]
    assert min(rates) * 4 < max(rates), "they move"
    assert max((len(bar), int(rate)) for row in bars for bar, rate in row)[1] == max(rates)
    for name, line in zip(("ipv4.http", "ipv6.http"), lines[-2:], strict=True):
        told = re.fullmatch(
            rf"{name}: counted by the rules (\d+) packets, sent (\d+), in the kernel (\d+), lost 0", line
        )
        assert told, line
        counted, sent, left = map(int, told.groups())
        assert counted == sent + left
        assert sent > 100
