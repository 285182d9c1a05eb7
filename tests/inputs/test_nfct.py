# SPDX-License-Identifier: GPL-2.0-or-later
"""NFCT: what its options mean, beside ulogd2 on the same traffic, and what ulogd2 has wrong (D-F01 to D-F14)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding._lib import lib
from nflowlevel.binding.conntrack import load
from nflowlevel.errors import ConfigError
from nflowlevel.inputs.nfct import NFCT, NFCTOptions
from nflowlevel.logs import NOTICE
from nflowlevel.options import Value, convert
from nflowlevel.records.batch import Batch
from tests import ulogd2
from tests.fix_daemon import Daemon, config, lines_of, records, wait_for
from tests.fix_watched import SMALL_BUFFER, Sum, Watched, summed
from tests.flows import TCP, message

STACK = "ct1:NFCT,ip2str1:IP2STR,json1:JSON"
PORTS = range(20000, 20200)

Record = dict[str, Any]


@pytest.fixture
def opened(watched: Watched) -> Iterator[Callable[..., NFCT]]:
    """Opens inputs in the watched namespace; they are closed in the end."""
    made: list[NFCT] = []

    def open_(**options: Any) -> NFCT:
        made.append(NFCT("ct1", NFCTOptions(network_namespace_path=options.pop("at", watched.fw.path), **options)))
        made[-1].open()
        return made[-1]

    yield open_
    for each in made:
        each.close()


def come(nfct: NFCT, secs: float = 0.3) -> list[Batch]:
    """Return what comes, until nothing has come for so long, as the loop of the daemon would ask for it."""
    found = []
    last = time.monotonic()
    while time.monotonic() - last < secs:
        batch = nfct.receive()
        if batch:
            found.append(batch)
            last = time.monotonic()
        elif not nfct.more:
            time.sleep(0.002)
    return found


def come_until(nfct: NFCT, done: Callable[[list[Batch]], object], what: str) -> list[Batch]:
    """Return what comes until `done` holds for it."""
    found: list[Batch] = []

    def held() -> bool:
        if batch := nfct.receive():
            found.append(batch)
        return bool(done(found))

    wait_for(held, what, lambda: f"{nfct.stats}")
    return found


def rows(batches: list[Batch], *keys: str) -> list[tuple[Any, ...]]:
    return sorted(row for batch in batches for row in batch.rows(*keys))


def added(found: list[Record]) -> Sum:
    """Return what lines of JSON add up to."""
    return Sum(
        sum(each[f"{way}.raw.pktcount"] for each in found for way in ("orig", "reply")),
        sum(each[f"{way}.raw.pktlen"] for each in found for way in ("orig", "reply")),
    )


# -- beside ulogd2 -------------------------------------------------------------------------------------------


class Ulogd:
    """ulogd2 with a stack of flows."""

    def __init__(self, watched: Watched, directory: Path, options: str) -> None:
        if ulogd2.missing():
            pytest.skip(ulogd2.missing())
        self.file = directory / "theirs.json"
        modules = next(Path("/usr/lib").glob("*/ulogd"))
        plugins = "".join(
            f'plugin="{modules}/ulogd_{name}.so"\n' for name in ("inpflow_NFCT", "filter_IP2STR", "output_JSON")
        )
        conf = directory / "ulogd.conf"
        log = directory / "ulogd.log"
        conf.write_text(
            f'[global]\nlogfile="{log}"\nloglevel=1\n{plugins}stack={STACK}\n[ct1]\n{options}\n'
            f'[json1]\nfile="{self.file}"\nsync=1\n'
        )
        environment = {**os.environ, "TZ": "UTC"}
        self.process = watched.fw.popen("/usr/sbin/ulogd", "-c", str(conf), env=environment, stderr=subprocess.DEVNULL)
        wait_for(lambda: log.exists() and "initialization finished" in log.read_text(), "ulogd2 runs")
        time.sleep(0.3)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@contextlib.contextmanager
def both(watched: Watched, directory: Path, options: str) -> Iterator[tuple[Path, Path]]:
    """Run both daemons with the same options; yield the files that they write to."""
    ours = directory / "ours.json"
    theirs = Ulogd(watched, directory, options)
    text = config(STACK, ct1=options, json1=f"file={ours}\nflow_keys=all")
    with Daemon(directory, text, netns=watched.fw):
        yield ours, theirs.file
        theirs.stop()


def traffic(watched: Watched) -> None:
    """Flows of each kind, some translated."""
    watched.fw.nft(
        "table ip n {\nchain d {\ntype nat hook prerouting priority -100;\nudp dport 53 redirect to :9\n}\n}"
    )
    watched.udp_flows(range(5000, 5010), packets=3)
    watched.send_udp(4, port=53, source_port=6000)
    watched.send_udp(2, source=watched.PEER6, source_port=6001)
    watched.tcp(5000, 7000)
    watched.echo(2, count=2, size=20)
    watched.echo(10, count=3, size=20)


def compare(ours: list[Record], theirs: list[Record], *, ends: bool = True, icmpv6: int = 1) -> None:
    """What ulogd2 writes we write, in its order, and the times are near."""
    key = "orig.ip.protocol", "src_ip", "orig.l4.sport", "ct.event"
    order = [sorted(side, key=lambda each: [str(each.get(name)) for name in key]) for side in (ours, theirs)]
    assert len(order[0]) == len(order[1]) > 0
    for mine, other in zip(*order, strict=True):
        assert [name for name in mine if name in other] == [*other]
        for name, value in other.items():
            if name == "timestamp":
                continue
            if name.endswith(".usec"):
                assert 0 <= mine[name] < 1_000_000
            elif name.startswith("flow."):
                assert abs(mine[name] - value) <= 1, name
            else:
                assert mine[name] == value, (name, mine, other)
        assert ("flow.end.sec" in other) <= ends
        # D-F10: ulogd2 says neither type nor code of ICMPv6.
        if mine["orig.ip.protocol"] == 58:
            assert (mine["icmpv6.type"], mine["icmpv6.code"]) == (128, 0)


def lines(path: Path, count: int) -> list[Record]:
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"{count} lines in {path}")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("stamps", [0, 1])
def test_beside_ulogd2_with_its_hash(watched: Watched, tmp_path: Path, stamps: int) -> None:
    watched.fw.sysctl("net.netfilter.nf_conntrack_timestamp", stamps)
    with both(watched, tmp_path, "") as (ours, theirs):
        traffic(watched)
        watched.flush()
        found = lines(ours, 15), lines(theirs, 15)
    compare(*found)
    assert {each["ct.event"] for each in found[0]} == {4}


def test_beside_ulogd2_without_hash(watched: Watched, tmp_path: Path) -> None:
    with both(watched, tmp_path, "hash_enable=0") as (ours, theirs):
        traffic(watched)
        watched.flush()
        found = lines(ours, 30), lines(theirs, 30)
    compare(*found)
    assert sorted(each["ct.event"] for each in found[0]) == [1] * 15 + [4] * 15


def test_beside_ulogd2_that_polls(watched: Watched, tmp_path: Path) -> None:
    """D-F06: ulogd2 has no end time of what it polls, nor what lives shorter; all else agrees."""
    with both(watched, tmp_path, "pollinterval=1") as (ours, theirs):
        traffic(watched)
        time.sleep(2.5)
        watched.udp_flows([7000])
        watched.flush()
        found = lines(ours, 16), lines(theirs, 15)
    short = [each for each in found[0] if each.get("orig.l4.sport") == 7000]
    assert len(short) == 1
    assert len(found[1]) == 15
    compare([each for each in found[0] if each not in short], found[1], ends=False)
    assert all("flow.end.sec" in each for each in found[0])


# -- ulogd2's defects --------------------------------------------------------------------------------------------


def test_d_f01_usr2_without_hash(watched: Watched, tmp_path: Path) -> None:
    """ulogd2 crashes."""
    out = tmp_path / "out.json"
    with Daemon(
        tmp_path, config(STACK, ct1="hash_enable=0", json1=f"file={out}\nflow_keys=all"), netns=watched.fw
    ) as daemon:
        watched.send_udp(1, source_port=5000)
        daemon.process.send_signal(signal.SIGUSR2)
        daemon.says("there is no table of flows to report")
        watched.flush()
        assert [each["ct.event"] for each in records(out, 2)] == [1, 4]


def test_d_f02_usr2_with_several_stacks(watched: Watched, tmp_path: Path) -> None:
    """ulogd2 crashes."""
    outs = [tmp_path / "a.json", tmp_path / "b.json"]
    stacks = "ct1:NFCT,i:IP2STR,a:JSON", "ct1:NFCT,i2:IP2STR,b:JSON"
    text = config(*stacks, ct1="", a=f"file={outs[0]}\nflow_keys=all", b=f"file={outs[1]}\nflow_keys=all")
    with Daemon(tmp_path, text, netns=watched.fw) as daemon:
        watched.send_udp(3, source_port=5000)
        daemon.process.send_signal(signal.SIGUSR2)
        for out in outs:
            records(out, 1)
        watched.send_udp(2, source_port=5000)
        daemon.process.send_signal(signal.SIGUSR2)
        for out in outs:
            records(out, 2)
        watched.flush()
        for out in outs:
            found = records(out, 3)
            assert [each["ct.event"] for each in found] == [2, 2, 4]
            assert [each["orig.raw.pktcount"] for each in found] == [3, 2, 0]
            assert added(found) == watched.seen()


def test_d_f03_more_flows_than_hash_max_entries(unstamped: Watched, opened: Callable[..., NFCT]) -> None:
    """ulogd2 has no beginning of the surplus, and says nothing; they are counted, and where stamped have it."""
    nfct = opened(at=unstamped.fw.path, hash_max_entries=20)
    unstamped.udp_flows(range(5000, 5030))
    unstamped.flush()
    found = come(nfct)
    assert sum(start is not None for (start,) in [row for b in found for row in b.rows("flow.start.sec")]) == 20
    assert nfct.stats.untracked == 10
    unstamped.fw.sysctl("net.netfilter.nf_conntrack_timestamp", 1)
    unstamped.udp_flows(range(6000, 6030))
    unstamped.flush()
    assert all(start for (start,) in [row for b in come(nfct) for row in b.rows("flow.start.sec")])


def test_d_f04_after_an_overrun_flows_have_their_counts_and_end(watched: Watched, opened: Callable[..., NFCT]) -> None:
    """ulogd2 reports what it has lost with 0 packets, 0 bytes and no end."""
    nfct = opened(
        netlink_socket_buffer_size=SMALL_BUFFER,
        netlink_socket_buffer_maxsize=SMALL_BUFFER,
        netlink_resync_timeout=1,
        pollinterval=1,
    )
    watched.udp_flows(range(10000, 12000), packets=3)
    found = come(nfct, 1.5)
    assert not found
    watched.flush()
    found += come(nfct, 1.5)
    assert len(rows(found, "sport")) == 2000
    assert summed(found) == watched.seen()
    assert all(end for (end,) in rows(found, "flow.end.sec"))
    stats = nfct.stats
    assert stats.lost == stats.presumed > 1000
    assert stats.resyncs == 1


def test_d_f05_what_goes_on_at_the_stop(watched: Watched, tmp_path: Path) -> None:
    """ulogd2 never reports it; here `flush_at_stop` does. What goes on after that is not known yet to a later run."""
    outs = {value: tmp_path / f"{value}.json" for value in (0, 1)}
    for value, out in outs.items():
        text = config(STACK, ct1=f"flush_at_stop={value}", json1=f"file={out}\nflow_keys=all")
        with Daemon(tmp_path, text, netns=watched.fw):
            watched.udp_flows(PORTS, packets=2)
    assert lines_of(outs[0]) == []
    found = lines_of(outs[1])
    assert added(found) == watched.seen()
    assert {(each["ct.event"], each["flow.last"], each["flow.end.reason"]) for each in found} == {(2, 0, 4)}


def test_d_f07_filters(watched: Watched, opened: Callable[..., NFCT]) -> None:
    """ulogd2 lets all of the other family pass, or none; and its filters do not hold for what it lists."""
    watched.send_udp(1, source_port=5000)
    watched.send_udp(1, source=watched.PEER6, source_port=5006)
    cases: list[tuple[dict[str, str], set[int]]] = [
        ({"accept_src_filter": "10.77.0.0/24"}, {5000}),
        ({"accept_src_filter": "fd77::/16"}, {5006}),
        ({"accept_dst_filter": "10.77.0.0/24, fd77::1/128"}, {5000, 5006}),
        ({"accept_dst_filter": "::/0"}, {5006}),
        ({"accept_src_filter": "10.77.0.2/31", "accept_dst_filter": "10.77.0.0/31"}, {5000}),
        ({"accept_src_filter": "10.77.0.0/31"}, set()),
    ]
    inputs = [(opened(**options), ports) for options, ports in cases]
    for nfct, ports in inputs:
        come(nfct, 0.05)
        assert nfct.stats.tracked == len(ports)
    watched.flush()
    for nfct, ports in inputs:
        assert {port for (port,) in rows(come(nfct, 0.05), "sport")} == ports


def test_d_f08_changes_without_hash(watched: Watched, opened: Callable[..., NFCT]) -> None:
    """ulogd2 writes no UPDATE, but a notice for each."""
    nfct = opened(hash_enable=False, event_mask=2)
    watched.tcp(10, 10)
    found = rows(come(nfct), "ct.event", "flow.last")
    assert len(found) > 1
    assert set(found) == {(2, 0)}


def test_d_f11_addresses_of_ipv6(watched: Watched, opened: Callable[..., NFCT]) -> None:
    """ulogd2 prints the first four bytes."""
    nfct = opened()
    watched.send_udp(1, source=watched.PEER6, source_port=5000)
    watched.flush()
    assert rows(come(nfct), "orig.ip.saddr", "orig.ip.daddr") == [(watched.PEER6, watched.FW6)]


def test_d_f12_a_beginning_is_not_an_end(watched: Watched, opened: Callable[..., NFCT]) -> None:
    """ulogd2's NACCT and IPFIX take beginnings for flows that ended at 0; here the record says it is not the last."""
    nfct = opened(hash_enable=False)
    watched.send_udp(1, source_port=5000)
    watched.flush()
    found = rows(come(nfct), "ct.event", "flow.last", "flow.end.sec", "flow.end.reason")
    assert found[0] == (1, 0, None, None)
    assert found[1][:2] == (4, 1)
    assert found[1][2]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("accept_proto_filter", "17", ""),
        ("accept_proto_filter", "TCP, udp,  58", ""),
        ("accept_src_filter", "10.0.0.1", ""),
        ("accept_proto_filter", "no-such", "unknown protocol 'no-such'"),
        ("accept_dst_filter", "10.0.0.0/64", "accept_dst_filter: '10.0.0.0/64' is no network"),
    ],
)
def test_d_f13_numbers_and_single_addresses(option: str, value: str, says: str) -> None:
    """ulogd2 refuses the first three."""
    if not says:
        NFCTOptions(**{option: value})
        return
    with pytest.raises(ConfigError, match=says):
        convert(NFCTOptions, {option: Value(value, 3)}, plugin="NFCT", instance="ct1")


