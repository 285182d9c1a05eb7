# SPDX-License-Identifier: GPL-2.0-or-later
"""IPFIX as an output: what its options mean, collectors that come and go, and the real ones."""

from __future__ import annotations

import errno
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import RecordArray
from nflowlevel.delivery import exporter
from nflowlevel.errors import ConfigError
from nflowlevel.options import Value, convert
from nflowlevel.outputs.ipfix import IPFIX, IPFIXOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.sums import SUM
from tests import ulogd2
from tests.fix_alone import unused_port
from tests.fix_collectors import (
    Nfacctd,
    Nfcapd,
    Openssl,
    Wire,
    certificate,
    read_by_python_ipfix,
)
from tests.fix_daemon import Daemon, config, log_rule
from tests.fix_daemon import wait_for as patiently
from tests.fix_ipfix import (
    REVERSE,
    Record,
    Session,
    StreamCollector,
    collector,
    datagrams,
    flow,
    flows,
    marks,
    messages,
    read_stream,
    some_flows,
)
from tests.fix_lines import check, wait_for
from tests.fix_netns import Netns, missing
from tests.fix_plugins import Feed, batch_of
from tests.fix_watched import Watched

__all__ = ["collector", "datagrams"]


def made(tmp_path: Path, port: int, **options: Any) -> IPFIX:
    """Return an output to a port of loopback, opened."""
    given = {"oid": 7, "host": "127.0.0.1", "spool_directory": str(tmp_path / "spool"), **options}
    output = IPFIX("ipfix1", IPFIXOptions(port=str(port), **given))
    output.bind(())
    output.open()
    return output


def quota(packets: int | None = None) -> Batch:
    """Return an accounting object as NFTCOUNTER gives it: columns, no record."""
    columns: dict[str, list[int | float | str | None]] = {"sum.name": ["q"], "sum.pkts": [packets], "sum.bytes": [9]}
    return Batch.of_columns(columns, time=(1, 0))


def received(sock: socket.socket) -> list[bytes]:
    sock.setblocking(False)
    found = []
    try:
        while True:
            found.append(sock.recv(65536))
    except BlockingIOError:
        return found


# -- options ----------------------------------------------------------------------------------------------------------


def options(**given: str) -> IPFIXOptions:
    values = {"oid": "1", "host": "127.0.0.1", **given}
    return convert(
        IPFIXOptions, {name: Value(text, 1) for name, text in values.items()}, plugin="IPFIX", instance="ipfix1"
    )


def test_ulogd2s_options() -> None:
    """Parity 173, 176, 177, as a ulogd.conf has them."""
    read = options(oid="42", host="192.0.2.1", port="4739", proto="udp", mtu="512", send_template="always")
    assert (read.oid, read.host, read.port) == (42, "192.0.2.1", "4739")
    assert (read.proto, read.mtu, read.send_template) == ("udp", 512, "always")
    assert options().proto == "tcp"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"oid": "0"}, "oid=0: must be 1 to 4294967295"),
        ({"host": ""}, "host"),
        ({"proto": "sctp"}, "proto"),
        ({"send_template": "often"}, "send_template"),
        ({"mtu": "84"}, "mtu=84: must be at least 400"),
        ({"mtu": "100", "format": "ulogd2"}, "mtu=100: must be at least 128"),
        ({"mtu": "65508", "proto": "udp"}, "no datagram is longer"),
        ({"tls": "yes", "proto": "udp"}, "tls=yes needs proto=tcp"),
        ({"ca": "/x"}, "for tls=yes"),
        ({"tls": "yes", "key": "/x"}, "key= needs cert="),
        ({"format": "ulogd2", "enterprise": "1"}, "needs format=full"),
    ],
)
def test_what_options_forbid(given: dict[str, str], says: str) -> None:
    """D-IX5: a small mtu is refused, rather than taking all memory."""
    with pytest.raises(ConfigError) as raised:
        options(**given)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("given", "size"),
    [({}, 1400), ({"format": "ulogd2"}, 512), ({"mtu": 400}, 400), ({"format": "ulogd2", "mtu": 128}, 128)],
)
def test_the_mtu(datagrams: socket.socket, tmp_path: Path, given: dict[str, Any], size: int) -> None:
    output = made(tmp_path, datagrams.getsockname()[1], proto="udp", **given)
    output.write(some_flows(97))
    output.close(5)
    session = Session(mtu=size)
    found = received(datagrams)
    assert sum(len(session.read(message)) for message in found) == 97
    assert session.lost == 0
    assert max(map(len, found)) > size - 140
    assert session.domains == {7}


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_flows_over_tcp(collector: StreamCollector, tmp_path: Path) -> None:
    output = made(tmp_path, collector.port)
    output.write(some_flows(23))
    wait_for(lambda: len(collector.records) == 23)
    output.write(some_flows(10_000, 24))
    output.close(10)
    assert marks(collector.records) == list(range(1, 10_024))
    assert (output.stats.written, output.stats.unconfirmed, output.stats.pending) == (10_023, 0, 0)
    check(output.stats)


