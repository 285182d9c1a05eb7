# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON: what a record looks like under each option, and where lines go, with real packets and targets that fail."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.filters.ip2str import IP2STR
from nflowlevel.outputs.json import JSON, JSONOptions
from nflowlevel.plugin.contract import NoOptions
from tests.corpus import by_name
from tests.fix_daemon import FILTERS, Daemon, config, lines_of, log_by_iptables, log_rule, records, wait_for
from tests.fix_lines import small_disk
from tests.fix_netns import Pair
from tests.fix_plugins import written
from tests.fix_receiver import Receiver
from tests.fix_zone import zone
from tests.flows import GRE, ICMP, ICMPV6, NOW, SNAT, TCP, TCP6, FlowOf, deliver, flow_batch
from tests.messages import message_of

__all__ = ["zone"]

_TIME = (1_795_460_084, 190_524)  # 2026-11-23 18:54:44 UTC


@pytest.fixture
def rendered(tmp_path: Path, zone: object) -> Callable[..., list[str]]:
    """Returns the lines that a stack writes of messages, with options of JSON."""

    def render(*messages: bytes, options: str = "", filters: str = FILTERS, inputs: str = "") -> list[str]:
        path = tmp_path / "rendered"
        text = config(f"g:NFLOG,{filters},j:JSON", g=f"group=1\n{inputs}", j=f"file={path}\n{options}")
        return written(text, path, *messages).decode().splitlines()

    return render


def udp_message(**more: Any) -> bytes:
    """Return a logged UDP packet."""
    return message_of(by_name("udp4"), **{"prefix": b"pfx: ", "time": _TIME, **more})


# -- members ----------------------------------------------------------------------------------------------------------


def test_the_members_of_an_udp_packet(rendered: Callable[..., list[str]]) -> None:
    """Names and order as ulogd2 writes them (but for the zone)."""
    (line,) = rendered(udp_message(), inputs="numeric_label=1")
    record = json.loads(line)
    assert list(record) == [
        "timestamp", "dvc", "raw.pktlen", "raw.pktcount", "oob.prefix", "oob.time.sec", "oob.time.usec", "oob.mark",
        "oob.hook", "raw.mac_len", "oob.family", "oob.protocol", "raw.label", "raw.type", "raw.mac.addrlen",
        "ip.protocol", "ip.tos", "ip.ttl", "ip.totlen", "ip.ihl", "ip.csum", "ip.id", "ip.fragoff",
        "src_port", "dest_port", "udp.len", "udp.csum", "oob.in", "oob.out", "src_ip", "dest_ip",
        "mac.saddr.str", "mac.daddr.str", "mac.str",
    ]  # fmt: skip
    texts = {"timestamp", "dvc", "oob.prefix", "oob.in", "oob.out", "src_ip", "dest_ip"}
    texts |= {"mac.saddr.str", "mac.daddr.str", "mac.str"}
    assert {name for name, value in record.items() if isinstance(value, str)} == texts
    assert {type(value) for name, value in record.items() if name not in texts} == {int}
    assert line.startswith('{"timestamp": "2026-11-23T18:54:44.190524+0000", "dvc": "Netfilter", "raw.pktlen": ')


def test_flags_are_numbers_and_ports_have_one_name(rendered: Callable[..., list[str]]) -> None:
    lines = rendered(
        *(message_of(by_name(name)) for name in ("tcp4-syn-ack", "udp6", "sctp4-init", "icmp-echo-request"))
    )
    tcp, udp, sctp, icmp = map(json.loads, lines)
    assert (tcp["tcp.syn"], tcp["tcp.ack"], tcp["tcp.fin"]) == (1, 1, 0)
    for record in (tcp, udp, sctp):
        assert {"src_port", "dest_port", "src_ip", "dest_ip"} <= set(record)
        assert not {"tcp.sport", "udp.sport", "sctp.sport", "ip.saddr", "ip.saddr.str"} & set(record)
    assert "src_port" not in icmp
    assert ":" in udp["src_ip"]


def test_without_its_filters_there_are_no_texts(rendered: Callable[..., list[str]]) -> None:
    (line,) = rendered(udp_message(), filters="b:BASE")
    record = json.loads(line)
    assert record["src_port"]
    assert not {"src_ip", "dest_ip", "oob.in", "mac.str"} & set(record)


