# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPU time does a packet cost from NFLOG to a capture file, at qthreshold 64?

nflowlevel and ulogd2 read the same configuration and write pcap of link type RAW; nflowlevel also as pcapng with link
type NFLOG. `tcpdump -i nflog -w` has its own settings. The floor receives in C and writes the same records, a write
for each datagram. Packets come one by one at a steady rate, after 1,000 others. A flood then shows what is lost with
nothing set.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.asking import Answer, Row, main, median_spread, ratios, take_turns, times, verdict
from bench.contenders import (
    LARGE_BUFFER,
    WARM_UP,
    Floor,
    JsonDaemon,
    Run,
    daemon,
    measure,
    plugin_files,
    ulogd2_missing,
)
from bench.netns import GROUP, Field
from bench.scale import Scale

_QTHRESHOLD = 64
#: How much of the others' time nflowlevel may take.
_TARGET, _FLOOR_TARGET = 0.75, 1.6
_OURS, _NFLOG, _ULOGD2, _TCPDUMP = "nflowlevel", "nflowlevel, nflog", "ulogd2", "tcpdump"
_FLOOR = "floor: receive and write pcap"
_OUT = "out.pcap"


class PcapDaemon(JsonDaemon):
    """nflowlevel-daemon or ulogd2, NFLOG to PCAP. `output` are lines of the section of PCAP."""

    def __init__(self, name: str, setting: str, options: Mapping[str, int], output: str = "") -> None:
        super().__init__(name, setting, options)
        self._output = output

    def _configuration(self, directory: Path) -> str:
        options = "".join(f"{name}={value}\n" for name, value in self._options.items())
        return (
            f'[global]\nlogfile="{directory}/daemon.log"\nloglevel=5\n'
            + "".join(f'plugin="{path}"\n' for path in plugin_files(("inppkt_NFLOG", "raw2packet_BASE", "output_PCAP")))
            + f"stack=log1:NFLOG,base1:BASE,pcap1:PCAP\n\n[log1]\ngroup={GROUP}\n{options}\n"
            f'[pcap1]\nfile="{directory}/{_OUT}"\n{self._output}'
        )

    def lines(self, directory: Path, _output: str) -> int:
        """Count the packets written; the last must be whole."""
        return _count_packets(directory / _OUT)


class Tcpdump:
    """`tcpdump -i nflog:GROUP -w`."""

    name = _TCPDUMP
    setting = "-i nflog -w"
    #: The kernel's own flush time, 1 s, holds for it.
    quiet_secs = 1.3

    def command(self, directory: Path) -> list[str]:
        """Return the command line. The buffer is as large as that of the others."""
        size = LARGE_BUFFER["netlink_socket_buffer_size"] >> 10
        return ["tcpdump", "-Z", "root", "-n", "-B", str(size), "-i", f"nflog:{GROUP}", "-w", str(directory / _OUT)]

    def lines(self, directory: Path, _output: str) -> int:
        """Count the packets written."""
        return _count_packets(directory / _OUT)


class PcapFloor(Floor):
    """The C program `floor`: receives and writes the packets as records of pcap."""

    def __init__(self) -> None:
        super().__init__(f"qthreshold {_QTHRESHOLD}", _QTHRESHOLD, 1)
        self.name = _FLOOR

    def command(self, directory: Path) -> list[str]:
        """Return the command line."""
        return [*super().command(directory)[:-2], str(directory / _OUT), "pcap"]