def test_a_single_flow_does_not_wait_for_others(collector: StreamCollector, tmp_path: Path) -> None:
    """Parity 179; D-IX2: in ulogd2 it waits until its message is full."""
    output = made(tmp_path, collector.port)
    for number in (1, 2, 3):
        began = time.monotonic()
        output.write(some_flows(1, number))
        wait_for(lambda: len(collector.records) == number)  # noqa: B023
        assert time.monotonic() - began < 5, "the machine may be busy, but a second is meant"
    output.close(5)


def test_the_last_flow_is_sent_at_the_stop(datagrams: socket.socket, tmp_path: Path) -> None:
    """D-IX2: ulogd2 never sends its last message."""
    output = made(tmp_path, datagrams.getsockname()[1], proto="udp")
    output.write(some_flows(3))
    output.close(5)
    session = Session()
    assert marks(r for message in received(datagrams) for r in session.read(message)) == [1, 2, 3]


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_sequence_numbers_are_those_of_the_standard(proto: str, tmp_path: Path) -> None:
    """Parity 178; D-IX3: ulogd2 counts the message's own records too."""
    collector = StreamCollector()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = collector.port if proto == "tcp" else sock.getsockname()[1]
        output = made(tmp_path, port, proto=proto, mtu=400)
        for first in (1, 8, 9):
            output.write(some_flows(5, first))
        output.close(5)
        found = received(sock) if proto == "udp" else messages(bytes(collector.streams[0]))[0]
    collector.close()
    session = Session()
    counts = [0]
    for message in found:
        assert int.from_bytes(message[8:12], "big") == sum(counts)
        counts.append(len(session.read(message)))
    assert sum(counts) == 15


def test_packets_flows_and_sums_into_one_instance(collector: StreamCollector, tmp_path: Path) -> None:
    """Two stacks and more may end in one section."""
    output = made(tmp_path, collector.port)
    counters = [{"valid": 1, "packets": 3, "bytes": 4, "name": b"http"}]
    sums = Batch(RecordArray(ffi.new("struct nfl_counter[]", counters), 1), 1, type=SUM, time=(1_790_000_100, 0))
    for _ in range(3):
        output.write(some_flows(4))
        output.write(batch_of(count=5))
        output.write(sums)
        output.write(quota())
    output.close(5)
    assert output.stats.written == 33
    # The collector's kernel has them; its thread may still be reading.
    wait_for(lambda: len(read_stream(bytes(collector.streams[0]))) == 33)
    session = Session()
    records = read_stream(bytes(collector.streams[0]), session)
    assert session.lost == 0
    assert [record[0, 335] for record in records if (0, 335) in record] == ["http", "q"] * 3
    totals = [record for record in records if (0, 85) in record]
    assert len(totals) == 6, "without an input nobody says that they are differences"


def test_sums_that_are_differences(collector: StreamCollector, tmp_path: Path) -> None:
    class Differences(Feed):
        deltas = True

    output = made(tmp_path, collector.port)
    output.input = Differences()
    output.write(quota(3))
    output.close(5)
    assert collector.records == [{(0, 335): "q", (0, 1): 9, (0, 2): 3, (0, 153): 1000}]


def test_a_host_name_or_ipv6(tmp_path: Path, collector: StreamCollector) -> None:
    """D-IX9: ulogd2 takes IPv4 addresses only."""
    output = made(tmp_path, collector.port, host="localhost")
    output.write(some_flows(3))
    output.close(5)
    assert marks(collector.records) == [1, 2, 3]


