# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures that tcpdump and dumpcap write of real traffic, beside what a group says of the same packets."""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import nflowlevel as nfl
from nflowlevel.readers.files import NOT_IN_CAPTURES
from tests import captures
from tests.captures import Captured
from tests.corpus import Frame, frames
from tests.fix_daemon import wait_for
from tests.fix_decoder import difference
from tests.fix_group import collect
from tests.fix_netns import Netns, Pair

#: The interface's number is the file's own, or absent; names are those of the machine, or the file's.
_INTERFACES = ("oob.ifindex_in", "oob.in")

#: All is dropped in the end, so that nothing is answered: captures would have the answers too.
_RULES = """table netdev t {
    chain i {
        type filter hook ingress device va priority 0
        log prefix "all: " group 1 log prefix "all: " group 2 drop
    }
}"""

needs_tcpdump = pytest.mark.skipif(not shutil.which("tcpdump"), reason="tcpdump is not installed")
needs_tshark = pytest.mark.skipif(not shutil.which("dumpcap"), reason="dumpcap (package tshark) is not installed")


def seen(path: Path) -> list[dict[str, Any]]:
    """Return the packets of a file that is still being written."""
    if not path.exists() or not path.stat().st_size:
        return []
    with nfl.read_pcap(path, strict=False) as packets:
        return [keys for batch in packets.batches() for keys in batch.to_dicts()]


@contextlib.contextmanager
def capturing(netns: Netns, path: Path, *command: str) -> Iterator[None]:
    """Run a capture into a file; ready when the block begins, whole when it has ended."""
    said = path.with_suffix(".said")
    with said.open("wb") as stderr:
        process = netns.popen(*command, "-w", str(path), stderr=stderr, stdout=subprocess.DEVNULL)
    wait_for(lambda: path.exists() and path.stat().st_size, f"{command[0]} to begin", said.read_text)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def tcpdump(netns: Netns, path: Path, *options: str) -> contextlib.AbstractContextManager[None]:
    return capturing(netns, path, "tcpdump", "-U", "-n", "-Z", "root", *options)


#: In immediate mode each packet takes the snaplen's room of the kernel's ring, whatever its length. Of a log group
#: libpcap would lose the datagrams that are longer than the snaplen.
_AT_ONCE = ("--immediate-mode", "-B", "32768", "-s", "2048")


