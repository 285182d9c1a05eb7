# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounting on real packets: rules count web traffic, the daemon sends the counts to Graphite, here is the chart.

The rules and the daemon's configuration are those of the article that introduced it ("Visualize Netfilter accounting in
Graphite"). Web server, its visitors, the daemon and a stand-in for Graphite's receiver live in a network namespace of
their own, which vanishes with this program: nothing on the machine is touched. An ordinary user can run it too, where
the kernel lets users make namespaces. Exit status 0 only if every packet the rules counted was sent.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import math
import queue
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from running import PATIENCE_SECS, daemon, enter_namespaces, run, say

from nflowlevel import Accounting

COUNTERS = {"ipv4.http": ("iptables", "127.0.0.1"), "ipv6.http": ("ip6tables", "::1")}
RULES = (("INPUT", "--sport"), ("OUTPUT", "--dport"))
CONFIG = """\
[global]
stack=acct1:NFACCT,graphite1:GRAPHITE
[acct1]
pollinterval = 1
[graphite1]
host="127.0.0.1"
port="2003"
"""
POLLS = 8
#: Bytes of the largest bar: what the visitors fetch in a second at most, and some more for headers.
FULL_BAR = 650_000

_EIGHTHS = " ▏▎▍▌▋▊▉"


class Counts(NamedTuple):
    """What a counter has counted."""

    packets: int = 0
    bytes: int = 0


def main() -> int:
    """Run the demo; the result is the exit status."""
    enter_namespaces(__file__)
    run("ip", "link", "set", "lo", "up")
    with Accounting() as accounting, _web_server(), _Receiver() as receiver:
        for name, (tool, _) in COUNTERS.items():
            accounting.create(name)
            for chain, port in RULES:
                run(tool, "-w", "-I", chain, "-p", "tcp", port, "80", "-m", "nfacct", "--nfacct-name", name)
        say("two counters, and the rules that count web traffic into them:")
        for name, (tool, _) in COUNTERS.items():
            say(f"  {tool} -I OUTPUT -p tcp --dport 80 -m nfacct --nfacct-name {name}, and the way back")
        with _configured_daemon() as process, _visitors():
            say(f"nflowlevel-daemon polls them every second (process {process.pid}); what Graphite receives:\n")
            _chart(receiver)
        # What came since the last poll stays in the kernel for the next start of the daemon.
        return _verdict(accounting, receiver)


# -- web traffic --------------------------------------------------------------------------------------------------


class _Pages(http.server.BaseHTTPRequestHandler):
    """Answers a request for /N with N bytes."""

    def do_GET(self) -> None:
        size = int(self.path.removeprefix("/"))
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(bytes(size))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


@contextlib.contextmanager
def _web_server() -> Iterator[None]:
    """A web server on port 80 of both families."""
    with _Server(("::", 80), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _visitors() -> Iterator[None]:
    """Visitors by IPv4 come and go like the tide, those by IPv6 in bursts."""
    begin, stop = time.monotonic(), threading.Event()

    def visit(address: str, wanted: bool) -> None:
        while not stop.wait(0.05):
            passed = time.monotonic() - begin
            tide = 15_000 * (1 - math.cos(passed * 2 * math.pi / POLLS))
            burst = 20_000 if int(passed) % 3 == 1 else 300
            connection = http.client.HTTPConnection(address, 80, timeout=PATIENCE_SECS)
            connection.request("GET", f"/{int(tide) if wanted else burst}")
            connection.getresponse().read()
            connection.close()

    threads = [
        threading.Thread(target=visit, args=(address, name == "ipv4.http")) for name, (_, address) in COUNTERS.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# -- what counts and what receives --------------------------------------------------------------------------------


@contextlib.contextmanager
def _configured_daemon() -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory(prefix="nflowlevel-demo-") as name:
        config = Path(name, "ulogd.conf")
        config.write_text(CONFIG)
        with daemon(config, Path(name)) as process:
            yield process


class _Receiver:
    """Takes the place of carbon, Graphite's receiver: lines of `name value time` on port 2003."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 2003))
        self._thread = threading.Thread(target=self._run)
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        #: What all points together say, by counter.
        self.totals = dict.fromkeys(COUNTERS, Counts())

    def __enter__(self) -> _Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # that of the end
            while True:
                connection, _ = self._listener.accept()
                with connection, connection.makefile() as lines:
                    for line in lines:
                        self.lines.put(line)

    def poll(self) -> tuple[int, dict[str, Counts]]:
        """Wait for the points of one poll: their time, and what was counted."""
        points: dict[str, dict[str, int]] = defaultdict(dict)
        when = 0
        for _ in range(2 * len(COUNTERS)):
            path, value, when_text = self.lines.get(timeout=PATIENCE_SECS).split()
            name, unit = path.rsplit(".", 1)
            points[name][unit], when = int(value), int(when_text)
        counts = {name: Counts(units["pkts"], units["bytes"]) for name, units in points.items()}
        for name, each in counts.items():
            total = self.totals[name]
            self.totals[name] = Counts(total.packets + each.packets, total.bytes + each.bytes)
        return when, counts


# -- telling ------------------------------------------------------------------------------------------------------


def _chart(receiver: _Receiver) -> None:
    width = max(10, (shutil.get_terminal_size((100, 24)).columns - 12) // len(COUNTERS) - 14)
    print(" " * 10, *(f"{name:<{width + 12}}" for name in COUNTERS))
    for _ in range(POLLS):
        when, counts = receiver.poll()
        cells = [f"{_bar(counts[name].bytes, width)} {counts[name].bytes / 1000:5.0f} kB/s" for name in COUNTERS]
        print(time.strftime("%H:%M:%S ", time.localtime(when)), *cells, flush=True)


def _bar(size: int, width: int) -> str:
    eighths = min(width * 8, round(size / FULL_BAR * width * 8))
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return bar.ljust(width)


def _verdict(accounting: Accounting, receiver: _Receiver) -> int:
    """Compare what the rules counted with what was sent and what is left; 0 if they agree."""
    # The last connections' farewells may still be on their way.
    deadline = time.monotonic() + 2
    for attempt in itertools.count():
        with contextlib.suppress(queue.Empty):
            while receiver.lines.qsize():
                receiver.poll()
        rest = {each.name: Counts(each.packets, each.bytes) for each in accounting.list()}
        counted = {name: _counted(name) for name in COUNTERS}
        sent = {name: Counts(*map(sum, zip(receiver.totals[name], rest[name], strict=True))) for name in COUNTERS}
        if (counted == sent and attempt) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    print()
    for name in COUNTERS:
        left, total = rest[name].packets, receiver.totals[name].packets
        print(
            f"{name}: counted by the rules {counted[name].packets} packets, sent {total}, in the kernel {left}, ",
            end="",
        )
        print(f"lost {counted[name].packets - total - left}")
    return int(counted != sent)


def _counted(name: str) -> Counts:
    """What the rules themselves counted."""
    rows = [line.split() for line in run(COUNTERS[name][0], "-w", "-nvxL").splitlines() if name in line]
    return Counts(sum(int(row[0]) for row in rows), sum(int(row[1]) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
