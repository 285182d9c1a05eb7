# SPDX-License-Identifier: GPL-2.0-or-later
"""REPORTED: reports of every frame, and every option, as a second decoder reads them."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from nflowlevel.binding._lib import ffi
from nflowlevel.records.keys import BY_NAME, CATALOGUE, PacketCondition, ReportedCondition, published_by
from nflowlevel.records.packet import PACKET
from nflowlevel.records.render import CopyPlan, JSONPlan
from nflowlevel.records.reported import REPORTED
from tests.corpus import by_name, frames
from tests.fix_reports import FULL, IN, SECONDS, full, meant, option, received, report


def test_it_begins_as_a_packet_does() -> None:
    """So plugins find what they read in packets in the same places."""
    assert ffi.offsetof("struct nfl_reported", "packet") == 0
    own = published_by("UNIXSOCK")
    for key in (key for key in CATALOGUE if isinstance(key.valid, PacketCondition) and key not in own):
        assert key in REPORTED
        assert REPORTED.offset_of(key.field) == PACKET.offset_of(key.field)
    for key in own:
        assert REPORTED.by_name[key.name] is key
        assert (key in PACKET) == isinstance(key.valid, PacketCondition)


def test_what_belongs_to_packets_of_the_kernel_stays_as_it_was() -> None:
    assert BY_NAME["oob.in"].plugin == PACKET.by_name["oob.in"].plugin == "IFINDEX"
    assert BY_NAME["raw.label"].plugin == "NFLOG"
    assert not any(name.startswith("nufw.") for name in PACKET.by_name)


def test_every_frame_and_option() -> None:
    reports = [made(frame.payload) for frame in frames() for made in (report, full)]
    batch = received(b"".join(reports))
    assert len(batch) == len(reports)
    for got, data in zip(batch.to_dicts(), reports, strict=True):
        wanted = meant(data) or {}
        assert {name: got[name] for name in got if name in wanted} == wanted, data
        extra = got.keys() - wanted.keys()
        # What filters make of that, and nothing that a reporter cannot say.
        assert extra <= {"ip.saddr.str", "ip.daddr.str", "ip.saddr.bin", "ip.daddr.bin", "ip.hsaddr", "ip.hdaddr"}, (
            extra
        )


def test_a_row_has_what_its_reporter_said() -> None:
    (packet,) = received(full(by_name("tcp6-syn").payload))
    assert {name: packet.get(name) for name in FULL} == FULL
    assert (packet.saddr, packet.tcp_dport, packet.oob_in, packet.prefix) == ("fd77::2", 80, "eth0", "nufw: ")
    assert packet.mark is None
    twin = pickle.loads(pickle.dumps(packet))
    assert twin.to_dict() == packet.to_dict() == copy.copy(packet).to_dict()


def test_its_type_is_found_again_in_another_process() -> None:
    assert pickle.loads(pickle.dumps(REPORTED)) is REPORTED


def test_filters_and_columns_know_its_keys() -> None:
    batch = received(full(by_name("udp4").payload) + report(by_name("udp4").payload))
    assert len(batch.where('nufw.user.name == "alice" && udp.dport == 53 && oob.in ~ "eth*"')) == 1
    assert batch.column("nufw.user.id").tolist() == [4_000_000_000, 0]
    assert batch.to_arrow("nufw.app.name", "oob.in").to_pylist() == [
        {"nufw.app.name": "/bin/nc", "oob.in": "eth0"}, {"nufw.app.name": None, "oob.in": None},
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [0, 1_700_000_000, 2**32 - 1])
def test_a_time_without_a_fraction(seconds: int) -> None:
    """As ulogd2 writes it: the reporter says the second only."""
    batch = received(report(by_name("udp4").payload, option(SECONDS, seconds)))
    plan = JSONPlan([], head='{"timestamp": "', tail='"', timestamp=True, actions=frozenset())
    ((line, _),) = plan.render(batch.raw, {})
    stamp = json.loads(bytes(line))["timestamp"]
    assert "." not in stamp
    assert batch.rows("oob.time.sec", "oob.time.usec") == [(seconds, None)]
    ((row, _),) = CopyPlan([("oob.time", BY_NAME["oob.mark"])]).render(batch.raw, {})
    assert row.endswith(b".000000+00\n")


def test_without_a_time_it_is_that_of_reception() -> None:
    batch = received(report(by_name("udp4").payload))
    assert batch.rows("oob.time.sec") == [(None,)]
    ((row, _),) = CopyPlan([("oob.time", BY_NAME["oob.mark"])]).render(batch.raw, {})
    assert row == b"2023-11-14 22:13:20.123456+00\n"


def test_what_never_holds_has_its_own_condition() -> None:
    never = {key.name for key in published_by("UNIXSOCK") if key.valid is ReportedCondition.NEVER}
    batch = received(full(by_name("tcp4-syn").payload))
    assert {"oob.mark", "raw.mac", "oob.hook", "oob.uid", "raw.type"} < never
    assert all(batch.values(name) == [None] for name in never)


def printed(data: bytes) -> list[str]:
    """Return the texts that PRINTPKT gives."""
    batch = received(data)
    batch.add_print()
    texts: list[str] = batch.values("print")
    return texts


def test_as_text_it_has_the_names_that_its_reporter_gives() -> None:
    udp = by_name("udp4").payload
    first, second, third = printed(full(udp) + report(udp) + report(udp, option(IN, "va")))
    assert first.startswith("nufw:  IN=eth0 OUT=ppp7 MAC= SRC=10.77.0.2 DST=10.77.0.1 LEN=35 ")
    assert second.startswith("MAC= SRC=10.77.0.2 ")
    assert third.startswith("MAC= SRC=10.77.0.2 ")  # as in ulogd2: both, or none
    assert all(text.endswith("LEN=15 \n") for text in (first, second, third)), "it knows no mark"


def test_as_text_names_of_any_length_and_any_bytes_are_one_line() -> None:
    (text,) = printed(full(by_name("udp4").payload, in_=b"\x01\n" * 10_000, out=b"\x7f" * 20_000, prefix=b"\r" * 5_000))
    assert text.count("\n") == 1
    assert text.startswith("\\x0d" * 5_000 + " IN=" + "\\x01\\x0a" * 10_000 + " OUT=" + "\\x7f" * 20_000 + " MAC=")
