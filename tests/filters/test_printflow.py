# SPDX-License-Identifier: GPL-2.0-or-later
"""PRINTFLOW: the line of a flow, as ulogd2 2.0.8 wrote it (but for D-P03), whatever reads it."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nflowlevel.filters.printflow import PRINTFLOW
from nflowlevel.outputs.gprint import GPRINT, GPRINTOptions
from nflowlevel.outputs.json import JSON, JSONOptions
from nflowlevel.outputs.logemu import LOGEMU, LOGEMUOptions
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import PRINT_FLOW
from nflowlevel.records.render import CopyPlan
from tests.fix_lines import check
from tests.flows import (
    ALL,
    DNAT,
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
    End,
    FlowOf,
    deliver,
    flow_batch,
)


def through(batch: Batch) -> Batch:
    """Return what PRINTFLOW makes of a batch."""
    return PRINTFLOW("p", NoOptions()).process(batch)


def line_of(flow: FlowOf) -> str:
    """Return the text of one flow."""
    (text,) = through(flow_batch(flow)).values("print")
    assert isinstance(text, str)
    return text


_THERE, _BACK = "SRC=10.0.0.5 DST=203.0.113.9", "SRC=203.0.113.9 DST=10.0.0.5"


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (
            UDP,
            f"[DESTROY] ORIG: {_THERE} PROTO=UDP SPT=5353 DPT=53 PKTS=1 BYTES=30 , "
            f"REPLY: {_BACK} PROTO=UDP SPT=53 DPT=5353 PKTS=0 BYTES=0 \n",
        ),
        (
            SNAT,
            f"[DESTROY] ORIG: {_THERE} PROTO=TCP SPT=51234 DPT=443 PKTS=10 BYTES=1234 , "
            "REPLY: SRC=203.0.113.9 DST=198.51.100.7 PROTO=TCP SPT=443 DPT=40001 PKTS=8 BYTES=56789 \n",
        ),
        (
            replace(UDP, event=NEW),
            f"[NEW] ORIG: {_THERE} PROTO=UDP SPT=5353 DPT=53 PKTS=0 BYTES=0 , "
            f"REPLY: {_BACK} PROTO=UDP SPT=53 DPT=5353 PKTS=0 BYTES=0 \n",
        ),
        (
            TCP6,
            "[DESTROY] ORIG: SRC=fd00::5 DST=2001:db8::9 PROTO=TCP SPT=40000 DPT=22 PKTS=5 BYTES=500 , "
            f"REPLY: SRC=2001:db8::9 DST=fd00::5 PROTO=TCP SPT=22 DPT=40000 PKTS=4 BYTES={2**40} \n",
        ),
    ],
)
def test_the_line(flow: FlowOf, text: str) -> None:
    assert line_of(flow) == text


def test_type_and_code_of_icmp_are_in_their_places() -> None:
    """D-P03: ulogd2 writes `TYPE=0 CODE=8` for a ping. As there, both directions have those of the original one."""
    assert line_of(ICMP).count("PROTO=ICMP TYPE=8 CODE=0 PKTS=2 BYTES=168 ") == 2
    assert "PROTO=ICMP TYPE=3 CODE=13 " in line_of(replace(ICMP, icmp=(3, 13, 0)))


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (50, "PROTO=ESP PKTS"),
        (51, "PROTO=AH PKTS"),
        (132, "PROTO=132 PKTS"),
        (33, "PROTO=33 PKTS"),
        (255, "PROTO=255 "),
    ],
)
def test_other_protocols_have_no_ports(protocol: int, said: str) -> None:
    assert line_of(FlowOf(protocol, End("10.0.0.5", 1), End("10.0.0.6", 2))).count(said) == 2
    assert "PROTO=58 PKTS" in line_of(ICMPV6)
    assert "PROTO=47 PKTS" in line_of(GRE)


def test_an_update_says_so() -> None:
    assert line_of(replace(TCP, event=UPDATE)).startswith("[UPDATE] ORIG: ")


def test_the_largest_line_fits_what_is_promised() -> None:
    address, most = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 2**64 - 1
    end = End(address, 65535)
    line = line_of(FlowOf(6, end, end, packets=(most, most), bytes=(most, most)))
    assert len(line) <= (PRINT_FLOW.longest or 0)
    assert line.count(str(most)) == 4


def test_whatever_reads_it_has_the_same_text(tmp_path: Path) -> None:
    """A row of a database, JSON, GPRINT; of a selection as well."""
    batch = through(flow_batch(*ALL))
    texts = batch.values("print")
    assert len(set(texts)) == len(ALL)
    rows = b"".join(piece for piece, _ in CopyPlan([("print", PRINT_FLOW)]).render(batch.raw, batch.added))
    assert [row.replace("\\n", "\n") for row in rows.decode().splitlines()] == texts
    assert batch.select([2, 5]).values("print") == [texts[2], texts[5]]
    assert batch[3].get("print") == texts[3]
    print_, path = PRINTFLOW("p", NoOptions()), tmp_path / "g"
    deliver(flow_batch(TCP), print_, GPRINT("g", GPRINTOptions(file=str(path))))
    assert path.read_text().endswith(",print=" + texts[0].replace(",", "\\x2c").replace("\n", "\\n") + "\n")


def test_logemu_has_the_time_of_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "emu"
    stack = deliver(flow_batch(*ALL), PRINTFLOW("p", NoOptions()), LOGEMU("e", LOGEMUOptions(file=str(path))))
    lines = path.read_text().splitlines()
    assert len(lines) == len(ALL)
    line = re.compile(r"(\w{3} [ \d]\d \d\d:\d\d:\d\d) \S+ \[(?:NEW|UPDATE|DESTROY)\] ORIG: .* ")
    stamps = {found[1] for found in map(line.fullmatch, lines) if found}
    assert all(map(line.fullmatch, lines))
    assert stamps == {time.strftime("%b %e %H:%M:%S", time.localtime(NOW))}
    check(stack.output.stats)
    assert stack.output.stats.written == len(ALL)


def test_packets_and_sums_have_no_such_line() -> None:
    batch = Batch.of_columns({"sum.name": ["a"]}, time=(1, None))
    batch.add_print()
    assert batch.values("print") == [None]


def test_other_stacks_do_not_see_it() -> None:
    batch = flow_batch(TCP)
    assert through(batch).has("print")
    assert not batch.has("print")


def test_json_shows_it_once(tmp_path: Path) -> None:
    path = tmp_path / "j"
    deliver(flow_batch(DNAT), PRINTFLOW("p", NoOptions()), JSON("j", JSONOptions(file=str(path))))
    assert path.read_text().count("ORIG: ") == 1
