# SPDX-License-Identifier: GPL-2.0-or-later
"""Our text of packets beside ulogd2's: the lines of LOGEMU must be the same bytes, or differ as the list says.

The traffic is that of test_parity.py. Our text must also be that of tests/printed.py, so a difference that is on the
list cannot hide a mistake of ours.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import oracle, test_parity
from tests.corpus import Frame, frames
from tests.fix_netns import Bridge, Netns, Pair, mac_bytes
from tests.fix_nflog import NflogReader
from tests.parity_differences import TEXT_DIFFERENCES, TextCase, TextDifference
from tests.printed import printed
from tests.test_parity import Stage, open_daemon
from tests.ulogd2 import Nflowlevel, Ulogd2

_THEIRS, _OURS, _WITNESS = 1, 2, 3
_FILTERS = ("BASE", "IFINDEX", "IP2STR", "PRINTPKT")
_HOST = socket.gethostname().partition(".")[0]
#: Frames that are logged at once; those that are cut come in so many tests.
_AT_ONCE, _CUT_PARTS = 500, 16
_PPPOE = 0x8864


class TextStage(Stage):
    """As Stage, but both daemons write text."""

    def __init__(self, directory: Path, *, filters: tuple[str, ...] = _FILTERS) -> None:
        super().__init__(open_daemon, directory, ordered=True)
        self.met_in_text: set[TextDifference] = set()
        self._filters = filters

    def play(
        self,
        netns: Netns,
        chain: str,
        send: Callable[[], Any],
        names: list[str],
        *,
        match: str = "",
        prefix: str = "parity: ",
        snaplen: int = 0,
        policy: str = "drop",
        held: bool = False,
    ) -> None:
        """Log what `send` does, one packet for each of `names`."""
        directory = self._directory / f"run{self.cases}"
        (directory / "ours").mkdir(parents=True)
        family, _, hook = chain.partition(" ")
        log = f"{match} log" + (f' prefix "{prefix}"' if prefix else "") + (f" snaplen {snaplen}" if snaplen else "")
        rules = "\n".join(f"{log} group {group}" for group in (_THEIRS, _OURS, _WITNESS))
        more: dict[str, Any] = {"filters": self._filters, "output": "LOGEMU"}
        held_back: dict[str, Any] = {"qthreshold": 100, "options": "netlink_qtimeout=50"} if held else {}
        interfaces = netns.interfaces()
        with contextlib.ExitStack() as stack:
            theirs = stack.enter_context(Ulogd2(netns, directory, group=_THEIRS, **more, **held_back))
            ours = stack.enter_context(Nflowlevel(netns, directory / "ours", group=_OURS, **more))
            witness = stack.enter_context(NflogReader(netns, _WITNESS))
            hooked = f"type filter hook {hook} priority 0; policy {policy};"
            netns.nft(f"table {family} parity {{\nchain c {{\n{hooked}\n{rules}\n}}\n}}\n")
            send()
            count = len(names)
            for name, message, our, their in zip(
                names, witness.messages(count), ours.lines(count), theirs.lines(count), strict=True
            ):
                keys = oracle.decode(message)
                assert keys is not None
                self._compare_text(f"{chain}: {name}", keys, our, their, interfaces)
        netns.nft(f"delete table {family} parity")

    def _compare_text(self, name: str, keys: oracle.Keys, our: str, their: str, interfaces: dict[int, str]) -> None:
        self.cases += 1
        ours, theirs = (self._text(name, line, keys) for line in (our, their))
        wanted = printed(keys, interfaces).decode("utf-8", "surrogateescape").removesuffix("\n")
        if "vanished" in name:
            # We may have read it before the interface was gone.
            ours = ours.replace("IN= ", "IN=vx ")
        if ours != wanted:
            self.unexplained.append(f"{name}: ours {ours!r}, but it must be {wanted!r}")
        case = TextCase(name, keys, ours, theirs)
        for part in case.differing:
            reasons = [entry for entry in TEXT_DIFFERENCES if entry.explains(case, part)]
            self.met_in_text.update(reasons)
            if not reasons:
                self.unexplained.append(f"{name}: {part}: ours {ours!r}, theirs {theirs!r}")

    def _text(self, name: str, line: str, keys: oracle.Keys) -> str:
        """Return what stands behind the time and the host, which are checked: the kernel stamps each message anew."""
        second = keys.get("oob.time.sec") or int(time.time())
        assert isinstance(second, int)
        heads = [f"{time.asctime(time.gmtime(second + step))[4:19]} {_HOST} " for step in (-2, -1, 0, 1, 2)]
        head = next((head for head in heads if line.startswith(head)), "")
        if not head:
            self.unexplained.append(f"{name}: {line!r} does not begin with the packet's time and the host")
        return line.removeprefix(head)


def test_every_line_is_ulogd2s_or_better(tmp_path: Path, bridge: Bridge, pair: Pair) -> None:
    stage = TextStage(tmp_path)
    test_parity._play_bridge(stage, bridge)
    test_parity._play_device(stage, pair)
    test_parity._play_local(stage, pair)
    test_parity._play_prefixes(stage, pair)
    for length in (*range(1, 20), 63, 64, 126):
        prefix = ("prefix" * 22)[:length]
        stage.play(pair.fw, "inet input", lambda: pair.send_udp(1), [f"prefix of {length}"], prefix=prefix)
    test_parity._play_vanished_interface(stage, pair)
    test_parity._play_arp(stage, pair)
    assert stage.cases >= 3000
    stage.assert_explained()
    idle = [f"{entry.id} ({', '.join(entry.parts)})" for entry in TEXT_DIFFERENCES if entry not in stage.met_in_text]
    assert not idle, f"on the list, but not met: {'; '.join(idle)}"


def test_with_hwhdr_before_it(tmp_path: Path, bridge: Bridge) -> None:
    """HWHDR publishes oob.protocol anew: ulogd2 writes the length of an IEEE 802.3 frame as its protocol."""
    stage = TextStage(tmp_path, filters=("BASE", "IFINDEX", "IP2STR", "HWHDR", "PRINTPKT"))
    dst, src = mac_bytes(bridge.B_MAC), mac_bytes(bridge.A_MAC)
    wires = [frame.wire(dst, src) for frame in frames()]
    stage.play(bridge.br, "bridge forward", lambda: bridge.inject(wires), [frame.name for frame in frames()])
    length = "bridge forward: ether-length: transport: "
    assert [text.removeprefix(length)[:4] for text in stage.unexplained if text.startswith(length)] == ["ours"]
    stage.unexplained = [text for text in stage.unexplained if not text.startswith(length)]
    stage.assert_explained()


def _shortest(frame: Frame) -> int:
    """Return how many bytes a bridge must find behind the link-layer header, or it drops the frame."""
    return 8 if frame.ethertype == _PPPOE else 2 * (len(frame.tags) == 1)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(_CUT_PARTS))
def test_every_frame_cut_at_every_length(tmp_path: Path, bridge: Bridge, part: int) -> None:
    stage = TextStage(tmp_path)
    dst, src = mac_bytes(bridge.B_MAC), mac_bytes(bridge.A_MAC)
    cut = [
        (f"{frame.name} cut at {length}", dataclasses.replace(frame, payload=frame.payload[:length]).wire(dst, src))
        for frame in frames()
        for length in range(_shortest(frame), len(frame.payload))
    ][part::_CUT_PARTS]
    for at in range(0, len(cut), _AT_ONCE):
        names, wires = zip(*cut[at : at + _AT_ONCE], strict=True)
        stage.play(bridge.br, "bridge forward", lambda wires=wires: bridge.inject(wires), list(names))
    assert stage.cases >= 20_000 // _CUT_PARTS
    stage.assert_explained()


def test_print_in_json_is_the_same_text(tmp_path: Path, pair: Pair) -> None:
    """The newline is part of the value, as it is there."""
    found = []
    for number, kind in enumerate((Ulogd2, Nflowlevel)):
        directory = tmp_path / str(number)
        directory.mkdir()
        with kind(pair.fw, directory, group=4, filters=_FILTERS) as daemon:
            pair.fw.nft(
                'table inet t {\nchain i {\ntype filter hook input priority 0\nlog prefix "a\\b " group 4\n}\n}\n'
            )
            pair.send_udp(3, source_port=2000)
            found.append([re.sub(r" ID=\d+", "", record["print"]) for record in daemon.records(3)])
            pair.fw.nft("delete table inet t")
    assert found[0] == found[1]
    assert all(text.startswith("a\\b  IN=va OUT= MAC=") and text.endswith(" \n") for text in found[0])
