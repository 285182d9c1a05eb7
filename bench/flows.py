# SPDX-License-Identifier: GPL-2.0-or-later
"""What does a flow cost from NFCT to a line of JSON, what is lost of a storm, and what do the table and its dump cost?

nflowlevel and ulogd2 read the same configuration, with ulogd2's hash and without. A storm begins flows at a steady
rate; then all of them end at once. CPU time is the daemon's own, user and system, of the whole storm. The floor hears
of the ends in C and writes the same lines.

The kernel counts and stamps. Socket buffers are as large as it takes for nobody to lose, but for the rows "lost", which
have the settings that each has by itself.
"""

from __future__ import annotations

import functools
import json
import operator
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.contenders import daemon, plugin_files, ulogd2_missing
from bench.netns import FW, PEER, PORT, Field
from bench.programs import program
from bench.running import Running, spawn
from bench.scale import Scale

_OURS, _ULOGD2, _FLOOR = "nflowlevel", "ulogd2", "floor"
_PLUGINS = ("inpflow_NFCT", "filter_IP2STR", "output_JSON")
_RATE = 50_000
_LARGE = 256 << 20
#: Options of NFCT → how many times less than ulogd2.
_SETTINGS: dict[str, tuple[dict[str, int], float]] = {
    "with hash": ({}, 8.0),
    "hash_enable=0": ({"hash_enable": 0, "event_mask": 4}, 5.0),
}
_FLOOR_TARGET = 1.6
_TABLE_TARGET = 0.5
_MEMORY_TARGET_MB = 400
_QUIET_SECS, _PATIENCE_SECS = 1.0, 120.0
_RULES = """
table inet bench
delete table inet bench
table inet bench {
    chain watched {
        type filter hook input priority 0; policy accept;
        ct state new accept
    }
}
"""


@dataclass(frozen=True)
class Storm:
    """One contender, one round."""

    contender: str
    setting: str
    flows: int
    lines: int
    cpu_us: float
    peak_kb: int
    line_bytes: float


def ask(field: Field, scale: Scale) -> Answer:
    """Measure storms, loss, the table and its memory."""
    quick = scale.rounds == 1
    answer = Answer("flows")
    if why := ulogd2_missing():
        answer.failed[_ULOGD2] = why
    _prepare(field)
    sink = _sink(field)
    try:
        count, rounds = (5_000, 1) if quick else (200_000, 3)
        _ask_cost(field, answer, count, rounds)
        _ask_loss(field, answer, count, rounds)
        _ask_table(field, answer, 5_000 if quick else 250_000, rounds)
        _ask_memory(answer, 10_000 if quick else 1_000_000)
    finally:
        sink.close()
        field.reset()
    return answer


def _prepare(field: Field) -> None:
    with field.fw.enter():
        for name, value in (("acct", 1), ("timestamp", 1), ("events", 1), ("udp_timeout", 300)):
            Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}").write_text(f"{value}\n")
    field.fw.run("nft", "-f", "-", text=_RULES)


def _sink(field: Field) -> socket.socket:
    """Listen where the datagrams go, so that nobody answers."""
    with field.fw.enter():
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    sink.bind((FW, PORT))
    return sink


def _begin(field: Field, count: int, rate: int) -> None:
    """Begin flows; the sender keeps to the first CPU, as in programs.py."""
    command = [program("flow_flood"), str(count), str(rate), PEER, FW, str(PORT)]
    with field.peer.enter():
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
    output, _ = child.communicate(timeout=150)
    if child.returncode:
        raise RuntimeError(f"only {json.loads(output)['sent']} of {count} flows began")


def _end(field: Field) -> None:
    """End all flows, on the sender's CPU."""
    field.fw.run("taskset", "-c", str(min(os.sched_getaffinity(0))), "conntrack", "-F")


# -- what a flow costs ------------------------------------------------------------------------------------------


