# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel explore`: a page on loopback to look at a log: click what stands out, drag over time, read the records.

The link that is printed holds a token: whoever has it sees the log, as long as the command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import webbrowser

from nflowlevel.cli.arguments import whole
from nflowlevel.cli.logfiles import add_files, opened


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_files(parser)
    parser.add_argument("--port", type=whole(0, 0xFFFF), default=0, metavar="N", help="port of 127.0.0.1; 0: any")
    parser.add_argument("--no-browser", action="store_true", help="print the link, and open no browser")
    parser.add_argument("--all", action="store_true", help="begin with the whole log, not with its last 24 hours")


def run(options: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    from nflowlevel.analytics.explore import DAY_SECS, Page

    log = opened(options)
    page = Page(log, options.port)
    stop = threading.Event()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        link = page.url
        newest = log.newest
        if newest is not None and not options.all:
            end = newest // 10**6 + 1
            link += f"#from={end - DAY_SECS}&to={end}"
        print(link, flush=True)
        print("explore: open the link in a browser on this machine; stop with Ctrl-C", file=sys.stderr)
        if not options.no_browser:
            with contextlib.suppress(webbrowser.Error):
                webbrowser.open(link)
        stop.wait()
    finally:
        page.close()
    return 0
