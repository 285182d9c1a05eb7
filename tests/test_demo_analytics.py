# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo of analytics runs as it is: the article's attacker is found, and what it prints is what happened."""

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
def test_demo_finds_the_attacker(tmp_path: Path) -> None:
    if missing():
        pytest.skip(missing())
    command = [sys.executable, "demo/analytics.py", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, packets, guesses, verdict = done.stdout.splitlines()
    assert verdict == "the attacker, and nobody else, was found: 218.2.22.118"
    counted, logged = map(int, re.findall(r"\d+", packets))
    # Those of the clients, the scanners' SYNs and RSTs, and the guesses.
    assert counted == logged == 64 + 52 + 12 + 24
    assert guesses == "guesses: made 24, logged by sshd 24"
    (row,) = re.findall(r"^scan_then_brute +high .*$", done.stdout, re.MULTILINE)
    assert row.split()[2:5] == ["218.2.22.118", "192.0.2.19", "22"]
    assert row.split()[-4:-1] == ["6000", "16384", "65535"]
    assert re.search(r"^CN +52 +3$", done.stdout, re.MULTILINE)
    assert re.search(r"^193\.99\.144\.80 +stack +Linux ", done.stdout, re.MULTILINE)
    assert re.search(r" sshd +failed +218\.2\.22\.118 ", done.stdout)
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "218.2.22.118" in page
    assert "scan_then_brute" in page
    picture = (tmp_path / "demo" / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20], "big") == 1150
    # A white page is a few kilobytes.
    assert len(picture) > 50_000
    assert f"Its picture: {tmp_path}/demo/report.png" in done.stdout


@pytest.mark.kernel
def test_demo_does_not_mix_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "ulogd.json").write_text("{}\n")
    command = [sys.executable, "demo/analytics.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "must be empty" in done.stderr
    assert (tmp_path / "ulogd.json").read_text() == "{}\n"
