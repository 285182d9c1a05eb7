# SPDX-License-Identifier: GPL-2.0-or-later
"""A short run of `make fuzz`: the C part under the sanitizers survives mutated messages, the spool changed files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run")
COUNT = 20_000


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(RUN), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
        check=False,
        timeout=100,
    )


@pytest.mark.skipif(not shutil.which(os.environ.get("CC", "gcc")), reason="the C compiler is missing")
def test_mutated_messages() -> None:
    done = run(str(COUNT))
    assert done.returncode == 0, done.stdout + done.stderr
    line = re.fullmatch(
        r"(\d+) mutated messages, (\d+) records, (\d+) bytes of lines, [\d.]+ seconds\n"
        r"(\d+) mutated captures, (\d+) records, (\d+) written again, [\d.]+ seconds\n"
        r"(\d+) mutated reports, (\d+) records, [\d.]+ seconds\n"
        r"(\d+) batches for IPFIX, (\d+) records, (\d+) messages, [\d.]+ seconds\n"
        r"(\d+) mutated messages of flows, (\d+) flows, (\d+) reported, [\d.]+ seconds\n"
        r"(\d+) mutated messages of conntrack, (\d+) flows, [\d.]+ seconds\n"
        r"(\d+) mutated blocks of lines, (\d+) rows, (\d+) handed back, [\d.]+ seconds\n"
        r"(\d+) mutated blocks of log lines, (\d+) packets, (\d+) handed back, [\d.]+ seconds\n"
        r"(\d+) mutated inputs of the receiver, [\d.]+ seconds\n"
        r"(?:\d+ inputs of the receiver, by libFuzzer\n)?"
        r"(\d+) changed spools, (\d+) rows, [\d.]+ seconds\n",
        done.stdout,
    )
    assert line, done.stdout
    numbers = map(int, line.groups())
    messages, records, size, files, packets, written, reports, reported, batches, flows, sent, *rest = numbers
    events, known, ended, conntrack, told, blocks, plain, odd, logs, logged, left, inputs, spools, rows = rest
    assert COUNT <= messages < COUNT + 3, "a datagram has up to three messages"
    assert records > COUNT // 3, "most mutations are refused at once: they test nothing"
    assert size > 100 * records
    assert files == COUNT // 2
    assert packets > files, "most captures are refused at once: they test nothing"
    assert written > packets // 2, "most packets are not written again: the writer is not tested"
    assert reports == COUNT // 2
    assert reported > reports // 2, "most reports are refused at once: they test nothing"
    assert batches == COUNT // 4
    assert flows > 10 * batches, "most batches are refused at once: they test nothing"
    assert sent > batches
    assert events == COUNT
    assert known > COUNT // 5, "most messages of flows are refused at once: they test nothing"
    assert ended > known // 3, "the table reports nothing"
    assert conntrack == COUNT // 2
    assert told > conntrack // 4, "most messages of conntrack are refused at once: they test nothing"
    assert blocks == COUNT // 4
    assert plain > blocks, "most lines are handed back: they test nothing"
    assert odd > blocks // 4
    assert logs == COUNT // 4
    assert logged > logs // 5, "most log lines are handed back: they test nothing"
    assert left > logs // 4
    assert inputs == COUNT // 4
    assert spools == COUNT // 100
    assert rows > 30 * spools, "most rows are set aside: they test nothing"


def test_a_count_is_a_number() -> None:
    assert run("many").returncode == 2
