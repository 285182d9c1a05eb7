# SPDX-License-Identifier: GPL-2.0-or-later
"""COMMUNITYID: the IDs of packets and flows are those of the pure function, and one for all that belongs together."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from nflowlevel.filters.communityid import COMMUNITYID, COMMUNITYIDOptions
from nflowlevel.outputs.json import JSON, JSONOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.communityid import of_texts
from tests.corpus import by_name, frames
from tests.fix_plugins import batch_of
from tests.flows import ALL, ICMP, ICMPV6, SNAT, TCP, TCP6, UDP, End, FlowOf, deliver, flow_batch
from tests.messages import message_of


def ids(batch: Batch, seed: int = 0) -> list[str | None]:
    """Return the IDs of a batch."""
    return COMMUNITYID("c", COMMUNITYIDOptions(seed=seed)).process(batch).values("community_id")


def test_the_values_of_the_specification() -> None:
    """Those of its file for TCP, UDP, ICMP and SCTP."""
    flows = [
        FlowOf(6, End("128.232.110.120", 34855), End("66.35.250.204", 80)),
        FlowOf(17, End("192.168.1.52", 54585), End("8.8.8.8", 53)),
        FlowOf(1, End("192.168.0.89"), End("192.168.0.1"), icmp=(8, 0, 1)),
        FlowOf(132, End("192.168.170.8", 7), End("192.168.170.56", 80)),
    ]
    assert ids(flow_batch(*flows)) == [
        "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
        "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
        "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=",
        "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ=",
    ]


def test_a_flow_has_the_id_of_its_original_direction() -> None:
    """NAT or not: that is what a sensor in front of the firewall sees."""
    assert ids(flow_batch(TCP, SNAT, UDP, TCP6, ICMP, ICMPV6)) == [
        of_texts(6, "10.0.0.5", "203.0.113.9", 51234, 443),
        of_texts(6, "10.0.0.5", "203.0.113.9", 51234, 443),
        of_texts(17, "10.0.0.5", "203.0.113.9", 5353, 53),
        of_texts(6, "fd00::5", "2001:db8::9", 40000, 22),
        of_texts(1, "10.0.0.5", "203.0.113.9", 8, 0),
        of_texts(58, "fd00::5", "2001:db8::9", 128, 0),
    ]


def test_both_directions_have_one_id() -> None:
    back = replace(TCP, source=TCP.target, target=TCP.source)
    one, other = ids(flow_batch(TCP, back))
    assert one == other


def test_a_packet_has_the_id_of_its_flow() -> None:
    flow = FlowOf(17, End("10.77.0.2", 5000), End("10.77.0.1", 53))
    ping = FlowOf(1, End("10.77.0.2"), End("10.77.0.1"))
    packets = batch_of(*(message_of(by_name(name)) for name in ("udp4", "icmp-echo-request")))
    assert ids(packets) == ids(flow_batch(flow, ping))


def test_each_packet_of_the_corpus() -> None:
    """Later fragments have no ports, so the ID cannot be told; nor has ARP one."""
    batch = batch_of(*(message_of(frame) for frame in frames()))
    wanted: list[str | None] = []
    keys = ("ip.saddr", "ip.daddr", "ip.protocol", "src_port", "dest_port", "icmp.type", "icmp.code", "icmpv6.type",
            "icmpv6.code")  # fmt: skip
    for saddr, daddr, protocol, sport, dport, type4, code4, type6, code6 in batch.rows(*keys):
        first, second = {1: (type4, code4), 58: (type6, code6)}.get(protocol, (sport, dport))
        known = protocol is not None and (first is not None or protocol not in (1, 6, 17, 58, 132))
        wanted.append(of_texts(protocol, saddr, daddr, first or 0, second or 0) if known else None)
    assert ids(batch) == wanted
    assert None in wanted
    assert len(set(wanted)) > 20


def test_random_flows_and_each_type_of_icmp() -> None:
    """Ends that are alike, the smaller one on either side, types with and without an answer."""
    chosen = random.Random(3)
    addresses = {4: ("10.0.0.1", "10.0.0.2", "255.1.2.3"), 6: ("fd00::1", "fd00::2", "2001:db8::ff")}
    flows, wanted = [], []
    for number in range(3000):
        six = number % 2
        protocol = chosen.choice((6, 17, 132, 47, 136, 50, 58 if six else 1, 58 if six else 1, 58 if six else 1))
        saddr, daddr = (chosen.choice(addresses[6 if six else 4]) for _ in range(2))
        sport, dport = (chosen.choice((0, 1, 2, 443, 65535)) for _ in range(2))
        type_, code = chosen.randrange(256), chosen.randrange(4)
        seed = number % 3 and 0xFFFE
        flow = FlowOf(protocol, End(saddr, sport), End(daddr, dport), icmp=(type_, code, 1))
        first, second = (type_, code) if protocol in (1, 58) else (sport, dport)
        flows.append((seed, flow))
        wanted.append(of_texts(protocol, saddr, daddr, first, second, seed))
    for seed in (0, 0xFFFE):
        of_seed = [at for at, (each, _) in enumerate(flows) if each == seed]
        assert ids(flow_batch(*(flows[at][1] for at in of_seed)), seed) == [wanted[at] for at in of_seed]
    assert len(set(wanted)) > 1000


def test_the_seed() -> None:
    assert ids(flow_batch(TCP), 7) == [of_texts(6, "10.0.0.5", "203.0.113.9", 51234, 443, 7)]
    assert ids(flow_batch(TCP), 7) != ids(flow_batch(TCP))


def test_json_names_it_as_other_programs_do(tmp_path: Path) -> None:
    path = tmp_path / "json"
    deliver(flow_batch(TCP), COMMUNITYID("c", COMMUNITYIDOptions()), JSON("j", JSONOptions(file=str(path))))
    assert json.loads(path.read_text())["community_id"] == of_texts(6, "10.0.0.5", "203.0.113.9", 51234, 443)


def test_nothing_has_no_id() -> None:
    assert ids(flow_batch()) == []
    assert ids(Batch(None, 0)) == []
    assert ids(flow_batch(*ALL).select([])) == []


def test_the_batch_of_other_stacks_has_none() -> None:
    batch = flow_batch(TCP)
    ids(batch)
    assert not batch.has("community_id")
