# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines reach their receiver whole and in order, some perhaps twice, or are counted: whatever the receiver does."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel import link, peer
from nflowlevel.errors import OutputError
from nflowlevel.logs import NOTICE, Limited
from nflowlevel.peer import Peer
from nflowlevel.stats import OutputStats
from tests.fix_lines import PATIENCE, check, lines, no_descriptor_left, wait_for
from tests.fix_netns import Netns
from tests.fix_receiver import Receiver

STREAMS = ["tcp", "tcp6", "unix"]
KINDS = [*STREAMS, "udp", "udp6"]

Make = Callable[..., Peer]
Receive = Callable[..., Receiver]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_PAUSE_SECS", (0.01, 0.1))


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Receive]:
    receivers = []

    def started(kind: str, **options: Any) -> Receiver:
        receivers.append(Receiver(kind, tmp_path, **options))
        return receivers[-1]

    yield started
    for each in receivers:
        each.stop()


@pytest.fixture
def make(receive: Receive) -> Iterator[Make]:
    """Return a function that opens peers; at the end they are closed and have to account for every record."""
    peers: list[Peer] = []

    def opened(**options: Any) -> Peer:
        peers.append(Peer(**{"stats": OutputStats(), "limited": Limited(), **options}))
        peers[-1].open()
        return peers[-1]

    threads = threading.active_count()
    with no_descriptor_left():
        yield opened
        for each in peers:
            check(each.stats)
            each.close(0.2)
            check(each.stats)
            assert each.stats.pending == 0
            assert each.deadline is None
        wait_for(lambda: threading.active_count() <= threads + len(receive.__closure__ or ()))
        for _ in peers:
            pass


class Writer:
    """Writes numbered lines."""

    def __init__(self, target: Peer, pad: int = 0) -> None:
        self.target, self.pad, self.next = target, pad, 1

    def __call__(self, count: int) -> None:
        self.target.write(lines(self.next, count, self.pad), count)
        self.next += count
        check(self.target.stats)

    @property
    def all(self) -> set[int]:
        """The numbers of all lines written."""
        return set(range(1, self.next))

    def wait_until_written(self) -> None:
        """Wait until every line written is known to have arrived."""
        stats = self.target.stats
        wait_for(lambda: stats.written == stats.records, [stats])