def ask(field: Field, scale: Scale) -> Answer:
    """Measure the cost of a packet, and a flood."""
    answer = Answer("pcap_cpu")
    setting = f"qthreshold {_QTHRESHOLD}"
    options = {"netlink_qthreshold": _QTHRESHOLD, "netlink_qtimeout": 10, **LARGE_BUFFER}
    made: dict[str, PcapDaemon | Tcpdump | PcapFloor] = {
        _OURS: PcapDaemon(_OURS, setting, options),
        _NFLOG: PcapDaemon(_NFLOG, setting, options, "format=pcapng\nlinktype=nflog\n"),
        _ULOGD2: PcapDaemon(_ULOGD2, setting, options),
        _TCPDUMP: Tcpdump(),
        _FLOOR: PcapFloor(),
    }
    if why := _ulogd2_missing():
        del made[_ULOGD2]
        answer.failed[_ULOGD2] = why
    if not shutil.which("tcpdump"):
        del made[_TCPDUMP]
        answer.failed[_TCPDUMP] = "tcpdump is not installed (Debian package tcpdump)"
    contenders = {
        name: lambda one=one: measure(field, one, scale.count, scale.rate, WARM_UP) for name, one in made.items()
    }
    runs: dict[str, list[Run]] = take_turns(answer, scale.rounds, contenders)
    answer.runs += [run for several in runs.values() for run in several]
    answer.rows += _rows(runs)
    _ask_flood(field, scale, answer)
    return answer


def _rows(runs: dict[str, list[Run]]) -> list[Row]:
    costs = {name: [run.cpu_us for run in made] for name, made in runs.items()}
    ours = costs.get(_OURS, [])
    rows = []
    for other, target in ((_ULOGD2, _TARGET), (_TCPDUMP, _TARGET), (_FLOOR, _FLOOR_TARGET)):
        theirs = costs.get(other, [])
        part = ratios(ours, theirs) if ours and theirs else []
        first = other == _ULOGD2
        rows.append(
            Row(
                f"NFLOG → PCAP, qthreshold {_QTHRESHOLD}: CPU µs/packet" if first else f"  against {other}",
                median_spread(ours),
                median_spread(theirs) if first else "-",
                beside="-" if first else median_spread(theirs),
                ratio=times(part),
                target=f"≤ {target:g}x",
                reached=verdict(part, target.__ge__),
            )
        )
    rows.append(Row("  as pcapng, linktype=nflog", median_spread(costs.get(_NFLOG, []))))
    rows.append(
        Row(
            "  lost of packets",
            _loss(runs.get(_OURS, [])),
            _loss(runs.get(_ULOGD2, [])),
            beside=f"tcpdump {_loss(runs.get(_TCPDUMP, []))}",
        )
    )
    return rows


def _ask_flood(field: Field, scale: Scale, answer: Answer) -> None:
    contenders = {
        f"{name}, flood": lambda name=name: measure(field, PcapDaemon(name, "default", {}), scale.flood, 0)
        for name in (_OURS, _ULOGD2)
        if name not in answer.failed
    }
    runs: dict[str, list[Run]] = take_turns(answer, scale.flood_rounds, contenders)
    answer.runs += [run for several in runs.values() for run in several]
    ours, theirs = (runs.get(f"{name}, flood", []) for name in (_OURS, _ULOGD2))
    answer.rows.append(
        Row(
            f"flood of {scale.flood:,} into PCAP: lost in all rounds",
            _loss(ours),
            _loss(theirs),
            target="0",
            reached=all(run.lost == 0 for run in ours) if ours else None,
        )
    )


def _loss(runs: list[Run]) -> str:
    return f"{sum(run.lost for run in runs):,} of {sum(run.packets for run in runs):,}" if runs else "-"


def _ulogd2_missing() -> str:
    if not Path(daemon(_ULOGD2)[0]).exists():
        return ulogd2_missing()
    if not plugin_files(("output_PCAP",)):
        return "ulogd2 lacks its PCAP output (Debian package ulogd2-pcap)"
    return ""


def _count_packets(path: Path) -> int:
    """Count the packets of a file with capinfos's rival, our own reader: it fails where the last one is torn."""
    from nflowlevel import read_pcap

    with read_pcap(path) as packets:
        return sum(len(batch) for batch in packets.batches())


if __name__ == "__main__":
    raise SystemExit(main({"pcap_cpu": ask}))
