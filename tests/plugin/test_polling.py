# SPDX-License-Identifier: GPL-2.0-or-later
"""When an input polls: the grid holds, what was missed is told, a poll out of turn changes neither; its life."""

from __future__ import annotations

from typing import Any

import pytest

from nflowlevel.errors import KernelError
from nflowlevel.inputs.nfacct import NFACCT
from nflowlevel.inputs.nftcounter import NFTCOUNTER
from nflowlevel.options import describe
from nflowlevel.plugin import polling
from nflowlevel.plugin.contract import check_plugin
from nflowlevel.plugin.polling import PollingInput, PollingOptions, PollingStats, Schedule, ZeroCounter
from nflowlevel.records.batch import Batch
from nflowlevel.stats import counter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(polling, "time", made)
    return made


@pytest.fixture
def every_10(clock: Clock) -> Schedule:
    made = Schedule(10)
    made.start()
    return made


def test_the_first_poll_is_due_after_one_interval(every_10: Schedule, clock: Clock) -> None:
    assert every_10.deadline == 110
    clock.now = 109.999
    assert every_10.due() is None
    clock.now = 110
    assert every_10.due() == 0
    assert every_10.deadline == 120
    assert every_10.due() is None


def test_a_late_poll_keeps_the_grid(every_10: Schedule, clock: Clock) -> None:
    clock.now = 113
    assert (every_10.due(), every_10.deadline) == (0, 120)


@pytest.mark.parametrize(("now", "missed", "following"), [(119.9, 0, 120), (120, 1, 130), (155, 4, 160)])
def test_missed_polls_are_told(every_10: Schedule, clock: Clock, now: float, missed: int, following: float) -> None:
    clock.now = now
    assert (every_10.due(), every_10.deadline) == (missed, following)


def test_a_poll_out_of_turn(every_10: Schedule, clock: Clock) -> None:
    clock.now = 103
    every_10.ask()
    assert every_10.deadline == 0
    assert every_10.due() == 0
    assert (every_10.deadline, every_10.due()) == (110, None)


def test_asked_when_one_is_due_is_one_poll(every_10: Schedule, clock: Clock) -> None:
    clock.now = 110
    every_10.ask()
    assert (every_10.due(), every_10.due()) == (0, None)


def test_starting_again_forgets_what_was_asked(every_10: Schedule, clock: Clock) -> None:
    every_10.ask()
    clock.now = 200
    every_10.start()
    assert (every_10.deadline, every_10.due()) == (210, None)


# -- the input --------------------------------------------------------------------------------------------------------


class BeatOptions(PollingOptions, frozen=True, kw_only=True):
    zerocounter: ZeroCounter = True


class BeatStats(PollingStats):
    beats = counter("beats", "Beats.")


class Beat(PollingInput[BeatOptions]):
    """BEAT: counts its polls."""

    name = "BEAT"
    Options = BeatOptions
    Stats = BeatStats

    def __init__(self, **options: Any) -> None:
        super().__init__("beat", BeatOptions(**{"pollinterval": 10, **options}))
        self.calls: list[str] = []
        self.error: Exception | None = None

    def start(self) -> None:
        self.calls.append("start")
        self._fail()

    def poll(self) -> Batch:
        self.calls.append("poll")
        self._fail()
        return Batch.of_columns({"sum.name": ["a", "b"]}, time=(0, None))

    def _fail(self) -> None:
        if self.error:
            raise self.error

    def close(self, timeout: float = 1.0) -> None:
        self.calls.append("close")


def test_a_subclass_is_a_plugin_with_two_methods_of_its_own() -> None:
    check_plugin(Beat)
    assert PollingInput.__abstractmethods__ == {"start", "poll"}


def test_options_and_counters_are_declared_once() -> None:
    assert set(BeatOptions.__annotations__) == {"zerocounter"}
    for plugin in (NFACCT, NFTCOUNTER):
        assert set(plugin.Options.__annotations__) == {"zerocounter"}
        assert issubclass(plugin.Stats, PollingStats)
    shared = {option.name for option in describe(PollingOptions)}
    assert shared == {"pollinterval", "zerocounter", "timestamp", "network_namespace_path"}
    assert {option.name: option.mandatory for option in describe(PollingOptions)}["zerocounter"]


def test_it_polls_when_it_is_time(clock: Clock) -> None:
    beat = Beat()
    beat.open()
    assert (beat.fileno(), beat.deadline) == (-1, 110)
    assert len(beat.receive()) == 0
    beat.poll_now()
    assert beat.deadline == 0
    assert len(beat.receive()) == 2
    clock.now = 145
    assert len(beat.receive()) == 2
    assert beat.deadline == 150
    assert beat.calls == ["close", "start", "poll", "poll"]
    assert isinstance(beat.stats, BeatStats)
    assert beat.stats.as_dict() == {"received": 4, "polls": 2, "missed": 3, "errors": 0, "beats": 0}
    assert not list(beat.drain())


def test_a_poll_that_fails_is_counted_and_made_at_the_next_time(clock: Clock) -> None:
    beat = Beat()
    beat.open()
    clock.now = 110
    beat.error = KernelError("read", 1)
    with pytest.raises(KernelError):
        beat.receive()
    assert beat.deadline == 120
    assert beat.stats.as_dict() == {"received": 0, "polls": 0, "missed": 0, "errors": 1, "beats": 0}


def test_what_cannot_be_started_is_closed() -> None:
    beat = Beat()
    beat.error = KernelError("read", 1)
    with pytest.raises(KernelError):
        beat.open()
    assert beat.calls == ["close", "start", "close"]


def test_what_outputs_ask_an_input() -> None:
    assert Beat().deltas
    assert not Beat(zerocounter=False).deltas
    assert Beat().netns is None
    assert Beat(network_namespace_path="blue").netns == "blue"


@pytest.mark.parametrize("asked", [False, True])
def test_the_time_is_published_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    monkeypatch.setattr(Beat, "name", "NFACCT")
    names = [key.name for key in Beat(timestamp=asked).published()]
    assert ("oob.time.sec" in names, "oob.time.usec" in names, "sum.pkts" in names) == (asked, asked, True)
