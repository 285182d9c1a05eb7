# SPDX-License-Identifier: GPL-2.0-or-later
"""PCAP: captures of real packets under each option, read by those who read captures; files that fail and come back."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import nflowlevel as nfl
from nflowlevel.binding.interfaces import NameTable
from nflowlevel.errors import OutputError
from nflowlevel.stacks.stack import Stack
from tests.corpus import by_name
from tests.fix_daemon import Daemon, config, log_rule, run, wait_for
from tests.fix_lines import check, small_disk
from tests.fix_netns import Pair
from tests.fix_pcap import blocks_of, capinfos, head_of, records_of, tcpdump, tshark
from tests.fix_plugins import batch_of, opened_stack, stacks_of
from tests.messages import message_of

_TIME = (1_795_460_084, 190_524)
KINDS = list(itertools.product(("pcap", "pcapng"), ("raw", "nflog", "ethernet")))


def opened(path: Path, options: str = "", *, filters: str = "b:BASE", inputs: str = "") -> Stack:
    """Return a stack that ends in that file, its filters and its output open."""
    text = config(f"g:NFLOG,{filters},p:PCAP", g=f"group=1\n{inputs}", p=f"file={path}\n{options}")
    return opened_stack(text)


def packet(number: int = 0, **more: Any) -> bytes:
    """Return a logged packet; the number is its time's."""
    return message_of(by_name("udp4"), **{"prefix": b"pfx: ", "time": (_TIME[0], number), **more})


def read(path: Path) -> list[dict[str, Any]]:
    """Return all keys of the packets of a file."""
    with nfl.read_pcap(path) as packets:
        return [row for batch in packets.batches() for row in batch.to_dicts()]


def numbers(path: Path) -> list[int]:
    """Return the numbers of the packets in a file; fail unless it is whole."""
    return [row["oob.time.usec"] for row in read(path)]


# -- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.parametrize(("format_", "link_type"), KINDS)
def test_real_packets_are_read_by_all(pair: Pair, tmp_path: Path, format_: str, link_type: str) -> None:
    pair.fw.nft(log_rule(2, prefix="to port 9: "))
    out = tmp_path / "out"
    stack = "g:NFLOG,b:BASE,i:IFINDEX,p:PCAP"
    text = config(stack, g="group=2", p=f"file={out}\nformat={format_}\nlinktype={link_type}")
    with Daemon(tmp_path, text, netns=pair.fw):
        pair.send_udp(23)
    seen = read(out)
    assert len(seen) == len(tcpdump(out)) == 23
    assert capinfos(out)["Number of packets"] == "23"
    assert {row["udp.dport"] for row in seen} == {9}
    fields = tshark(out, "udp.dstport", "frame.time_epoch", "frame.comment", "nflog.prefix", "frame.interface_name")
    assert {row[0] for row in fields} == {"9"}
    times = [f"{row['oob.time.sec']}.{row['oob.time.usec']:06}" for row in seen]
    assert [row[1][:-3] for row in fields] == times
    if link_type == "nflog":
        assert {row["oob.prefix"] for row in seen} == {row[3] for row in fields} == {"to port 9: "}
        assert {row["oob.hook"] for row in seen} == {1}
    elif format_ == "pcapng":
        assert {row[2] for row in fields} == {"to port 9: ,hook input"}
        assert {row["oob.in"] for row in seen} == {"va"}
    if format_ == "pcapng":
        assert {row[4] for row in fields} == {"va"}
        assert {row[0] for row in tshark(out, "frame.packet_flags_direction")} == {"0x00000001"}


