# SPDX-License-Identifier: GPL-2.0-or-later
"""How many packets of a capture file are read in a second of processor time? Beside dpkt and scapy.

All read pcap files of the same Ethernet frames (UDP, 64 bytes of payload) from the page cache, and look at source
address and destination port of each packet. Slow ones get a shorter file; the figure is per packet.
"""

from __future__ import annotations

import functools
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.netns import Field
from bench.peers import peer_python
from bench.programs import HERE
from bench.scale import Scale

#: Label → way of file_reader.py, and what part of the packets it reads.
_OURS = {
    "nflowlevel, columns": ("columns", 1),
    "nflowlevel, rows": ("rows", 1),
    "nflowlevel, packets": ("packets", 1),
}
_PEERS = {"dpkt": ("dpkt", 10), "scapy": ("scapy", 100)}
_TARGET_PER_SEC = 2_000_000
_PATIENCE_SECS = 300


@dataclass(frozen=True)
class Reading:
    """One reading of a file."""

    contender: str
    packets: int
    cpu_secs: float

    @property
    def per_sec(self) -> float:
        """Packets per second of processor time."""
        return self.packets / self.cpu_secs


def ask(_field: Field, scale: Scale) -> Answer:
    """Measure the readers."""
    answer = Answer("captures")
    with tempfile.TemporaryDirectory(prefix="nflbench-") as name:
        contenders = {label: _contender(Path(name), label, sys.executable, *how, scale) for label, how in _OURS.items()}
        for label, how in _PEERS.items():
            if not scale.peers:
                answer.failed[label] = "left out of this run"
                continue
            try:
                contenders[label] = _contender(Path(name), label, peer_python(how[0]), *how, scale)
            except (RuntimeError, OSError) as error:
                answer.failed[label] = str(error)
        runs = take_turns(answer, scale.rounds, contenders)
    answer.runs = [run for made in runs.values() for run in made]
    speeds = {label: [run.per_sec for run in made] for label, made in runs.items()}
    for label in _OURS:
        fast = label == "nflowlevel, columns"
        answer.rows.append(
            Row(
                f"capture file, {label}: packets/s",
                _speed(speeds.get(label, [])),
                target=f"≥ {_TARGET_PER_SEC:,}" if fast else "-",
                reached=verdict(speeds.get(label, []), lambda speed: speed >= _TARGET_PER_SEC) if fast else None,
            )
        )
    ours = speeds.get("nflowlevel, rows", [])
    for label in _PEERS:
        theirs = speeds.get(label, [])
        answer.rows.append(
            Row(
                f"  {label}",
                _speed(ours),
                beside=_speed(theirs) if theirs else "did not run",
                ratio=times(ratios(ours, theirs)) if ours and theirs else "-",
            )
        )
    return answer


def _speed(values: list[float]) -> str:
    return median_spread((value / 1e6 for value in values), ".3f", " M")


def _contender(directory: Path, label: str, python: str, way: str, part: int, scale: Scale) -> Callable[[], Reading]:
    # So many that what opening and the first batch cost is not to be seen.
    path = _file(directory, 10 * scale.count // part or 1)
    return functools.partial(_read, label, python, way, path)


def _read(label: str, python: str, way: str, path: Path) -> Reading:
    script = ["-m", "bench.file_reader"] if python == sys.executable else [str(HERE / "file_reader.py")]
    done = subprocess.run(
        [python, *script, way, str(path)], capture_output=True, text=True, timeout=_PATIENCE_SECS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr[-300:]}")
    answer = json.loads(done.stdout)
    return Reading(label, answer["packets"], answer["secs"])


def _file(directory: Path, count: int) -> Path:
    """Make a capture of that many packets."""
    path = directory / f"{count}.pcap"
    if path.exists():
        return path
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for number in range(count):
            source = 10 << 24 | number % (1 << 24)
            ip = struct.pack(">BBHHHBBHII", 0x45, 0, 92, 0, 0, 64, 17, 0, source, 10 << 24 | 1)
            udp = struct.pack(">HHHH", 40000, 1 + number % 60000, 72, 0) + bytes(64)
            frame = bytes(12) + b"\x08\x00" + ip + udp
            file.write(struct.pack("=IIII", 1_795_000_000, number % 10**6, len(frame), len(frame)) + frame)
    return path


if __name__ == "__main__":
    raise SystemExit(main({"captures": ask}))
