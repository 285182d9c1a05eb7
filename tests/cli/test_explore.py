# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel explore`: the link that it prints works, and it ends when it is told to."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

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


#: `explore`, whose answers take hours.
_SLOW = """
import sys
from nflowlevel.analytics import explore
from nflowlevel.cli import main
text = "SELECT SUM(a.range * b.range) AS n FROM range(10000000) AS a, range(10000000) AS b"
explore.answer = lambda log, *_: print("asked", flush=True) or {"rows": log.sql(text).rows()}
sys.exit(main(["explore", sys.argv[1], "--no-browser"]))
"""


def test_it_ends_while_it_is_asked(tmp_path: Path) -> None:
    log = log_file(tmp_path / "ulogd.json", [record(number) for number in range(10)])
    command = [sys.executable, "-c", _SLOW, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        url = urlsplit(process.stdout.readline().partition("#")[0])
        with socket.create_connection(("127.0.0.1", url.port or 0), timeout=30) as asking:
            asking.sendall(f"GET {url.path}answer HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        assert process.stderr.read() == "explore: open the link in a browser on this machine; stop with Ctrl-C\n"


def test_a_port_that_cannot_be() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nflowlevel", "explore", "--port", "70000"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "must be 0 to 65535" in done.stderr