def test_what_does_not_hold_is_left_out(rendered: Callable[..., list[str]]) -> None:
    with_, without = map(json.loads, rendered(udp_message(indev=2), udp_message(prefix=None)))
    assert "oob.prefix" in with_
    assert with_["oob.ifindex_in"] == 2
    assert not {"oob.prefix", "oob.ifindex_in", "oob.uid", "oob.seq.local"} & set(without)


@pytest.mark.parametrize(("label", "action"), [(0, "blocked"), (1, "allowed"), (255, "allowed")])
def test_boolean_label(pair: Pair, tmp_path: Path, label: int, action: str) -> None:
    pair.fw.nft(log_rule(2))
    out = tmp_path / "out.json"
    text = config(f"g:NFLOG,{FILTERS},j:JSON", g=f"group=2\nnumeric_label={label}", j=f"file={out}\nboolean_label=1")
    with Daemon(tmp_path, text, netns=pair.fw):
        pair.send_udp(1)
        (record,) = records(out, 1)
    assert record["action"] == action
    assert "raw.label" not in record
    names = list(record)
    assert names[names.index("action") - 1 : names.index("action") + 2] == ["oob.protocol", "action", "raw.type"]


# -- the beginning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("UTC0", "2026-11-23T18:54:44.190524+0000"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-11-23T19:54:44.190524+0100"),
        ("IST-5:30", "2026-11-24T00:24:44.190524+0530"),
        ("NST3:30", "2026-11-23T15:24:44.190524-0330"),
        ("LMT0:30", "2026-11-23T18:24:44.190524-0030"),
        ("LINT-14", "2026-11-24T08:54:44.190524+1400"),
        ("AOE12", "2026-11-23T06:54:44.190524-1200"),
        ("LMT-0:53:28", "2026-11-23T19:48:12.190524+0053"),
    ],
)
def test_the_zone_is_always_written(
    rendered: Callable[..., list[str]], zone: Callable[[str], None], text: str, local: str
) -> None:
    """D-J01, D-J08: ulogd2 leaves out +0000 and loses the sign of -0030."""
    zone(text)
    (line,) = rendered(udp_message())
    assert json.loads(line)["timestamp"] == local


def test_the_zone_changes_with_the_season(rendered: Callable[..., list[str]], zone: Callable[[str], None]) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    change = 1_793_494_800 - 7 * 86400  # 2026-10-25 01:00 UTC
    lines = rendered(*(udp_message(time=(change + offset, 7)) for offset in (-1, 0, -1)))
    assert [json.loads(line)["timestamp"] for line in lines] == [
        "2026-10-25T02:59:59.000007+0200", "2026-10-25T02:00:00.000007+0100", "2026-10-25T02:59:59.000007+0200",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "head"),
    [
        ("timestamp=0", '{"dvc": "Netfilter", "raw.pktlen": '),
        ("eventv1=1", '{"@version": 1, "@timestamp": "2026-11-23T18:54:44.190524+0000", "dvc": "Netfilter", "raw.'),
        ("eventv1=1\ntimestamp=0", '{"@version": 1, "dvc": "Netfilter", "raw.pktlen": '),
        ('device="my firewall"', '{"timestamp": "2026-11-23T18:54:44.190524+0000", "dvc": "my firewall", "raw.'),
        ('device=""\ntimestamp=0', '{"dvc": "", "raw.pktlen": '),
        ('device=a"b\\c/d\ntimestamp=0', '{"dvc": "a\\"b\\\\c/d", "raw.pktlen": '),
        ('device="tab\tend"\ntimestamp=0', '{"dvc": "tab\\tend", "raw.pktlen": '),
        ("device=Zürich\ntimestamp=0", '{"dvc": "Zürich", "raw.pktlen": '),
        ("device=Z\udcfcrich\ntimestamp=0", '{"dvc": "Z\ufffdrich", "raw.pktlen": '),
    ],
)
def test_how_a_line_begins(rendered: Callable[..., list[str]], options: str, head: str) -> None:
    (line,) = rendered(udp_message(), options=options)
    assert line.startswith(head)
    json.loads(line)


