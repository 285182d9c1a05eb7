# SPDX-License-Identifier: GPL-2.0-or-later
"""Points reach carbon under names it can keep, and no count is lost on the way, whatever the receiver does."""

from __future__ import annotations

import errno
import json
import pickle
import random
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.delivery import peer
from nflowlevel.errors import ConfigError
from nflowlevel.inputs.nftcounter import NFTCOUNTER, NFTCOUNTEROptions
from nflowlevel.outputs.graphite import GRAPHITE, GRAPHITEOptions, metric_path
from nflowlevel.records.batch import Batch
from tests.fix_alone import unused_port
from tests.fix_carbon import Carbon, carbon
from tests.fix_daemon import Daemon, config
from tests.fix_lines import check, wait_for
from tests.fix_netns import Pair
from tests.fix_plugins import stacks_of
from tests.fix_receiver import Receive, Receiver, receive

__all__ = ["carbon", "receive"]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

Make = Callable[..., GRAPHITE]
Point = tuple[str, int, int]

#: What names may look like, and where they are found in Graphite.
NAMES = {
    "ipv4.http": "ipv4.http",
    "a_b-c:d+e@f#g=h": "a_b-c:d+e@f#g=h",
    "two words": "two%20words",
    "net/10.0.0.0/8": "net%2F10.0.0.0%2F8",
    "line\nbreak": "line%0Abreak",
    "50%": "50%25",
    ".start": "%2Estart",
    "end.": "end%2E",
    "twice..": "twice%2E%2E",
    "a..b": "a%2E.b",
    "semi;tag=1": "semi%3Btag=1",
    'q"{}': "q%22%7B%7D",
    "ümlaut": "%C3%BCmlaut",
    "not\udcffutf8": "not%FFutf8",
    "nb\u00a0sp": "nb%C2%A0sp",
    "~tilde": "%7Etilde",
    "x" * 255: "x" * 255,
}


def sums(counts: dict[str, tuple[int, int]], second: int | None = None, limits: Sequence[int | None] = ()) -> Batch:
    """Return what an input makes of a poll."""
    columns: dict[str, Any] = {
        "sum.name": list(counts),
        "sum.pkts": [pkts for pkts, _ in counts.values()],
        "sum.bytes": [size for _, size in counts.values()],
    }
    if limits:
        columns["sum.limit"] = list(limits)
    if second is not None:
        columns["oob.time.sec"] = [second] * len(counts)
    return Batch.of_columns(columns, time=(second or 0, 0))


def points(lines: bytes) -> list[Point]:
    """Return the points of some lines, all of which have to be whole and well-formed."""
    assert not lines or lines.endswith(b"\n"), lines[-80:]
    found = []
    for line in lines.decode("ascii").splitlines():
        match = re.fullmatch(r"([^ ]+) (\d+) (\d+)", line)
        assert match, line
        found.append((match[1], int(match[2]), int(match[3])))
    return found


