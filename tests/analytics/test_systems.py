# SPDX-License-Identifier: GPL-2.0-or-later
"""Guesses of systems: known SYNs, those of the kernel that runs here, tools, and any bytes."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nflowlevel as nfl
from nflowlevel.analytics import systems
from nflowlevel.analytics.systems import Options, Syn, System, guess, initial_ttl, of_packet, of_row, options_of
from nflowlevel.errors import ConfigError
from tests.corpus import frames, ipv4, ipv6, tcp
from tests.fix_netns import Netns

_LINUX = "020405b40402080a000000010000000001030307"
_WINDOWS = "020405b40103030801010402"


@pytest.mark.parametrize(
    ("ttl", "window", "options", "wanted"),
    [
        (57, 64240, _LINUX, System("stack", "Linux 4.20 or later", 7, "options")),
        (57, 64400, "020405780402080a000000010000000001030307", System("stack", "Linux 4.20 or later", 7, "options")),
        (64, 29200, _LINUX, System("stack", "Linux 3.10 to 4.19", 0, "options")),
        (64, 14600, _LINUX, System("stack", "Linux 3.0 to 3.9", 0, "options")),
        (64, 65535, _LINUX, System("stack", "Android", 0, "options")),
        (118, 64240, _WINDOWS, System("stack", "Windows 10, 11, Server 2016 or later", 10, "options")),
        (118, 8192, _WINDOWS, System("stack", "Windows Vista to 8.1, Server 2008 to 2012", 10, "options")),
        (111, 65535, "020405b401010402", System("stack", "Windows 2000, XP, Server 2003", 17, "options")),
        (50, 65535, "020405b4010303060101080a000000010000000004020000", System("stack", "macOS, iOS", 14, "options")),
        (50, 65535, "020405b4010303060402080a0000000100000000", System("stack", "FreeBSD 9 or later", 14, "options")),
        (50, 16384, "020405b40101040201030306" + "0101080a0000000100000000", System("stack", "OpenBSD", 14, "options")),
        (250, 4128, "020405b4", System("stack", "Cisco IOS", 5, "options")),
        (50, 12345, _LINUX, System("unknown", "", 14, "options")),
        (20, 64240, _LINUX, System("unknown", "", 44, "options")),
        (200, 64240, _LINUX, System("unknown", "", 55, "options")),
        (64, 64240, "0204", System("unknown", "", 0, "options")),
    ],
)
def test_systems_of_today(ttl: int, window: int, options: str, wanted: System) -> None:
    known = systems.signatures(None)
    assert guess(Syn(ttl, window, options=bytes.fromhex(options), df=True), known) == wanted


@pytest.mark.parametrize(
    ("syn", "wanted"),
    [
        (Syn(103, 16384, option_bytes=0, df=False, ident=256), System("raw", "scanner with IP id 256", 25, "marks")),
        (Syn(103, 16384, option_bytes=0, df=True, ident=256), System("raw", "", 25, "length")),
        (Syn(64, 64240, options=bytes.fromhex(_LINUX), df=True, ident=256),
         System("stack", "Linux 4.20 or later", 0, "options")),
        (Syn(238, 65535, options=b"", ident=54321), System("raw", "ZMap", 17, "marks")),
        (Syn(238, 65535, options=bytes.fromhex(_LINUX), ident=54321), System("raw", "ZMap", 17, "marks")),
        (Syn(50, 14600, options=bytes.fromhex(_LINUX), sequence=0x0A4D0001, dest_ip="10.77.0.1"),
         System("raw", "Mirai", 14, "marks")),
        (Syn(245, 1024, options=b"", ident=1 ^ 80 ^ 0x5678, sequence=0x12345678, dest_ip="10.77.0.1", dest_port=80),
         System("raw", "masscan", 10, "marks")),
        (Syn(245, 1024, options=b"", ident=7, sequence=0x12345678, dest_ip="10.77.0.1", dest_port=80),
         System("raw", "", 10, "options")),
        (Syn(50, 1024, options=bytes.fromhex("020405b4"), df=False), System("raw", "nmap", 14, "options")),
        (Syn(50, 1024, version=6, option_bytes=0, ident=54321), System("raw", "", 14, "length")),
        (Syn(50, 1024, option_bytes=20), System("unknown", "", 14, "")),
        (Syn(50, 1024), System("unknown", "", 14, "")),
    ],
)  # fmt: skip
def test_tools_are_told_from_stacks(syn: Syn, wanted: System) -> None:
    assert guess(syn, systems.signatures(None)) == wanted


def test_options() -> None:
    assert options_of(bytes.fromhex(_LINUX)) == Options("mss,sok,ts,nop,ws", 1460, 7)
    assert options_of(b"") == Options("")
    assert options_of(bytes.fromhex("0204")) == Options("bad")
    assert options_of(bytes.fromhex("fd04abcd0000")) == Options("?253,eol+1")
    assert options_of(bytes.fromhex("0203ff")) == Options("mss")


@pytest.mark.parametrize(("ttl", "first"), [(0, 64), (64, 64), (65, 128), (128, 128), (129, 255), (255, 255)])
def test_the_first_ttl(ttl: int, first: int) -> None:
    assert initial_ttl(ttl) == first


@given(st.binary(max_size=40), st.integers(0, 255), st.integers(0, 65535))
def test_any_options(text: bytes, ttl: int, window: int) -> None:
    assert guess(Syn(ttl, window, options=text)).hops >= 0
    layout = options_of(text).layout
    assert (layout == "") == (text == b"")


# -- where SYNs come from ---------------------------------------------------------------------------------------------


def _syn(options: bytes = b"", **more: Any) -> bytes:
    header = bytearray(tcp(**more)[:20])
    header[12] = (20 + len(options)) // 4 << 4
    header[13] = 2
    return bytes(header) + options


def test_a_packet_and_its_row_are_the_same_syn() -> None:
    packet = ipv4(6, _syn(bytes.fromhex(_LINUX)))
    syn = of_packet(packet)
    assert syn is not None
    assert syn.options == bytes.fromhex(_LINUX)
    row = {
        "ip_ttl": syn.ttl, "tcp_window": syn.window, "tcp_syn": 1, "tcp_ack": 0, "tcp_options": _LINUX,
        "tcp_offset": 10,
        "ip_id": syn.ident, "ip_fragoff": 0x4000 if syn.df else 0, "tcp_seq": syn.sequence, "dest_ip": syn.dest_ip,
        "dest_port": syn.dest_port,
    }  # fmt: skip
    assert of_row(row) == syn
    row["tcp_options"] = None
    assert of_row(row) == syn._replace(options=None)
    six = of_packet(ipv6(6, _syn()))
    assert six is not None
    assert (six.version, six.options, six.df) == (6, b"", None)


@pytest.mark.parametrize(
    "change", [{"tcp_syn": 0}, {"tcp_ack": 1}, {"tcp_rst": 1}, {"ip_ttl": None}, {"tcp_window": None}]
)
def test_rows_that_are_no_syn(change: dict[str, Any]) -> None:
    row = {"ip_ttl": 1, "tcp_window": 2, "tcp_syn": 1, "tcp_ack": 0}
    assert of_row(row) == Syn(1, 2)
    assert of_row(row | change) is None


def test_a_row_without_room_for_options_has_none() -> None:
    row = {"ip_ttl": 103, "tcp_window": 16384, "tcp_syn": 1, "ip_totlen": 40, "ip_id": 256, "ip_fragoff": 0}
    syn = of_row(row)
    assert syn is not None
    assert guess(syn).name == "scanner with IP id 256"
    other = of_row(row | {"ip_totlen": 60})
    assert other is not None
    assert other.option_bytes is None


def test_options_that_are_no_digits_are_not_known() -> None:
    """Lines of JSON may hold anything."""
    syn = of_row({"ip_ttl": 64, "tcp_window": 64240, "tcp_syn": 1, "ip_totlen": 60, "tcp_options": "0204;"})
    assert syn is not None
    assert (syn.options, guess(syn).kind) == (None, "unknown")


def test_every_frame_cut_at_every_length() -> None:
    count = 0
    for frame in frames():
        for length in range(len(frame.payload) + 1):
            syn = of_packet(frame.payload[:length])
            if syn is not None:
                guess(syn)
                count += 1
    assert count > 10


def test_systems_of_sources() -> None:
    row = {
        "ip_ttl": 103,
        "tcp_window": 16384,
        "tcp_syn": 1,
        "ip_totlen": 40,
        "ip_id": 256,
        "ip_fragoff": 0,
        "src_ip": "192.0.2.66",
    }
    other = row | {"tcp_options": _LINUX, "ip_totlen": 60, "ip_ttl": 60, "tcp_window": 64240, "ip_fragoff": 0x4000}
    found = systems.systems([row, row, other, row | {"tcp_syn": 0}, row | {"src_ip": None}])
    assert {source: {s.name: n for s, n in counts.items()} for source, counts in found.items()} == {
        "192.0.2.66": {"scanner with IP id 256": 2, "Linux 4.20 or later": 1}
    }


def test_the_kernel_that_runs_here_is_known(netns: Netns) -> None:
    """A real SYN, through a real group, judged by the bytes that the kernel logged."""
    netns.run("iptables", "-A", "INPUT", "-p", "tcp", "--syn", "-j", "NFLOG", "--nflog-group", "1")
    with nfl.open_group(1, netns=netns.path, profile="latency") as group:
        code = "import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('127.0.0.1', 9))"
        netns.run("python3", "-c", code)
        group.stop()
        found = [guess(syn) for packet in group if (syn := of_packet(bytes(packet.payload or b""))) is not None]
    assert [(system.kind, system.name, system.hops) for system in found] == [("stack", "Linux 4.20 or later", 0)]


# -- files ------------------------------------------------------------------------------------------------------------


def test_p0fs_file_is_asked_after_ours(tmp_path: Path) -> None:
    path = tmp_path / "p0f.fp"
    path.write_text(
        "; comment\n[mtu]\nlabel = Ethernet\nsig = 1500\n[tcp:request]\nlabel = s:unix:Plan 9:4th\n"
        "sig = *:60+4:0:1400:mss*10,3:mss,ws:df,id+:0\nsig = 6:255-:0:*:%8192,*:mss:*:0\n"
        "sig = 4:64:0:*:mtu*4,0:mss::0\n[http]\nsig = x\n"
    )
    known = systems.signatures(str(path))
    assert len(known) == len(systems.signatures(None)) + 3
    assert guess(Syn(60, 14000, options=bytes.fromhex("02040578030303"), df=True), known).name == "Plan 9 4th"
    assert guess(Syn(60, 14000, options=bytes.fromhex("02040578030303"), df=False), known).name == ""
    assert guess(Syn(240, 16384, version=6, options=bytes.fromhex("020405b4")), known).name == "Plan 9 4th"
    assert guess(Syn(60, 6000, options=bytes.fromhex("020405b4"), df=False), known).name == "Plan 9 4th"
    assert systems.signatures(str(tmp_path / "none")) == systems.signatures(None)


@pytest.mark.parametrize(
    "line",
    [
        "label = x",
        "sig = 4:64",
        "sig = *:x:0:*:1,0:mss:df:0",
        "sig = *:64:0:*:mss*y,0:mss:df:0",
        "sig = *:64:0:*:%0,0:mss:df:0",
    ],
)
def test_a_damaged_file_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p0f.fp"
    path.write_text(f"[tcp:request]\nlabel = s:unix:x:y\n{line}\n")
    with pytest.raises(ConfigError, match=r"p0f.fp:3: this is no (label|sig) of p0f's form"):
        list(systems.read(path))


@given(
    st.lists(
        st.one_of(
            st.tuples(
                *map(
                    st.sampled_from,
                    (
                        "*46",
                        ("64", "64-", "1+0", "-", "9" * 5000, "\u0663"),
                        "*0",
                        ("*", "0", "1460", "x"),
                        ("*,*", "mss*0,0", "mtu*max,1", "%0,0", "%-1,0", "mss*-4,*", "mss*1e9,1", ",", "*"),
                        ("mss", "", "eol+99999", "\x1b[0m"),
                        ("df", "*", ""),
                        "0+",
                    ),
                )
            ).map(lambda words: "sig = " + ":".join(words)),
            st.text(max_size=40).map("label = {}".format),
            st.text(max_size=20),
        ),
        max_size=8,
    ),
    st.binary(max_size=40),
)
def test_any_file_of_signatures(lines: list[str], options: bytes) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".fp") as file:
        file.write("[tcp:request]\n" + "\n".join(lines))
        file.flush()
        known: list[systems.Signature] = []
        with contextlib.suppress(ConfigError):
            known += systems.read(file.name)
    guess(Syn(64, 8192, options=options), known)


def test_our_file_is_installed() -> None:
    assert len([*systems.read(systems.OWN)]) > 20