@pytest.mark.kernel
def test_nflog_is_what_tcpdump_writes(pair: Pair, tmp_path: Path) -> None:
    """Packet by packet the same keys; only the kernel's times and numbers differ from group to group."""
    pair.fw.nft(log_rule(2, 3, prefix="both: "))
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    text = config("g:NFLOG,b:BASE,p:PCAP", g="group=2\nnumeric_label=0", p=f"file={out}\nlinktype=nflog")
    with Daemon(tmp_path, text, netns=pair.fw):
        other = pair.fw.popen("tcpdump", "-Z", "root", "-U", "-i", "nflog:3", "-w", str(theirs), stderr=subprocess.PIPE)
        assert other.stderr
        while b"listening on" not in other.stderr.readline():
            pass
        pair.send_udp(5)
        wait_for(lambda: theirs.exists() and len(records_of(theirs)) == 5, "tcpdump has written")
        other.send_signal(signal.SIGTERM)
        other.communicate(timeout=20)
    differ = {"oob.time.sec", "oob.time.usec", "oob.seq.local"}
    ours, its = ([{k: v for k, v in row.items() if k not in differ} for row in read(path)] for path in (out, theirs))
    assert ours == its
    assert [record.original for record in records_of(out)] == [len(record.data) for record in records_of(out)]
    assert head_of(out)[-1] == head_of(theirs)[-1] == 239


def test_what_the_link_type_cannot_hold_is_counted(tmp_path: Path) -> None:
    messages = [packet(1), message_of(by_name("arp-request"), time=(_TIME[0], 2)), packet(3)]
    for link_type, kept in (("raw", [1, 3]), ("nflog", [1, 2, 3]), ("ethernet", [1, 2, 3])):
        stack = opened(tmp_path / link_type, f"linktype={link_type}")
        stack.deliver(batch_of(*messages))
        stack.close()
        assert numbers(tmp_path / link_type) == kept
        check(stack.output.stats)
        assert stack.output.stats.dropped["not_ip"] == 3 - len(kept)


def test_the_zone_is_nobodys_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    stack = opened(tmp_path / "out")
    stack.close()
    assert head_of(tmp_path / "out")[3] == 0


# -- appending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format_", "link_type"), KINDS)
def test_a_file_is_appended_to(tmp_path: Path, format_: str, link_type: str) -> None:
    for number in range(3):
        stack = opened(tmp_path / "out", f"format={format_}\nlinktype={link_type}")
        stack.deliver(batch_of(packet(number, indev=2)))
        stack.close()
    assert numbers(tmp_path / "out") == [0, 1, 2]
    assert len(tcpdump(tmp_path / "out")) == len(tshark(tmp_path / "out", "frame.number")) == 3


@pytest.mark.parametrize(("format_", "link_type"), KINDS)
def test_what_a_kill_left_is_repaired(tmp_path: Path, format_: str, link_type: str) -> None:
    options = f"format={format_}\nlinktype={link_type}"
    stack = opened(tmp_path / "out", options)
    stack.deliver(batch_of(*map(packet, range(3))))
    stack.close()
    os.truncate(tmp_path / "out", (tmp_path / "out").stat().st_size - 5)
    stack = opened(tmp_path / "out", options)
    stack.deliver(batch_of(packet(7)))
    stack.close()
    assert stack.output.stats.torn == 1
    assert numbers(tmp_path / "out") == [0, 1, 7]
    assert len(tcpdump(tmp_path / "out")) == len(tshark(tmp_path / "out", "frame.number")) == 3