# -- collectors that come and go --------------------------------------------------------------------------------------


def test_a_collector_that_is_not_there_yet(tmp_path: Path) -> None:
    port = unused_port(socket.SOCK_STREAM)
    output = made(tmp_path, port)
    output.write(some_flows(100))
    wait_for(lambda: "refused" in output.state)
    collector = StreamCollector(port)
    wait_for(lambda: len(collector.records) == 100)
    output.close(5)
    collector.close()
    assert marks(collector.records) == list(range(1, 101))
    check(output.stats)


def test_what_waits_outlives_the_daemon(tmp_path: Path) -> None:
    """In the spool, also where the next life has other options."""
    port = unused_port(socket.SOCK_STREAM)
    output = made(tmp_path, port, ring_buffer_size=10)
    output.write(some_flows(100))
    output.close(0.1)
    assert output.stats.spooled == 100
    collector = StreamCollector(port)
    later = made(tmp_path, port, enterprise=32473)
    later.write(some_flows(10, 101))
    wait_for(lambda: len(collector.records) == 110)
    later.close(5)
    session = Session()
    records = read_stream(bytes(collector.streams[0]), session)
    collector.close()
    assert marks(records) == list(range(1, 111))
    assert session.lost == 0
    assert [(32473, 1) in record for record in records] == [False] * 100 + [True] * 10


def test_rows_of_another_output_go_to_the_dead_letters(tmp_path: Path, collector: StreamCollector) -> None:
    """A section that was of SQLITE3 has become IPFIX: its spool holds rows of text."""
    output = made(tmp_path, unused_port(socket.SOCK_STREAM))
    assert output._feed
    output._feed.put(("ip.saddr",), 2, b"one\ntwo\n")
    output.write(some_flows(3))
    output.close(0.1)
    later = made(tmp_path, collector.port)
    wait_for(lambda: len(collector.records) == 3)
    later.close(5)
    assert later.stats.dropped["refused"] == 2
    assert (later.directory / "refused.jsonl").read_text().count("not made for IPFIX") == 2


def test_a_collector_that_is_restarted_under_load_loses_nothing(tmp_path: Path) -> None:
    """Parity 180; D-IX1: ulogd2 dies when a collector closes. Over TCP some flows may come twice."""
    collector = StreamCollector()
    port, found = collector.port, []
    output = made(tmp_path, port, reconnect=1)
    first = 1
    for turn in range(4):
        for _ in range(20):
            output.write(some_flows(100, first))
            first += 100
            time.sleep(0.01)
        wait_for(lambda: collector.records)  # noqa: B023
        if turn % 2:
            collector.reset()
        collector.close()
        found += collector.records
        collector = StreamCollector(port)
    output.close(20)
    assert output.stats.pending == 0
    collector.close()
    found += collector.records
    assert set(marks(found)) == set(range(1, first))
    assert len(found) - (first - 1) <= output.stats.resent + 10_000
    check(output.stats)


def test_a_collector_that_never_reads_is_left_and_loses_nothing(tmp_path: Path) -> None:
    collector = StreamCollector(receive_bytes=4096)
    collector.reads.clear()
    output = made(tmp_path, collector.port, timeout=1, reconnect=1)
    for first in range(1, 60_001, 10_000):
        output.write(some_flows(10_000, first))
    deadline = time.monotonic() + 30
    while not output.stats.errors and time.monotonic() < deadline:
        time.sleep(0.1)
        if output.deadline and output.deadline <= time.monotonic():
            output.retry()
    assert output.stats.errors
    collector.reads.set()
    wait_for(lambda: output.stats.pending == 0)
    output.close(5)
    collector.close()
    assert set(marks(collector.records)) == set(range(1, 60_001))


def test_datagrams_are_unconfirmed(datagrams: socket.socket, tmp_path: Path) -> None:
    output = made(tmp_path, datagrams.getsockname()[1], proto="udp")
    output.write(some_flows(200))
    output.close(5)
    assert (output.stats.written, output.stats.unconfirmed) == (200, 200)


