# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPU time does a flow cost from NFCT to a message of IPFIX over UDP?

nflowlevel and ulogd2 read the same configuration, without hash: each end of a flow is a record. nflowlevel sends all it
knows of a flow, ulogd2 its ten fields; `format=ulogd2` makes nflowlevel send these, too. The floor receives the same
events in C and sends as many bytes. 50,000 flows a second end, after 1,000 others.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.contenders import daemon, plugin_files, ulogd2_missing
from bench.made_flows import prepare, send_flows
from bench.netns import Field
from bench.programs import program
from bench.running import spawn
from bench.scale import Scale

_RATE = 50_000
_WARM_UP = 1_000
_TARGET, _FLOOR_TARGET = 0.5, 1.6
_OURS, _SAME, _ULOGD2, _FLOOR = "nflowlevel", "nflowlevel, format=ulogd2", "ulogd2", "floor: receive and send"
_START_SECS, _QUIET_SECS, _DRAIN_SECS = 15.0, 1.5, 60.0
_CPUCLOCK_SCHED = 2
_MESSAGE_BYTES = 1400


@dataclass(frozen=True)
class Run:
    """One contender, one round."""

    contender: str
    flows: int
    records: int
    cpu_us: float
    sent_rate: float
    bytes: int
    messages: int


class _Collector:
    """Takes datagrams in a thread, and counts the records in them."""

    def __init__(self, field: Field) -> None:
        with field.fw.enter():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.port: int = self._socket.getsockname()[1]
        self.datagrams: list[bytes] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                self.datagrams.append(self._socket.recv(65536))

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        self._socket.close()


def records_of(datagrams: list[bytes]) -> int:
    """Return how many data records there are in messages whose records have a fixed length."""
    sizes: dict[int, int] = {}
    count = 0
    for message in datagrams:
        at = 16
        while at < len(message):
            set_id, length = struct.unpack_from("!HH", message, at)
            if set_id == 2:
                sizes |= _sizes(message[at + 4 : at + length])
            else:
                count += (length - 4) // sizes[set_id]
            at += length
    return count


def _sizes(templates: bytes) -> dict[int, int]:
    sizes, at = {}, 0
    while at < len(templates):
        number, fields = struct.unpack_from("!HH", templates, at)
        at += 4
        sizes[number] = 0
        for _ in range(fields):
            element, size = struct.unpack_from("!HH", templates, at)
            sizes[number] += size
            at += 8 if element & 0x8000 else 4
    return sizes


def _command(name: str, directory: Path, port: int, record_bytes: float) -> list[str]:
    if name == _FLOOR:
        return [program("floor_flows"), str(port), str(round(record_bytes)), str(_MESSAGE_BYTES)]
    theirs = name == _ULOGD2
    files = plugin_files(("inpflow_NFCT", "output_IPFIX"))
    text = f'[global]\nlogfile="{directory}/daemon.log"\nloglevel=5\n'
    text += "".join(f'plugin="{path}"\n' for path in files)
    text += "stack=ct1:NFCT,ipfix1:IPFIX\n[ct1]\nhash_enable=0\nevent_mask=4\n"
    text += "netlink_socket_buffer_size=67108864\nnetlink_socket_buffer_maxsize=134217728\n"
    text += f"[ipfix1]\noid=1\nhost=127.0.0.1\nport={port}\nproto=udp\nsend_template=once\n"
    if not theirs:
        text += f"spool_directory={directory}/spool\n"
    if name == _SAME:
        text += "format=ulogd2\n"
    file = directory / "ulogd.conf"
    file.write_text(text)
    return [*daemon(_ULOGD2 if theirs else _OURS), "-c", str(file)]


def _waiting(pid: int) -> int:
    """Return the bytes in the process's sockets for conntrack's events, -1 while it has none."""
    found = -1
    for line in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]:
        fields = line.split()
        # Groups of conntrack: new, update, destroy.
        if fields[1] == "12" and int(fields[3], 16) & 7:
            found = max(found, 0) + int(fields[4])
    return found


