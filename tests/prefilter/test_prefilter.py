# SPDX-License-Identifier: GPL-2.0-or-later
"""The prefilter's program on the real kernel: its parse, its decision and its counters against the model, and its life.

Frames are run through it by BPF_PROG_TEST_RUN, which takes the Ethernet header off as a device would.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nflowlevel.binding import elf
from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.bpf import BPFMap, Program
from nflowlevel.binding.elf import MapDefinition
from nflowlevel.errors import KernelError, NotSupported
from nflowlevel.prefilter import generation, pins, prefilter
from nflowlevel.prefilter.conditions import options_of
from nflowlevel.prefilter.memory import hashed_lengths
from nflowlevel.prefilter.prefilter import LayoutError, Prefilter
from tests import fix_decoder, oracle
from tests.corpus import ACK, SYN, TCP, UDP, Frame, by_name, frames, ipv4, ipv6, tcp, udp
from tests.fix_interrupt import interrupt_everywhere
from tests.fix_nobody import run_as_nobody
from tests.fix_prefilter import Model, Packet, Rules, bpffs, dispatcher, from_keys, needs_bpf, one_cpu, packet_of

__all__ = ["bpffs", "one_cpu"]

pytestmark = [pytest.mark.kernel, needs_bpf]

ROOT = Path(__file__).parent.parent.parent

#: BPF_PROG_TEST_RUN refuses a frame that says IP and has no whole IP header; behind a VLAN tag it does not look.
_LEAST = {0x0800: 34, 0x86DD: 54}
_MOST = 3500
_TAG = bytes.fromhex("81000064")


def runnable(frame: bytes) -> bool:
    return max(14, _LEAST.get(oracle.be16(frame, 12), 0)) <= len(frame) <= _MOST


def tagged(frame: bytes) -> bytes:
    return frame[:12] + _TAG + frame[12:]


def packet4(data: bytes, protocol: int, src: str = "10.77.0.2", dst: str = "10.77.0.1") -> bytes:
    addresses = {"saddr": socket.inet_aton(src), "daddr": socket.inet_aton(dst)}
    return Frame("", 2, 0x0800, ipv4(protocol, data, **addresses)).wire()  # type: ignore[arg-type]


def syn(
    dport: int = 22, src: str = "10.77.0.2", *, flags: int = SYN, sport: int = 40000, dst: str = "10.77.0.1"
) -> bytes:
    return packet4(tcp(flags, dport=dport, sport=sport), TCP, src, dst)


def syn6(src: str, dst: str) -> bytes:
    addresses = {"saddr": socket.inet_pton(socket.AF_INET6, src), "daddr": socket.inet_pton(socket.AF_INET6, dst)}
    return Frame("", 10, 0x86DD, ipv6(TCP, tcp(SYN, family=6), **addresses)).wire()  # type: ignore[arg-type]


# -- the parse --------------------------------------------------------------------------------------------------------


class Parser:
    """The program `parse`: what `filter` knows of a frame."""

    def __init__(self) -> None:
        shipped = generation.shipped()
        self._map = BPFMap.create("parsed", shipped.maps["parsed"])
        self._program = Program.load("parse", shipped.programs["parse"], {"parsed": self._map}, shipped.license)

    def parse(self, frame: bytes) -> Packet:
        assert self._program.test_run(frame) == 1
        value = self._map.lookup(bytes(4))
        assert value is not None
        p = ffi.from_buffer("struct nfl_packet *", value)[0]
        known = p.known
        at = {4: 12, 6: 0, 0: 16}[p.flow.family]
        saddr, daddr = bytes(ffi.buffer(p.flow.saddr)), bytes(ffi.buffer(p.flow.daddr))
        assert bytes(p.flow.zero) == bytes(p.reserved)[:2] == bytes(2)
        if p.flow.family == 4:
            assert saddr[:12] == daddr[:12] == bytes(10) + b"\xff\xff"
        if not known & lib.NFL_KNOWN_PORTS:
            assert p.flow.sport == p.flow.dport == 0
        has = known & lib.NFL_KNOWN_PORTS
        return Packet(
            saddr=saddr[at:],
            daddr=daddr[at:],
            sport=p.flow.sport if has else None,
            dport=p.flow.dport if has else None,
            protocol=p.flow.protocol if known & lib.NFL_KNOWN_PROTOCOL else None,
            flags=p.tcp_flags if known & lib.NFL_KNOWN_FLAGS else None,
            ttl=p.ttl if p.flow.family else None,
            icmp=(p.icmp_type, p.icmp_code) if known & lib.NFL_KNOWN_ICMP else None,
            length=p.length,
        )


@pytest.fixture(scope="module")
def parser() -> Parser:
    return Parser()


def test_every_frame(parser: Parser) -> None:
    tested = 0
    for frame in frames():
        for wire in (frame.wire(), tagged(frame.wire())):
            if runnable(wire):
                assert parser.parse(wire) == packet_of(wire), frame.name
                tested += 1
    assert tested > 1000


def test_every_frame_as_the_decoder_in_c_reads_it(parser: Parser) -> None:
    chosen = [frame for frame in frames() if runnable(frame.wire())]
    messages = [
        oracle.build_message(f.wire()[14:], family=oracle.BRIDGE, protocol=oracle.be16(f.wire(), 12)) for f in chosen
    ]
    rows = fix_decoder.decode(messages).batch.to_dicts()
    for frame, row in zip(chosen, rows, strict=True):
        for name in ("ip.saddr", "ip.daddr"):
            if name in row:
                row[name] = socket.inet_pton(socket.AF_INET6 if ":" in row[name] else socket.AF_INET, row[name])
        got = parser.parse(frame.wire())
        assert got == from_keys(row, got.length), frame.name


def test_every_length_of_every_frame(parser: Parser) -> None:
    """Cut where the kernel lets it, and behind a tag anywhere: no length in a packet is believed."""
    tested = 0
    for frame in frames():
        wire = tagged(frame.wire())
        for length in range(18, min(len(wire), 130)):
            cut = wire[:length]
            assert parser.parse(cut) == packet_of(cut), f"{frame.name} cut to {length}: {cut.hex()}"
            tested += 1
    assert tested > 20_000


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([frame.wire() for frame in frames()]),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=4),
    st.integers(18, 200),
)
def test_random_faults(parser: Parser, wire: bytes, edits: list[tuple[int, int]], length: int) -> None:
    data = bytearray(tagged(wire))
    for at, value in edits:
        if 18 + at < len(data):
            data[18 + at] = value
    frame = bytes(data[:length])
    assert parser.parse(frame) == packet_of(frame)


def extensions(count: int) -> bytes:
    chain = udp(family=6)
    for number in range(count):
        chain = bytes([60 if number else UDP, 0, 1, 4, 0, 0, 0, 0]) + chain
    return Frame("", 10, 0x86DD, ipv6(60 if count else UDP, chain)).wire()


def test_extension_headers_have_a_bound(parser: Parser) -> None:
    most = lib.NFL_PREFILTER_EXTENSIONS
    assert parser.parse(extensions(most)).dport == 53
    assert parser.parse(extensions(most + 1)).protocol is None


def test_bare_ip_and_ethernet(parser: Parser) -> None:
    """A packet socket shows a program the Ethernet header; a datagram one, as Netfilter, what follows it."""
    frame = syn(dport=4321)
    for kind, begins in ((socket.SOCK_RAW, "with its Ethernet header"), (socket.SOCK_DGRAM, "with its IP header")):
        with socket.socket(socket.AF_PACKET, kind, socket.htons(0x0003)) as listener:
            listener.bind(("lo", 0x0003))
            with Prefilter("bare", dports=[4321]) as pre:
                listener.setsockopt(socket.SOL_SOCKET, 50, pre.prog_fd)  # SO_ATTACH_BPF
                before = pre.counters().logged
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                    sender.bind(("lo", 0))
                    sender.send(frame)
                listener.settimeout(5)
                assert listener.recv(100), begins
                assert pre.counters().logged > before, begins


# -- the decision -----------------------------------------------------------------------------------------------------


def judge(rules: Rules, wires: list[bytes]) -> None:
    """Run frames through the program and the model: the same packets match, and all counters are the same."""
    model = Model(rules)
    with Prefilter("judge", sources=4096, flows=4096, **rules.arguments()) as pre, dispatcher(pre) as program:
        for number, wire in enumerate(wires):
            reason = model.decide(packet_of(wire))
            assert program.test_run(wire) == (reason == "logged"), f"frame {number}: {reason}\n{rules}\n{wire.hex()}"
        counted = pre.counters()
        got = {(r, p): tuple(c) for r, row in counted.cells.items() for p, c in row.items() if c.packets}
        assert got == {key: (n, model.bytes[key]) for key, n in model.counts.items()}
        assert counted.seen == len(wires)
        assert counted.logged + counted.filtered + counted.sampled_out + counted.rate_limited == counted.seen
        top = pre.top(10_000)
        assert {source: count.packets for source, count in top.sources} == dict(model.sources)
        assert {(kind, port): packets for kind, port, packets in top.ports} == dict(model.ports)


_WIRES = [wire for frame in frames() if runnable(wire := frame.wire())]

#: So slow that nothing is added while a test runs.
_SLOW = 1e-5

_networks4 = st.builds(
    lambda address, prefix: f"{socket.inet_ntoa((address >> 32 - prefix << 32 - prefix).to_bytes(4, 'big'))}/{prefix}",
    st.sampled_from([0x0A4D0002, 0x0A4D0001, 0x0A4D00FE, 0xCB0071FF, 0x01020304, 0]),
    st.sampled_from([0, 8, 15, 16, 24, 30, 31, 32]),
)
_networks6 = st.sampled_from(
    ["fd77::2/128", "fd77::/16", "fd77::/64", "::/0", "2001:db8::/32", "::ffff:10.77.0.2/128", "::/96", "ff02::1"]
)
_networks = st.lists(st.one_of(_networks4, _networks6), max_size=4)
_ranges = st.lists(
    st.sampled_from([(53, 53), (80, 80), (0, 0), (65535, 65535), (1, 1023), (36412, 40000), (0, 65535)]), max_size=3
)


@st.composite
def some_rules(draw: st.DrawFn) -> Rules:
    mask = draw(st.integers(0, 255))
    maybe_flags = st.one_of(st.none(), st.none(), st.just((mask, draw(st.integers(0, 255)) & mask)), st.just((18, 2)))
    seldom = st.one_of(st.just([]), _networks)
    return Rules(
        ignore=draw(seldom),
        only=draw(seldom),
        ignore_dst=draw(seldom),
        only_dst=draw(seldom),
        protocols=draw(st.one_of(st.just([]), st.lists(st.sampled_from([0, 1, 6, 17, 47, 58, 132, 255]), max_size=4))),
        sports=draw(st.one_of(st.just([]), _ranges)),
        dports=draw(st.one_of(st.just([]), _ranges)),
        tcp_flags=draw(maybe_flags),
        sample=draw(st.sampled_from([1, 1, 2, 3, 7])),
        rate=draw(st.sampled_from([0, _SLOW])),
        burst=draw(st.integers(1, 20)),
        rate_prefix4=draw(st.sampled_from([32, 24, 0, 31])),
        rate_prefix6=draw(st.sampled_from([64, 128, 0, 33, 127])),
        global_rate=draw(st.sampled_from([0, 0, _SLOW])),
        global_burst=draw(st.integers(1, 40)),
        first_of_flow=draw(st.sampled_from([0, 0, 1e5])),
        top=draw(st.booleans()),
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(some_rules(), st.lists(st.sampled_from(_WIRES), min_size=1, max_size=80))
def test_random_rules_and_packets(one_cpu: None, rules: Rules, wires: list[bytes]) -> None:
    judge(rules, wires)


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(ignore=["10.0.0.0/8", "fd77::/16"]),
        Rules(only=["10.77.0.0/24"]),
        Rules(only=["10.0.0.0/8"], ignore=["10.77.0.2"]),
        Rules(ignore_dst=["10.77.0.1", "fd77::1"]),
        Rules(only_dst=["::/0"]),
        Rules(only=["0.0.0.0/0", "::/0"], only_dst=["10.77.0.1"]),
        Rules(protocols=[6, 58]),
        Rules(dports=[(53, 53), (80, 100)]),
        Rules(sports=[(36412, 36412)]),
        Rules(tcp_flags=(0x12, 0x02)),
        Rules(sample=3),
        Rules(rate=_SLOW, burst=7, top=True),
        Rules(rate=_SLOW, burst=7, rate_prefix4=8, rate_prefix6=0),
        Rules(global_rate=_SLOW, global_burst=29),
        Rules(first_of_flow=1e5),
        Rules(protocols=[6], dports=[(80, 80)], tcp_flags=(0x12, 0x02), sample=2, rate=_SLOW, burst=3, top=True),
    ],
    ids=lambda rules: ",".join(n for n, v in vars(rules).items() if v != getattr(Rules(), n)) or "none",
)
def test_each_rule_over_the_whole_corpus(one_cpu: None, rules: Rules) -> None:
    judge(rules, _WIRES)


def test_every_port_and_protocol() -> None:
    with Prefilter("ports", dports=["0-21", 23, "8000-8100", 65535]) as pre, dispatcher(pre) as program:
        for dport in (*range(30), *range(7998, 8104), *range(63, 65536, 997), 65534, 65535):
            wanted = dport < 22 or dport in (23, 65535) or 8000 <= dport <= 8100
            assert program.test_run(syn(dport)) == wanted, dport
        pre.update(dports="", protocols="tcp, 47,icmpv6,255")
        for protocol in range(256):
            assert program.test_run(packet4(bytes(40), protocol)) == (protocol in (6, 47, 58, 255)), protocol


def test_syn_alone_is_an_attempt_to_connect() -> None:
    with Prefilter("flags", tcp_flags="syn") as pre, dispatcher(pre) as program:
        matched = {flags for flags in range(256) if program.test_run(syn(flags=flags))}
        assert matched == {flags for flags in range(256) if flags & SYN and not flags & ACK}
        pre.update(tcp_flags="rst,!ack")
        matched = {flags for flags in range(256) if program.test_run(syn(flags=flags))}
        assert matched == {flags for flags in range(256) if flags & 4 and not flags & ACK}


def test_ten_thousand_networks() -> None:
    inside = [f"{a}.{b}.{c}.0/24" for a in (11, 172) for b in range(100) for c in range(50)]
    with Prefilter("many", ignore=inside) as pre, dispatcher(pre) as program:
        for number, network in enumerate(inside):
            if number % 97 == 0:
                assert not program.test_run(syn(src=network.replace("0/24", "9"))), network
        for source in ("11.100.0.1", "12.0.0.1", "172.99.50.1", "10.255.255.255"):
            assert program.test_run(syn(src=source)), source


def row_of(first: str, prefix: int, count: int) -> list[str]:
    """Return networks of one length, each next to the one before."""
    start = ipaddress.ip_network(f"{first}/{prefix}")
    step = start.num_addresses
    return [f"{start.network_address + number * step}/{prefix}" for number in range(count)]


_ROW4, _ROW6 = row_of("10.77.0.0", 30, 2100), row_of("fd77::", 66, 2100)


@pytest.mark.parametrize(
    ("rules", "hashed"),
    [
        (Rules(ignore=_ROW4 + _ROW6), ([30], [66])),
        (Rules(only=_ROW4 + _ROW6), ([30], [66])),
        (Rules(only=["10.0.0.0/8", "fd00::/8"], ignore=_ROW4 + _ROW6), ([30, 8], [66, 8])),
        (Rules(ignore_dst=["10.77.0.1"], only=["0.0.0.0/0", *_ROW6], ignore=_ROW4), ([32, 30, 0], [66])),
        (Rules(ignore=[*_ROW4[1:], "fd77::2"], only_dst=["fd77::1", "10.77.0.0/29"]), ([30, 29], [])),
        (Rules(ignore=["fd77::2"], only_dst=["fd77::1"], only=_ROW6), ([], [128, 66])),
        (Rules(ignore=[*_ROW4[:5], *_ROW6[:5]]), ([], [])),
        (Rules(ignore=[*_ROW4, *_ROW6, "10.0.0.0/9", "192.0.2.0/24", "10.77.32.208"]), ([], [66])),
    ],
)  # fmt: skip
def test_networks_in_a_hash(one_cpu: None, rules: Rules, hashed: tuple[list[int], list[int]]) -> None:
    """Networks of few lengths, one within the other: as the model says, over the corpus and at their borders."""
    options = options_of({name: getattr(rules, name) for name in ("ignore", "only", "ignore_dst", "only_dst")})
    assert (hashed_lengths(options, 4), hashed_lengths(options, 6)) == hashed
    ends = ["10.77.0.0", "10.77.0.7", "10.77.0.8", "10.77.32.207", "10.77.32.208", "10.76.255.255", "192.0.2.1"]
    ends6 = [
        "fd77::",
        "fd77::3fff:ffff:ffff:ffff",
        "fd77::4000:0:0:0",
        "fd77:0:0:1:1234:5678:9abc:def0",
        "fd77:0:0:1000::",
    ]
    judge(
        rules,
        [
            *_WIRES[::5],
            *(syn(src=one, dst=other) for one in ends for other in ends),
            *(syn6(one, other) for one in ends6 for other in ends6),
        ],
    )


# -- what remembers ---------------------------------------------------------------------------------------------------


def until(program: Program, wire: bytes, result: int) -> float:
    """Run a frame again and again until it has that result; return when that was."""
    deadline = time.monotonic() + 10
    while program.test_run(wire) != result:
        assert time.monotonic() < deadline, f"it never was {result}"
    return time.monotonic()


@pytest.mark.parametrize(
    ("rules", "span", "reason"),
    [
        ({"rate": 20, "burst": 1}, 0.05, "rate"),  # below what the clock of ticks is used for
        ({"rate": 5, "burst": 1}, 0.2, "rate"),
        ({"global_rate": 5, "global_burst": 1}, 0.2, "global_rate"),
        ({"first_of_flow": 0.2}, 0.2, "first_of_flow"),
    ],
)
def test_what_is_limited_passes_again_after_its_time(rules: dict[str, float], span: float, reason: str) -> None:
    tick = 0.011  # the clock of ticks may be late
    with Prefilter("again", **rules) as pre, dispatcher(pre) as program:
        start = time.monotonic()
        assert program.test_run(syn())
        assert not program.test_run(syn())
        assert until(program, syn(), 1) - start >= span - tick
        counted = pre.counters()
        assert counted.logged == 2
        assert counted.reasons[reason].packets == counted.seen - 2 == counted.rate_limited


def test_repr() -> None:
    assert repr(Prefilter("all")) == "<Prefilter 'all', not loaded: all packets>"
    with Prefilter("ssh", dports=[22, "80-90"], ignore=["10.1.0.0/16"], rate=2.5, top=True) as pre:
        rules = "ignore 10.1.0.0/16, dports 22,80-90, rate 2.5, top True"
        assert repr(pre) == f"<Prefilter 'ssh', loaded: {rules}>"


def test_a_rate_is_kept() -> None:
    """Never more than burst + rate * time, and that time is short of nothing: what was due has passed."""
    with Prefilter("rate", rate=500, burst=3) as pre, dispatcher(pre) as program:
        start = time.monotonic()
        program.test_run(syn())
        while pre.counters().logged < 50:
            program.test_run(syn(), repeat=100)
        elapsed = time.monotonic() - start
        assert pre.counters().logged <= 3 + 500 * elapsed + 1


def test_each_source_has_its_own_bucket() -> None:
    with Prefilter("own", rate=_SLOW, burst=4) as pre, dispatcher(pre) as program:
        for _ in range(7):
            for source in ("192.0.2.1", "192.0.2.2", "198.51.100.3"):
                program.test_run(syn(src=source))
        assert (pre.counters().logged, pre.counters().rate_limited) == (12, 9)


def test_what_a_slower_rate_left_does_not_bind_a_faster_one() -> None:
    with Prefilter("faster", rate=_SLOW, burst=1) as pre, dispatcher(pre) as program:
        assert [program.test_run(syn()) for _ in range(3)] == [1, 0, 0]
        pre.update(rate=1, burst=2)
        assert [program.test_run(syn()) for _ in range(3)] == [1, 1, 0]


def test_more_sources_than_are_remembered() -> None:
    """The oldest are forgotten: nothing fails, and all packets are counted."""
    with Prefilter("forget", rate=_SLOW, burst=1, sources=64) as pre, dispatcher(pre) as program:
        for number in range(1009):
            assert program.test_run(syn(src=f"10.{number >> 8}.{number & 255}.1")) == 1
        assert pre.counters().logged == 1009


def test_a_flow_that_a_limit_refused_has_not_begun() -> None:
    with Prefilter("begun", first_of_flow=1e5, rate=_SLOW, burst=1) as pre, dispatcher(pre) as program:
        assert program.test_run(syn(sport=1)) == 1
        assert program.test_run(syn(sport=2)) == 0
        pre.update(rate=0)
        assert program.test_run(syn(sport=1)) == 0
        assert program.test_run(syn(sport=2)) == 1


def test_sampling_on_several_cpus(one_cpu: None) -> None:
    with Prefilter("sample", sample=7) as pre, dispatcher(pre) as program:
        program.test_run(syn(), repeat=7 * 1009)
        assert (pre.counters().logged, pre.counters().sampled_out) == (1009, 6 * 1009)


def test_top() -> None:
    with Prefilter("top", top=True, dports=[22, 53], rate_prefix6=48) as pre, dispatcher(pre) as program:
        program.test_run(syn(22, "192.0.2.1"), repeat=30)
        program.test_run(syn(80, "192.0.2.9"), repeat=100)  # does not meet the conditions
        program.test_run(by_name("udp4").wire(), repeat=20)
        program.test_run(by_name("udp6").wire(), repeat=10)
        top = pre.top(2)
        assert top.sources == [("192.0.2.1", (30, 1200)), ("10.77.0.2", (20, 20 * 35))]
        assert top.ports == [("tcp", 22, 30), ("udp", 53, 30)] or top.ports == [("udp", 53, 30), ("tcp", 22, 30)]
        assert ("fd77::/48", (10, 10 * 55)) in pre.top().sources


# -- changes ----------------------------------------------------------------------------------------------------------


def test_update_is_atomic_under_traffic() -> None:
    """A packet that only a mixture of both sets of rules would log: it is filtered by either, and never logged."""
    old = {"only": "10.0.0.0/8", "dports": "80", "ignore": ""}
    new = {"only": "192.0.2.0/24", "dports": "22", "ignore": "10.77.0.0/24"}
    frame = syn(22, "10.99.0.1")  # old: another port; new: outside
    with Prefilter("atomic", **old) as pre, dispatcher(pre) as program:
        runs = []

        def traffic() -> None:
            while not done.is_set():
                program.test_run(frame, repeat=10_000)
                runs.append(10_000)

        done = threading.Event()
        thread = threading.Thread(target=traffic)
        thread.start()
        try:
            for number in range(60):
                pre.update(**(new if number % 2 == 0 else old))
        finally:
            done.set()
            thread.join()
        counted = pre.counters()
    assert counted.logged == 0
    assert counted.reasons["port"].packets > 1000
    assert counted.reasons["outside"].packets > 1000
    assert counted.seen == counted.filtered == sum(runs)


def test_update_keeps_what_is_counted_and_known() -> None:
    with Prefilter("keeps", rate=_SLOW, burst=2) as pre, dispatcher(pre) as program:
        program.test_run(syn(), repeat=5)
        pre.update(dports=22)
        assert program.test_run(syn()) == 0, "its source was forgotten"
        assert (pre.counters().logged, pre.counters().rate_limited) == (2, 4)
        assert pre.rules.dports == 22 or pre.rules.dports == "22"


def test_a_refused_update_changes_nothing() -> None:
    with Prefilter("refused", dports=[22], rate=10) as pre, dispatcher(pre) as program:
        wrong: dict[str, tuple[prefilter.Given, str]] = {
            "dports": ("x", "^dports: 'x' is not a port"),
            "ignore": ("10.0.0.1/8", "^ignore: '10.0.0.1/8' has bits set after its prefix"),
            "sample": (0, "^sample must be 1 to 4294967295, not 0"),
            "sources": (5, "^sources of prefilter 'refused' cannot change"),
            "on_exit": ("keep", "^on_exit of"),
        }
        for name, (value, message) in wrong.items():
            with pytest.raises(ValueError, match=message):
                pre.update(**{name: value})
        with pytest.raises(TypeError, match="unknown rule 'dport' of a prefilter — did you mean 'dports'"):
            pre.update(dport=[1])
        assert pre.rules.dports == "22"
        assert program.test_run(syn(22)) == 1
        assert program.test_run(syn(23)) == 0


# -- life -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pinned(bpffs: Path) -> Iterator[Callable[..., Prefilter]]:
    """Loads and pins a prefilter; afterwards nothing is left of it."""
    made: list[Prefilter] = []

    def make(name: str = "ssh", **rules: prefilter.Given) -> Prefilter:
        pre = Prefilter(name, bpffs=bpffs, **rules).load()
        made.append(pre)
        pre.pin()
        return pre

    yield make
    for pre in made:
        pre.close()
        if pre.directory.exists():
            pins.remove(pre.directory)


def test_a_name_is_found_again(bpffs: Path, pinned: Callable[..., Prefilter]) -> None:
    pre = pinned(dports=[22], sample=3, ignore=["10.1.0.0/16"])
    assert Prefilter.pinned(bpffs=bpffs) == ["ssh"]
    assert pre.path == f"{bpffs}/nflowlevel/ssh/prog"
    with dispatcher(pre) as program:
        program.test_run(syn())
    with Prefilter.open("ssh", bpffs=bpffs) as again:
        assert again.rules == pre.rules
        assert again.counters() == pre.counters()
        assert again.active
        again.update(sample=5)
    with Prefilter.open("ssh", bpffs=bpffs) as third:
        assert third.rules.sample == 5


def test_when_the_process_ends_nothing_matches(bpffs: Path, pinned: Callable[..., Prefilter]) -> None:
    pre = pinned()
    with dispatcher(pre) as program:
        assert program.test_run(syn()) == 1
        pre.close()
        until(program, syn(), 0)  # the kernel empties the slots a moment later
        with Prefilter.open("ssh", bpffs=bpffs) as again:
            assert not again.active
            logged = again.counters().logged
            again.update()
            assert again.active
            assert program.test_run(syn()) == 1, "the rule's dispatcher is the one that was filled again"
            assert again.counters().logged == logged + 1
        until(program, syn(), 0)


def test_when_the_process_ends_all_goes_on(bpffs: Path, pinned: Callable[..., Prefilter]) -> None:
    pre = pinned(on_exit="keep", dports=[22])
    with dispatcher(pre) as program:
        pre.close()
        assert [program.test_run(syn(port)) for port in (22, 23)] == [1, 0]
        with Prefilter.open("ssh", bpffs=bpffs) as again:
            assert again.active
            again.update(dports=[23])
        assert [program.test_run(syn(port)) for port in (22, 23)] == [0, 1]


@pytest.mark.parametrize(("on_exit", "result"), [("no-match", 0), ("keep", 1)])
def test_a_killed_process(bpffs: Path, on_exit: str, result: int) -> None:
    child = os.fork()
    if not child:
        Prefilter("killed", bpffs=bpffs, on_exit=on_exit).load().pin()
        os.kill(os.getpid(), 9)
    assert os.waitpid(child, 0)[1] == 9
    try:
        with Program.pinned(bpffs / "nflowlevel/killed/prog") as program:
            until(program, syn(), result)
    finally:
        pins.remove(bpffs / "nflowlevel/killed")


def test_take_loads_or_takes_over(bpffs: Path) -> None:
    with Prefilter.take("taken", bpffs=bpffs, dports=[22]) as first, dispatcher(first) as program:
        assert program.test_run(syn(22)) == 1
        first.close()
        with Prefilter.take("taken", bpffs=bpffs, sample=2) as second:
            assert second.rules == Prefilter("x", sample=2).rules
            assert second.counters().seen == 1
            program.test_run(syn(99), repeat=2)
            assert second.counters().logged == 2
            with pytest.raises(ValueError, match="on_exit"):
                Prefilter.take("taken", bpffs=bpffs, on_exit="keep")
            second.remove()
    assert Prefilter.pinned(bpffs=bpffs) == []


def test_interrupts(bpffs: Path) -> None:
    """Loading it, and opening what is pinned: no map and no program is left behind."""
    with Prefilter("there", bpffs=bpffs) as pre:
        pre.pin()

        def use() -> None:
            with Prefilter.open("there", bpffs=bpffs) as opened:
                opened.counters()

        interrupt_everywhere(use, least=50, step=7, circles=True)
        pre.remove()

    def load() -> None:
        with Prefilter("there", bpffs=bpffs, dports=[22]):
            pass

    interrupt_everywhere(load, least=100, step=97, circles=True)


def test_two_of_a_name(bpffs: Path, pinned: Callable[..., Prefilter]) -> None:
    pre = pinned()
    with Prefilter("ssh", bpffs=bpffs, dports=1) as other:
        with pytest.raises(KernelError, match=r"File exists — Prefilter.open\('ssh'\)") as caught:
            other.pin()
        assert caught.value.errno == 17
        other.update(dports=2)
    assert pre.is_pinned
    with Prefilter.open("ssh", bpffs=bpffs) as again:
        assert again.rules == pre.rules, "the other one described itself there"


def test_what_cannot_be_pinned_leaves_nothing(bpffs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Prefilter("half", bpffs=bpffs) as pre:
        monkeypatch.setattr(pins, "describe", lambda *_: (_ for _ in ()).throw(KernelError("describe", 12)))
        with pytest.raises(KernelError, match="describe"):
            pre.pin()
        assert Prefilter.pinned(bpffs=bpffs) == []


def test_another_layout(bpffs: Path) -> None:
    directory = bpffs / "nflowlevel/other"
    directory.mkdir(parents=True)
    value = struct.pack("=II", 99, 2) + b"{}"
    with BPFMap.create("about", MapDefinition(2, 4, len(value), 1, 0)) as about:
        about.update(bytes(4), value)
        about.pin(directory / "about")
    with pytest.raises(LayoutError, match="layout 99, and this version has layout 1") as caught:
        Prefilter.open("other", bpffs=bpffs)
    assert caught.value.found == 99
    assert "nflowlevel prefilter remove other" in str(caught.value)
    with pytest.raises(LayoutError):
        Prefilter.take("other", bpffs=bpffs)
    with Prefilter("other", bpffs=bpffs) as pre:
        with pytest.raises(LayoutError):
            pre.pin()
        pre.remove()
    assert Prefilter.pinned(bpffs=bpffs) == []


def test_what_was_not_finished(bpffs: Path) -> None:
    (bpffs / "nflowlevel/torn").mkdir(parents=True)
    with pytest.raises(LayoutError, match="not finished"):
        Prefilter.open("torn", bpffs=bpffs)
    Prefilter("torn", bpffs=bpffs).remove()


def test_an_unknown_name(bpffs: Path, pinned: Callable[..., Prefilter]) -> None:
    pinned("web")
    with pytest.raises(KernelError, match="did you mean 'web'"):
        Prefilter.open("wep", bpffs=bpffs)
    with pytest.raises(KernelError, match="pinned: web"):
        Prefilter.open("qqqqq", bpffs=bpffs)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "x" * 65, "ä", "a\n"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Prefilter(name)


def test_before_and_after(bpffs: Path) -> None:
    pre = Prefilter("closed", bpffs=bpffs)
    uses: list[Callable[[], object]] = [pre.counters, pre.pin, pre.update, pre.top, lambda: pre.prog_fd]
    for use in uses:
        with pytest.raises(ValueError, match="not loaded"):
            use()
    pre.load()
    assert pre.load() is pre
    pre.close()
    pre.close()
    for use in uses:
        with pytest.raises(ValueError, match="not loaded"):
            use()


def test_no_descriptor_is_left(bpffs: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with Prefilter("fds", bpffs=bpffs, ignore=["10.0.0.0/8"]) as pre:
        pre.pin()
        pre.update(sample=2)
        assert pre.is_pinned
        with Prefilter.open("fds", bpffs=bpffs) as again:
            again.update(sample=3)
        pre.remove()
    assert sorted(os.listdir("/proc/self/fd")) == before


# -- states -----------------------------------------------------------------------------------------------------------


def test_without_capabilities() -> None:
    def use() -> int:
        try:
            Prefilter("nobody").load()
        except KernelError as error:
            print(error)
            return error.errno or 0
        return -1

    done = run_as_nobody(use)
    assert done.status == 1, done.output
    assert "Operation not permitted — CAP_BPF is missing; run as root" in done.output


def test_no_bpffs(tmp_path: Path) -> None:
    with Prefilter("unmounted", bpffs=tmp_path) as pre:
        with pytest.raises(NotSupported, match=r"no BPF file system at .* mount -t bpf bpf"):
            pre.pin()
        assert pre.counters().seen == 0, "it works without a name"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotSupported):
        Prefilter.open("unmounted", bpffs=tmp_path)
    assert Prefilter.pinned(bpffs=tmp_path) == []


def test_an_installation_without_clang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generation, "OBJECT", tmp_path / "prefilter.bpf.o")
    with pytest.raises(NotSupported, match=r"without clang .*needed: clang"):
        Prefilter("none").load()


# -- a predicate before it --------------------------------------------------------------------------------------------

_PREDICATE = """
#include "kernel.h"
#include "prefilter.h"
#include "packet.h"
struct map_definition slots SEC("maps"), counters SEC("maps");
char _license[] SEC("license") = "GPL";
SEC("socket/predicate") int predicate(struct __sk_buff *skb)
{
	uint32_t key;
	struct nfl_cell *cell;
	struct nfl_packet p;

	parse(skb, &p, 0);
	if (p.flow.dport == 22 && p.ttl < 70) {
		tail_call(skb, &slots, NFL_PREFILTER_BEHIND);
		return 0;
	}
	key = NFL_FILTERED_PREDICATE * NFL_CLASSES + class_of(&p);
	cell = map_lookup(&counters, &key);
	if (cell) {
		__sync_fetch_and_add(&cell->packets, 1);
		__sync_fetch_and_add(&cell->bytes, p.length);
	}
	return 0;
}
"""


@pytest.mark.skipif(shutil.which("clang") is None, reason="no clang")
def test_a_predicate_before_the_rules(tmp_path: Path) -> None:
    (tmp_path / "predicate.c").write_text(_PREDICATE)
    command = ["clang", "-O2", "-mcpu=v3", "-target", "bpf", f"-I{ROOT}/bpf", "-c", "predicate.c", "-o", "predicate.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    code = elf.read((tmp_path / "predicate.o").read_bytes()).programs["predicate"]
    with Prefilter("predicate", dports=["1-80"]) as pre, dispatcher(pre) as program:
        with Program.load("predicate", code, pre.maps, "GPL") as predicate:
            pre.set_predicate(predicate)
        assert [program.test_run(syn(port)) for port in (22, 80, 99)] == [1, 0, 0]
        reasons = {name: count for name, count in pre.counters().reasons.items() if count.packets}
        assert reasons == {"logged": (1, 40), "predicate": (2, 80)}
        pre.update(dports=[80])
        assert [program.test_run(syn(port)) for port in (22, 80)] == [0, 0]
        pre.update(dports=[22], sample=1)
        assert program.test_run(syn(22)) == 1
        pre.set_predicate(None)
        pre.update(dports=[80])
        assert [program.test_run(syn(port)) for port in (22, 80)] == [0, 1]
        assert pre.counters().seen == 3 + 2 + 1 + 2
