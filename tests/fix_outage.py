# SPDX-License-Identifier: GPL-2.0-or-later
"""Outages: what the matrices of outages share, whatever kind of server suffers: packets, and what a spool has kept."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any, Protocol

import pytest

from nflowlevel.spool.spool import Spool
from tests.fix_daemon import Daemon, Flood, log_rule, wait_for
from tests.fix_netns import Pair

#: Packets/s of a flood.
RATE = 4000


class Place(Protocol):
    """Where rows go."""

    def count(self) -> int:
        """Return how many rows are in."""


@pytest.fixture
def logging(pair: Pair) -> Pair:
    """Packets from `peer` to port 9 of `fw` are counted and logged to group 1."""
    pair.fw.nft(log_rule(1))
    return pair


def arrived(place: Place, count: int) -> None:
    """Wait until so many rows are in."""
    wait_for(lambda: place.count() >= count, f"{count} rows")


def outage(flood: Flood) -> None:
    """Let packets come for some time."""
    until = flood.sent + 2 * RATE
    wait_for(lambda: flood.sent > until, "packets during the outage")


def buried(spool: Path, key: str) -> list[Any]:
    """Return the values of a key of the rows in the dead-letter file of output `d`."""
    path = spool / "d" / "refused.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["values"][key] for line in lines]


def spooled_at_kill(logging: Pair, daemon: Daemon, spool: Path, directory: Path) -> int:
    """Kill a daemon while its server is down and packets come; return how many rows the spool of output `d` has."""
    with Flood(logging, RATE) as flood:
        outage(flood)
        daemon.send(signal.SIGKILL)
        daemon.wait()
    # What it had acknowledged is what a spool opened on a copy says.
    shutil.copytree(spool / "d", directory / "copy")
    copy = Spool(directory / "copy", 1 << 30)
    copy.open()
    rows = copy.rows
    copy.close()
    assert rows > RATE
    return rows