@pytest.mark.parametrize("value", ["1" * 5000, "10.0.0.0/" + "8" * 400, "/".join("1" * 300), ",".join(["::/0"] * 5000)])
def test_d_f14_long_filters(value: str) -> None:
    """ulogd2 copies them into 128 bytes without a look."""
    with contextlib.suppress(ValueError):
        accept = NFCTOptions(accept_src_filter=value).accept()
        assert len(accept.sources) == 5000


# -- options ---------------------------------------------------------------------------------------------------


def test_only_ends_are_heard_of_where_the_kernel_stamps(watched: Watched, opened: Callable[..., NFCT]) -> None:
    nfct, all_ = opened(), opened(event_mask=7)
    watched.udp_flows(PORTS)
    watched.flush()
    for each, events in ((nfct, len(PORTS)), (all_, 2 * len(PORTS))):
        assert len(rows(come(each), "sport")) == len(PORTS)
        assert each.stats.received == events


def test_event_mask(watched: Watched, opened: Callable[..., NFCT]) -> None:
    inputs = {mask: opened(hash_enable=False, event_mask=mask) for mask in (1, 4, 5, 0)}
    watched.send_udp(1, source_port=5000)
    watched.flush()
    for mask, nfct in inputs.items():
        assert sum(event for (event,) in rows(come(nfct, 0.1), "ct.event")) == mask


