# SPDX-License-Identifier: GPL-2.0-or-later
"""PCAPFILE: a file through the stacks of a daemon: all of it, with its own times and names, and then an orderly end."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.errors import CaptureError, ConfigError, StackError
from nflowlevel.inputs.pcapfile import PCAPFILE, PCAPFILEOptions
from nflowlevel.logs import log
from nflowlevel.records.keys import published_by
from tests import captures
from tests.captures import Captured, pcap, pcapng, udp_packets
from tests.corpus import by_name
from tests.fix_daemon import FILTERS, Daemon, config, lines_of, log_rule, records, run, wait_for
from tests.fix_netns import Pair
from tests.fix_nobody import run_as_nobody
from tests.fix_plugins import stacks_of
from tests.messages import FULL, message_of

STACK = f"p:PCAPFILE,{FILTERS},j:JSON"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., PCAPFILE]]:
    """Opens inputs for files with this content; they are closed in the end."""
    made: list[PCAPFILE] = []

    def open_(data: bytes, **options: Any) -> PCAPFILE:
        path = tmp_path / f"{len(made)}.pcap"
        path.write_bytes(data)
        made.append(PCAPFILE("pcap1", PCAPFILEOptions(file=str(path), **options)))
        made[-1].open()
        return made[-1]

    yield open_
    for each in made:
        each.close()


def test_it_publishes_what_nflog_does() -> None:
    assert PCAPFILE("p", PCAPFILEOptions(file="x")).published() == published_by("NFLOG")
    (stack,) = stacks_of(config(STACK, p="file=x", j="file=y"))
    assert stack.source.input.recorded


def test_a_file_is_necessary() -> None:
    with pytest.raises(ConfigError, match="file"):
        stacks_of(config(STACK, p="at_end=wait", j="file=y"))


def test_to_the_end(
    opened: Callable[..., PCAPFILE], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.DEBUG, "nflowlevel")
    plugin = opened(pcap(udp_packets(3), captures.RAW), numeric_label=5)
    assert (plugin.fileno(), plugin.deadline, plugin.more, plugin.ended) == (-1, 0.0, True, False)
    batch = plugin.receive()
    assert batch.rows("udp.sport", "raw.label") == [(1, 5), (2, 5), (3, 5)]
    assert (plugin.more, plugin.ended) == (True, False)
    assert not plugin.receive()
    assert (plugin.more, plugin.ended, plugin.deadline) == (False, True, None)
    assert not plugin.receive()
    assert list(plugin.drain()) == []
    assert [r.getMessage() for r in caplog.records] == [
        f"pcap1:PCAPFILE: {plugin.options.file} is read: received 3, bytes 276"
    ]
    plugin.close()
    plugin.close()
    assert plugin.stats.received == 3


def test_waiting_at_the_end(opened: Callable[..., PCAPFILE]) -> None:
    plugin = opened(pcap([], captures.RAW), at_end="wait")
    assert not plugin.receive()
    assert (plugin.more, plugin.ended) == (False, False)


def test_what_is_left_at_the_stop_is_said(
    opened: Callable[..., PCAPFILE], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.DEBUG, "nflowlevel")
    plugin = opened(pcap(udp_packets(3), captures.RAW))
    plugin.receive()
    assert list(plugin.drain()) == []
    assert "is not read to its end: received 3" in caplog.text


def test_opened_again_it_begins_anew(opened: Callable[..., PCAPFILE]) -> None:
    """A stack that did not start is tried again."""
    plugin = opened(pcap(udp_packets(3), captures.RAW))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert len(plugin.receive()) == 3
        plugin.open()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = tmp_path / "text"
    text.write_text("no capture")
    for path, error in (
        (pipe, StackError), (Path("/dev/zero"), StackError), (tmp_path, StackError), (text, CaptureError),
        (tmp_path / "none", FileNotFoundError),
    ):  # fmt: skip
        with pytest.raises(error, match=str(path)):
            PCAPFILE("p", PCAPFILEOptions(file=str(path))).open()


# -- in the daemon ----------------------------------------------------------------------------------------------------


def test_a_file_through_the_daemon(tmp_path: Path) -> None:
    """It ends by itself when the file does, and nothing is missing."""
    source, out = tmp_path / "x.pcapng", tmp_path / "out.json"
    packets = udp_packets(100_003)
    source.write_bytes(pcapng(packets, captures.RAW, nano=True))
    conf = tmp_path / "daemon.conf"
    conf.write_text(config(STACK, p=f"file={source}", j=f"file={out}"))
    done = run("-c", str(conf))
    assert done.returncode == 0, done.stderr
    assert "all inputs have ended: stopping" in done.stderr
    found = lines_of(out)
    assert [record["src_port"] for record in found] == [1 + n % 60000 for n in range(len(packets))]
    assert [r["oob.time.sec"] * 10**6 + r["oob.time.usec"] for r in found] == [p.ns // 1000 for p in packets]
    assert found[0]["timestamp"] == "2026-11-18T11:06:40.123456+0000"
    assert {record["oob.in"] for record in found} == {"eth7"}


def test_what_rules_said(tmp_path: Path) -> None:
    source, out = tmp_path / "x.pcap", tmp_path / "out.json"
    message = message_of(by_name("tcp4-syn"), **FULL)
    source.write_bytes(pcap([Captured(captures.nflog(message))], captures.NFLOG))
    conf = tmp_path / "daemon.conf"
    conf.write_text(config(STACK, p=f"file={source}", j=f"file={out}"))
    assert run("-c", str(conf)).returncode == 0
    (record,) = lines_of(out)
    assert (record["oob.prefix"], record["oob.mark"], record["oob.hook"]) == ("full: ", FULL["mark"], 2)
    # 1 is `lo` here, but not where the file comes from.
    assert (record["oob.ifindex_out"], record["oob.out"]) == (1, "")


def test_a_file_that_is_cut(tmp_path: Path) -> None:
    source, out = tmp_path / "x.pcap", tmp_path / "out.json"
    data = pcap(udp_packets(7), captures.RAW)
    source.write_bytes(data[:-1])
    conf = tmp_path / "daemon.conf"
    conf.write_text(config(STACK, p=f"file={source}", j=f"file={out}"))
    done = run("-c", str(conf))
    assert done.returncode == 0
    begins = 24 + 6 * (len(data) - 24) // 7
    assert f"which begins at byte {begins}; 6 packets came before" in done.stderr
    assert "received 6, broken 1" in done.stderr
    assert len(lines_of(out)) == 6


def test_it_waits_if_it_is_told_to(tmp_path: Path) -> None:
    source, out = tmp_path / "x.pcap", tmp_path / "out.json"
    source.write_bytes(pcap(udp_packets(7), captures.RAW))
    text = config(STACK, p=f"file={source}\nat_end=wait", j=f"file={out}")
    with Daemon(tmp_path, text) as daemon:
        daemon.says("is read: received 7")
        daemon.reload()
        assert daemon.process.poll() is None
        assert len(lines_of(out)) == 7
        before = Path(f"/proc/{daemon.pid}/stat").read_text().split()[13:15]
        daemon.reload()
        after = Path(f"/proc/{daemon.pid}/stat").read_text().split()[13:15]
        assert sum(map(int, after)) - sum(map(int, before)) < 20, "it waits busily"


def test_other_inputs_go_on(pair: Pair, tmp_path: Path) -> None:
    pair.fw.nft(log_rule(2))
    source, out, other = tmp_path / "x.pcap", tmp_path / "out.json", tmp_path / "other.json"
    source.write_bytes(pcap(udp_packets(7), captures.RAW))
    text = config(
        STACK, f"g:NFLOG,{FILTERS},k:JSON", p=f"file={source}", g="group=2", j=f"file={out}", k=f"file={other}"
    )  # fmt: skip
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        daemon.says("is read: received 7")
        pair.send_udp(23)
        records(other, 23)
        assert len(lines_of(out)) == 7


def test_two_files_and_two_stacks_of_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one.pcap", tmp_path / "two.pcap"
    one.write_bytes(pcap(udp_packets(20_011), captures.RAW))
    two.write_bytes(pcap(udp_packets(7), captures.RAW))
    stacks = (STACK, f"p:PCAPFILE,{FILTERS},k:JSON", f"q:PCAPFILE,{FILTERS},l:JSON")
    outs = {name: f"file={tmp_path / name}" for name in "jkl"}
    conf = tmp_path / "daemon.conf"
    conf.write_text(config(*stacks, p=f"file={one}", q=f"file={two}", **outs))
    assert run("-c", str(conf)).returncode == 0
    assert [len(lines_of(tmp_path / name)) for name in "jkl"] == [20_011, 20_011, 7]


def test_nothing_is_dropped_because_the_peer_is_slow(tmp_path: Path) -> None:
    """With room for a line or two, and a peer that reads only when the daemon has sent all it can."""
    source = tmp_path / "x.pcap"
    source.write_bytes(pcap(udp_packets(40_009), captures.RAW))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        peer = f"mode=tcp\nhost=127.0.0.1\nport={port}\nmax_pending_bytes=1000"
        with Daemon(tmp_path, config(STACK, p=f"file={source}", j=peer)) as daemon:
            connection, _ = server.accept()
            lines = 0
            with connection:
                while data := connection.recv(1 << 20):
                    lines += data.count(b"\n")
            assert daemon.wait() == 0
            daemon.says("records 40009, written 40009, pending 0")
    assert lines == 40_009


def test_a_stack_that_starts_later_gets_all(tmp_path: Path) -> None:
    source, directory = tmp_path / "x.pcap", tmp_path / "later"
    source.write_bytes(pcap(udp_packets(7), captures.RAW))
    out = tmp_path / "out.json"
    text = config(
        STACK, f"p:PCAPFILE,{FILTERS},k:JSON", p=f"file={source}", j=f"file={out}", k=f"file={directory}/out.json"
    )  # fmt: skip
    with Daemon(tmp_path, text) as daemon:
        daemon.says("cannot start")
        assert daemon.process.poll() is None
        directory.mkdir()
        daemon.send(1)  # SIGHUP: what did not start is tried again
        assert daemon.wait() == 0
    assert len(lines_of(out)) == len(lines_of(directory / "out.json")) == 7


def test_without_root(tmp_path: Path) -> None:
    directory = Path("/tmp") / f"nflowlevel-test-{os.getpid()}"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    try:
        source = directory / "x.pcap"
        source.write_bytes(pcap(udp_packets(7), captures.ETHERNET) + struct.pack("=IIII", 0, 0, 14, 14) + bytes(14))

        def read() -> int:
            stacks = stacks_of(config(STACK, p=f"file={source}", j=f"file={directory / 'out.json'}"))
            stacks[0].open()
            received = stacks[0].source.receive()
            stacks[0].close()
            return received

        assert run_as_nobody(read).status == 8
        assert len(lines_of(directory / "out.json")) == 8
    finally:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()


def test_a_missing_file_is_waited_for(tmp_path: Path) -> None:
    source, out = tmp_path / "x.pcap", tmp_path / "out.json"
    other = tmp_path / "y.pcap"
    other.write_bytes(pcap([], captures.RAW))
    text = config(
        STACK, "q:PCAPFILE,b:BASE,k:JSON", p=f"file={source}", q=f"file={other}", j=f"file={out}", k=f"file={out}2"
    )
    with Daemon(tmp_path, text) as daemon:
        daemon.says("No such file or directory")
        source.write_bytes(pcap(udp_packets(7), captures.RAW))
        daemon.send(1)
        assert daemon.wait() == 0
    wait_for(lambda: len(lines_of(out, growing=True)) == 7, "seven records")
