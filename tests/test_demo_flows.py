# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo of flows runs as it is, and its last lines are the truth."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_acct import environment
from tests.fix_netns import missing

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.kernel
def test_demo_reports_what_was_counted() -> None:
    if missing():
        pytest.skip(missing())
    # It leaves the spools of this machine's daemon alone: what waits there is for another collector.
    alone = 'mkdir -p /var/lib/nflowlevel && mount -t tmpfs -o ro none /var/lib/nflowlevel && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", alone, "sh", sys.executable, "demo/flows.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, flows, packets, size, verdict = done.stdout.splitlines()
    made, reported, collected = map(int, re.findall(r"\d+", flows))
    assert made == reported == collected == 19
    for line in (packets, size):
        *_, counted, told = map(int, re.findall(r"\d+", line))
        assert counted == told > 0
    assert "downloaded 2000000" in size
    assert verdict == "nothing is missing"
    assert re.search(r"^.* \[DESTROY\] PROTO=TCP SRC=10\.0\.0\.2 .* NATSRC=198\.51\.100\.1 ", done.stdout, re.MULTILINE)