def test_a_udp_collector_that_is_away_and_says_so(tmp_path: Path) -> None:
    port = unused_port(socket.SOCK_DGRAM)
    output = made(tmp_path, port, proto="udp", reconnect=1)
    output.write(some_flows(1000))
    wait_for(lambda: "refused" in output.state)
    assert output.stats.written == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind(("127.0.0.1", port))
        wait_for(lambda: output.stats.written == 1000)
        session = Session()
        records = [record for message in received(sock) for record in session.read(message)]
    output.close(5)
    assert marks(records) == list(range(1, 1001))
    assert session.lost == 0


def test_what_went_out_is_not_sent_again(
    datagrams: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D-IX8: after a failure in the middle ulogd2 sends the messages before it once more."""
    calls = []

    class Failing:
        """As the network fails now and then."""

        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

        def nfl_ipfix_send(self, fd: int, data: Any, size: int, *pace: int) -> int:
            calls.append(size)
            return -errno.ENETUNREACH if len(calls) in (2, 3, 5) else lib.nfl_ipfix_send(fd, data, size, *pace)

    monkeypatch.setattr(exporter, "lib", Failing())
    output = made(tmp_path, datagrams.getsockname()[1], proto="udp", reconnect=1)
    output.write(some_flows(1009))
    wait_for(lambda: output.stats.written == 1009)
    output.close(5)
    assert output.stats.errors == 3
    session = Session()
    assert marks(r for message in received(datagrams) for r in session.read(message)) == list(range(1, 1010))
    assert session.lost == 0
    assert output.stats.unconfirmed == 1009


# -- TLS --------------------------------------------------------------------------------------------------------------


def test_tls(tmp_path: Path) -> None:
    """openssl s_server takes it, python3-ipfix reads it."""
    pem = certificate(tmp_path, "collector")
    with Openssl(tmp_path, pem) as server:
        output = made(tmp_path, server.port, tls=True, ca=str(pem))
        output.write(some_flows(1009))
        wait_for(lambda: output.stats.written == 1009)
        wait_for(lambda: len(read_stream(server.stream)) == 1009)
        output.close(5)
        assert marks(read_stream(server.stream)) == list(range(1, 1010))
        assert b"\x00\x0a" in server.stream[:2]
        assert len(read_by_python_ipfix(server.stream, tmp_path)) == 1009


def test_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    pem, own = certificate(tmp_path, "collector"), certificate(tmp_path, "exporter")
    with Openssl(tmp_path, pem, "-Verify", "1", "-CAfile", str(own), "-verify_return_error") as server:
        stranger = made(tmp_path / "stranger", server.port, tls=True, ca=str(pem))
        stranger.write(some_flows(3))
        wait_for(lambda: stranger.stats.errors)
        stranger.close(0.1)
        assert read_stream(server.stream) == []
        output = made(tmp_path, server.port, tls=True, ca=str(pem), cert=str(own))
        output.write(some_flows(3))
        wait_for(lambda: len(read_stream(server.stream)) == 3)
        output.close(5)


@pytest.mark.parametrize("names", [("IP:192.0.2.1",), ("IP:127.0.0.1",)])
def test_tls_with_a_collector_that_is_another(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Of another name, or not signed by whom we trust."""
    pem = certificate(tmp_path, "collector", *names)
    trusted = pem if names == ("IP:192.0.2.1",) else certificate(tmp_path, "authority")
    with Openssl(tmp_path, pem) as server:
        output = made(tmp_path, server.port, tls=True, ca=str(trusted))
        output.write(some_flows(3))
        wait_for(lambda: "certificate verify failed" in output.state.lower())
        output.close(0.1)
        assert output.stats.written == 0
        assert server.stream == b""


def test_a_tls_collector_that_is_restarted(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "collector")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    collector = StreamCollector(context=context)
    output = made(tmp_path, collector.port, tls=True, ca=str(pem), reconnect=1)
    output.write(some_flows(500))
    wait_for(lambda: len(collector.records) == 500)
    collector.close()
    again = StreamCollector(collector.port, context=context)
    output.write(some_flows(500, 501))
    wait_for(lambda: len(again.records) == 500)
    output.close(5)
    again.close()
    assert marks(again.records) == list(range(501, 1001))


def test_what_certificates_lack_is_said(tmp_path: Path) -> None:
    output = IPFIX("x", options(tls="yes", ca=str(tmp_path / "none.pem"), spool_directory=str(tmp_path)))
    (finding,) = [each for each in output.needs() if "certificates" in each.text]
    assert finding.status == "problem"
    assert finding.text == f"read the certificates of TLS: ca={tmp_path}/none.pem: No such file or directory"


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "collector")
    (tmp_path / "x").write_text("no key")
    output = made(tmp_path, 1, tls=True, ca=str(pem), cert=str(tmp_path / "x"))
    wait_for(lambda: f"cert={tmp_path}/x" in output.state)
    output.close(0.1)