# -- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        (b'say "no" \\o/', 'say "no" \\o/'),
        (b"tab\tline\nreturn\rescape\x1b\x01", "tab\tline\nreturn\rescape\x1b\x01"),
        ("größer ✓ 𝄞".encode(), "größer ✓ 𝄞"),
        (b"gr\xf6\xdfer", "gr\ufffd\ufffder"),
        (b"cut \xe2\x9c", "cut \ufffd"),
        (b"surrogate \xed\xa0\x80", "surrogate \ufffd\ufffd\ufffd"),
        (b"", ""),
    ],
)
def test_texts_stay_valid(rendered: Callable[..., list[str]], prefix: bytes, text: str) -> None:
    """D-J02: with ulogd2 the member disappears."""
    (line,) = rendered(udp_message(prefix=prefix))
    assert json.loads(line)["oob.prefix"] == text == prefix.decode("utf-8", "replace")


def test_a_prefix_of_iptables_in_latin_1(pair: Pair, tmp_path: Path) -> None:
    log_by_iptables(pair.fw, 2, b'\xdcbel "\\ ')
    out = tmp_path / "out.json"
    text = config(f"g:NFLOG,{FILTERS},j:JSON", g="group=2", j=f"file={out}")
    with Daemon(tmp_path, text, netns=pair.fw):
        pair.send_udp(23)
        assert {record["oob.prefix"] for record in records(out, 23)} == {'\ufffdbel "\\ '}


def test_a_batch_of_all_kinds_is_one_object_a_line(rendered: Callable[..., list[str]]) -> None:
    names = ("tcp4-syn", "udp6-empty", "arp-request", "icmpv6-echo-128", "frag4-udp-middle", "reserved4", "ip4-cut-19")
    known = [name for name in names if _exists(name)]
    lines = rendered(*(message_of(by_name(name), prefix=b"one\ntwo") for name in known))
    assert len(lines) == len(known) >= 6
    assert {type(json.loads(line)) for line in lines} == {dict}


def _exists(name: str) -> bool:
    try:
        return bool(by_name(name))
    except StopIteration:
        return False


# -- targets ----------------------------------------------------------------------------------------------------------


class Two:
    """A daemon with two stacks at one source: one writes to what the test is about, the other to a file, `safe`."""

    def __init__(self, pair: Pair, directory: Path, options: str) -> None:
        self.pair, self.safe, self._sent = pair, directory / "safe.json", 0
        pair.fw.nft(log_rule(2))
        text = config(
            f"g:NFLOG,{FILTERS},j:JSON", f"g:NFLOG,{FILTERS},k:JSON",
            g="group=2\nseq_local=1", j=options, k=f"file={self.safe}",
        )  # fmt: skip
        self.daemon = Daemon(directory, text, netns=pair.fw)

    def __enter__(self) -> Two:
        self.daemon.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self.daemon.__exit__(*about)

    def send(self, count: int) -> None:
        """Send packets; the other stack must have them whatever the first one does."""
        self.pair.send_udp(count)
        self._sent += count
        assert [record["oob.seq.local"] for record in records(self.safe, self._sent)] == list(range(self._sent))

    def counts(self) -> str:
        """Return what the log says of the first stack's output after the next SIGUSR1."""
        before = len(self.daemon.stderr)
        self.daemon.send(signal.SIGUSR1)
        wait_for(lambda: "k:JSON of stack" in self.daemon.stderr[before:], "the statistics", lambda: self.daemon.stderr)
        return next(line for line in self.daemon.stderr[before:].splitlines() if " j:JSON of stack" in line)


def numbers(found: list[dict[str, Any]]) -> list[int]:
    """Return the sequence numbers of records."""
    return [record["oob.seq.local"] for record in found]


def test_a_full_disk(pair: Pair, tmp_path: Path) -> None:
    """D-C25: reported, counted, and written when there is room again."""
    with small_disk(tmp_path / "disk", "64k") as disk:
        out = disk / "out.json"
        with Two(pair, tmp_path, f"file={out}") as two:
            two.send(499)
            two.daemon.says(f"write {out}: No space left on device — free space there; ")
            assert lines_of(out)  # no torn line
            counts = two.counts()
            assert "records 499" in counts
            assert "dropped 0; waiting for" in counts
            subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
            assert numbers(records(out, 499)) == list(range(499))
            two.send(1)
            assert numbers(records(out, 500)) == list(range(500))
            wait_for(lambda: "written 500, pending 0" in two.counts(), "all is counted as written")


