# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel prefilter counters`: each packet in one row and one column, once and as rates."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nflowlevel
from nflowlevel import cli
from nflowlevel.cli import prefilter_counters
from nflowlevel.prefilter.counters import PROTOCOLS, REASONS, Count, PrefilterCounters
from nflowlevel.prefilter.prefilter import Prefilter
from tests.fix_netns import Pair
from tests.fix_prefilter import needs_bpf
from tests.fix_program import bpffs
from tests.fix_terminal import read_to_the_end

__all__ = ["bpffs"]

pytestmark = [pytest.mark.kernel, needs_bpf]


class Watched:
    """A prefilter before the input of `fw`, and the command that shows it."""

    def __init__(self, pair: Pair, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.pair, self.bpffs, self._capsys = pair, bpffs, capsys
        self.pre = Prefilter(
            "ssh", bpffs=bpffs, protocols="udp", dports="9", global_rate=0.001, global_burst=23, top=True
        )
        self.pre.load().pin()
        self.pre.attach(group=7, netns=pair.fw.path)

    def words(self, *words: str) -> list[str]:
        return ["prefilter", "--bpffs", str(self.bpffs), "counters", "ssh", *words]

    def __call__(self, *words: str) -> str:
        assert cli.main(self.words(*words)) == 0
        output, errors = self._capsys.readouterr()
        assert not errors
        return output


@pytest.fixture
def watched(pair: Pair, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Watched]:
    made = Watched(pair, bpffs, capsys)
    yield made
    made.pre.close()


def counted(**numbers: int) -> PrefilterCounters:
    """Counters with so many UDP packets of 100 bytes by reason."""
    none = dict.fromkeys(PROTOCOLS, Count(0, 0))
    cells = {name: none | {"udp": Count(numbers.get(name, 0), 100 * numbers.get(name, 0))} for name in REASONS}
    return PrefilterCounters(cells)


def test_table() -> None:
    assert prefilter_counters.table(counted()) == [
        "decision  reason  packets  bytes",
        "seen                    0      0",
        "logged                  0      0",
    ]
    before, now = counted(rate=1), counted(logged=23, rate=11, port=4)
    assert prefilter_counters.table(now, prefilter_counters.rates(before, now, 2.0)) == [
        "decision      reason  packets  bytes  packets/s  udp",
        "seen                       38   3800         18   38",
        "logged                     23   2300         12   23",
        "rate limited  rate         11   1100          5   11",
        "filtered      port          4    400          2    4",
    ]


def test_counts_of_the_kernel(watched: Watched) -> None:
    watched.pair.send_udp(count=31)
    watched.pair.send_udp(count=11, port=19)
    rows = [line.split() for line in watched().splitlines() if line]
    of_udp = rows[0].index("udp") - len(rows[0])
    by_row = {tuple(row[:2]) if row[0] in ("rate", "filtered") else row[0]: row[of_udp] for row in rows}
    assert (by_row["seen"], by_row["logged"], by_row["rate", "limited"], by_row["filtered", "port"]) == (
        "42",
        "23",
        "8",
        "11",
    )
    assert ["10.77.0.2", "31", "1488"] in rows
    assert ["udp/9", "31"] in rows


def test_json(watched: Watched) -> None:
    watched.pair.send_udp(count=31)
    watched.pair.send_udp(count=11, port=19)
    shown = json.loads(watched("--json", "--largest", "1"))
    assert shown["name"] == "ssh"
    assert shown["seen"] == sum(shown[total] for total in ("logged", "filtered", "sampled_out", "rate_limited"))
    assert shown["reasons"]["global_rate"] == {"packets": 8, "bytes": 8 * 48}
    assert shown["protocols"]["udp"]["seen"] == {"packets": 42, "bytes": 42 * 48}
    assert shown["sources"] == [{"source": "10.77.0.2", "packets": 31, "bytes": 31 * 48}]
    assert shown["ports"] == [{"protocol": "udp", "port": 9, "packets": 31}]
    assert "packets_per_second" not in shown


def test_watch(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflowlevel.cli.terminal.time.sleep", lambda secs: watched.pair.send_udp(10))
    lines = [json.loads(line) for line in watched("--watch", "5", "-n", "3", "--json").splitlines()]
    assert [line["protocols"]["udp"]["seen"]["packets"] for line in lines] == [10, 20, 30]
    assert [line["logged"] for line in lines] == [10, 20, 23]
    for line in lines:
        assert line["packets_per_second"]["seen"] == pytest.approx(sum(_by_reason(line).values()))
    assert lines[0]["packets_per_second"]["logged"] > 10
    assert lines[2]["packets_per_second"]["global_rate"] > lines[2]["packets_per_second"]["logged"] > 0
    rounds = watched("-w", "0.1", "-n", "2").rstrip().split("\n\ndecision")
    assert len(rounds) == 2
    assert "packets/s" in rounds[0]


def _by_reason(line: dict[str, dict[str, float]]) -> dict[str, float]:
    return {reason: rate for reason, rate in line["packets_per_second"].items() if reason != "seen"}


def test_watch_on_a_terminal_stays_on_one_page(watched: Watched) -> None:
    watched.pair.send_udp(5)
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "nflowlevel", *watched.words("-w", "0.1", "-n", "1")]
    path = str(Path(nflowlevel.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path, "LINES": "4", "COLUMNS": "80"}
    child = subprocess.Popen(words, stdout=slave, stdin=slave, env=environment)
    os.close(slave)
    text = read_to_the_end(master)
    assert child.wait(20) == 0
    assert text.startswith(b"\x1b[H\x1b[2Jdecision")
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("secs", ["0", "nan", "-1", "soon"])
def test_an_interval_is_a_number_of_seconds(secs: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["prefilter", "counters", "ssh", f"--watch={secs}"])