def test_certificates_are_read_by_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads them before the daemon becomes another user, who keeps what was read."""
    pem = certificate(tmp_path, "collector")
    output = IPFIX("x", options(tls="yes", ca=str(pem)))
    output.load()
    pem.unlink()
    assert output._secrets()
    with pytest.raises(OSError, match="No such file"):
        IPFIX("x", options(tls="yes", ca=str(pem)))._secrets()


# -- real collectors --------------------------------------------------------------------------------------------------


def test_nfcapd(tmp_path: Path) -> None:
    """nfdump reads all flows, with both directions and their times."""
    with Nfcapd(tmp_path) as nfcapd:
        output = made(tmp_path, nfcapd.port, proto="udp")
        output.write(some_flows(1009))
        output.close(10)
    found = nfcapd.flows
    assert len(found) == 1009
    assert {(each["first"], each["last"]) for each in found} == {(found[0]["first"], found[0]["last"])}
    assert found[0]["first"].endswith(".123")
    for number, each in enumerate(found, 1):
        assert (each["in_bytes"], each["in_packets"]) == (1000 * number, number)
        assert (each["out_bytes"], each["out_packets"]) == (3000 * number, 2 * number)
        assert each["proto"] == [6, 17, 17, 1, 47][number % 5]
    assert found[0]["src6_addr"] == "2001:db8::1"
    assert found[4]["src_port"] == 40000
    log = nfcapd.log.read_text()
    assert "Sequence Errors: 0, Bad Packets: 0" in log


def test_nfcapd_that_is_restarted(tmp_path: Path) -> None:
    """It says by ICMP that it is away: what it refused comes later. Sequence numbers go on."""
    nfcapd = Nfcapd(tmp_path)
    output = made(tmp_path, nfcapd.port, proto="udp", reconnect=1)
    output.write(some_flows(500))
    wait_for(lambda: "refused" in output.state)
    with nfcapd:
        wait_for(lambda: output.stats.written == 500)
    output.write(some_flows(500, 501))
    wait_for(lambda: "refused" in output.state)
    with nfcapd:
        wait_for(lambda: output.stats.written == 1000)
        output.close(5)
    assert sorted(each["in_packets"] for each in nfcapd.flows) == list(range(1, 1001))


def test_nfacctd(tmp_path: Path) -> None:
    """It adds up what has the same keys; it ignores the reply's counters, and counts nothing of NAT events."""
    with Nfacctd(tmp_path) as nfacctd:
        output = made(tmp_path, nfacctd.port, proto="udp", nat_event=False)
        output.write(some_flows(1000))
        output.close(10)
    patiently(lambda: sum(each["packets"] for each in nfacctd.flows) == 500_500, "all packets are counted")
    found = nfacctd.flows
    assert sum(each["bytes"] for each in found) == 500_500_000
    assert {each["timestamp_start"] for each in found} == {"1790000000.123000"}
    assert {each["timestamp_end"] for each in found} == {"1790000009.789000"}
    (translated,) = [each for each in found if each["post_nat_ip_src"]]
    assert translated["post_nat_ip_src"] == "198.51.100.7"


