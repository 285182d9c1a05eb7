# SPDX-License-Identifier: GPL-2.0-or-later
"""The outage matrix for a sink that is no database: the real daemon, real packets, and a server that suffers.

With and without a ledger. In each case: rows in the journal + rows in the dead-letter file = packets the rule logged.
With a ledger none comes twice; without one only what was on its way when a connection broke may.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_daemon import Daemon, Flood, config, wait_for
from tests.fix_netns import Pair
from tests.fix_outage import RATE, arrived, buried, logging, outage, spooled_at_kill
from tests.fix_sink import JournalServer

__all__ = ["logging"]

_ROOT = Path(__file__).parents[2]


class Journal:
    """The server, and how the daemon gets there."""

    def __init__(self, server: JournalServer, directory: Path, *, ledger: bool) -> None:
        self.server, self.directory, self.has_ledger = server, directory, ledger
        self.spool = directory / "spool"
        # Installed, as a package of a third party is.
        announced = directory / "packages" / "journal-1.dist-info"
        announced.mkdir(parents=True)
        (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: journal\nVersion: 1\n")
        (announced / "entry_points.txt").write_text("[nflowlevel.plugins]\nJOURNAL = tests.fix_sink:JOURNAL\n")

    def daemon(self, pair: Pair, *lines: str) -> Daemon:
        """Return a daemon that logs group 1 into the journal."""
        source = f"group=1\nseq_local=1\nnetwork_namespace_path={pair.fw.path}"
        ledger = f"ledger={int(self.has_ledger)}"
        section = "\n".join([f"socket={self.server.address}", ledger, f"spool_directory={self.spool}", *lines])
        path = f"{_ROOT}:{self.directory / 'packages'}"
        text = config("n:NFLOG,b:BASE,d:JOURNAL", n=source, d=section)
        return Daemon(self.directory, text, environment={"PYTHONPATH": path})

    def stored(self) -> list[int]:
        return [row["n"] for row in self.server.rows()]

    def count(self) -> int:
        return len(self.stored())

    def buried(self) -> list[int]:
        return buried(self.spool, "n")

    def await_all(self, pair: Pair, daemon: Daemon, *, in_doubt: bool = True) -> int:
        """Wait until every packet the rule logged is in the journal or the file; each is there once.

        `in_doubt`: a connection broke, so that without a ledger some rows may be there twice.
        """
        logged = pair.fw.counter("c")
        wait_for(
            lambda: len({*self.stored(), *self.buried()}) >= logged,
            f"{logged} rows",
            lambda: f"{len(self.stored())} rows\n{daemon.stderr[-2000:]}",
        )
        stored, buried = self.stored(), self.buried()
        if in_doubt and not self.has_ledger:
            stored = list(dict.fromkeys(stored))
        assert stored == sorted(stored), "in the order in which they came"
        assert sorted([*stored, *buried]) == list(range(logged))
        return logged


@pytest.fixture(params=["ledger", "no ledger"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    with JournalServer(tmp_path) as server:
        yield Journal(server, tmp_path, ledger=request.param == "ledger")


with_ledger = pytest.mark.parametrize("journal", ["ledger"], indirect=True)


@with_ledger
@pytest.mark.parametrize("hup", [False, True], ids=["", "and SIGHUP"])
@pytest.mark.parametrize("how", ["removed", "moved"])
def test_the_dead_letter_file_goes_while_it_is_in_use(journal: Journal, logging: Pair, how: str, hup: bool) -> None:
    path = journal.spool / "d" / "refused.jsonl"
    with journal.daemon(logging, "refuse=10") as daemon:
        logging.send_udp(50)
        wait_for(lambda: len(journal.buried()) == 5, "5 refused rows", lambda: daemon.stderr)
        wait_for(lambda: len(journal.stored()) == 45, "45 rows", lambda: daemon.stderr)
        if how == "removed":
            path.unlink()
        else:
            path.rename(journal.directory / "old.jsonl")
        if hup:
            daemon.reload()
        logging.send_udp(50)
        wait_for(lambda: journal.buried() == [57, 67, 77, 87, 97], "a new file", lambda: daemon.stderr)
        wait_for(lambda: len(journal.stored()) == 90, "90 rows", lambda: daemon.stderr)
    assert "refused 10" in daemon.stderr
    if how == "moved":
        assert (journal.directory / "old.jsonl").read_text().count("\n") == 5


def test_undisturbed(journal: Journal, logging: Pair) -> None:
    with journal.daemon(logging) as daemon:
        logging.send_udp(4999)
        assert journal.await_all(logging, daemon, in_doubt=False) == 4999


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_is_stopped_and_started(journal: Journal, logging: Pair, how: signal.Signals) -> None:
    with journal.daemon(logging) as daemon:
        with Flood(logging, RATE) as flood:
            for _ in range(3):
                arrived(journal, flood.sent)
                journal.server.stop(how)
                outage(flood)
                journal.server.start()
                arrived(journal, flood.sent)
        journal.await_all(logging, daemon)


def test_it_hangs_and_goes_on(journal: Journal, logging: Pair) -> None:
    with journal.daemon(logging) as daemon:
        with Flood(logging, RATE) as flood:
            arrived(journal, 1000)
            journal.server.pause()
            outage(flood)
            journal.server.resume()
            arrived(journal, flood.sent)
        journal.await_all(logging, daemon, in_doubt=False)


def test_it_hangs_for_longer_than_a_write_may_take(journal: Journal, logging: Pair) -> None:
    with journal.daemon(logging, "timeout=1", "connect_timeout=1") as daemon:
        with Flood(logging, RATE) as flood:
            arrived(journal, 1000)
            journal.server.pause()
            daemon.says("rows waiting")
            outage(flood)
            journal.server.resume()
            arrived(journal, flood.sent)
        journal.await_all(logging, daemon)


def test_it_is_down_at_the_start(journal: Journal, logging: Pair) -> None:
    journal.server.stop()
    with journal.daemon(logging, "ring_buffer_size=500") as daemon:
        daemon.says("rows waiting")
        logging.send_udp(2003)
        daemon.reload()
        logging.send_udp(1009)
        wait_for(lambda: logging.fw.counter("c") == 3012, "packets")
        journal.server.start()
        # Without another packet.
        assert journal.await_all(logging, daemon, in_doubt=False) == 3012


def test_rows_that_are_refused(journal: Journal, logging: Pair) -> None:
    with journal.daemon(logging, "refuse=1009") as daemon:
        logging.send_udp(20_011)
        logged = journal.await_all(logging, daemon, in_doubt=False)
        assert journal.buried() == list(range(7, logged, 1009))
        daemon.says("refused a row")


def test_rows_that_are_refused_while_it_is_restarted(journal: Journal, logging: Pair) -> None:
    with journal.daemon(logging, "refuse=101") as daemon:
        with Flood(logging, RATE) as flood:
            for _ in range(5):
                arrived(journal, flood.sent // 2)
                journal.server.stop()
                journal.server.start()
        logged = journal.await_all(logging, daemon)
        assert sorted(journal.buried()) == list(range(7, logged, 101))


def test_stopped_with_a_full_ring(journal: Journal, logging: Pair) -> None:
    with journal.daemon(logging) as daemon:
        journal.server.pause()
        logging.send_udp(30_011)
        wait_for(lambda: logging.fw.counter("c") == 30_011, "packets")
        daemon.stop()
        assert "pending 30011" in daemon.stderr or "spooled" in daemon.stderr
    journal.server.resume()
    with journal.daemon(logging) as daemon:
        journal.await_all(logging, daemon)


def test_killed_with_a_spool(journal: Journal, logging: Pair, tmp_path: Path) -> None:
    journal.server.stop()
    with journal.daemon(logging, "ring_buffer_size=100") as daemon:
        spooled = spooled_at_kill(logging, daemon, journal.spool, tmp_path)
    journal.server.start()
    with journal.daemon(logging, "ring_buffer_size=100"):
        arrived(journal, spooled)
    stored = journal.stored()
    assert stored == list(range(stored[0], stored[0] + spooled)), "nothing of the spool is missing, or comes twice"


@with_ledger
def test_killed_while_it_writes(journal: Journal, logging: Pair) -> None:
    with journal.daemon(logging) as daemon, Flood(logging, 4 * RATE):
        arrived(journal, 5000)
        daemon.send(signal.SIGKILL)
        daemon.wait()
    before = len(journal.stored())
    with journal.daemon(logging) as daemon:
        logging.send_udp(997)
        arrived(journal, before + 997)
    # The kernel begins a new group at 0: so does what the second daemon logged, behind what the first one did.
    stored = journal.stored()
    second = stored.index(0, 1)
    assert stored[:second] == list(range(second))
    assert stored[second:] == list(range(len(stored) - second))
