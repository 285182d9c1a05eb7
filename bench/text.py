# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPU time does a packet cost from NFLOG to a line of text in a file, at qthreshold 64, and does a flood lose any?

nflowlevel and ulogd2 read the same configuration. For each output there is a target: how many times less than ulogd2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.contenders import LARGE_BUFFER, WARM_UP, JsonDaemon, Run, measure, plugin_files, ulogd2_missing
from bench.netns import GROUP, Field
from bench.scale import Scale

_OURS, _ULOGD2 = "nflowlevel", "ulogd2"
_OPTIONS = {"netlink_qthreshold": 64, "netlink_qtimeout": 10, **LARGE_BUFFER}


@dataclass(frozen=True)
class Output:
    """An output of text, and the filters before it."""

    plugin: str
    target: float
    """How many times less CPU time than ulogd2's."""
    filters: tuple[str, ...] = ("BASE", "IFINDEX", "IP2STR")
    mark: bytes = b"\n"
    """What a record has once."""
    floods: bool = False
    """Whether a flood is measured as well: none may be lost."""


_ALL_FILTERS = ("BASE", "IFINDEX", "IP2STR", "HWHDR")

OUTPUTS = (
    Output("LOGEMU", 4.0, ("BASE", "IFINDEX", "IP2STR", "PRINTPKT"), floods=True),
    Output("GPRINT", 5.0, _ALL_FILTERS),
    Output("OPRINT", 5.0, _ALL_FILTERS, b"===>PACKET BOUNDARY\n"),
)


class TextDaemon(JsonDaemon):
    """nflowlevel-daemon or ulogd2, NFLOG to an output of text."""

    def __init__(self, name: str, setting: str, output: Output, options: Mapping[str, int]) -> None:
        super().__init__(name, setting, options)
        self._output, self._lines = output, "".join(f"{option}={value}\n" for option, value in options.items())

    def _configuration(self, directory: Path) -> str:
        output = self._output
        modules = ("inppkt_NFLOG", "raw2packet_BASE", *(f"filter_{name}" for name in output.filters[1:]))
        stack = ",".join(f"i{i}:{name}" for i, name in enumerate(("NFLOG", *output.filters)))
        return (
            f'[global]\nlogfile="{directory}/daemon.log"\nloglevel=5\n'
            + "".join(f'plugin="{path}"\n' for path in plugin_files((*modules, f"output_{output.plugin}")))
            + f"stack={stack},out1:{output.plugin}\n\n"
            f'[i0]\ngroup={GROUP}\n{self._lines}\n[out1]\nfile="{directory}/out.json"\nsync=0\n'
        )

    def lines(self, directory: Path, _output: str) -> int:
        """Count the records written; the last line must be whole."""
        data = (directory / "out.json").read_bytes()
        if data and not data.endswith(b"\n"):
            raise RuntimeError("the last line is torn")
        return data.count(self._output.mark)


def ask(field: Field, scale: Scale) -> Answer:
    """Measure each output."""
    answer = Answer("text")
    for output in OUTPUTS:
        _ask_cost(field, scale, output, answer)
        if output.floods:
            _ask_flood(field, scale, output, answer)
    return answer


def _ask_cost(field: Field, scale: Scale, output: Output, answer: Answer) -> None:
    contenders = {
        name: lambda name=name: measure(
            field, TextDaemon(name, "qthreshold 64", output, _OPTIONS), scale.count, scale.rate, WARM_UP
        )
        for name in _who(answer)
    }
    runs = take_turns(answer, scale.rounds, contenders)
    answer.runs += [run for made in runs.values() for run in made]
    ours, theirs = ([run.cpu_us for run in runs.get(name, [])] for name in (_OURS, _ULOGD2))
    less = ratios(theirs, ours) if ours and theirs else []
    answer.rows += [
        Row(
            f"NFLOG → {output.plugin}, qthreshold 64: CPU µs/packet",
            median_spread(ours),
            median_spread(theirs),
            ratio=times(less),
            target=f"≥ {output.target:g}x",
            reached=verdict(less, lambda ratio: ratio >= output.target),
        ),
        Row("  lost of packets", _loss(runs.get(_OURS, [])), _loss(runs.get(_ULOGD2, []))),
    ]


def _ask_flood(field: Field, scale: Scale, output: Output, answer: Answer) -> None:
    contenders = {
        name: lambda name=name: measure(field, TextDaemon(name, "default", output, {}), scale.flood, 0)
        for name in _who(answer)
    }
    runs = take_turns(answer, scale.flood_rounds, contenders)
    answer.runs += [run for made in runs.values() for run in made]
    ours = runs.get(_OURS, [])
    answer.rows.append(
        Row(
            f"flood of {scale.flood:,} into {output.plugin}: lost",
            _loss(ours),
            _loss(runs.get(_ULOGD2, [])),
            target="0",
            reached=all(run.lost == 0 for run in ours) if ours else None,
        )
    )


def _who(answer: Answer) -> list[str]:
    """Return who can take part."""
    if why := ulogd2_missing():
        answer.failed[_ULOGD2] = why
        return [_OURS]
    return [_OURS, _ULOGD2]


def _loss(runs: list[Run]) -> str:
    return f"{sum(run.lost for run in runs):,} of {sum(run.packets for run in runs):,}" if runs else "-"


if __name__ == "__main__":
    raise SystemExit(main({"text": ask}))