@contextlib.contextmanager
def _running(field: Field, command: list[str]) -> Iterator[int]:
    child = spawn(field, command)
    os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
    try:
        deadline = time.monotonic() + _START_SECS
        while _waiting(child.pid) < 0:
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {child.communicate()[0] if child.poll() else ''}")
            time.sleep(0.05)
        time.sleep(0.5)
        yield child.pid
    finally:
        child.terminate()
        child.communicate(timeout=60)


def _drain(pid: int) -> None:
    quiet_since = time.monotonic()
    give_up = quiet_since + _DRAIN_SECS
    while time.monotonic() - quiet_since < _QUIET_SECS:
        if _waiting(pid):
            quiet_since = time.monotonic()
        if time.monotonic() > give_up:
            raise RuntimeError("the contender did not drain its socket")
        time.sleep(0.02)


def _measure(field: Field, name: str, count: int, record_bytes: float = 0) -> Run:
    collector = _Collector(field)
    try:
        with tempfile.TemporaryDirectory(prefix="nflbench-") as directory:
            command = _command(name, Path(directory), collector.port, record_bytes)
            with _running(field, command) as pid:
                clock = ~pid << 3 | _CPUCLOCK_SCHED
                send_flows(field, _WARM_UP, _RATE)
                _drain(pid)
                before = time.clock_gettime_ns(clock)
                rate = send_flows(field, count, _RATE)
                _drain(pid)
                spent = time.clock_gettime_ns(clock) - before
            time.sleep(0.5)
    finally:
        collector.close()
    sent = sum(map(len, collector.datagrams))
    records = count + _WARM_UP if name == _FLOOR else records_of(collector.datagrams)
    return Run(name, count + _WARM_UP, records, spent / 1000 / count, rate, sent, len(collector.datagrams))


def ask(field: Field, scale: Scale) -> Answer:
    """Measure all."""
    answer = Answer("ipfix_cpu")
    prepare(field)
    count = max(10_000, int(_RATE * scale.seconds))
    record_bytes = 90.0

    def ours() -> Run:
        nonlocal record_bytes
        run = _measure(field, _OURS, count)
        record_bytes = run.bytes / max(run.records, 1)
        return run

    contenders = {
        _OURS: ours,
        _SAME: lambda: _measure(field, _SAME, count),
        _ULOGD2: lambda: _measure(field, _ULOGD2, count),
        _FLOOR: lambda: _measure(field, _FLOOR, count, record_bytes),
    }
    if why := ulogd2_missing():
        del contenders[_ULOGD2]
        answer.failed[_ULOGD2] = why
    runs = take_turns(answer, scale.rounds, contenders)
    answer.runs += [run for made in runs.values() for run in made]
    answer.rows += _rows(runs)
    return answer


def _rows(runs: dict[str, list[Run]]) -> list[Row]:
    costs = {name: [run.cpu_us for run in made] for name, made in runs.items()}
    ours, theirs, floor, same = (costs.get(name, []) for name in (_OURS, _ULOGD2, _FLOOR, _SAME))
    less = ratios(ours, theirs) if ours and theirs else []
    above = ratios(ours, floor) if ours and floor else []
    size = f"{statistics.median(run.bytes / max(run.records, 1) for run in runs[_OURS]):.0f} bytes" if ours else "-"
    return [
        Row(
            "NFCT → IPFIX over UDP: CPU µs/flow",
            median_spread(ours),
            median_spread(theirs),
            beside=f"format=ulogd2 {median_spread(same)}",
            ratio=times(less),
            target=f"≤ {_TARGET:g}x",
            reached=verdict(less, lambda ratio: ratio <= _TARGET),
        ),
        Row(
            f"  against the floor, {size} a flow",
            median_spread(ours),
            beside=f"receive and send {median_spread(floor)}",
            ratio=times(above),
            target=f"≤ {_FLOOR_TARGET:g}x",
            reached=verdict(above, lambda ratio: ratio <= _FLOOR_TARGET),
        ),
        Row("  not arrived of flows", _missing(runs.get(_OURS, [])), _missing(runs.get(_ULOGD2, []))),
    ]


def _missing(runs: list[Run]) -> str:
    return f"{sum(run.flows - run.records for run in runs):,} of {sum(run.flows for run in runs):,}" if runs else "-"


if __name__ == "__main__":
    raise SystemExit(main({"ipfix_cpu": ask}))
