# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of outputs with a spool, by an output that is no database: its life, its dead letters, its spool."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.errors import OutputError
from nflowlevel.records.batch import Batch
from tests.fix_lines import check, wait_for
from tests.fix_plugins import batch_of
from tests.fix_sink import JOURNAL, JOURNALOptions, JournalServer
from tests.oracle import build_message

Make = Callable[..., JOURNAL]


def packets(*numbers: int) -> Batch:
    return batch_of(*[build_message(b"", seq=number) for number in numbers])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JournalServer]:
    with JournalServer(tmp_path) as made:
        yield made


@pytest.fixture
def make(tmp_path: Path, server: JournalServer) -> Iterator[Make]:
    """Return a function that makes outputs; at the end they are closed and have to account for every record."""
    made: list[JOURNAL] = []

    def output(**options: Any) -> JOURNAL:
        given: dict[str, Any] = {
            "socket": server.address,
            "spool_directory": str(tmp_path / "spool"),
            "reconnect": 1,
            **options,
        }
        made.append(JOURNAL("j", JOURNALOptions(**given)))
        made[-1].bind(())
        return made[-1]

    yield output
    for each in made:
        each.close(0.0)
        stats = each.stats
        assert stats.records == stats.written + stats.pending + sum(stats.dropped.values())


def all_done(output: JOURNAL) -> None:
    wait_for(lambda: not output.stats.pending, [output.stats])


def numbers(server: JournalServer) -> list[int]:
    return [row["n"] for row in server.rows()]


def test_a_batch_becomes_rows(make: Make, server: JournalServer) -> None:
    output = make()
    assert output.state == "not opened yet"
    output.open()
    output.write(packets(1, 2, 3))
    output.write(packets(1, 2, 3).select([]))
    wait_for(lambda: output.stats.written == 3, [output.stats])
    assert numbers(server) == [1, 2, 3]
    assert output.state == f"connected to journal at {server.address}"
    check(output.stats)


def test_before_it_is_opened_and_after_it_is_closed_rows_are_dropped(make: Make, server: JournalServer) -> None:
    output = make()
    output.write(packets(1, 2))
    output.open()
    output.write(packets(3))
    output.close(5.0)
    output.close(5.0)
    output.write(packets(4))
    assert (output.stats.written, output.stats.dropped["stop"]) == (1, 3)
    assert output.state == f"closed journal at {server.address}"


def test_what_waits_comes_back_with_the_next_life(make: Make, server: JournalServer) -> None:
    server.stop()
    first = make()
    first.open()
    first.write(packets(*range(23)))
    wait_for(lambda: first.stats.errors)
    first.close(0.1)
    assert (first.stats.pending, first.stats.spooled) == (23, 23)
    server.start()
    for output in (first, make()):  # the same again, as after a stack that failed; and of another process
        output.open()
        output.write(packets(100))
        all_done(output)
        output.close(5.0)
        assert output.stats.records == output.stats.written
    assert numbers(server) == [*range(23), 100, 100]


def test_a_refused_row_is_a_dead_letter(make: Make, server: JournalServer, tmp_path: Path) -> None:
    for place in ("", str(tmp_path / "elsewhere.jsonl")):
        output = make(refuse=10, dead_letter_file=place)
        output.open()
        output.write(packets(*range(23)))
        all_done(output)
        output.close(5.0)
        assert output.stats.dropped["refused"] == 2
        letters = Path(place) if place else output.directory / "refused.jsonl"
        entries = [json.loads(line) for line in letters.read_text().splitlines()]
        assert [entry["values"]["n"] for entry in entries] == [7, 17]
        assert {(entry["into"], entry["code"]) for entry in entries} == {("journal.jsonl", "no")}
    assert numbers(server) == [n for n in range(23) if n % 10 != 7] * 2


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest"])
def test_without_a_spool_what_cannot_be_written_is_dropped(
    make: Make, server: JournalServer, tmp_path: Path, when_full: str
) -> None:
    server.stop()
    output = make(when_full=when_full, ring_buffer_size=5)
    output.open()
    output.write(packets(*range(7)))
    output.close(0.1)
    assert (output.stats.dropped["ring_full"], output.stats.dropped["stop"]) == (2, 5)
    assert not (tmp_path / "spool").exists()


def test_a_hung_connection_is_looked_for_while_rows_wait(make: Make, server: JournalServer) -> None:
    output = make(timeout=60)
    assert output.deadline is None
    output.open()
    wait_for(lambda: "connected" in output.state)
    assert output.deadline is None
    server.pause()
    output.write(packets(1))
    wait_for(lambda: output._writer is not None and output._writer.hung_at is not None)
    at = output.deadline
    assert at is not None
    assert at > time.monotonic() + 10, "the time allowed"
    output.retry()
    wait_for(lambda: output.stats.errors, [output.stats])
    server.resume()
    wait_for(lambda: output.stats.written == 1, [output.stats])
    assert numbers(server) == [1]


def test_reopen_connects_anew(make: Make, server: JournalServer) -> None:
    server.stop()
    output = make(reconnect=0)
    output.open()
    output.write(packets(1))
    wait_for(lambda: output.stats.errors)
    server.start()
    output.reopen()
    wait_for(lambda: output.stats.written == 1, [output.stats])


def test_the_spool_of_another_process(make: Make) -> None:
    make().open()
    with pytest.raises(OutputError, match=rf"process {os.getpid()} uses it"):
        make().open()


def test_all_that_it_makes_is_in_its_directory(make: Make) -> None:
    """That is given to the user that the daemon becomes; tests/binding/test_rootpath.py."""
    output = make()
    (directory,) = map(Path, output.directories())
    output.open()
    with contextlib.closing(output):
        output.write(packets(1))
        assert {path.parent for path in directory.parent.rglob("*") if path.is_file()} == {directory}
