# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of open groups share: a rule that logs and counts, and reading as many packets as were sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nflowlevel
from nflowlevel import Batch, Group
from tests.fix_netns import Netns, Pair

_ROOT = Path(nflowlevel.__file__).parent.parent


def log_udp(pair: Pair, statement: str = 'log prefix "pfx: " group 2') -> None:
    """Log what comes to UDP port 9 of `fw`; the counter `c` counts the same packets."""
    pair.fw.nft(
        f"""table inet t {{
            counter c {{ }}
            chain input {{
                type filter hook input priority 0
                udp dport 9 counter name c {statement}
            }}
        }}"""
    )


def collect(group: Group, count: int, timeout: float = 10) -> list[Batch]:
    """Read until `count` packets have come; fail when none comes for `timeout` seconds, or when there are more."""
    batches: list[Batch] = []
    total = 0
    source = group.batches(timeout=timeout)
    while total < count:
        batch = next(source)
        assert batch, f"{total} of {count} packets came"
        batches.append(batch)
        total += len(batch)
    assert total == count
    return batches


def packets_in(batches: list[Batch] | Iterator[Batch]) -> int:
    """Return how many packets these batches have."""
    return sum(map(len, batches))


def run_python(code: str, *before: str, netns: Netns | None = None, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, behind the words `before` (setpriv, unshare), perhaps in a namespace."""
    words = [*before, sys.executable, "-c", code]
    return subprocess.run(
        netns.command(*words) if netns else words,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        timeout=30,
        check=False,
        **kwargs,
    )


def start_python(code: str) -> subprocess.Popen[str]:
    """Start Python code in a process of its own, with pipes to its input and output."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