def group_and_capture(
    pair: Pair, chosen: Sequence[Frame], path: Path, how: contextlib.AbstractContextManager[None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Send frames; return what the group says of them, and the capture."""
    pair.fw.nft(_RULES)
    with nfl.open_group(2, netns=pair.fw.path) as group, how:
        pair.peer.inject("vb", [frame.wire() for frame in chosen])
        batches = collect(group, len(chosen))
        wait_for(lambda: len(seen(path)) >= len(chosen), f"{len(chosen)} packets in {path}")
        said = [keys for batch in batches for keys in batch.to_dicts()]
    return said, seen(path)


def assert_equal(got: list[dict[str, Any]], want: list[dict[str, Any]], without: Sequence[str] = ()) -> None:
    """The kernel stamps packets for captures, but not for a group: their times are near each other."""
    assert len(got) == len(want)
    without = (*without, "oob.time.sec", "oob.time.usec")
    for one, other in zip(got, want, strict=True):
        assert abs(one["oob.time.sec"] - other["oob.time.sec"]) < 20
    for number, (one, other) in enumerate(zip(got, want, strict=True)):
        left, right = ({n: v for n, v in keys.items() if n not in without} for keys in (one, other))
        assert left == right, f"packet {number}: {difference(left, right)}"


@needs_tcpdump
def test_tcpdump_of_a_log_group(pair: Pair, tmp_path: Path) -> None:
    """The kernel's own words; tcpdump does not ask for sequence numbers."""
    path = tmp_path / "x.pcap"
    said, got = group_and_capture(pair, sendable(), path, tcpdump(pair.fw, path, "-i", "nflog:1"))
    assert {keys["oob.prefix"] for keys in got} == {"all: "}
    assert_equal(got, said, ("oob.seq.local", *_INTERFACES[1:]))
    assert {keys["oob.ifindex_in"] for keys in got} == {pair.fw.index("va")}


def sendable() -> list[Frame]:
    """Frames that a device takes."""
    return [frame for frame in frames() if len(frame.wire()) > 14 and len(frame.payload) <= 1500]


@needs_tcpdump
@pytest.mark.parametrize("options", [(), ("--time-stamp-precision=nano",)])
def test_tcpdump_of_an_interface(pair: Pair, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "x.pcap"
    said, got = group_and_capture(pair, sendable(), path, tcpdump(pair.fw, path, "-i", "va", *_AT_ONCE, *options))
    assert {keys["oob.family"] for keys in said} == {5}
    assert {keys["oob.family"] for keys in got} == {2, 3, 7, 10}
    assert_equal(got, said, (*NOT_IN_CAPTURES, "oob.family", "oob.out", *_INTERFACES))


@needs_tcpdump
@pytest.mark.parametrize("linktype", ["LINUX_SLL", "LINUX_SLL2"])
def test_tcpdump_of_any_interface(pair: Pair, tmp_path: Path, linktype: str) -> None:
    """libpcap writes no tags into the second version; of two tags the kernel tells a cooked socket what is in both."""
    most = 1 if linktype == "LINUX_SLL" else 0
    chosen = [frame for frame in sendable() if len(frame.tags) <= most]
    path = tmp_path / "x.pcap"
    said, got = group_and_capture(pair, chosen, path, tcpdump(pair.fw, path, "-i", "any", "-y", linktype, *_AT_ONCE))
    if linktype == "LINUX_SLL2":
        assert {keys["oob.ifindex_in"] for keys in got} == {pair.fw.index("va")}
    link = ("raw.mac", "raw.mac_len", "raw.type", "mac.str", "mac.daddr.str")
    assert_equal(got, said, (*NOT_IN_CAPTURES, "oob.family", "oob.out", *_INTERFACES, *link))


@needs_tshark
def test_dumpcap_of_an_interface(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    how = capturing(pair.fw, path, "dumpcap", "-q", "-n", "-i", "va", "-B", "32")
    said, got = group_and_capture(pair, sendable(), path, how)
    assert {keys["oob.in"] for keys in got} == {"va"}
    assert_equal(got, said, (*NOT_IN_CAPTURES, "oob.family", "oob.out", *_INTERFACES))


@needs_tcpdump
def test_a_snaplen(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    pair.fw.nft(_RULES)
    with tcpdump(pair.fw, path, "-i", "va", *_AT_ONCE, "-s", "60"):
        pair.peer.inject("vb", [frame.wire() for frame in sendable()])
        wait_for(lambda: len(seen(path)) >= len(sendable()), "all packets")
    with nfl.read_pcap(path) as packets:
        lengths = [length for batch in packets.batches() for length in batch.values("raw.pktlen")]
    # libpcap leaves out two bytes more than it is asked to.
    assert 40 < max(lengths) <= 46
    cut = [frame for frame in sendable() if len(frame.wire()) > 14 + max(lengths) + 4 * bool(frame.tags)]
    assert packets.stats.snapped >= len(cut) > 100


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
@pytest.mark.parametrize("kind", [captures.pcap, captures.pcapng])
@pytest.mark.parametrize("order", [captures.NATIVE, captures.OTHER])
@pytest.mark.parametrize("nano", [False, True])
def test_our_files_are_read_alike_by_tshark(tmp_path: Path, kind: Any, order: str, nano: bool) -> None:
    """So that what the other tests read is what these formats are."""
    chosen = [Captured(frame.wire(), captures.NOW_NS + 1_000_001_000 * n) for n, frame in enumerate(frames())]
    path = tmp_path / "x"
    path.write_bytes(kind(chosen, captures.ETHERNET, order=order, nano=nano))
    fields = ("frame.time_epoch", "frame.len", "frame.cap_len", "eth.src")
    words = ["tshark", "-r", str(path), "-T", "fields", *(word for field in fields for word in ("-e", field))]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    # Of pcapng it also shows blocks that are no packets; those have no time.
    rows = [line.split("\t") for line in done.stdout.splitlines() if not line.startswith("\t")]
    with nfl.read_pcap(io.BytesIO(path.read_bytes())) as packets:
        ours = [
            (f"{sec}.{usec:06}", length + 14, mac.hex(":"))
            for batch in packets.batches()
            for sec, usec, length, mac in batch.rows("oob.time.sec", "oob.time.usec", "raw.pktlen", "raw.mac.saddr")
        ]
    theirs = [(row[0][:17], int(row[2]), row[3]) for row in rows]
    tags = [4 if frame.tags else 0 for frame in frames()]
    assert [(time, length + tag, mac) for (time, length, mac), tag in zip(ours, tags, strict=True)] == theirs


@pytest.mark.skipif(not shutil.which("editcap"), reason="editcap (package tshark) is not installed")
@pytest.mark.parametrize("form", ["pcapng", "nsecpcap", "pcap"])
def test_files_that_wireshark_converts(tmp_path: Path, form: str) -> None:
    path, made = tmp_path / "x.pcap", tmp_path / "y"
    path.write_bytes(captures.pcap([Captured(frame.wire()) for frame in frames()], captures.ETHERNET))
    subprocess.run(["editcap", "-F", form, str(path), str(made)], check=True, timeout=60, capture_output=True)
    got, want = seen(made), seen(path)
    if form == "pcapng":
        assert {keys.pop("oob.ifindex_in") for keys in got} == {1}
    assert got == want