def test_active_timeout_and_the_sum(watched: Watched, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    with Daemon(
        tmp_path, config(STACK, ct1="active_timeout=1", json1=f"file={out}\nflow_keys=all"), netns=watched.fw
    ) as daemon:
        for _ in range(8):
            watched.udp_flows(PORTS[:20], packets=2)
            time.sleep(0.4)
        watched.flush()
        wait_for(lambda: sum(each["flow.last"] for each in lines_of(out, growing=True)) == 20, "all ends")
        daemon.stop()
    found = lines_of(out)
    assert added(found) == watched.seen()
    assert max(each["flow.number"] for each in found) >= 3


def test_the_sum_over_a_restart(watched: Watched, tmp_path: Path) -> None:
    """What was reported in part is kept in the directory that the service manager gives."""
    out = tmp_path / "out.json"
    text = config(STACK, ct1="", json1=f"file={out}\nflow_keys=all")
    environment = {"STATE_DIRECTORY": str(tmp_path)}
    for run in (1, 2):
        with Daemon(tmp_path, text, netns=watched.fw, environment=environment) as daemon:
            watched.udp_flows(PORTS, packets=2)
            daemon.process.send_signal(signal.SIGUSR2)
            records(out, run * len(PORTS))
        assert (tmp_path / "ct1.flows").exists()
    with Daemon(tmp_path, text, netns=watched.fw, environment=environment):
        watched.flush()
        found = records(out, 3 * len(PORTS))
    assert added(found) == watched.seen()
    assert sorted(each["flow.number"] for each in found) == sorted([1, 2, 3] * len(PORTS))


@pytest.mark.parametrize("seed", range(2))
def test_the_sum_over_kills_at_any_moment(watched: Watched, tmp_path: Path, seed: int) -> None:
    """Who is killed has left no state, and flows are reported from their beginning; or a whole one, and they add up.

    Killed while it runs, while it starts, or while it stops in order.
    """
    watched.fw.sysctl("net.netfilter.nf_conntrack_udp_timeout", 600)
    chance = random.Random(seed)
    out, state = tmp_path / "out.json", tmp_path / "state"
    options = f"active_timeout=1\nstate_file={state}"
    text = config(STACK, ct1=options, json1=f"file={out}\nflow_keys=all")
    begun = 0
    for _ in range(6):
        daemon = Daemon(tmp_path, text, netns=watched.fw).start()
        if chance.random() < 0.8:
            daemon.expect("READY")
            watched.udp_flows(PORTS, packets=chance.randrange(1, 5))
            daemon.send(signal.SIGUSR2)
        time.sleep(chance.random() * 0.5)
        if chance.random() < 0.5:
            daemon.send(signal.SIGTERM)
            time.sleep(chance.random() * 0.1)
        daemon.send(signal.SIGKILL)
        daemon.wait()
        daemon.close()
        if not (state.exists() and state.stat().st_size > 100):  # more than its head
            begun = len(lines_of(out, growing=True))
    with Daemon(tmp_path, text, netns=watched.fw) as last:
        watched.udp_flows(PORTS)
        watched.flush()
        told = f"ends of {len(PORTS)} flows"
        wait_for(lambda: sum(each["flow.last"] for each in lines_of(out, growing=True)[begun:]) >= len(PORTS), told)
        assert last.process.poll() is None
    found = lines_of(out)
    assert added(found[begun:]) == watched.seen()
    assert all(
        0 <= value < 2**32 for each in found for name, value in each.items() if name.endswith((".pktcount", "len"))
    )


def test_counting_that_is_turned_off_and_on(watched: Watched, opened: Callable[..., NFCT]) -> None:
    """Flows that are counted go on to be; of others there are no counts, and none of anybody falls."""
    nfct = opened(active_timeout=1)
    come(nfct)
    watched.udp_flows(range(5000, 5010), packets=3)
    nfct.poll_now()
    found = come(nfct)
    seen = watched.seen()
    watched.fw.sysctl("net.netfilter.nf_conntrack_acct", 0)
    watched.udp_flows(range(5000, 5010), packets=2)
    seen_counted = watched.seen()
    watched.udp_flows(range(6000, 6010), packets=2)
    nfct.poll_now()
    found += come(nfct)
    watched.fw.sysctl("net.netfilter.nf_conntrack_acct", 1)
    watched.udp_flows(range(6000, 6010), packets=2)
    nfct.poll_now()
    found += come(nfct)
    watched.flush()
    found += come_until(nfct, lambda more: sum(map(len, more)) >= 20, "20 ends")
    assert summed(found) == seen_counted > seen
    assert nfct.stats.reset == 0


def test_the_buffer_is_large_and_grows(watched: Watched, opened: Callable[..., NFCT]) -> None:
    assert opened().reader.socket_buffer == 128 << 20  # the kernel doubles it
    nfct = opened(netlink_socket_buffer_size=SMALL_BUFFER)
    watched.udp_flows(range(10000, 11000))
    watched.flush()
    come(nfct, 0.1)
    assert nfct.reader.socket_buffer == 4 * SMALL_BUFFER
    assert nfct.stats.lost > 0


def test_reliable_is_given_up_before_connections_fail(
    watched: Watched, opened: Callable[..., NFCT], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit is the whole machine's: the ratio is lowered for the test instead."""
    caplog.set_level(NOTICE)
    count = 5000
    limit = load(watched.fw.path).limit
    monkeypatch.setattr("nflowlevel.readers.flows._GUARD_RATIO", count / 2 / limit)
    nfct = opened(reliable=True, netlink_socket_buffer_size=SMALL_BUFFER, netlink_socket_buffer_maxsize=SMALL_BUFFER)
    watched.udp_flows(range(10000, 10000 + count))
    watched.flush()
    assert load(watched.fw.path).flows > count / 2
    # What the kernel could not tell it tells a second later, or with the next end that it can tell.
    found = come_until(nfct, lambda _: nfct.stats.guarded, "reliable is given up")
    found += come_until(nfct, lambda _: not load(watched.fw.path).flows, "the kernel keeps no flow")
    found += come_until(nfct, lambda _: "events are reliable again" in caplog.text, "reliable is taken up again")
    stats = nfct.stats
    assert stats.guarded == 1
    assert stats.lost > 0
    assert len(rows(found, "sport")) + stats.lost >= count
    watched.udp_flows(range(20000, 22000))
    watched.flush()
    found = come_until(nfct, lambda found: sum(map(len, found)) >= 2000, "all flows are told")
    assert rows(found, "sport") == [(port,) for port in range(20000, 22000)]
    assert nfct.stats.lost == stats.lost
    assert nfct.stats.guarded == 1


def test_what_another_process_says_is_ignored_and_shown(watched: Watched, tmp_path: Path) -> None:
    """Root of a namespace, as in a container, can send to the groups of events."""
    out = tmp_path / "out.json"
    with Daemon(tmp_path, config(STACK, ct1="", json1=f"file={out}"), netns=watched.fw) as daemon:
        watched.fw.forge(lib.NETLINK_NETFILTER, message(TCP), 3)
        watched.send_udp(1)
        watched.flush()
        records(out, 1)
        daemon.send(signal.SIGUSR1)
        daemon.says(", foreign 1, ")
        assert "received 1, lost 0" in daemon.stderr
        while "foreign 1" not in daemon.expect("STATUS")["STATUS"]:
            pass


def test_a_namespace_that_is_deleted_ends_its_flows(watched: Watched, opened: Callable[..., NFCT]) -> None:
    nfct = opened()
    watched.udp_flows(PORTS, packets=2)
    come(nfct, 0.1)
    found = [batch for batch in nfct.leave() if batch]
    assert summed(found) == watched.seen()
    assert set(rows(found, "ct.event", "flow.last")) == {(4, 1)}


def test_what_needs_the_table_says_so() -> None:
    for option in ("pollinterval", "active_timeout"):
        with pytest.raises(ValueError, match=f"{option} needs hash_enable=1"):
            NFCTOptions(hash_enable=False, **{option: 5})


def test_options_of_ulogd2_are_taken() -> None:
    text = {
        "pollinterval": "10", "hash_enable": "1", "hash_buckets": "8192", "hash_max_entries": "32768",
        "event_mask": "0x00000001", "netlink_socket_buffer_size": "217088",
        "netlink_socket_buffer_maxsize": "1085440", "netlink_resync_timeout": "60", "reliable": "1",
        "accept_src_filter": "192.168.0.0/16,1:2::/64", "accept_dst_filter": "10.0.0.0/8",
        "accept_proto_filter": "tcp,sctp",
    }  # fmt: skip
    options = convert(
        NFCTOptions, {name: Value(value, 1) for name, value in text.items()}, plugin="NFCT", instance="ct1"
    )
    assert options.event_mask == 1
    assert options.accept().protocols == (6, 132)
