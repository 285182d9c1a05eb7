# SPDX-License-Identifier: GPL-2.0-or-later
"""The C programs of the benchmarks: built when their source is newer, into `build/bench`."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path

from bench.netns import FW, PORT, Field

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
_LIBRARIES = {
    "flood": (),
    "inject": (),
    "floor": ("-lmnl", "-lnetfilter_log"),
    "flow_flood": (),
    "floor_flows": (),
    "flow_floor": ("-lmnl",),
}


@functools.cache
def program(name: str) -> str:
    """Return the path of a program, built."""
    source, target = HERE / f"{name}.c", BUILD / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        flags = ("-O2", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["cc", *flags, "-o", str(target), str(source), *_LIBRARIES[name]], check=True)
    return str(target)


def send(field: Field, count: int, rate: int) -> float:
    """Send `count` packets at `rate` a second (0: as fast as possible); return the rate reached.

    The sender keeps to the first CPU: the kernel's work of receiving and logging is done where the packet is sent, and
    would be charged to the contender if it happened on its CPU.
    """
    command = [program("flood"), str(count), str(rate), FW, str(PORT)]
    with field.peer.enter():
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
    output, _ = child.communicate(timeout=150)
    answer = json.loads(output)
    if child.returncode:
        raise RuntimeError(f"sent only {answer['sent']} of {count} packets")
    return float(answer["sent"] / answer["seconds"])
