# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures as lines of JSON: the same members as the output JSON; what is cut is said."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from nflowlevel.analytics.captured import capture_lines
from nflowlevel.analytics.reading import read
from nflowlevel.errors import CaptureError
from tests.captures import NOW_NS, Captured, pcap, udp_packets


def test_the_packets_of_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(udp_packets(3), 101))
    damage: list[str] = []
    found = [json.loads(line) for lines in capture_lines(str(path), damage.append) for line in lines.splitlines()]
    assert [(each["src_ip"], each["src_port"], each["dest_port"], each["ip.protocol"]) for each in found] == [
        ("10.0.0.1", port, 9, 17) for port in (1, 2, 3)
    ]
    assert found[2]["oob.time.sec"] * 10**6 + found[2]["oob.time.usec"] == NOW_NS // 1000 + 2
    assert not damage


def test_a_capture_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(udp_packets(3), 101)[:-5])
    damage: list[str] = []
    assert sum(lines.count(b"\n") for lines in capture_lines(str(path), damage.append)) == 2
    assert len(damage) == 1
    assert "2 packets came before" in damage[0]


def test_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(b"no capture")
    with pytest.raises(CaptureError):
        list(capture_lines(str(path), print))


def syn(options: bytes, *, answer: bool = False) -> bytes:
    """Return a SYN of IPv4 from its network header on."""
    offset = 5 + len(options) // 4
    tcp = struct.pack(">HHIIBBHHH", 40_000, 22, 1, 0, offset << 4, 0x12 if answer else 2, 64240, 0, 0) + options
    return (
        struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 7, 0x4000, 60, 6, 0, b"\xc0\0\2\x42", b"\xc6\x33\x64\7")
        + tcp
    )


def test_the_system_of_a_captures_syns_is_told_by_their_options(tmp_path: Path) -> None:
    linux = bytes.fromhex("020405b40402080a000000010000000001030307")
    path = tmp_path / "x.pcap"
    packets = [syn(linux), syn(b""), syn(linux, answer=True), syn(linux)[:44]]
    path.write_bytes(pcap([Captured(packet, NOW_NS + n * 1000) for n, packet in enumerate(packets)], 101))
    found = [json.loads(line) for lines in capture_lines(str(path), print) for line in lines.splitlines()]
    assert [each.get("tcp.options") for each in found] == [linux.hex(), "", None, None]
    with read(path) as log:
        assert {row[1:3] for row in log.systems().rows()} == {
            ("stack", "Linux 4.20 or later"), ("raw", ""), ("unknown", "")
        }  # fmt: skip
