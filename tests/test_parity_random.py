# SPDX-License-Identifier: GPL-2.0-or-later
"""Our records beside ulogd2's over frames that the corpus does not hold: random_frames.py's, of a fixed seed.

The comparisons and the lists of what may differ are those of the corpus. Each run of packets has its own mark, prefix
and length of capture. NFLOWLEVEL_SEED chooses other frames, NFLOWLEVEL_FRAMES how many.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests import oracle, random_frames, test_parity_lines, test_parity_pcap
from tests.corpus import Frame
from tests.fix_netns import Bridge, Pair, mac_bytes
from tests.test_parity import Stage, open_daemon
from tests.test_parity_text import TextStage

_SEED = int(os.environ.get("NFLOWLEVEL_SEED", "20261127"))
_FRAMES = int(os.environ.get("NFLOWLEVEL_FRAMES", "2000"))
_AT_ONCE = 250
#: What breaks ulogd2's records apart in each format; our own escaping of it is tested with the outputs.
_BREAKS = {"JSON": "", "GPRINT": "\n,", "OPRINT": "\n", "XML": "\n", "LOGEMU": "\n", "PCAP": "\n"}
_DIFFERENCES = {
    "GPRINT": test_parity_lines.GPRINT_DIFFERENCES,
    "OPRINT": test_parity_lines.OPRINT_DIFFERENCES,
    "XML": test_parity_lines.XML_DIFFERENCES,
}


def _stage(output: str, directory: Path) -> Any:
    match output:
        case "JSON":
            return Stage(open_daemon, directory, ordered=True)
        case "LOGEMU":
            return TextStage(directory)
        case "PCAP":
            return test_parity_pcap.Stage(directory)
    return test_parity_lines._stage(output, directory, _DIFFERENCES[output])


def _parts(found: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
    for at in range(0, len(found), _AT_ONCE):
        yield found[at : at + _AT_ONCE]


def _play(output: str, stage: Any, bridge: Bridge, pair: Pair, seed: int, count: int) -> str:
    """Log the frames wherever they can be logged; return how many records were compared."""
    random = Random(seed)
    found = random_frames.frames(seed, count)

    def options() -> dict[str, Any]:
        more: dict[str, Any] = {"match": f"meta mark set {random.choice((0, 1, random.getrandbits(32)))}"}
        more["snaplen"] = random.choice((0, 0, random.randint(1, 90)))
        if output != "PCAP":
            more["prefix"] = random_frames.prefix(random, _BREAKS[output])
        return more

    a, b, fw, peer = (mac_bytes(mac) for mac in (bridge.A_MAC, bridge.B_MAC, pair.FW_MAC, pair.PEER_MAC))
    for part in _parts(found):
        send = functools.partial(bridge.inject, [frame.wire(b, a) for frame in part])
        stage.play(bridge.br, "bridge forward", send, [frame.name for frame in part], **options())
    for part in _parts(found[::4]):
        names = [frame.name for frame in part]
        send = functools.partial(pair.inject, [frame.wire() for frame in part])
        stage.play(pair.fw, "netdev ingress device va", send, names, **options())
        send = functools.partial(pair.fw.inject, "va", [frame.wire(peer, fw) for frame in part])
        stage.play(pair.fw, "netdev egress device va", send, names, policy="accept", **options())
    for part in _parts([frame for frame in found if frame.valid and frame.family in (oracle.INET, oracle.INET6)]):
        send = functools.partial(pair.inject, [frame.wire() for frame in part])
        stage.play(pair.fw, "inet prerouting", send, [frame.name for frame in part], **options())
    pair.accept_arp()
    for part in _parts([frame for frame in found if frame.valid and frame.family == oracle.ARP]):
        send = functools.partial(pair.inject, [frame.wire(dst=b"\xff" * 6) for frame in part])
        stage.play(pair.fw, "arp input", send, [frame.name for frame in part], **options())
    compared = stage.compared if output == "PCAP" else stage.cases
    return f"{output}: {count} frames of seed {seed}, {compared} records compared"


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("output", [*_BREAKS])
def test_every_record(output: str, tmp_path: Path, bridge: Bridge, pair: Pair) -> None:
    stage = _stage(output, tmp_path)
    print(_play(output, stage, bridge, pair, _SEED, _FRAMES))
    if output != "PCAP":
        stage.assert_explained()


@pytest.mark.kernel
def test_some_records(tmp_path: Path, bridge: Bridge, pair: Pair) -> None:
    """The text: ours is also compared with tests/printed.py's, so the list cannot hide a mistake."""
    stage = _stage("LOGEMU", tmp_path)
    print(_play("LOGEMU", stage, bridge, pair, 11, 200))
    stage.assert_explained()


def test_a_seed_always_gives_the_same_frames() -> None:
    assert random_frames.frames(3, 300) == random_frames.frames(3, 300)
    assert random_frames.frames(3, 300) != random_frames.frames(4, 300)
