# SPDX-License-Identifier: GPL-2.0-or-later
"""NAT: what was translated to what, the line of the log, and which flows pass."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.filters.ip2str import IP2STR
from nflowlevel.filters.nat import NAT, NATOptions
from nflowlevel.filters.printflow import PRINTFLOW
from nflowlevel.outputs.json import JSON, JSONOptions
from nflowlevel.outputs.logemu import LOGEMU, LOGEMUOptions
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.records.keys import PRINT_NAT
from tests.fix_lines import check
from tests.flows import (
    ALL,
    DNAT,
    ICMPV6,
    NEW,
    SNAT,
    SNAT6,
    SNAT_ICMP,
    SNAT_UDP,
    TCP,
    UDP,
    UPDATE,
    End,
    FlowOf,
    deliver,
    flow_batch,
)  # fmt: skip

_KEYS = ("nat.saddr.str", "nat.sport", "nat.daddr.str", "nat.dport", "nat.event")


def nat(**options: bool) -> NAT:
    """Return the filter."""
    return NAT("n", NATOptions(**options))


@pytest.mark.parametrize(
    ("flow", "row"),
    [
        (SNAT, ("198.51.100.7", 40001, None, None, 5)),
        (DNAT, (None, None, "10.0.0.5", 80, 5)),
        (SNAT_UDP, ("198.51.100.7", 5353, None, None, 4)),
        (SNAT_ICMP, ("198.51.100.7", None, None, None, 5)),
        (SNAT6, ("2001:db8:1::7", 40000, None, None, 2)),
        (replace(SNAT6, event=NEW), ("2001:db8:1::7", 40000, None, None, 1)),
        # A port alone, as `redirect` changes it.
        (replace(UDP, reply_source=End("203.0.113.9", 54)), (None, None, "203.0.113.9", 54, 5)),
        (replace(UDP, reply_target=End("10.0.0.5", 1024)), ("10.0.0.5", 1024, None, None, 5)),
        # Both ends: a hairpin.
        (
            replace(TCP, reply_source=End("10.0.0.9", 80), reply_target=End("10.0.0.1", 2000)),
            ("10.0.0.1", 2000, "10.0.0.9", 80, 5),
        ),
        # A record of a flow that goes on is no event of the translation.
        (replace(SNAT, event=UPDATE), ("198.51.100.7", 40001, None, None, None)),
        (TCP, (None,) * 5),
        (ICMPV6, (None,) * 5),
    ],
)
def test_what_was_translated_to_what(flow: FlowOf, row: tuple[Any, ...]) -> None:
    assert nat().process(flow_batch(flow)).rows(*_KEYS) == [row]


_TIMES = "START=2026-11-23T18:54:34Z END=2026-11-23T18:54:41Z \n"


@pytest.mark.parametrize(
    ("flow", "line"),
    [
        (
            SNAT,
            "[DESTROY] PROTO=TCP SRC=10.0.0.5 SPT=51234 NATSRC=198.51.100.7 NATSPT=40001 DST=203.0.113.9 DPT=443 "
            + _TIMES,
        ),
        (
            DNAT,
            "[DESTROY] PROTO=TCP SRC=203.0.113.9 SPT=33333 DST=198.51.100.7 DPT=8080 NATDST=10.0.0.5 NATDPT=80 ZONE=3 "
            + _TIMES,
        ),
        (
            SNAT_UDP,
            "[NEW] PROTO=UDP SRC=10.0.0.5 SPT=5353 NATSRC=198.51.100.7 NATSPT=5353 DST=203.0.113.9 DPT=53 "
            "START=2026-11-23T18:54:34Z \n",
        ),
        (SNAT_ICMP, "[DESTROY] PROTO=ICMP SRC=10.0.0.5 NATSRC=198.51.100.7 DST=203.0.113.9 " + _TIMES),
        (
            replace(SNAT, protocol=50),
            "[DESTROY] PROTO=50 SRC=10.0.0.5 NATSRC=198.51.100.7 DST=203.0.113.9 " + _TIMES,
        ),
        (TCP, None),
        (UDP, None),
    ],
)
def test_the_line(flow: FlowOf, line: str | None) -> None:
    assert nat().process(flow_batch(flow)).values("print") == [line]


def test_times_do_not_depend_on_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert nat().process(flow_batch(SNAT)).values("print")[0].endswith(_TIMES)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_longest_line_is_not_longer_than_promised() -> None:
    address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff{}"
    one, two, three, four = (End(address.format(digit), 65500 + number) for number, digit in enumerate("abcd"))
    flow = FlowOf(136, one, two, reply_source=three, reply_target=four, zone=65535)
    (line,) = nat().process(flow_batch(flow)).values("print")
    assert 300 < len(line) <= (PRINT_NAT.longest or 0)


def test_translated_flows_alone_pass() -> None:
    translated = [SNAT, DNAT, SNAT_UDP, SNAT_ICMP, SNAT6]
    passed = nat(translated_only=True).process(flow_batch(*ALL))
    wanted = nat().process(flow_batch(*translated))
    assert passed.rows(*_KEYS, "print") == wanted.rows(*_KEYS, "print")
    assert len(nat(translated_only=True).process(flow_batch(TCP, UDP))) == 0
    assert len(nat().process(flow_batch(*ALL))) == len(ALL)


def test_the_log_has_a_line_for_each_translated_flow(tmp_path: Path) -> None:
    """Also where the others pass: they are in no line, and not counted."""
    path = tmp_path / "nat.log"
    stack = deliver(flow_batch(*ALL), nat(), LOGEMU("e", LOGEMUOptions(file=str(path))))
    lines = path.read_text().splitlines()
    assert len(lines) == 5
    assert all("NATSRC=" in line or "NATDST=" in line for line in lines)
    check(stack.output.stats)
    assert stack.output.stats.written == 5


def test_a_batch_without_lines_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "nat.log"
    stack = deliver(flow_batch(*[TCP] * 3000), nat(), LOGEMU("e", LOGEMUOptions(file=str(path))))
    assert path.read_bytes() == b""
    assert stack.output.stats.records == 0


def test_json_has_the_members_and_no_line_where_none_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "json"
    plugins = IP2STR("i", NoOptions()), nat(print=False), JSON("j", JSONOptions(file=str(path)))
    deliver(flow_batch(SNAT, TCP), *plugins)
    translated, other = map(json.loads, path.read_text().splitlines())
    assert {name: translated[name] for name in translated if name.startswith("nat.")} == {
        "nat.saddr.str": "198.51.100.7",
        "nat.sport": 40001,
        "nat.event": 5,
    }
    assert not [name for name in other if name.startswith("nat.")]
    assert "print" not in translated


def test_the_nearest_text_is_the_one(tmp_path: Path) -> None:
    for plugins, begins in (
        ((nat(), PRINTFLOW("p", NoOptions())), "ORIG"),
        ((PRINTFLOW("p", NoOptions()), nat()), "PROTO"),
    ):
        path = tmp_path / begins
        deliver(flow_batch(SNAT), *plugins, LOGEMU("e", LOGEMUOptions(file=str(path))))
        assert path.read_text().partition("[DESTROY] ")[2].startswith(begins)


def test_many_flows_in_small_pieces() -> None:
    """The renderer's buffer takes a part of them at a time; nothing is lost between."""
    flows = [replace(SNAT, source=End("10.0.0.5", port)) for port in range(1, 8000)]
    texts = nat().process(flow_batch(*flows)).values("print")
    assert [int(text.partition(" SPT=")[2].partition(" ")[0]) for text in texts] == list(range(1, 8000))


def test_an_empty_batch() -> None:
    assert len(nat().process(flow_batch())) == 0
    assert len(nat(translated_only=True).process(flow_batch())) == 0


@pytest.mark.parametrize(
    ("filter_", "count"),
    [
        ("nat.saddr.str == 198.51.100.7", 3),
        ("nat.saddr.str in {198.51.100.0/24, 2001:db8:1::/48}", 4),
        ("nat.daddr.str", 1),
        ("nat.dport == 80", 1),
        # Where it was not translated, the source of the answers is no translated address.
        ("nat.daddr.str == 203.0.113.9", 0),
        ("reply.ip.daddr == 198.51.100.7", 3),
        ("reply.ip.hdaddr == 198.51.100.7", 3),
        ("reply.ip.daddr == fd00::5", 2),
    ],
)
def test_a_filter_looks_at_what_was_translated(filter_: str, count: int) -> None:
    assert len(flow_batch(*ALL).where(filter_)) == count
