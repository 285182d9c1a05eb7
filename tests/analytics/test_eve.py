# SPDX-License-Identifier: GPL-2.0-or-later
"""Suricata's events: those that Suricata 7.0.10 made of a capture (eve.pcap), and what it never writes.

eve.json was made by Debian's package (bookworm-backports), with `community-id: yes`, four rules of our own and the
option `-k none`; its `stats` were taken out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.analytics.eve import Event, parse, read
from nflowlevel.readers.files import Capture
from nflowlevel.records.communityid import WITH_PORTS, of_texts

EVE = Path(__file__).with_name("eve.json")
CAPTURE = EVE.with_suffix(".pcap")
_ALERT: dict[str, Any] = json.loads(EVE.read_text().splitlines()[0])


def test_alerts_of_a_real_suricata() -> None:
    events, counts = read(EVE)
    assert (counts.lines, counts.events, counts.other, counts.damaged) == (21, 21, 0, 0)
    assert events[0] == Event(
        1_795_780_800_000_000, "alert", "192.0.2.66", 6000, "10.77.0.1", 22, 6, "1:YFC9EL4DWHt3FbAjbvEtE+EQVGs=",
        "TEST SYN with window 16384", 1_000_001, "Attempted Information Leak", 2,
        "TEST SYN with window 16384 [1000001] Attempted Information Leak",
    )  # fmt: skip
    assert {event.kind for event in events} == {"alert", "ssh", "flow"}
    assert next(event.detail for event in events if event.kind == "ssh") == "libssh-0.1, OpenSSH_9.2p1"
    assert {event.src_ip for event in events if event.protocol == 58} == {"2001:db8::66", "2001:db8::1"}


@pytest.mark.parametrize("line", EVE.read_text().splitlines())
def test_our_community_id_is_suricatas(line: str) -> None:
    found = json.loads(line)
    wanted = found.pop("community_id")
    event = parse(json.dumps(found).encode())
    assert event is not None
    assert event.community_id == wanted


def test_packets_of_the_capture_have_the_same_ids() -> None:
    """The packets as our own decoder reads them: that is what an alert is joined with."""
    ids = set()
    with Capture(str(CAPTURE)) as capture:
        for packet in (packet for batch in capture.batches() for packet in batch):
            number = packet.get("ip.protocol")
            name = {1: "icmp", 58: "icmpv6"}.get(number)
            ends = (packet.get(f"{name}.type"), packet.get(f"{name}.code")) if name else (packet.sport, packet.dport)
            assert number in (*WITH_PORTS, 1, 58)
            ids.add(of_texts(number, packet.saddr, packet.daddr, *ends))
    assert ids == {json.loads(line)["community_id"] for line in EVE.read_text().splitlines()}


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"proto": "002", "src_port": None, "dest_port": None}, {"protocol": 2}),
        ({"proto": "x", "community_id": None}, {"protocol": None, "community_id": None}),
        ({"timestamp": "2026-11-27T13:00:00.999999+0100"}, {"us": 1_795_780_800_999_999}),
        ({"timestamp": "2026-11-27T12:00:00Z"}, {"us": 1_795_780_800_000_000}),
        ({"alert": None, "event_type": "dns", "dns": {"type": "query", "rrname": "a.example", "rrtype": "A"}},
         {"detail": "query, a.example, A", "signature": None}),
        ({"alert": None, "event_type": "http", "http": {"hostname": "x", "url": "/", "http_method": "GET", "x": {}}},
         {"detail": "GET, x, /"}),
        ({"alert": None, "event_type": "fileinfo"}, {"detail": ""}),
        ({"dest_ip": "2001:db8::1", "src_ip": "10.0.0.1", "community_id": None}, {"community_id": None}),
    ],
)  # fmt: skip
def test_events(change: dict[str, Any], wanted: dict[str, Any]) -> None:
    event = parse(json.dumps(_ALERT | change).encode())
    assert event is not None
    assert {name: getattr(event, name) for name in wanted} == wanted


@pytest.mark.parametrize("change", [{"event_type": "stats"}, {"src_ip": None}, {"dest_ip": None}])
def test_what_is_about_no_packet(change: dict[str, Any]) -> None:
    assert parse(json.dumps(_ALERT | change).encode()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "x"}, {"timestamp": "2026-11-27T12:00:00"}, {"timestamp": 7}, {"src_ip": "x"},
        {"src_port": 65536}, {"dest_port": -1}, {"alert": 7}, {"event_type": None},
    ],
)  # fmt: skip
def test_what_is_no_event(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(json.dumps(_ALERT | change).encode())


@given(
    st.binary(max_size=100)
    | st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner)).map(
        lambda value: json.dumps(_ALERT | {"alert": value, "src_port": value}).encode()
    )
)
def test_any_line(line: bytes) -> None:
    try:
        parse(line)
    except ValueError:
        return


def test_a_file_with_damaged_lines(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    path.write_text(json.dumps(_ALERT) + '\n{"timestamp": \n\n' + json.dumps(_ALERT | {"event_type": "stats"}) + "\n")
    events, counts = read(path)
    assert len(events) == 1
    assert (counts.lines, counts.events, counts.other, counts.damaged) == (3, 1, 1, 1)


@pytest.mark.parametrize(
    "alert",
    [
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"signature_id": 99999999999999999999}',
        b'{"severity": -3}',
    ],
)
def test_an_alert_that_none_is_costs_only_its_line(tmp_path: Path, alert: bytes) -> None:
    begin = b'{"timestamp": "2026-11-27T12:00:00.000000+0000", "event_type": "alert", "src_ip": "192.0.2.1", '
    line = begin + b'"dest_ip": "192.0.2.2", "alert": '
    (tmp_path / "eve.json").write_bytes(line + alert + b"}\n" + line + b'{"signature_id": 7}}\n')
    events, counts = read(tmp_path / "eve.json")
    assert ([event.sid for event in events], counts.damaged) == ([7], 1)
