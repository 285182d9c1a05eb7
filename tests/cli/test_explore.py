# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel explore`: the link that it prints works, and it ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.fix_logs import START, log_file, record


def test_the_link_works(tmp_path: Path) -> None:
    log = log_file(tmp_path / "ulogd.json", [record(number) for number in range(10)])
    command = [sys.executable, "-m", "nflowlevel", "explore", str(log), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        link = process.stdout.readline().strip()
        url, _, fragment = link.partition("#")
        assert fragment == f"from={START + 10 - 86_400}&to={START + 10}"
        with urllib.request.urlopen(url, timeout=30) as page:
            assert b"nflowlevel explore" in page.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_port_that_cannot_be() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nflowlevel", "explore", "--port", "70000"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "must be 0 to 65535" in done.stderr