def test_python_ipfix_reads_the_stream(collector: StreamCollector, tmp_path: Path) -> None:
    output = made(tmp_path, collector.port)
    output.write(
        flows(flow(5), flow(6, source="2001:db8::1", target="2001:db8::2"), flow(7, nat_source="198.51.100.7"))
    )
    output.close(5)
    first, second, third = read_by_python_ipfix(bytes(collector.streams[0]), tmp_path)
    assert first["sourceIPv4Address"] == "10.1.2.3"
    assert (first["octetDeltaCount"], first["reverseOctetDeltaCount"]) == (5000, 15000)
    assert (first["packetDeltaCount"], first["reversePacketDeltaCount"]) == (5, 10)
    assert second["sourceIPv6Address"] == "2001:db8::1"
    assert third["postNATSourceIPv4Address"] == "198.51.100.7"


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_tshark_finds_no_fault(proto: str, tmp_path: Path) -> None:
    netns = Netns()
    try:
        with Wire(netns, tmp_path) as wire, netns.enter():
            kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
                sock.bind(("127.0.0.1", 0))
                port = sock.getsockname()[1]
                if proto == "tcp":
                    sock.listen()
                output = made(tmp_path, port, proto=proto)
                output.write(some_flows(211))
                output.close(10)
                assert output.stats.written == 211
        ids = wire.tshark(port, proto, "cflow.flow_id")
        found = [int(each) - 0xF0000000 for line in ids for each in line[0].split(",") if each]
        assert found == list(range(1, 212))
        nat = wire.tshark(port, proto, "cflow.post_natsource_ipv4_address")
        assert sum(line[0].count("198.51.100.7") for line in nat) == 42
        faults = "_ws.malformed or _ws.expert.severity >= 6291456"
        assert wire.tshark(port, proto, "frame.number", "_ws.expert.message", filter_=f"cflow and ({faults})") == []
    finally:
        netns.close()


# -- conntrack's flows ------------------------------------------------------------------------------------------------

#: The messages themselves, over loopback, are no flow.
_UNWATCHED = (
    "table inet r {\nchain i {\ntype filter hook prerouting priority -300;\niif lo notrack\n}\n"
    "chain o {\ntype filter hook output priority -300;\noif lo notrack\n}\n}\n"
)
_REDIRECT = "table ip n {\nchain d {\ntype nat hook prerouting priority -100;\nudp dport 53 redirect to :9\n}\n}"


def traffic(watched: Watched) -> None:
    """Flows of each kind, both ways."""
    watched.udp_flows(range(5000, 5100), packets=3)
    watched.echo(socket.AF_INET, count=3, size=100)
    watched.echo(socket.AF_INET6, count=2, size=1000)
    watched.tcp(100_000, 3_000_000)


def test_the_sums_of_conntrack_arrive(watched: Watched, tmp_path: Path) -> None:
    """All packets and bytes of both directions, over a restart of the collector."""
    watched.fw.nft(_UNWATCHED)
    with watched.fw.enter():
        collector = StreamCollector()
    text = config(
        "ct1:NFCT,ipfix1:IPFIX",
        ct1="active_timeout=1\nflush_at_stop=1",
        ipfix1=f"oid=3\nhost=127.0.0.1\nport={collector.port}\nspool_directory={tmp_path / 'spool'}\nreconnect=1",
    )
    with Daemon(tmp_path, text, netns=watched.fw):
        traffic(watched)
        patiently(lambda: len(collector.records) > 100, "flows")
        collector.close()
        with watched.fw.enter():
            again = StreamCollector(collector.port)
        watched.udp_flows(range(6000, 6100), packets=7)
        watched.flush()
        patiently(lambda: len(again.records) >= 100, "flows come to the next collector")
    again.close()
    found = collector.records + again.records
    assert sum(record[0, 1] + record[REVERSE, 1] for record in found) == watched.seen().bytes
    assert sum(record[0, 2] + record[REVERSE, 2] for record in found) == watched.seen().packets
    assert {record[0, 4] for record in found} == {1, 6, 17, 58}
    assert not [record for record in found if not record[0, 152] <= record[0, 153] <= time.time() * 1000 + 1000]