def test_a_file_of_another_kind_is_refused_with_what_to_do(tmp_path: Path) -> None:
    opened(tmp_path / "out", "linktype=ethernet").close()
    before = (tmp_path / "out").read_bytes()
    with pytest.raises(OutputError, match=r"link type 1 \(ethernet\), not of 101 \(raw\); move it away"):
        opened(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == before


def test_two_sections_may_name_one_pcap(tmp_path: Path) -> None:
    one, other = opened(tmp_path / "out"), opened(tmp_path / "out")
    for number in range(3):
        one.deliver(batch_of(packet(10 + number)))
        other.deliver(batch_of(packet(20 + number)))
    one.close()
    other.close()
    assert numbers(tmp_path / "out") == [10, 20, 11, 21, 12, 22]


def test_two_sections_may_not_name_one_pcapng(tmp_path: Path) -> None:
    one = opened(tmp_path / "out", "format=pcapng")
    with pytest.raises(OutputError, match="another section writes it; name a file of its own for each"):
        opened(tmp_path / "out", "format=pcapng")
    one.close()


@pytest.mark.parametrize(("format_", "link_type"), KINDS)
def test_two_stacks_share_a_section(tmp_path: Path, format_: str, link_type: str) -> None:
    """D-K02: ulogd2 opens the file twice, and each stack overwrites what the other wrote."""
    text = config(
        "g:NFLOG,b:BASE,p:PCAP",
        "h:NFLOG,b:BASE,p:PCAP",
        g="group=1",
        h="group=2",
        p=f"file={tmp_path / 'out'}\nformat={format_}\nlinktype={link_type}",
    )
    one, other = stacks_of(text)
    for stack in (one, other):
        for plugin in stack.filters:
            plugin.open()
        stack.destination.open(stack.share)
    for number in range(3):
        one.deliver(batch_of(packet(10 + number, indev=1)))
        other.deliver(batch_of(packet(20 + number, indev=2)))
    one.close()
    other.close()
    assert numbers(tmp_path / "out") == [10, 20, 11, 21, 12, 22]
    assert (one.share.counted.records, other.share.counted.records) == (3, 3)


# -- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_hup_with_a_path_that_cannot_be_opened(tmp_path: Path, format_: str) -> None:
    """D-K01: ulogd2 crashes with the next packet."""
    (tmp_path / "logs").mkdir()
    out = tmp_path / "logs" / "out"
    stack = opened(out, f"format={format_}")
    stack.deliver(batch_of(packet(1)))
    (tmp_path / "logs").rename(tmp_path / "moved")
    stack.output.reopen()
    stack.deliver(batch_of(packet(2)))
    (tmp_path / "logs").mkdir()
    stack.output.reopen()
    stack.deliver(batch_of(packet(3)))
    stack.close()
    assert numbers(tmp_path / "moved" / "out") == [1, 2]
    assert numbers(out) == [3]
    check(stack.output.stats)


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_hup_after_a_rotation_begins_a_new_file(tmp_path: Path, format_: str) -> None:
    stack = opened(tmp_path / "out", f"format={format_}")
    for number in range(3):
        stack.deliver(batch_of(packet(number, indev=1 + number)))
        stack.output.reopen()  # nothing has been moved: the file stays in use
        (tmp_path / "out").rename(tmp_path / f"out.{number}")
        stack.output.reopen()
    stack.close()
    for number in range(3):
        assert numbers(tmp_path / f"out.{number}") == [number]
        assert len(tcpdump(tmp_path / f"out.{number}")) == 1
    assert tcpdump(tmp_path / "out") == []


def test_a_deleted_file_is_made_anew(tmp_path: Path) -> None:
    stack = opened(tmp_path / "out")
    stack.deliver(batch_of(packet(1)))
    (tmp_path / "out").unlink()
    stack.deliver(batch_of(packet(2)))
    stack.close()
    assert numbers(tmp_path / "out") == [2]


@pytest.mark.parametrize(("format_", "link_type"), KINDS)
def test_a_full_disk_tears_nothing(tmp_path: Path, format_: str, link_type: str) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "filler").write_bytes(bytes(30 << 10))
        options = f"format={format_}\nlinktype={link_type}\nmax_pending_bytes=150000"
        stack = opened(disk / "out", options)
        stats = stack.output.stats
        count = 0
        while not stats.dropped["full"]:
            stack.deliver(batch_of(*(packet(count + n, indev=n % 3) for n in range(50))))
            count += 50
            check(stats)
        assert numbers(disk / "out") == list(range(stats.written)), "what is in the file is not whole"
        assert 0 < stats.written < count
        pending = stats.pending
        (disk / "filler").unlink()
        stack.output.retry()
        assert stats.written > 0
        written = stats.written
        assert numbers(disk / "out") == list(range(written))
        assert stats.pending <= pending
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        while stats.pending:
            stack.output.retry()
        stack.close()
        assert stats.written + stats.dropped["full"] == count
        assert numbers(disk / "out") == list(range(stats.written))
        check(stats)


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_a_program_reads_from_a_pipe(tmp_path: Path, format_: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = subprocess.Popen(
        ["tcpdump", "-nn", "-r", str(tmp_path / "fifo")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    # It waits for a writer in its open(2); the one that asks must stay until ours has it open.
    with open(tmp_path / "fifo", "wb"):
        stack = opened(tmp_path / "fifo", f"format={format_}")
    stack.deliver(batch_of(*map(packet, range(3))))
    stack.close()
    output, _ = reader.communicate(timeout=20)
    assert output.count(b"domain") == 3


@pytest.mark.kernel
def test_a_new_interface_is_described_while_it_runs(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rule = "table inet t {\nchain i {\ntype filter hook input priority 0\nudp dport 9 log group 2\n}\n}\n"
    pair.fw.nft(rule)
    text = config("g:NFLOG,b:BASE,i:IFINDEX,p:PCAP", g="group=2\nnetlink_qthreshold=1", p=f"file={out}\nformat=pcapng")
    with Daemon(tmp_path, text, netns=pair.fw):
        pair.send_udp(1)
        wait_for(lambda: len(_packets(out)) == 1, "the first packet")
        pair.fw.run("python3", "-c", "import socket; socket.socket(2, 2).sendto(b'', ('127.0.0.1', 9))")
    assert [row["oob.in"] for row in read(out)] == ["va", "lo"]
    assert [row[0] for row in tshark(out, "frame.interface_name")] == ["va", "lo"]


def _packets(path: Path) -> list[bytes]:
    return [body for kind, body in blocks_of(path) if kind == 6] if path.exists() and path.stat().st_size else []


def test_base_must_stand_before_it() -> None:
    with pytest.raises(nfl.ConfigError, match="p:PCAP takes packet but gets raw; put a BASE between"):
        stacks_of(config("g:NFLOG,p:PCAP", g="group=1", p="file=/x"))


def come_and_go(stack: Stack) -> list[str]:
    """Deliver packets of ever new interfaces, between those of one that stays; return the names."""
    for number in range(0, 40, 2):
        batch = batch_of(packet(number, indev=100 + number, hook=1), packet(number + 1, indev=7, hook=1))
        batch.names = NameTable({7: "lan", 100 + number: f"veth{number}"})
        stack.deliver(batch)
    return [name for number in range(0, 40, 2) for name in (f"veth{number}", "lan")]


def assert_names(path: Path, names: list[str]) -> None:
    """Fail unless all readers see these names."""
    assert [row["oob.in"] for row in read(path)] == names
    assert [row[0] for row in tshark(path, "frame.interface_name")] == names
    assert len(tcpdump(path)) == len(names)


def test_interfaces_that_are_gone_are_not_described_in_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nflowlevel.delivery.captureform._MANY_INTERFACES", 5)
    stack = opened(tmp_path / "out", "format=pcapng")
    names = come_and_go(stack)
    stack.output.reopen()
    (tmp_path / "out").rename(tmp_path / "old")
    stack.output.reopen()
    stack.close()
    assert_names(tmp_path / "old", names)
    assert (tmp_path / "out").stat().st_size < 300, "it describes what nobody has any more"


def test_a_new_file_begins_when_there_were_many_interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflowlevel.delivery.captureform._MANY_INTERFACES", 5)
    stack = opened(tmp_path / "x-%Y", "format=pcapng\nrotate_bytes=1000000")
    names = come_and_go(stack)
    stack.close()
    files = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) > 2
    for path in files:
        count = len(read(path))
        assert_names(path, names[:count])
        del names[:count]
    assert not names


def test_a_file_that_goes_on_has_the_right_names(tmp_path: Path) -> None:
    """tshark 4.0 takes them from the first section, so there is only one."""
    names: list[str] = []
    for order in ((2, 3), (3, 2, 4), (4, 9)):
        stack = opened(tmp_path / "out", "format=pcapng")
        for index in order:
            batch = batch_of(packet(len(names), indev=index, hook=1))
            batch.names = NameTable({n: f"eth{n}" for n in range(10)})
            stack.deliver(batch)
            names.append(f"eth{index}")
        stack.close()
    assert_names(tmp_path / "out", names)
    assert [kind for kind, _ in blocks_of(tmp_path / "out")].count(1) == 5, "an interface is described twice"


def test_a_file_too_large_to_look_through_gets_another_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflowlevel.delivery.captureform._SMALL_BLOCKS_BYTES", 0)
    test = opened(tmp_path / "out", "format=pcapng")
    test.deliver(batch_of(*map(packet, range(3))))
    test.close()
    again = opened(tmp_path / "out", "format=pcapng")
    batch = batch_of(packet(3, indev=9, hook=1))
    batch.names = NameTable({9: "eth9"})
    again.deliver(batch)
    again.close()
    assert [row["oob.in"] for row in read(tmp_path / "out")] == ["", "", "", "eth9"]
    assert len(tcpdump(tmp_path / "out")) == 4


# -- rotation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("rotate_secs=60", "is always the same name; put the time into it, as in NAME-%Y%m%d-%H%M%S.pcap"),
        ("rotate_bytes=60", "is always the same name"),
        ("keep_files=3", "keep_files is for files that are closed: set rotate_bytes or rotate_secs as well"),
        ("compress=gzip", "compress is for files that are closed: set rotate_bytes or rotate_secs as well"),
        ("compress=bzip2", "compress"),
        ("rotate_secs=-1", "rotate_secs"),
        ("format=erf", "format"),
        ("linktype=sll", "linktype"),
    ],
)
def test_options_that_cannot_be(options: str, why: str) -> None:
    with pytest.raises(nfl.ConfigError, match=why):
        stacks_of(config("g:NFLOG,b:BASE,p:PCAP", g="group=1", p=f"file=/tmp/x.pcap\n{options}"))


def test_zstd_without_its_module_is_an_error_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text = config("g:NFLOG,b:BASE,p:PCAP", g="group=1", p="file=/tmp/x-%Y\nrotate_secs=9\ncompress=zstd")
    with pytest.raises(
        nfl.ConfigError, match=r"needs the Python module zstandard \(Debian package python3-zstandard\)"
    ):
        stacks_of(text)


def test_a_percent_sign_means_itself_without_rotation(tmp_path: Path) -> None:
    opened(tmp_path / "x-%Y").close()
    assert [path.name for path in tmp_path.iterdir()] == ["x-%Y"]


@pytest.mark.kernel
@pytest.mark.parametrize(("format_", "compress"), [("pcap", "zstd"), ("pcapng", "gzip")])
def test_files_by_size_hold_every_packet_once(pair: Pair, tmp_path: Path, format_: str, compress: str) -> None:
    pair.fw.nft(log_rule(2))
    out = tmp_path / "captures"
    out.mkdir()
    options = f"file={out}/x-%Y%m%d.cap\nformat={format_}\nlinktype=nflog\nrotate_bytes=9000\ncompress={compress}"
    suffix = {"gzip": "gz", "zstd": "zst"}[compress]
    text = config("g:NFLOG,b:BASE,p:PCAP", g="group=2\nnetlink_qthreshold=8\nseq_local=1", p=options)
    with Daemon(tmp_path, text, netns=pair.fw):
        for _ in range(20):
            pair.send_udp(11)
        wait_for(lambda: len(list(out.glob(f"*.{suffix}"))) >= 3, "three files are compressed")
    files = sorted(out.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert [row["oob.seq.local"] for path in files for row in read(path)] == list(range(220))
    for path in files:
        assert len(tshark(path, "frame.number")) == len(read(path))
        if path.suffix == ".cap":
            assert path.stat().st_size <= 9000 + 200, "more than an interface that is described when it is met"


@pytest.mark.kernel
def test_a_kill_in_a_flood_costs_no_whole_packet(pair: Pair, tmp_path: Path) -> None:
    """Whenever it comes: the file is repaired, what was written stays, and what comes later follows."""
    pair.fw.nft(log_rule(2))
    out = tmp_path / "out"
    text = config("g:NFLOG,b:BASE,p:PCAP", g="group=2", p=f"file={out}\nformat=pcapng\nlinktype=nflog")
    for least in (20_000, 40_000, 60_000):
        with Daemon(tmp_path, text, netns=pair.fw) as daemon:
            pair.send_udp(2000)
            wait_for(lambda least=least: out.stat().st_size > least, "it writes")
            daemon.process.kill()
            daemon.process.wait()
    with Daemon(tmp_path, text, netns=pair.fw):
        pair.send_udp(5)
    assert len(read(out)) == len(tcpdump(out)) == len(tshark(out, "frame.number")) > 20


# -- another user -----------------------------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_roots_file_goes_on_as_another_user(pair: Pair, tmp_path: Path, format_: str) -> None:
    """Root opens it, also after a rotation. The user may not even enter this directory, nor see what is in it."""
    out = tmp_path / "out"
    stack = opened(out, f"format={format_}\nlinktype=nflog")
    stack.deliver(batch_of(packet(1), packet(2)))
    stack.close()
    os.truncate(out, out.stat().st_size - 5)
    pair.fw.nft(log_rule(2))
    text = config("g:NFLOG,b:BASE,p:PCAP", g="group=2", p=f"file={out}\nformat={format_}\nlinktype=nflog")
    with Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw) as daemon:
        pair.send_udp(5)
        wait_for(lambda: len(read(out)) == 6, "five follow the one that was whole", lambda: daemon.stderr)
        daemon.reload()  # nothing has been moved
        pair.send_udp(5)
        wait_for(lambda: len(read(out)) == 11, "it stays in use", lambda: daemon.stderr)
        out.rename(tmp_path / "old")
        daemon.reload()
        wait_for(out.exists, "it begins anew", lambda: daemon.stderr)
        pair.send_udp(5)
        wait_for(lambda: len(read(out)) == 5, "it goes on", lambda: daemon.stderr)
        daemon.stop()
        assert "error" not in daemon.stderr.lower().replace("0 errors", "")
    assert len(read(tmp_path / "old")) == 11
    assert {path.stat().st_uid for path in (out, tmp_path / "old")} == {0}


@pytest.mark.kernel
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_rotation_needs_a_directory_of_the_users(pair: Pair, tmp_path: Path, users: Path, open_to_all: Path) -> None:
    def text(directory: Path) -> str:
        options = f"file={directory}/x-%Y%m%d.pcap\nrotate_bytes=2000\ncompress=gzip\nkeep_files=2"
        return config("g:NFLOG,b:BASE,p:PCAP", g="group=2", p=options)

    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, text(users), "-u", "nobody", netns=pair.fw) as daemon:
        pair.send_udp(300)
        wait_for(lambda: len(list(users.glob("*.gz"))) == 2 and len(list(users.iterdir())) == 3, "two are kept")
        daemon.stop()
    (tmp_path / "conf").write_text(text(open_to_all))
    done = run("-c", str(tmp_path / "conf"), "-u", "nobody", netns=pair.fw)
    assert done.returncode == 1
    told = f"open {open_to_all}/x-[0-9]+.pcap: Permission denied — give the daemon's user write permission for the file"
    assert re.search(told, done.stderr)