def _ask_cost(field: Field, answer: Answer, count: int, rounds: int) -> None:
    for setting, (options, target) in _SETTINGS.items():
        buffers = {"netlink_socket_buffer_size": _LARGE - 1, "netlink_socket_buffer_maxsize": _LARGE}
        contenders = {
            _OURS: functools.partial(_storm, field, _OURS, setting, count, options | buffers),
            _ULOGD2: functools.partial(_storm, field, _ULOGD2, setting, count, options | buffers),
            _FLOOR: functools.partial(_storm, field, _FLOOR, setting, count, {}),
        }
        runs = take_turns(answer, rounds, contenders)
        answer.runs += [run for made in runs.values() for run in made]
        cost = {name: [run.cpu_us for run in made] for name, made in runs.items()}
        less = ratios(cost.get(_ULOGD2, []), cost[_OURS]) if cost.get(_ULOGD2) and cost.get(_OURS) else []
        above = ratios(cost[_OURS], cost[_FLOOR]) if cost.get(_OURS) and cost.get(_FLOOR) else []
        answer.rows += [
            Row(
                f"NFCT → JSON, {setting}: CPU µs/flow",
                median_spread(cost.get(_OURS, [])),
                median_spread(cost.get(_ULOGD2, [])),
                ratio=times(less),
                target=f"≥ {target:g}x",
                reached=verdict(less, functools.partial(operator.le, target)),
            ),
            Row(
                "  against the floor",
                median_spread(cost.get(_OURS, [])),
                beside=median_spread(cost.get(_FLOOR, [])),
                ratio=times(above),
                target=f"≤ {_FLOOR_TARGET:g}x",
                reached=verdict(above, lambda ratio: ratio <= _FLOOR_TARGET),
            ),
            _lost("  lost", runs),
        ]


def _lost(figure: str, runs: dict[str, list[Storm]], *, target: bool = False) -> Row:
    lost = {name: [float(run.flows - run.lines) for run in made] for name, made in runs.items()}
    return Row(
        figure,
        median_spread(lost.get(_OURS, []), ".0f"),
        median_spread(lost.get(_ULOGD2, []), ".0f"),
        target="0" if target else "-",
        reached=verdict(lost.get(_OURS, []), lambda number: number == 0) if target else None,
    )


def _ask_loss(field: Field, answer: Answer, count: int, rounds: int) -> None:
    contenders = {
        name: functools.partial(_storm, field, name, "as it is", count, {}, ends=True) for name in (_OURS, _ULOGD2)
    }
    runs = take_turns(answer, rounds, contenders)
    answer.runs += [run for made in runs.values() for run in made]
    figure = f"{count:,} flows that begin and end at {_RATE:,}/s, nothing set: lost"
    answer.rows.append(_lost(figure, runs, target=True))


def _storm(
    field: Field,
    name: str,
    setting: str,
    count: int,
    options: dict[str, int],
    *,
    ends: bool = False,
) -> Storm:
    """Have `count` flows begin and end; with `ends` they end while others begin."""
    with tempfile.TemporaryDirectory(prefix="nflbench-") as path:
        directory = Path(path)
        out = directory / "out.json"
        if name == _FLOOR:
            command = [program("flow_floor"), str(_LARGE), str(out)]
        else:
            command = [*daemon(name), "-c", str(_configuration(directory, options))]
        _end(field)
        child = spawn(field, command)
        os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
        process = Running(field, child, 0, 0.0)
        try:
            _settle(child, out)
            before = process.cpu_ns()
            done = threading.Event()
            ender = threading.Thread(target=_keep_ending, args=(field, done))
            if ends:
                ender.start()
            try:
                _begin(field, count, _RATE)
            finally:
                done.set()
                if ends:
                    ender.join()
            time.sleep(0.2)
            _end(field)
            lines = _settle(child, out)
            spent = process.cpu_ns() - before
            _, peak = process.memory_kb()
        finally:
            process.stop()
        size = out.stat().st_size
    if not lines:
        raise RuntimeError(f"{name} wrote nothing: {process.output[-500:]}")
    return Storm(name, setting, count, lines, spent / 1000 / lines, peak, size / lines)


def _keep_ending(field: Field, done: threading.Event) -> None:
    while not done.wait(0.2):
        _end(field)


def _configuration(directory: Path, options: dict[str, int]) -> Path:
    file = directory / "ulogd.conf"
    file.write_text(
        f'[global]\nlogfile="{directory}/daemon.log"\nloglevel=5\n'
        + "".join(f'plugin="{path}"\n' for path in plugin_files(_PLUGINS))
        + "stack=ct1:NFCT,ip2str1:IP2STR,json1:JSON\n\n[ct1]\n"
        + "".join(f"{name}={value}\n" for name, value in options.items())
        + f'[json1]\nfile="{directory}/out.json"\n'
    )
    return file