def test_a_disk_that_stays_full(pair: Pair, tmp_path: Path) -> None:
    """What could not be written is counted, at the latest at the stop; the file ends in a whole line."""
    with small_disk(tmp_path / "disk", "64k") as disk:
        out = disk / "out.json"
        with Two(pair, tmp_path, f"file={out}\nmax_pending_bytes=10000") as two:
            two.send(499)
            two.send(1)
            two.daemon.stop()
        counts = re.search(
            r"j:JSON of stack .* records (\d+), written (\d+), pending 0.*dropped (\d+)", two.daemon.stderr
        )
        assert counts
        total, written, dropped = map(int, counts.groups())
        assert total == 500
        assert written + dropped == 500
        assert numbers(lines_of(out)) == list(range(written))


def test_a_directory_that_vanishes(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "logs/out.json"
    out.parent.mkdir()
    with Two(pair, tmp_path, f"file={out}") as two:
        two.send(23)
        records(out, 23)
        shutil.rmtree(out.parent)
        two.send(6)
        two.daemon.says(f"open {out}: No such file or directory — create the directory")
        out.parent.mkdir()
        assert numbers(records(out, 6)) == list(range(23, 29))


def test_standard_output(pair: Pair, tmp_path: Path) -> None:
    with Two(pair, tmp_path, "file=-") as two:
        two.send(23)
    assert [json.loads(line)["oob.seq.local"] for line in two.daemon.stdout.splitlines()] == list(range(23))


def test_sync(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    with Two(pair, tmp_path, f"file={out}\nsync=1") as two:
        two.send(23)
        records(out, 23)
        two.daemon.reload()
        two.send(6)
        records(out, 29)


def test_two_stacks_with_one_file(pair: Pair, tmp_path: Path) -> None:
    """D-K02 is PCAP's, but a file that two write is as common with JSON: no line is lost or mixed with another."""
    pair.fw.nft(log_rule(2, 3))
    out = tmp_path / "out.json"
    text = config(
        f"g:NFLOG,{FILTERS},j:JSON", f"f:NFLOG,{FILTERS},j:JSON",
        g="group=2\nseq_local=1", f="group=3\nseq_local=1\nnumeric_label=1", j=f"file={out}",
    )  # fmt: skip
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(499)
        records(out, 998)
        daemon.reload()
        pair.send_udp(1)
        found = records(out, 1000)
    for label in (0, 1):
        assert numbers([record for record in found if record["raw.label"] == label]) == list(range(500))


@pytest.fixture
def receiver(pair: Pair, tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Makes receivers in the daemon's namespace."""
    made: list[Receiver] = []
    (tmp_path / "r").mkdir()

    def make(kind: str, **more: Any) -> Receiver:
        with pair.fw.enter():
            made.append(Receiver(kind, tmp_path / "r", **more))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def options_for(receiver: Receiver) -> str:
    """Return the options of JSON that lead to a receiver."""
    known = receiver.options
    if known["transport"] == "unix":
        return f"mode=unix\nfile={known['path']}"
    return f"mode={known['transport']}\nhost={known['host']}\nport={known['port']}"


def got(receiver: Receiver) -> list[int]:
    """Return the sequence numbers of the whole lines that came; each connection begins with a whole line."""
    found = []
    for data in list(receiver.connections):
        found += [
            json.loads(line)["oob.seq.local"] for line in bytes(data).splitlines(keepends=True) if line[-1:] == b"\n"
        ]
    return found


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "udp", "unix"])
def test_a_peer(pair: Pair, tmp_path: Path, receiver: Callable[..., Receiver], kind: str) -> None:
    peer = receiver(kind)
    with Two(pair, tmp_path, options_for(peer)) as two:
        two.send(23)
        wait_for(lambda: len(got(peer)) == 23, "the lines have come", lambda: two.daemon.stderr)
        two.daemon.reload()  # it connects again
        two.send(6)
        wait_for(lambda: len(got(peer)) == 29, "the lines have come", lambda: two.daemon.stderr)
        wait_for(lambda: "written 29, pending 0" in two.counts(), "all is counted as written")
    assert got(peer) == list(range(29))
    if kind != "udp":
        assert len(peer.connections) == 2


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_peer_that_is_down_at_the_start(
    pair: Pair, tmp_path: Path, receiver: Callable[..., Receiver], kind: str
) -> None:
    """D-J04: ulogd2 refuses the stack."""
    first = receiver(kind)
    first.stop()
    with Two(pair, tmp_path, options_for(first)) as two:
        two.send(23)
        two.daemon.says("trying again")
        second = receiver(kind, address=first.address)
        wait_for(lambda: len(got(second)) == 23, "the lines have come", lambda: two.daemon.stderr)
    assert got(second) == list(range(23))


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_peer_that_restarts(pair: Pair, tmp_path: Path, receiver: Callable[..., Receiver], kind: str) -> None:
    """D-J03: no line is lost, neither while it is down nor the one that notices; some may come twice."""
    first = receiver(kind)
    with Two(pair, tmp_path, options_for(first)) as two:
        two.send(10)
        wait_for(lambda: len(got(first)) == 10, "the lines have come", lambda: two.daemon.stderr)
        first.stop()
        two.send(10)
        second = receiver(kind, address=first.address)
        two.send(10)
        wait_for(
            lambda: set(got(first) + got(second)) == set(range(30)), "all lines have come", lambda: two.daemon.stderr
        )


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_peer_that_stalls(pair: Pair, tmp_path: Path, receiver: Callable[..., Receiver], kind: str) -> None:
    """D-C23: it gets its lines when it reads again, and nobody else waits for it."""
    peer = receiver(kind, buffer_bytes=4096)
    peer.reads.clear()
    with Two(pair, tmp_path, options_for(peer)) as two:
        for _ in range(5):
            two.send(2000)
        assert "records 10000" in two.counts()
        assert " pending 0" not in two.counts()
        peer.reads.set()
        wait_for(lambda: len(got(peer)) == 10000, "the lines have come", lambda: two.daemon.stderr)
    assert got(peer) == list(range(10000))


def test_a_stop_does_not_wait_long_for_a_peer_that_stalls(
    pair: Pair, tmp_path: Path, receiver: Callable[..., Receiver]
) -> None:
    peer = receiver("tcp", buffer_bytes=4096)
    peer.reads.clear()
    with Two(pair, tmp_path, options_for(peer)) as two:
        two.send(9999)
        two.daemon.stop()
    counts = re.search(r"j:JSON of stack .* records 9999, written (\d+), pending 0.*dropped (\d+)", two.daemon.stderr)
    assert counts
    written, dropped = map(int, counts.groups())
    assert written + dropped == 9999
    assert dropped > 0
    (told,) = (line for line in two.daemon.stderr.splitlines() if "before the stop" in line)
    assert "<7>" in told
    assert re.search(rf"\b{dropped}\b", told)
    peer.reads.set()
    wait_for(lambda: len(got(peer)) >= written, "what was counted as written has come")


def test_memory_for_a_peer_that_is_away_is_bounded(
    pair: Pair, tmp_path: Path, receiver: Callable[..., Receiver]
) -> None:
    away = receiver("tcp")
    away.stop()
    with Two(pair, tmp_path, f"{options_for(away)}\nmax_pending_bytes=50000") as two:
        for _ in range(10):
            two.send(50)
        counts = two.counts()
        match = re.search(r"records 500, written 0, pending (\d+).*dropped (\d+) \(full (\d+)\)", counts)
        assert match, counts
        pending, dropped, full = map(int, match.groups())
        assert pending + dropped == 500
        assert dropped == full > 0
        two.daemon.says("the buffer is full; new records are dropped")
        back = receiver("tcp", address=away.address)
        wait_for(lambda: got(back) == list(range(pending)), "what had room has come", lambda: two.daemon.stderr)


# -- flows ------------------------------------------------------------------------------------------------------------


def of_flows(path: Path, *flows: FlowOf, **options: Any) -> list[str]:
    """Return the lines of flows behind IP2STR."""
    deliver(flow_batch(*flows), IP2STR("i", NoOptions()), JSON("j", JSONOptions(file=str(path), **options)))
    return path.read_text().splitlines()


def test_flows_are_what_ulogd2_wrote_of_them(tmp_path: Path, zone: object) -> None:
    """The bytes of ulogd2 2.0.8 but for the zone, of a flow with NAT and of a ping: names, order, numbers, time."""
    tcp, ping = of_flows(tmp_path / "json", SNAT, ICMP)
    start, end = NOW - 10, NOW - 3
    assert tcp == (
        '{"timestamp": "2026-11-23T18:54:44+0000", "dvc": "Netfilter", "orig.ip.protocol": 6, "orig.l4.sport": 51234, '
        '"orig.l4.dport": 443, "orig.raw.pktlen": 1234, "orig.raw.pktcount": 10, "reply.ip.protocol": 6, '
        '"reply.l4.sport": 443, "reply.l4.dport": 40001, "reply.raw.pktlen": 56789, "reply.raw.pktcount": 8, '
        f'"ct.mark": 0, "ct.id": 305419896, "ct.event": 4, "flow.start.sec": {start}, "flow.start.usec": 250000, '
        f'"flow.end.sec": {end}, "flow.end.usec": 750000, "oob.family": 2, "oob.protocol": 0, '
        '"src_ip": "10.0.0.5", "dest_ip": "203.0.113.9", "reply.ip.saddr.str": "203.0.113.9", '
        '"reply.ip.daddr.str": "198.51.100.7"}'
    )
    assert '"reply.raw.pktcount": 2, "icmp.code": 0, "icmp.type": 8, "ct.mark": 0, ' in ping


def test_all_keys_of_flows_are_there_for_who_asks(tmp_path: Path) -> None:
    (few,), (all_,) = (of_flows(tmp_path / keys, ICMPV6, flow_keys=keys) for keys in ("ulogd2", "all"))
    more = json.loads(all_).keys() - json.loads(few).keys()
    assert more == {"ct.status", "ct.zone", "ct.zone.reply", "flow.number", "flow.last", "flow.end.reason", "icmpv6.id"}
    # What ulogd2 2.0.8 lacks, but 2.0.9 has.
    assert '"icmpv6.code": 0, "icmpv6.type": 128, ' in few


def test_the_cim_names_of_flows_stand_behind_all_others(tmp_path: Path) -> None:
    plain = of_flows(tmp_path / "plain", SNAT, TCP6, ICMP, ICMPV6, GRE)
    more = of_flows(tmp_path / "cim", SNAT, TCP6, ICMP, ICMPV6, GRE, cim=True)
    tails = [line.removeprefix(before.removesuffix("}")) for before, line in zip(plain, more, strict=True)]
    assert tails == [
        ', "src_port": 51234, "dest_port": 443, "bytes_out": 1234, "bytes_in": 56789, "packets_out": 10, '
        '"packets_in": 8, "transport": "tcp"}',
        f', "src_port": 40000, "dest_port": 22, "bytes_out": 500, "bytes_in": {2**40}, "packets_out": 5, '
        '"packets_in": 4, "transport": "tcp"}',
        ', "bytes_out": 168, "bytes_in": 168, "packets_out": 2, "packets_in": 2, "transport": "icmp"}',
        ', "bytes_out": 180, "bytes_in": 120, "packets_out": 3, "packets_in": 2, "transport": "icmpv6"}',
        ', "bytes_out": 180, "bytes_in": 120, "packets_out": 3, "packets_in": 2, "transport": "gre"}',
    ]


def test_a_protocol_without_a_name_is_unknown(tmp_path: Path) -> None:
    (line,) = of_flows(tmp_path / "json", dataclasses.replace(TCP, protocol=200), cim=True)
    assert json.loads(line)["transport"] == "unknown"


def test_packets_have_their_cim_names_in_any_case(rendered: Callable[..., list[str]]) -> None:
    (line,) = rendered(udp_message())
    assert rendered(udp_message(), options="cim=yes") == [line, line]
