# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of an input that hands on a reader: opened, read, closed, opened again; what was counted stays."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from nflowlevel.inputs.nfacct import NFACCT
from nflowlevel.inputs.nfct import NFCT
from nflowlevel.inputs.nflog import NFLOG
from nflowlevel.inputs.nftcounter import NFTCOUNTER
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.plugin.kernel import KernelInput, ReaderInput, buffers
from nflowlevel.records.batch import Batch
from nflowlevel.stats import GroupStats
from tests.fix_netns import Netns


class Pipe:
    """A reader whose batches tell in which order it was asked."""

    more, pause = True, 0.25

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.stats = GroupStats()
        self.closed = 0

    def fileno(self) -> int:
        return self.read

    def receive(self) -> Batch:
        self.stats.received += 1
        return Batch(None, 0)

    def drain(self) -> Iterator[Batch]:
        yield self.receive()

    def close(self) -> None:
        self.closed += 1
        # What is found only at the end.
        self.stats.gap += 5
        os.close(self.read)
        os.close(self.write)


class Sample(ReaderInput[NoOptions, Pipe, GroupStats]):
    """An input of pipes."""

    name = "NFLOG"
    provides = "raw"
    Stats = GroupStats

    def __init__(self, netns: str = "") -> None:
        super().__init__("s", NoOptions(), netns)

    def start(self) -> Pipe:
        return Pipe()


def test_what_a_reader_gives_is_handed_on() -> None:
    sample = Sample()
    with pytest.raises(AssertionError, match=r"NFLOG is used before open\(\)"):
        sample.receive()
    sample.open()
    assert sample.fileno() == sample.reader.read
    assert (sample.more, sample.pause, sample.place) == (True, 0.25, None)
    assert sample.receive() is not None
    assert len(list(sample.drain())) == 1
    assert sample.stats.received == sample.reader.stats.received == 2
    sample.close()


def test_the_counters_are_those_of_all_readers() -> None:
    sample = Sample()
    for number in (1, 2):
        sample.open()
        reader = sample.reader
        sample.receive()
        assert sample.stats.received == number
        sample.close()
        sample.close()
        assert reader.closed == 1
        assert (sample.stats.received, sample.stats.gap) == (number, 5 * number)


def test_an_input_has_to_say_what_it_counts() -> None:
    """Counters that declare nothing would take each count, and show none."""

    class Silent(ReaderInput[NoOptions, Pipe, GroupStats]):
        name = "NFLOG"
        provides = "raw"

        def start(self) -> Pipe:
            return Pipe()

    with pytest.raises(AttributeError, match="Stats"):
        Silent("s", NoOptions(), "")


@pytest.mark.parametrize(
    ("size", "most", "is_"),
    [
        (0, 0, (64 << 20, 256 << 20)),
        (1 << 20, 0, (1 << 20, 256 << 20)),
        (512 << 20, 0, (512 << 20, 512 << 20)),
        (0, 1 << 20, (64 << 20, 1 << 20)),
        (5, 7, (5, 7)),
    ],
)
def test_socket_buffers(size: int, most: int, is_: tuple[int, int]) -> None:
    assert buffers(size, most) == is_


@pytest.mark.parametrize("plugin", [NFLOG, NFCT, NFACCT, NFTCOUNTER])
def test_who_reads_the_kernel(plugin: type[KernelInput[NoOptions]]) -> None:
    assert issubclass(plugin, KernelInput)
    assert plugin.for_root


def test_a_namespace_that_is_missing_is_needed(netns: Netns) -> None:
    assert [*Sample().needs(), *Sample(netns.name).needs()] == []
    (found,) = Sample("nfltest-none").needs()
    assert "there is no network namespace" in found.text