def _settle(child: subprocess.Popen[str], out: Path) -> int:
    """Wait until nothing has been written for a while; return the number of whole lines."""
    give_up = time.monotonic() + _PATIENCE_SECS
    size, since = -1, time.monotonic()
    while time.monotonic() - since < _QUIET_SECS or size < 0:
        if child.poll() is not None:
            raise RuntimeError(f"{child.args!r} ended with status {child.returncode}")
        if time.monotonic() > give_up:
            raise RuntimeError("it does not come to an end")
        now = out.stat().st_size if out.exists() else -1
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.02)
    return out.read_bytes().count(b"\n")


# -- the table --------------------------------------------------------------------------------------------------


_DUMP = """
import time
import nflowlevel as nfl
keys = ({keys})
nfl.flows(filters=nfl.Accept(protocols=[255])).to_arrow(*keys)  # what is imported is not the dump's
before = time.process_time()
table = nfl.flows().to_arrow(*keys)
print(table.num_rows, time.process_time() - before)
"""
#: What `conntrack -L -o xml` says of a flow.
_DUMPED = (
    "orig.ip.saddr", "orig.ip.daddr", "orig.ip.protocol", "orig.l4.sport", "orig.l4.dport", "orig.raw.pktlen",
    "orig.raw.pktcount", "reply.ip.saddr", "reply.ip.daddr", "reply.ip.protocol", "reply.l4.sport", "reply.l4.dport",
    "reply.raw.pktlen", "reply.raw.pktcount", "ct.mark", "ct.id", "ct.timeout", "ct.status", "flow.start.sec",
)  # fmt: skip


def _ask_table(field: Field, answer: Answer, count: int, rounds: int) -> None:
    _end(field)
    _begin(field, count, 0)
    try:
        runs = take_turns(
            answer,
            rounds,
            {
                f"{_OURS}: table": lambda: _dumped(field, count),
                "conntrack -L -o xml": lambda: _listed(field, count),
            },
        )
    finally:
        _end(field)
    ours, theirs = runs.get(f"{_OURS}: table", []), runs.get("conntrack -L -o xml", [])
    part = ratios(ours, theirs) if ours and theirs else []
    answer.runs += [{"table": name, "cpu_ms": made} for name, made in runs.items()]
    answer.rows.append(
        Row(
            f"a table of {count:,} flows → Arrow: CPU ms",
            median_spread(ours, ".0f"),
            beside=f"conntrack -L -o xml {median_spread(theirs, '.0f')}",
            ratio=times(part),
            target=f"≤ {_TABLE_TARGET:g}x",
            reached=verdict(part, lambda ratio: ratio <= _TABLE_TARGET),
        )
    )


def _dumped(field: Field, count: int) -> float:
    output = field.fw.run(sys.executable, "-c", _DUMP.format(keys=", ".join(map(repr, _DUMPED))))
    rows, secs = output.split()
    if int(rows) != count:
        raise RuntimeError(f"{rows} of {count} flows were read")
    return float(secs) * 1000


def _listed(field: Field, count: int) -> float:
    with field.fw.enter():
        child = subprocess.Popen(
            ["conntrack", "-L", "-o", "xml,id,timestamp"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"conntrack -L: exit {child.returncode} for {count} flows")
    return (usage.ru_utime + usage.ru_stime) * 1000


_FILL = """
import resource
from nflowlevel.binding._lib import ffi
from nflowlevel.binding.flowtable import FlowTable
table = FlowTable(2 * {count}, ends=262144, sees_new=True)
flows = ffi.new("struct nfl_flow[]", 1000)
for at in range(0, {count}, 1000):
    for n in range(1000):
        flow = flows[n]
        flow.valid, flow.oob_family, flow.orig_ip_protocol, flow.ct_event = 1, 2, 17, 1
        flow.ct_id, flow.orig_l4_sport = at + n, n
        flow.orig_ip_saddr[0:4] = [10, (at + n) >> 16 & 255, (at + n) >> 8 & 255, n & 255]
    table.take(flows, 1000)
assert len(table) == {count}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _ask_memory(answer: Answer, count: int) -> None:
    """Replay beginnings to a table, in a process that has nothing else."""
    made = subprocess.run(
        [sys.executable, "-c", _FILL.format(count=count)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        answer.failed[f"{_OURS}: memory"] = made.stderr
        return
    used = float(made.stdout)
    answer.rows.append(
        Row(
            f"memory of {count:,} known flows: MB",
            f"{used:.0f}",
            target=f"< {_MEMORY_TARGET_MB}",
            reached=used < _MEMORY_TARGET_MB,
        )
    )


if __name__ == "__main__":
    raise SystemExit(main({"flows": ask}))