def test_two_stacks_of_a_daemon_into_one_instance(watched: Watched, tmp_path: Path) -> None:
    """Flows and packets, each counted for its stack."""
    watched.fw.nft(_UNWATCHED)
    watched.fw.nft(log_rule(5))
    with watched.fw.enter():
        collector = StreamCollector()
    text = config(
        "ct1:NFCT,ipfix1:IPFIX",
        "log1:NFLOG,base1:BASE,ip2str1:IP2STR,ipfix1:IPFIX",
        ct1="",
        log1="group=5",
        ipfix1=f"oid=3\nhost=127.0.0.1\nport={collector.port}\nspool_directory={tmp_path / 'spool'}",
    )
    with Daemon(tmp_path, text, netns=watched.fw):
        watched.udp_flows(range(5000, 5037), packets=2)
        watched.flush()
        patiently(lambda: len(collector.records) == 37 + 74, "flows and packets")
    collector.close()
    flows_, packets = ([r for r in collector.records if ((21373, 3) in r) == logged] for logged in (False, True))
    assert (len(flows_), len(packets)) == (37, 74)
    assert sum(record[0, 1] for record in flows_) == sum(record[0, 1] for record in packets) == watched.seen().bytes
    assert {record[21373, 3] for record in packets} == {"pfx: "}
    session = Session()
    read_stream(bytes(collector.streams[0]), session)
    assert session.lost == 0


def test_a_translated_flow_of_conntrack(watched: Watched, tmp_path: Path) -> None:
    watched.fw.nft(_UNWATCHED)
    watched.fw.nft(_REDIRECT)
    with watched.fw.enter():
        collector = StreamCollector()
    text = config(
        "ct1:NFCT,ipfix1:IPFIX",
        ct1="",
        ipfix1=f"oid=3\nhost=127.0.0.1\nport={collector.port}\nspool_directory={tmp_path / 'spool'}",
    )
    with Daemon(tmp_path, text, netns=watched.fw):
        with watched.peer.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(b"?", (watched.FW4, 53))
        time.sleep(0.2)
        watched.flush()
        patiently(lambda: collector.records, "the flow")
    collector.close()
    (record,) = collector.records
    assert (record[0, 11], record[0, 228]) == (53, 9)
    assert record[0, 230] == 5


def test_beside_ulogd2(watched: Watched, tmp_path: Path) -> None:
    """Parity 173 to 177: with format=ulogd2 the same flows, but those of its last message, which it never sends."""
    if ulogd2.missing():
        pytest.skip(ulogd2.missing())
    watched.fw.nft(_UNWATCHED)
    with watched.fw.enter():
        ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind(("127.0.0.1", 0))
    modules = next(Path("/usr/lib").glob("*/ulogd"))
    section = "oid=3\nhost=127.0.0.1\nproto=udp\nmtu=512\nsend_template=always\nport="
    events = "hash_enable=0\nevent_mask=4"
    log, conf = tmp_path / "ulogd.log", tmp_path / "ulogd.conf"
    conf.write_text(
        f'[global]\nlogfile="{log}"\nloglevel=1\nplugin="{modules}/ulogd_inpflow_NFCT.so"\n'
        f'plugin="{modules}/ulogd_output_IPFIX.so"\nstack=ct1:NFCT,ipfix1:IPFIX\n'
        f"[ct1]\n{events}\n[ipfix1]\n{section}{theirs.getsockname()[1]}\n"
    )
    process = watched.fw.popen("/usr/sbin/ulogd", "-c", str(conf), stderr=subprocess.DEVNULL)
    patiently(lambda: log.exists() and "initialization finished" in log.read_text(), "ulogd2 runs")
    spool = f"\nformat=ulogd2\nspool_directory={tmp_path / 'spool'}"
    text = config("ct1:NFCT,ipfix1:IPFIX", ct1=events, ipfix1=f"{section}{ours.getsockname()[1]}{spool}")
    with Daemon(tmp_path, text, netns=watched.fw):
        time.sleep(0.3)
        watched.udp_flows(range(5000, 5100), packets=3)
        watched.tcp(100_000, 3_000_000)
        watched.echo(socket.AF_INET, count=3, size=100)
        watched.flush()
        time.sleep(0.5)
    process.terminate()
    process.wait(20)
    session = Session(mtu=512)
    mine = [record for message in received(ours) for record in session.read(message)]
    other = Session(mtu=512)
    his = [record for message in received(theirs) for record in other.read(message)]
    ours.close()
    theirs.close()
    assert session.lost == 0
    assert session.templates == other.templates
    assert len(mine) == 102
    assert len(his) >= 80

    def comparable(record: Record) -> tuple[tuple[tuple[int, int], Any], ...]:
        return tuple(sorted(record.items()))

    assert set(map(comparable, his)) <= set(map(comparable, mine))
