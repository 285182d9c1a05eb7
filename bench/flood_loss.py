# SPDX-License-Identifier: GPL-2.0-or-later
"""How many packets of a flood, sent as fast as the machine can, become lines, and how many are lost?

nflowlevel with nothing set, ulogd2 with nothing set, and ulogd2 tuned: large socket buffer, qthreshold 64.
"""

from __future__ import annotations

import statistics

from bench.asking import Answer, Row, main, median_spread, take_turns
from bench.contenders import JsonDaemon, Run, measure, ulogd2_missing
from bench.netns import Field
from bench.scale import Scale

_OURS, _ULOGD2, _TUNED = "nflowlevel", "ulogd2", "ulogd2, tuned"
_TUNED_OPTIONS = {
    "netlink_qthreshold": 64,
    "netlink_socket_buffer_size": 64 << 20,
    "netlink_socket_buffer_maxsize": 128 << 20,
}


def ask(field: Field, scale: Scale) -> Answer:
    """Measure the three."""
    answer = Answer("flood_loss")
    contenders = {
        _OURS: lambda: measure(field, JsonDaemon(_OURS, "default", {}), scale.flood, 0),
        _ULOGD2: lambda: measure(field, JsonDaemon(_ULOGD2, "default", {}), scale.flood, 0),
        _TUNED: lambda: measure(field, JsonDaemon(_ULOGD2, "tuned", _TUNED_OPTIONS), scale.flood, 0),
    }
    if why := ulogd2_missing():
        del contenders[_ULOGD2], contenders[_TUNED]
        answer.failed[_ULOGD2] = why
    runs = take_turns(answer, scale.flood_rounds, contenders)
    answer.runs = [run for made in runs.values() for run in made]
    ours, theirs, tuned = (runs.get(name, []) for name in (_OURS, _ULOGD2, _TUNED))
    answer.rows = [
        Row(
            f"flood of {scale.flood:,}: lost at the worst",
            _worst(ours),
            _worst(theirs),
            beside=f"ulogd2 tuned {_worst(tuned)}",
            target="0",
            reached=all(run.lost == 0 for run in ours) if ours else None,
        ),
        Row("  lines", _lines(ours), _lines(theirs), beside=f"ulogd2 tuned {_lines(tuned)}"),
        Row("  sent, packets/s", _rate(ours), _rate(theirs), beside=f"ulogd2 tuned {_rate(tuned)}"),
        Row("  CPU µs/line", _cpu(ours), _cpu(theirs), beside=f"ulogd2 tuned {_cpu(tuned)}"),
        Row("  peak memory, MB", _memory(ours), _memory(theirs), beside=f"ulogd2 tuned {_memory(tuned)}"),
    ]
    return answer


def _worst(runs: list[Run]) -> str:
    if not runs:
        return "-"
    lost = max(run.lost for run in runs)
    return f"{lost:,}" if not lost else f"{lost:,} ({100 * max(run.lost / run.packets for run in runs):.0f} %)"


def _lines(runs: list[Run]) -> str:
    return f"{round(statistics.median(run.lines for run in runs)):,}" if runs else "-"


def _rate(runs: list[Run]) -> str:
    return f"{statistics.median(run.sent_rate for run in runs):,.0f}" if runs else "-"


def _cpu(runs: list[Run]) -> str:
    return median_spread(run.cpu_us for run in runs)


def _memory(runs: list[Run]) -> str:
    return median_spread((run.peak_kb / 1024 for run in runs), ".1f")


if __name__ == "__main__":
    raise SystemExit(main({"flood_loss": ask}))
