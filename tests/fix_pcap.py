# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture files for tests of the output PCAP: read by hand, and by the programs that people read them with."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: Of a pcap file in this machine's order.
HEAD = struct.Struct("=IHHiIII")
RECORD = struct.Struct("=IIII")


@dataclass(frozen=True)
class Written:
    """A record of a pcap file."""

    sec: int
    usec: int
    original: int
    data: bytes


def head_of(path: Path) -> tuple[int, ...]:
    """Return the fields of a pcap file's head: magic, major, minor, zone, accuracy, snaplen, link type."""
    return HEAD.unpack(path.read_bytes()[: HEAD.size])


def records_of(path: Path) -> list[Written]:
    """Return the records of a pcap file; fail unless it is whole to its last byte."""
    data = path.read_bytes() if path.exists() else b""
    found, at = [], HEAD.size
    while at < len(data):
        sec, usec, captured, original = RECORD.unpack_from(data, at)
        at += RECORD.size + captured
        assert at <= len(data), f"{path} ends in a torn record"
        found.append(Written(sec, usec, original, data[at - captured : at]))
    return found


def blocks_of(path: Path) -> list[tuple[int, bytes]]:
    """Return type and body of each block of a pcapng file; fail unless it is whole to its last byte."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, size = struct.unpack_from("=II", data, at)
        assert size >= 12, f"{path} has a block of {size} bytes at {at}"
        assert at + size <= len(data), f"{path} ends in a torn block"
        assert data[at + size - 4 : at + size] == struct.pack("=I", size)
        found.append((kind, data[at + 8 : at + size - 4]))
        at += size
    return found


def tcpdump(path: Path, *options: str) -> list[str]:
    """Return what tcpdump prints of a file, a packet a line; fail where it complains."""
    done = subprocess.run(
        ["tcpdump", "-nn", "-tt", *options, "-r", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith(("reading from", "dropped privs"))]
    assert done.returncode == 0, done.stderr
    assert not complaints, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith(("\t", " "))]


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """Return fields of each packet as tshark sees them; fail where it complains."""
    names = [argument for field in fields for argument in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=\x1f", *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
    assert not complaints, done.stderr
    return [line.split("\x1f") for line in done.stdout.splitlines()]


def capinfos(path: Path) -> dict[str, str]:
    """Return what capinfos says of a file, by its headings."""
    done = subprocess.run(["capinfos", "-M", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pairs = (line.partition(":") for line in done.stdout.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
