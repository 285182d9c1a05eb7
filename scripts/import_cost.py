# SPDX-License-Identifier: GPL-2.0-or-later
"""What importing a module costs in time and memory, over a bare Python: `scripts/import_cost.py pyroute2 msgspec`.

Each figure is the median of fresh interpreters, so that nothing is shared and one slow start does not count.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

ROUNDS = 11

_PROGRAM = """
import resource, time
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
import {module}
secs = time.perf_counter() - start
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print([secs * 1e3, grown / 1024])
"""


def main() -> int:
    """Print a line for each module named."""
    for module in sys.argv[1:]:
        runs = [measure(module) for _ in range(ROUNDS)]
        millis, mebibytes = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{module}: {millis:.1f} ms, {mebibytes:.1f} MiB (median of {ROUNDS})")
    return 0


def measure(module: str) -> list[float]:
    """Import a module in a fresh interpreter; return milliseconds and MiB."""
    command = [sys.executable, "-c", _PROGRAM.format(module=module)]
    answer: list[float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return answer


if __name__ == "__main__":
    sys.exit(main())
