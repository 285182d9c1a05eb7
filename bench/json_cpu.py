# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPU time does a packet cost from NFLOG to a line of JSON in a file, at qthreshold 64 and at 1?

nflowlevel and ulogd2 read the same configuration; the floor receives the same packets in C and writes as many bytes per
packet as nflowlevel's lines have. Packets come one by one at a steady rate, after 1,000 others.
"""

from __future__ import annotations

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.contenders import LARGE_BUFFER, WARM_UP, Floor, JsonDaemon, Run, measure, ulogd2_missing
from bench.netns import Field
from bench.scale import Scale

#: qthreshold → how many times less than ulogd2.
_TARGETS = {64: 10.0, 1: 8.0}
_FLOOR_TARGET = 1.6
_OURS, _ULOGD2, _RECEIVE, _WRITE = "nflowlevel", "ulogd2", "floor: receive", "floor: receive and write"


def ask(field: Field, scale: Scale) -> Answer:
    """Measure both thresholds."""
    answer = Answer("json_cpu")
    for qthreshold in _TARGETS:
        _ask_threshold(field, scale, qthreshold, answer)
    return answer


def _ask_threshold(field: Field, scale: Scale, qthreshold: int, answer: Answer) -> None:
    setting = f"qthreshold {qthreshold}"
    options = {"netlink_qthreshold": qthreshold, "netlink_qtimeout": 10, **LARGE_BUFFER}
    line_bytes = 750.0

    def ours() -> Run:
        nonlocal line_bytes
        run = measure(field, JsonDaemon(_OURS, setting, options), scale.count, scale.rate, WARM_UP)
        line_bytes = run.line_bytes
        return run

    contenders = {
        _OURS: ours,
        _ULOGD2: lambda: measure(field, JsonDaemon(_ULOGD2, setting, options), scale.count, scale.rate, WARM_UP),
        _RECEIVE: lambda: measure(field, Floor(setting, qthreshold), scale.count, scale.rate, WARM_UP),
        _WRITE: lambda: measure(field, Floor(setting, qthreshold, line_bytes), scale.count, scale.rate, WARM_UP),
    }
    if why := ulogd2_missing():
        del contenders[_ULOGD2]
        answer.failed[_ULOGD2] = why
    runs = take_turns(answer, scale.rounds, contenders)
    answer.runs += [run for made in runs.values() for run in made]
    answer.rows += _rows(runs, qthreshold)


def _rows(runs: dict[str, list[Run]], qthreshold: int) -> list[Row]:
    costs = {name: [run.cpu_us for run in made] for name, made in runs.items()}
    ours, theirs = costs.get(_OURS, []), costs.get(_ULOGD2, [])
    receive, write = costs.get(_RECEIVE, []), costs.get(_WRITE, [])
    less = ratios(theirs, ours) if ours and theirs else []
    above = ratios(ours, write) if ours and write else []
    target = _TARGETS[qthreshold]
    what = f"NFLOG → JSON, qthreshold {qthreshold}"
    return [
        Row(
            f"{what}: CPU µs/packet",
            median_spread(ours),
            median_spread(theirs),
            ratio=times(less),
            target=f"≥ {target:g}x",
            reached=verdict(less, lambda ratio: ratio >= target),
        ),
        Row(
            "  against the floor",
            median_spread(ours),
            beside=f"receive {median_spread(receive)}, and write {median_spread(write)}",
            ratio=times(above),
            target=f"≤ {_FLOOR_TARGET:g}x",
            reached=verdict(above, lambda ratio: ratio <= _FLOOR_TARGET),
        ),
        Row(
            "  lost of packets",
            _loss(runs.get(_OURS, [])),
            _loss(runs.get(_ULOGD2, [])),
            beside=_loss(runs.get(_WRITE, [])),
        ),
    ]


def _loss(runs: list[Run]) -> str:
    return f"{sum(run.lost for run in runs):,} of {sum(run.packets for run in runs):,}" if runs else "-"


if __name__ == "__main__":
    raise SystemExit(main({"json_cpu": ask}))
