# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo runs as it is, as root and without, and its last line is the truth."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_netns import missing

ROOT = Path(__file__).resolve().parent.parent

#: To the machine this is root, in its user namespace it is an ordinary user: files can be read as before, nothing else.
_ORDINARY_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@pytest.mark.kernel
@pytest.mark.parametrize("wrapper", [(), _ORDINARY_USER], ids=["root", "ordinary user"])
def test_demo_shows_the_main_job(wrapper: tuple[str, ...]) -> None:
    if missing():
        pytest.skip(missing())
    before = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
    done = subprocess.run(
        [*wrapper, sys.executable, "demo/demo.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    counts = re.fullmatch(r"sent (\d+), counted by the rules (\d+), logged (\d+), lost 0", last)
    assert counts, last
    sent, counted, logged = map(int, counts.groups())
    assert sent == counted == logged > 0
    shown = [json.loads(line) for line in done.stdout.splitlines() if line.lstrip().startswith("{")]
    whole = [record for record in shown if "timestamp" in record]
    short = [record for record in shown if "timestamp" not in record]
    assert [record["action"] for record in whole] == ["allowed", "blocked"]
    assert {record["oob.in"] for record in whole} == {"eth0"}
    assert len(short) == logged
    assert {record["src_ip"] for record in short} == {"192.0.2.66", "2001:db8::66"}
    (text,) = (line for line in done.stdout.splitlines() if " IN=eth0 OUT= " in line)
    assert re.match(r"\w{3} [ \d]\d [\d:]{8} \S+ .* MAC=\S+ SRC=\S+ DST=\S+ LEN=\d+ .* PROTO=\S+ ", text)
    blocked = sum(record["action"] == "blocked" for record in short)
    assert f"\n{logged} lines as the kernel's log has them" in done.stdout
    assert f"\n{blocked} packets in the capture; the first:\n\n   192.0.2.66 > 192.0.2.1, " in done.stdout
    after = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
    assert {name for name in after - before if not name.startswith("nfltest-")} == set()
