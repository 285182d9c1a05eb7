# SPDX-License-Identifier: GPL-2.0-or-later
"""NACCT: the eight fields of each flow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nflowlevel.filters.ip2str import IP2STR
from nflowlevel.outputs.nacct import NACCT, NACCTOptions
from nflowlevel.plugin.contract import NoOptions
from tests.fix_lines import check
from tests.flows import (
    ALL,
    GRE,
    ICMP,
    ICMPV6,
    NEW,
    NOW,
    SNAT,
    TCP,
    TCP6,
    UDP,
    UPDATE,
    FlowOf,
    deliver,
    flow_batch,
    opened,
)  # fmt: skip


def written(tmp_path: Path, *flows: FlowOf) -> str:
    """Return what a stack writes of flows."""
    path = tmp_path / "nacct"
    stack = deliver(flow_batch(*flows), IP2STR("i", NoOptions()), NACCT("n", NACCTOptions(file=str(path))))
    check(stack.output.stats)
    text = path.read_text()
    assert stack.output.stats.written == text.count("\n")
    return text


_END = NOW - 3


@pytest.mark.parametrize(
    ("flow", "line"),
    [
        (TCP, f"{_END}\t6\t10.0.0.5\t51234\t203.0.113.9\t443\t8\t56789\n"),
        (UDP, f"{_END}\t17\t10.0.0.5\t5353\t203.0.113.9\t53\t0\t0\n"),
        (ICMP, f"{_END}\t1\t10.0.0.5\t8\t203.0.113.9\t0\t2\t168\n"),
        (TCP6, f"{_END}\t6\tfd00::5\t40000\t2001:db8::9\t22\t4\t{2**40}\n"),
        # ulogd2 2.0.8 does not know the type (D-F10), and has 0 there.
        (ICMPV6, f"{_END}\t58\tfd00::5\t128\t2001:db8::9\t0\t2\t120\n"),
        # Keys of GRE are no ports.
        (GRE, f"{_END}\t47\t10.0.0.5\t0\t203.0.113.9\t0\t2\t120\n"),
        # The original direction's addresses, as they are before NAT.
        (SNAT, f"{_END}\t6\t10.0.0.5\t51234\t203.0.113.9\t443\t8\t56789\n"),
        (replace(TCP, event=UPDATE), "0\t6\t10.0.0.5\t51234\t203.0.113.9\t443\t0\t0\n"),
        # D-F12: ulogd2 writes zeros.
        (replace(TCP, event=NEW), ""),
    ],
)
def test_the_line(tmp_path: Path, flow: FlowOf, line: str) -> None:
    assert written(tmp_path, flow) == line


def test_a_line_for_each_flow_but_new_ones(tmp_path: Path) -> None:
    text = written(tmp_path, *ALL)
    assert text.count("\n") == sum(flow.event != NEW for flow in ALL) < len(ALL)
    assert all(line.count("\t") == 7 for line in text.splitlines())


def test_a_path_that_cannot_be_opened_after_hup(tmp_path: Path) -> None:
    """D-NA1: ulogd2 crashes with the next flow. Here the file that was moved is written to until there is another."""
    directory = tmp_path / "log"
    directory.mkdir()
    path, moved = directory / "nacct", tmp_path / "moved"
    stack = opened(IP2STR("i", NoOptions()), NACCT("n", NACCTOptions(file=str(path))))
    stack.deliver(flow_batch(UDP))
    path.rename(moved)
    directory.rmdir()
    stack.output.reopen()
    stack.deliver(flow_batch(TCP))
    directory.mkdir()
    stack.output.reopen()
    stack.deliver(flow_batch(ICMP))
    stack.close()
    check(stack.output.stats)
    assert [line.split("\t")[1] for line in moved.read_text().splitlines()] == ["17", "6"]
    assert [line.split("\t")[1] for line in path.read_text().splitlines()] == ["1"]