def pickled_points(data: bytes) -> list[list[Point]]:
    """Return the points of each frame; all have to be whole."""
    frames = []
    while data:
        (length,) = struct.unpack_from("!I", data)
        assert length <= 1 << 20
        assert len(data) >= 4 + length, "the last frame is torn"
        frames.append([(path, value, second) for path, (second, value) in pickle.loads(data[4 : 4 + length])])
        data = data[4 + length :]
    return frames


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_PAUSE_SECS", (0.01, 0.1))


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that opens an output to a receiver; at the end it has to account for everything."""
    outputs: list[GRAPHITE] = []

    def opened(receiver: Receiver | None = None, *, deltas: bool = False, **options: Any) -> GRAPHITE:
        if receiver:
            options = {"host": receiver.address[0], "port": str(receiver.address[1]), **options}
        output = GRAPHITE("g", GRAPHITEOptions(**options))
        output.input = NFTCOUNTER("c", NFTCOUNTEROptions(pollinterval=1, zerocounter=deltas))
        output.open()
        outputs.append(output)
        return output

    yield opened
    for each in outputs:
        check(each.stats)
        each.close(0.2)
        each.close(0.2)
        check(each.stats)
        assert each.stats.pending == 0


def wait_until_written(output: GRAPHITE) -> None:
    wait_for(lambda: not output.stats.pending_bytes, [output.stats])


# Names


@pytest.mark.parametrize(("name", "path"), NAMES.items())
def test_path_of_a_name(name: str, path: str) -> None:
    assert metric_path(name) == path


def test_level_longer_than_a_file_name_is_cut() -> None:
    one, other = metric_path("x" * 300 + "1"), metric_path("x" * 300 + "2")
    assert one != other
    assert [len(one), len(other)] == [255, 255]
    assert re.fullmatch("x{238}~[0-9a-f]{16}", one)
    assert len(metric_path("\udcff" * 255 + ".b")) == 255 + len(".b")


names = st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@given(st.lists(names | st.text(". /%~a", min_size=1, max_size=6), unique=True, min_size=2, max_size=8))
def test_no_two_names_share_a_path(given_names: list[str]) -> None:
    paths = [metric_path(name) for name in given_names]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert all(re.fullmatch(r"[A-Za-z0-9_:+@#=%~-]{1,255}", level) for level in path.split("."))


# Points


def test_points_of_a_poll(make: Make, receive: Receive) -> None:
    receiver = receive()
    output = make(receiver, prefix="fw")
    output.write(sums({"ipv4.http": (23, 2300), "two words": (2**64 - 1, 0)}, second=1_700_000_000))
    wait_until_written(output)
    wait_for(lambda: receiver.data.count(b"\n") == 4)
    assert receiver.data == (
        b"fw.ipv4.http.pkts 23 1700000000\nfw.ipv4.http.bytes 2300 1700000000\n"
        b"fw.two%20words.pkts 18446744073709551615 1700000000\nfw.two%20words.bytes 0 1700000000\n"
    )
    assert (output.stats.records, output.stats.written) == (2, 2)
    assert output.state == f"connected to 127.0.0.1:{receiver.address[1]} (written: handed to the peer's kernel)"


@pytest.mark.parametrize(
    ("prefix", "shown"), [("", "a"), ("fw.", "fw.a"), ("my fw", "my%20fw.a"), ("x" * 255, "x" * 255 + ".a")]
)
def test_prefix(make: Make, receive: Receive, prefix: str, shown: str) -> None:
    receiver = receive()
    make(receiver, prefix=prefix).write(sums({"a": (1, 2)}, second=5))
    wait_for(lambda: receiver.data.count(b"\n") == 2)
    assert points(receiver.data) == [(f"{shown}.pkts", 1, 5), (f"{shown}.bytes", 2, 5)]


@pytest.mark.parametrize("second", [None, 0])
def test_time_of_writing_where_the_record_has_none(make: Make, receive: Receive, second: int | None) -> None:
    receiver = receive()
    before = int(time.time())
    make(receiver).write(sums({"a": (1, 2)}, second=second))
    wait_for(lambda: receiver.data.count(b"\n") == 2)
    assert all(before <= at <= int(time.time()) for _, _, at in points(receiver.data))


def test_quota_has_used_and_limit(make: Make, receive: Receive) -> None:
    receiver = receive()
    counts: dict[str, Any] = {"t.c": (1, 100), "t.q": (None, 7)}
    make(receiver).write(sums(counts, second=5, limits=[None, 1000]))
    wait_for(lambda: receiver.data.count(b"\n") == 4)
    assert points(receiver.data) == [
        ("t.c.pkts", 1, 5),
        ("t.c.bytes", 100, 5),
        ("t.q.used", 7, 5),
        ("t.q.limit", 1000, 5),
    ]


def test_objects_that_come_and_go(make: Make, receive: Receive) -> None:
    receiver = receive()
    output = make(receiver)
    polls = [["a"], ["a", "b"], ["b", "a"], ["b"], []]
    for second, poll in enumerate(polls, 100):
        output.write(sums({name: (ord(name), second) for name in poll}, second=second))
    wait_until_written(output)
    expected = [
        point
        for second, poll in enumerate(polls, 100)
        for name in poll
        for point in ((f"{name}.pkts", ord(name), second), (f"{name}.bytes", second, second))
    ]
    wait_for(lambda: receiver.data.count(b"\n") == len(expected))
    assert points(receiver.data) == expected


def test_two_polls_within_a_second_get_two_seconds(make: Make, receive: Receive) -> None:
    receiver = receive()
    output = make(receiver)
    # The batches of one poll share its second; 400 is a clock that was set back.
    for name, second in (("a", 500), ("b", 500), ("a", 500), ("a", 500), ("a", 501), ("a", 505), ("a", 400)):
        output.write(sums({name: (1, 1)}, second=second))
    wait_for(lambda: receiver.data.count(b"\n") == 14)
    assert [(path[0], at) for path, _, at in points(receiver.data)[::2]] == [
        ("a", 500), ("b", 500), ("a", 501), ("a", 502), ("a", 503), ("a", 505), ("a", 400)
    ]  # fmt: skip


def test_pickles(make: Make, receive: Receive) -> None:
    receiver = receive()
    output = make(receiver, protocol="pickle", prefix="fw")
    counts = {f"c{n:04}" + "y" * 200: (n, 2**64 - 1 - n) for n in range(1234)}
    output.write(sums(counts, second=5))
    wait_until_written(output)
    expected = [
        point
        for name, (pkts, size) in counts.items()
        for point in ((f"fw.{name}.pkts", pkts, 5), (f"fw.{name}.bytes", size, 5))
    ]
    wait_for(lambda: len(receiver.data) == output.stats.bytes)
    frames = pickled_points(receiver.data)
    assert [point for frame in frames for point in frame] == expected
    assert list(map(len, frames)) == [1000, 1000, 468]
    assert output.stats.written == 1234


@pytest.mark.parametrize("kind", ["udp", "udp6"])
def test_a_datagram_has_as_many_objects_as_fit(make: Make, kind: str) -> None:
    family = socket.AF_INET6 if kind == "udp6" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind(("::1" if kind == "udp6" else "127.0.0.1", 0))
        server.settimeout(10)
        host, port = server.getsockname()[:2]
        output = make(host=host, port=str(port), transport="udp", datagram_bytes=200)
        counts = {f"name{n}": (n, n) for n in range(20)} | {"long" * 60: (1, 2)} | {"z": (1, 2)}
        output.write(sums(counts, second=5))
        datagrams = [server.recv(9000)]
        while b"z.bytes" not in datagrams[-1]:
            datagrams.append(server.recv(9000))
    assert [path for path, _, _ in points(b"".join(datagrams))] == [
        f"{name}.{what}" for name in counts for what in ("pkts", "bytes")
    ]
    for datagram in datagrams:
        names_in = [path.rsplit(".", 1)[0] for path, _, _ in points(datagram)]
        assert len(names_in) % 2 == 0  # no object is in two datagrams
        assert len(datagram) <= 200 or len(names_in) == 2
    assert len(datagrams) < 10
    wait_until_written(output)
    assert output.stats.written == len(counts)


@pytest.mark.parametrize(("kind", "host"), [("tcp", "127.0.0.1"), ("tcp", "localhost"), ("tcp6", "::1")])
def test_receiver_by_address_and_name(make: Make, receive: Receive, kind: str, host: str) -> None:
    receiver = receive(kind)
    make(receiver, host=host).write(sums({"a": (1, 2)}, second=5))
    wait_for(lambda: receiver.data.count(b"\n") == 2)


# Receivers that are away, slow, closing, coming back


@pytest.mark.parametrize("protocol", ["plaintext", "pickle"])
def test_receiver_that_comes_and_goes(make: Make, receive: Receive, protocol: str) -> None:
    """Away at the start, killed with unread data, closing: each point arrives, some twice, no frame is torn."""
    port = unused_port()
    output = make(host="127.0.0.1", port=str(port), protocol=protocol)
    sent: set[Point] = set()
    got: list[bytes] = []

    def poll(second: int) -> None:
        counts = {f"c{n:04}": (n * second, second) for n in range(700)}
        sent.update((f"c{n:04}.pkts", n * second, second) for n in range(700))
        sent.update((f"c{n:04}.bytes", second, second) for n in range(700))
        output.write(sums(counts, second=second))

    poll(1)
    for second in range(2, 8):
        receiver = receive(address=("127.0.0.1", port), buffer_bytes=4096)
        poll(second)
        wait_for(lambda receiver=receiver: len(receiver.data) > 10_000, [output.stats])  # type: ignore[misc]
        if second % 2:
            receiver.reads.clear()
        poll(second + 100)
        receiver.stop()
        got += map(bytes, receiver.connections)
    receiver = receive(address=("127.0.0.1", port))
    poll(200)
    wait_until_written(output)
    output.close()
    wait_for(lambda: receiver.data.count(b"c0699") >= 2)
    receiver.stop()
    got += map(bytes, receiver.connections)
    arrived: set[Point] = set()
    for data in got:
        if protocol == "plaintext":
            arrived.update(points(data[: data.rfind(b"\n") + 1]))
        else:
            arrived.update(_whole_frames(data))
    # Every connection begins with a whole record, and what was read before a reset is read again.
    assert arrived == sent
    assert output.stats.dropped == dict.fromkeys(output.stats.reasons, 0)
    assert output.stats.written == output.stats.records == 700 * 14


def _whole_frames(data: bytes) -> set[Point]:
    found: set[Point] = set()
    while len(data) >= 4 and len(data) >= 4 + struct.unpack_from("!I", data)[0]:
        (length,) = struct.unpack_from("!I", data)
        for frame in pickled_points(data[: 4 + length]):
            found.update(frame)
        data = data[4 + length :]
    return found


def test_with_zerocounter_a_full_memory_costs_resolution_only(make: Make, receive: Receive) -> None:
    port = unused_port()
    output = make(host="127.0.0.1", port=str(port), max_pending_bytes=2000, deltas=True)
    given_counts = dict.fromkeys(["a", "b", "gone"], 0)
    for second in range(1, 101):
        poll = {"a": (second, 1), "b": (2, 10)} | ({"gone": (5, 5)} if second < 90 else {})
        for name, (pkts, _) in poll.items():
            given_counts[name] += pkts
        output.write(sums(poll, second=second))
        check(output.stats)
    assert output.stats.pending_bytes <= 2000
    assert output.stats.dropped["merged"] > 200
    assert output.stats.dropped["full"] == 0
    receiver = receive(address=("127.0.0.1", port))
    wait_until_written(output)
    output.write(sums({"a": (1000, 0), "b": (1, 0)}, second=101))
    wait_until_written(output)
    wait_for(lambda: b"b.bytes" in receiver.data and len(receiver.data) == output.stats.bytes)
    found = points(receiver.data)
    delivered = {name: sum(v for path, v, _ in found if path == f"{name}.pkts") for name in given_counts}
    assert delivered == {**given_counts, "a": given_counts["a"] + 1000, "b": given_counts["b"] + 1}
    assert len({(path, at) for path, _, at in found}) == len(found)


def test_what_is_carried_over_goes_with_the_stop(make: Make, receive: Receive) -> None:
    """The receiver comes back at the very end: then what could not be kept poll by poll is sent as one."""
    port = unused_port()
    output = make(host="127.0.0.1", port=str(port), max_pending_bytes=0, deltas=True)
    for second in range(1, 11):
        output.write(sums({"a": (1, 10)}, second=second))
    assert (output.stats.pending, output.stats.dropped["merged"]) == (1, 9)
    receiver = receive(address=("127.0.0.1", port))
    wait_until_written(output)
    output.close(5.0)
    wait_for(lambda: receiver.data.count(b"\n") == 4)
    assert [value for path, value, _ in points(receiver.data) if path == "a.pkts"] == [1, 9]


def test_stop_without_a_receiver_counts_what_is_lost(make: Make) -> None:
    output = make(host="127.0.0.1", port=str(unused_port()), max_pending_bytes=0, deltas=True)
    for second in range(1, 6):
        output.write(sums({"a": (1, 10), "b": (1, 10)}, second=second))
    output.close(0.1)
    assert output.stats.pending == 0
    # The first poll waited, the others were one by then.
    assert {reason: n for reason, n in output.stats.dropped.items() if n} == {"merged": 8, "stop": 4}


def test_without_zerocounter_a_full_memory_drops_polls(make: Make) -> None:
    output = make(host="127.0.0.1", port=str(unused_port()), max_pending_bytes=60)
    for second in range(1, 6):
        output.write(sums({"a": (second, 10)}, second=second))  # 24 bytes
    assert output.stats.dropped["full"] == 3
    assert output.stats.dropped["merged"] == 0


def test_input_is_known_from_the_stack() -> None:
    (stack,) = stacks_of("[global]\nstack=c:NFTCOUNTER,g:GRAPHITE\n[c]\npollinterval=1\nzerocounter=1\n[g]\nhost=::1\n")
    assert isinstance(stack.output, GRAPHITE)
    assert stack.output.input is stack.source.input
    assert stack.output._counts_deltas


def test_pickles_over_udp_are_refused() -> None:
    text = "[global]\nstack=c:NFTCOUNTER,g:GRAPHITE\n[c]\npollinterval=1\n[g]\nprotocol=pickle\ntransport=udp\n"
    with pytest.raises(ConfigError, match="protocol=pickle needs transport=tcp"):
        stacks_of(text)


def test_a_port_that_is_none_is_refused() -> None:
    text = "[global]\nstack=c:NFTCOUNTER,g:GRAPHITE\n[c]\npollinterval=1\n[g]\nport=99999\n"
    with pytest.raises(ConfigError, match=r"\[g\] GRAPHITE: port=99999: must be 1 to 65535"):
        stacks_of(text)


@pytest.mark.parametrize(("options", "port"), [({}, 2003), ({"protocol": "pickle"}, 2004), ({"port": "2013"}, 2013)])
def test_the_doctor_looks_at_the_port_that_is_sent_to(options: dict[str, str], port: int) -> None:
    (finding,) = GRAPHITE("g", GRAPHITEOptions(**options)).examine()  # type: ignore[arg-type]
    assert finding.text.startswith(f"tcp peer 127.0.0.1 port {port}")


def test_open_again_after_close(make: Make, receive: Receive) -> None:
    receiver = receive()
    output = make(receiver)
    output.close(0.1)
    output.open()
    output.write(sums({"a": (1, 2)}, second=5))
    wait_for(lambda: receiver.data.count(b"\n") == 2)


def test_reopen_connects_anew(make: Make, receive: Receive) -> None:
    receiver = receive()
    output = make(receiver)
    output.write(sums({"a": (1, 2)}, second=5))
    wait_until_written(output)
    output.reopen()
    wait_for(lambda: len(receiver.connections) == 2, [output.stats])


# With the real carbon


@pytest.mark.parametrize("sent_by", ["plaintext", "pickle", "udp"])
def test_carbon_keeps_every_name(make: Make, carbon: Carbon, sent_by: str) -> None:
    pickles = sent_by == "pickle"
    output = make(
        port=str(carbon.pickle_port if pickles else carbon.port),
        prefix=sent_by,
        protocol="pickle" if pickles else "plaintext",
        transport="udp" if sent_by == "udp" else "tcp",
    )
    second = int(time.time())
    counts = {name: (number, 100 * number) for number, name in enumerate(NAMES, 1)}
    counts["inet.t." + "\udcff" * 255] = (1000, 2000)
    output.write(sums(counts, second=second))
    last = f"{sent_by}.inet.t.{metric_path(chr(0xDCFF) * 255)}"
    carbon.wait_for(f"{last}.bytes", 2000)
    for name, (pkts, size) in counts.items():
        path = f"{sent_by}.{metric_path(name)}"
        carbon.wait_for(f"{path}.pkts", pkts)
        assert carbon.points(f"{path}.bytes") == {second: size}
    assert sum(metric.startswith(f"{sent_by}.") for metric in carbon.metrics()) == 2 * len(counts)


RULES = """
table inet t {
  counter ipv4.http { }
  counter idle { comment "never counts" }
  quota q { over 1 mbytes }
  chain i {
    type filter hook input priority 0
    udp dport 9 counter name "ipv4.http" quota name "q"
  }
}
"""


@pytest.mark.parametrize("sent_by", ["plaintext", "pickle", "udp"])
def test_figures_in_carbon_are_the_packets_sent(pair: Pair, tmp_path: Path, sent_by: str) -> None:
    """Over polls, outages and restarts of carbon, what it has stored adds up to what the kernel counted."""
    pair.fw.nft(RULES)
    options = {"plaintext": "", "pickle": "protocol=pickle", "udp": "transport=udp"}[sent_by]
    text = config(
        "c:NFTCOUNTER,g:GRAPHITE", c="pollinterval=3600\nzerocounter=1\ntimestamp=1", g=f"prefix=fw\n{options}"
    )
    metric = "fw.inet.t.ipv4.http.pkts"
    with Daemon(tmp_path, text, netns=pair.fw) as daemon, Carbon(tmp_path, netns=pair.fw) as carbon:
        total = sum(_poll(pair, daemon, count) for count in (23, 0, 101))
        carbon.wait_for(metric, total)
        carbon.stop()
        total += sum(_poll(pair, daemon, count) for count in (7, 11, 13))
        carbon.start()
        carbon.wait_for(metric, total)
        total += _poll(pair, daemon, 29)
        carbon.wait_for(metric, total)
        carbon.wait_for("fw.inet.t.ipv4.http.bytes", 48 * total)
        assert set(carbon.points("fw.inet.t.idle.pkts").values()) == {0}
        assert set(carbon.points("fw.inet.t.q.limit").values()) == {1 << 20}
        assert max(carbon.points("fw.inet.t.q.used").values()) == 48 * total  # never zeroed
        assert pair.fw.counter("ipv4.http") == 0


def _poll(pair: Pair, daemon: Daemon, packets: int) -> int:
    """Send packets, have the daemon poll, and see that it has; return their number."""
    pair.send_udp(packets)
    daemon.send(signal.SIGUSR2)
    end = time.monotonic() + 20
    while pair.fw.counter("ipv4.http"):
        assert time.monotonic() < end, daemon.stderr
    return packets


@pytest.mark.parametrize("seed", range(3))
def test_all_that_the_kernel_counted_is_delivered(pair: Pair, tmp_path: Path, seed: int) -> None:
    """A random course of packets, polls, outages that begin in the middle of things, and returns of the receiver."""
    rng = random.Random(seed)
    pair.fw.nft(RULES)
    delivered: dict[tuple[str, int], int] = {}
    sent = 0
    with pair.fw.enter():
        receiver = Receiver("tcp", tmp_path, buffer_bytes=rng.choice([0, 4096]))
        address = receiver.address
        source = NFTCOUNTER("c", NFTCOUNTEROptions(pollinterval=3600, zerocounter=True))
        source.open()
        output = GRAPHITE("g", GRAPHITEOptions(port=str(address[1]), max_pending_bytes=rng.choice([0, 1000, 1 << 20])))
        output.input = source
        output.open()

    def stop() -> None:
        receiver.stop()
        for data in receiver.connections:
            for path, value, second in points(bytes(data[: data.rfind(b"\n") + 1])):
                assert delivered.setdefault((path, second), value) == value

    def poll() -> None:
        source.poll_now()
        output.write(source.receive())
        check(output.stats)

    def is_up() -> bool:
        return not receiver._stopping

    def come_back() -> Receiver:
        with pair.fw.enter():
            return Receiver("tcp", tmp_path, address=address)

    for _ in range(60):
        step = rng.choice(["packets", "poll", "poll", "outage", "stall"])
        if step == "packets":
            count = rng.randrange(1, 50)
            pair.send_udp(count)
            sent += count
        elif step == "poll":
            poll()
        elif step == "stall" and is_up():
            receiver.reads.clear()
        elif is_up():
            stop()
        else:
            receiver = come_back()
    if not is_up():
        receiver = come_back()
    receiver.reads.set()
    wait_until_written(output)
    poll()
    wait_until_written(output)
    output.close()
    source.close()
    # What is acknowledged is read before the end of the connection is. It may wait to be accepted: before this one.
    with pair.fw.enter(), socket.create_connection(address) as last:
        last.sendall(b"last")
    wait_for(lambda: b"last" in receiver.connections and not receiver._open)
    stop()
    assert sum(value for (path, _), value in delivered.items() if path.endswith("http.pkts")) == sent
    assert pair.fw.counter("ipv4.http") == 0
    assert output.stats.dropped["full"] == output.stats.dropped["stop"] == 0


def test_examples_in_carbon(pair: Pair, tmp_path: Path) -> None:
    """Example rules for iptables and nft and the example configuration: the figures are those of the packets sent."""
    pair.fw.run("sh", str(EXAMPLES / "iptables" / "accounting.sh"), "add")
    pair.fw.run("nft", "-f", str(EXAMPLES / "nft" / "accounting.nft"))
    text = (EXAMPLES / "grafana" / "accounting.conf").read_text()
    with Carbon(tmp_path, netns=pair.fw) as carbon, Daemon(tmp_path, text, netns=pair.fw) as daemon:
        for family, target in ((socket.AF_INET, pair.PEER4), (socket.AF_INET6, pair.PEER6)):
            with pair.fw.enter(), socket.socket(family, socket.SOCK_STREAM) as http:
                http.settimeout(10)
                assert http.connect_ex((target, 80)) == errno.ECONNREFUSED  # a SYN and a RST
        daemon.send(signal.SIGUSR2)
        for metric in ("ipv4.http", "ipv6.http"):
            carbon.wait_for(f"fw.{metric}.pkts", 2)
            assert carbon.sum(f"fw.{metric}.bytes") > 80
            carbon.wait_until(lambda metric=metric: 2 in carbon.points(f"fw.inet.accounting.{metric}.pkts").values())
        dashboard = json.loads((EXAMPLES / "grafana" / "graphite.json").read_text())
        variables = {each["name"]: each["query"] for each in dashboard["templating"]["list"]}
        shown = set()
        for target in (each["target"] for panel in dashboard["panels"] for each in panel["targets"]):
            for name, value in variables.items():
                target = target.replace(f"${name}", value)
            for pattern in re.findall(r"fw\.[a-z0-9*.]+", target):
                expression = re.compile(pattern.replace(".", r"\.").replace("*", "[^.]+"))
                found = {metric for metric in carbon.metrics() if expression.fullmatch(metric)}
                assert found, f"{pattern} shows nothing"
                shown |= found
        assert shown == {metric for metric in carbon.metrics() if metric.startswith("fw.")}
    pair.fw.run("sh", str(EXAMPLES / "iptables" / "accounting.sh"), "delete")


@pytest.mark.parametrize("protocol", ["plaintext", "pickle"])
def test_large_poll_that_a_dying_receiver_had_not_read(make: Make, receive: Receive, protocol: str) -> None:
    """Acknowledged by its kernel, but never read: all of it is sent again."""
    if int(Path("/proc/sys/net/core/rmem_max").read_text()) < 4 << 20:
        pytest.skip("net.core.rmem_max is below 4 MiB: no receiver can leave that much unread")
    receiver = receive(buffer_bytes=4 << 20)
    receiver.reads.clear()
    output = make(receiver, protocol=protocol)
    counts = {f"counter{n:06}": (n, n) for n in range(40_000)}
    output.write(sums(counts, second=5))
    wait_until_written(output)
    assert output.stats.bytes > 2 << 20
    receiver.stop()
    again = receive(address=receiver.address)
    output.write(sums({"last": (1, 1)}, second=6))
    wait_until_written(output)
    output.close()
    wait_for(lambda: not again._open)
    data = again.data
    found = points(data) if protocol == "plaintext" else list(_whole_frames(data))
    assert {path for path, _, _ in found} >= {
        f"{name}.{what}" for name in (*counts, "last") for what in ("pkts", "bytes")
    }
