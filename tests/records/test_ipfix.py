# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of flows, packets and accounting objects in IPFIX, read back by another decoder."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.buffers import RecordArray
from nflowlevel.records import ipfix
from nflowlevel.records.batch import Batch
from nflowlevel.records.ipfix import Form, flow_form, packet_form, sum_form, templates, ulogd2_form
from nflowlevel.records.reported import REPORTED
from nflowlevel.records.sums import SUM
from tests.corpus import by_name, frames
from tests.fix_ipfix import REVERSE, Record, Session, flow, flows, messages, some_flows
from tests.fix_plugins import batch_of
from tests.messages import message_of

FORMS = {
    "flow": flow_form(),
    "own": flow_form(32473),
    "ulogd2": ulogd2_form(),
    "packet": packet_form(),
    "reported": packet_form(REPORTED),
    "deltas": sum_form(deltas=True),
    "totals": sum_form(deltas=False),
}


def packed(
    layout: tuple[str, ...], rows: bytes, *, mtu: int = 1400, announce: int = lib.NFL_IPFIX_ONCE, room: int = 1 << 20
) -> list[bytes]:
    """Return the messages of rows."""
    kept, known = [], ffi.new("struct nfl_ipfix_template[256]")
    for class_, template in templates(layout, 256).items():
        definition = ffi.from_buffer("uint8_t[]", template.definition)
        kept.append(definition)
        known[class_] = (definition, len(definition), template.id, template.least, template.most, 0)
    session = ffi.new("struct nfl_ipfix_session *", {"templates": known, "mtu": mtu, "announce": announce, "round": 1})
    session.domain, session.now = 7, 1_790_000_200
    out, used, found = ffi.new("uint8_t[]", room), ffi.new("size_t *"), []
    data, at = ffi.from_buffer("uint8_t[]", rows), 0
    while at < len(rows):
        size = lib.nfl_ipfix_pack(session, data + at, len(rows) - at, out, room, used)
        assert not session.broken
        found += messages(bytes(ffi.buffer(out, size)))[0]
        at += used[0]
        assert used[0], "it makes no progress"
    return found


def read(form: Form, batch: Batch, **how: Any) -> list[Record]:
    """Return the batch's records as a collector reads them."""
    session = Session(mtu=how.get("mtu", 1400))
    rows = b"".join(data for data, _ in form.encode(batch))
    return [record for message in packed(form.layout, rows, **how) for record in session.read(message)]


def only(form: Form, made: dict[str, Any]) -> Record:
    """Return a flow as a collector reads it."""
    (record,) = read(form, flows(made))
    return record


def test_a_flow_of_ipv4() -> None:
    assert only(FORMS["flow"], flow(5)) == {
        (0, 8): "10.1.2.3",
        (0, 12): "192.0.2.10",
        (0, 7): 40000,
        (0, 11): 443,
        (0, 4): 6,
        (0, 1): 5000,
        (0, 2): 5,
        (REVERSE, 1): 15000,
        (REVERSE, 2): 10,
        (0, 152): 1_790_000_000_123,
        (0, 153): 1_790_000_009_789,
        (21373, 4): 5,
        (0, 148): 0xF0000005,
        (0, 136): 3,
    }


def test_a_flow_of_ipv6() -> None:
    record = only(FORMS["flow"], flow(source="2001:db8::1", target="2001:db8::2", protocol=17))
    assert record[0, 27], record[0, 28] == ("2001:db8::1", "2001:db8::2")
    assert not {(0, 8), (0, 12)} & record.keys()
    assert record[0, 4] == 17


def test_counters_have_64_bits() -> None:
    """D-IX6: ulogd2 cuts them to 32 bits."""
    most = (1 << 64) - 1
    counters: dict[str, Any] = {"orig_raw_pktlen": most, "reply_raw_pktlen": 1 << 40, "orig_raw_pktcount": 1 << 33}
    record = only(FORMS["flow"], flow(**counters))
    assert (record[0, 1], record[REVERSE, 1], record[0, 2]) == (most, 1 << 40, 1 << 33)


def test_icmp_has_type_and_code_in_place_of_ports() -> None:
    four = only(FORMS["flow"], flow(protocol=1, icmp_type=3, icmp_code=13))
    six = only(FORMS["flow"], flow(protocol=58, source="fe80::1", target="fe80::2", icmpv6_type=128, icmpv6_code=0))
    assert four[0, 32] == 3 * 256 + 13
    assert six[0, 139] == 128 * 256
    assert not {(0, 7), (0, 11)} & (four.keys() | six.keys())


@pytest.mark.parametrize(
    ("event", "said"), [(lib.NFL_FLOW_NEW, 4), (lib.NFL_FLOW_DESTROY, 5), (lib.NFL_FLOW_UPDATE, None)]
)
def test_a_translated_flow_says_what_it_became(event: int, said: int | None) -> None:
    record = only(FORMS["flow"], flow(nat_source="198.51.100.7", nat_sport=1024, ct_event=event))
    assert (record[0, 8], record[0, 7]) == ("10.1.2.3", 40000)
    assert (record[0, 225], record[0, 226]) == ("198.51.100.7", "192.0.2.10")
    assert (record[0, 227], record[0, 228]) == (1024, 443)
    assert record.get((0, 230)) == said


def test_a_redirected_flow_says_where_it_went() -> None:
    record = only(FORMS["flow"], flow(nat_target="10.9.9.9", nat_dport=8443))
    assert (record[0, 12], record[0, 11]) == ("192.0.2.10", 443)
    assert (record[0, 226], record[0, 228]) == ("10.9.9.9", 8443)


def test_only_the_port_may_be_translated() -> None:
    assert only(FORMS["flow"], flow(nat_sport=1))[0, 227] == 1
    assert (0, 227) not in only(FORMS["flow"], flow())


def test_translated_icmp_has_no_ports() -> None:
    record = only(FORMS["flow"], flow(protocol=1, nat_source="198.51.100.7"))
    assert record[0, 225] == "198.51.100.7"
    assert (0, 227) not in record


def test_translated_ipv6() -> None:
    """RFC 8158 has events of NAT44 and NAT64 only."""
    record = only(FORMS["flow"], flow(source="fd00::1", target="2001:db8::2", nat_source="2001:db8::9"))
    assert (record[0, 281], record[0, 282]) == ("2001:db8::9", "2001:db8::2")
    assert (0, 230) not in record


def test_what_is_not_counted_is_left_out() -> None:
    record = only(FORMS["flow"], flow(lacks=[lib.NFL_FLOW_COUNTED]))
    assert not {(0, 1), (0, 2), (REVERSE, 1), (REVERSE, 2)} & record.keys()


def test_a_flow_without_a_beginning_begins_where_it_ends() -> None:
    record = only(FORMS["flow"], flow(lacks=[lib.NFL_FLOW_START], flow_start_sec=0, flow_start_usec=0))
    assert record[0, 152] == record[0, 153] == 1_790_000_009_789


def test_a_flow_that_goes_on_ends_now() -> None:
    lacks = [lib.NFL_FLOW_END, lib.NFL_FLOW_REASON]
    (record,) = read(FORMS["flow"], flows(flow(lacks=lacks, flow_end_sec=0), time=(1_790_000_100, 500_000)))
    assert (record[0, 152], record[0, 153]) == (1_790_000_000_123, 1_790_000_100_500)
    assert (0, 136) not in record


def test_neither_beginning_nor_end() -> None:
    lacks = [lib.NFL_FLOW_START, lib.NFL_FLOW_END]
    (record,) = read(FORMS["flow"], flows(flow(lacks=lacks), time=(1_790_000_100, None)))
    assert record[0, 152] == record[0, 153] == 1_790_000_100_000


def test_elements_of_our_own_are_sent_when_asked_for() -> None:
    valid = 1 << lib.NFL_FLOW_STATUS | 1 << lib.NFL_FLOW_LABELS | 1 << lib.NFL_FLOW_HELPER | 1 << lib.NFL_FLOW_TCP
    made = flow(ct_zone=7, ct_zone_reply=8, ct_status=0x20E, ct_labels=list(range(16)), ct_helper=b"ftp", tcp_state=7)
    made["valid"] |= valid
    record = only(FORMS["own"], made)
    said = [record[32473, number] for number in range(1, 9)]
    assert said == [7, 8, 0x20E, int.from_bytes(bytes(range(16)), "big"), "ftp", 7, 1, 1]
    made["valid"] &= ~valid
    assert [only(FORMS["own"], made)[32473, number] for number in (3, 4, 6)] == [0, 0, 0]
    assert not [vendor for vendor, _ in only(FORMS["flow"], made) if vendor == 32473]


# -- ulogd2's ---------------------------------------------------------------------------------------------------------


def test_ulogd2s_template_and_record() -> None:
    """Parity 174 and 175: ten fields in this order, 33 bytes in network order."""
    rows = b"".join(data for data, _ in FORMS["ulogd2"].encode(flows(flow(5))))
    (message,) = packed(FORMS["ulogd2"].layout, rows)
    elements = [(8, 4), (12, 4), (86, 4), (85, 4), (150, 4), (151, 4), (7, 2), (11, 2), (4, 1), (95, 4)]
    template = struct.pack("!HHHH", 2, 48, 256, 10) + b"".join(struct.pack("!HH", *each) for each in elements)
    assert message[16:64] == template
    record = bytes([10, 1, 2, 3, 192, 0, 2, 10]) + struct.pack(
        "!IIIIHHBI", 15, 20000, 1_790_000_000, 1_790_000_009, 40000, 443, 6, 5
    )
    assert len(record) == 33
    assert message[64:] == struct.pack("!HH", 256, 37) + record


def test_ulogd2s_form_says_ipv6_with_a_template_of_its_own() -> None:
    """Parity 181; D-IX7: ulogd2 sends the first four bytes as an IPv4 address."""
    batch = flows(flow(source="2001:db8::1", target="2001:db8::2"), flow())
    rows = b"".join(data for data, _ in FORMS["ulogd2"].encode(batch))
    session = Session()
    records = [record for message in packed(FORMS["ulogd2"].layout, rows) for record in session.read(message)]
    assert session.ids == [257, 256]
    assert records[0][0, 27] == "2001:db8::1"
    assert records[1][0, 8] == "10.1.2.3"


def test_ulogd2s_32_bits_do_not_wrap() -> None:
    """D-IX6: a flow of 4 GiB and a byte was one of a byte."""
    record = only(FORMS["ulogd2"], flow(orig_raw_pktlen=(1 << 32) + 1, orig_raw_pktcount=(1 << 64) - 1))
    assert (record[0, 85], record[0, 86]) == (0xFFFFFFFF, 0xFFFFFFFF)


# -- packets and sums -------------------------------------------------------------------------------------------------


def test_a_packet_is_a_flow_of_one_packet() -> None:
    batch = batch_of(message_of(by_name("tcp4-syn-ack"), prefix=b"in: "))
    (record,) = read(FORMS["packet"], batch)
    (packet,) = batch
    assert record[0, 8] == str(packet.saddr)
    assert (record[0, 7], record[0, 11], record[0, 4]) == (packet.get("tcp.sport"), packet.get("tcp.dport"), 6)
    assert (record[0, 1], record[0, 2]) == (packet.get("ip.totlen"), 1)
    milliseconds = packet.get("oob.time.sec") * 1000 + packet.get("oob.time.usec") // 1000
    assert record[0, 152] == record[0, 153] == milliseconds
    flags = ("tcp.urg", "tcp.ack", "tcp.psh", "tcp.rst", "tcp.syn", "tcp.fin")
    assert record[0, 6] == sum(packet.get(flag) << 5 - bit for bit, flag in enumerate(flags))
    assert record[21373, 3] == "in: "


def test_every_packet_of_the_corpus() -> None:
    """Each is a record of a template that says what it is."""
    batch = batch_of(*(message_of(frame, prefix=b"p") for frame in frames()))
    records = read(FORMS["packet"], batch)
    assert len(records) == len(batch)
    for record, packet in zip(records, batch, strict=True):
        if packet.get("ip.totlen") is not None:
            assert record[0, 1] == packet.get("ip.totlen")
        elif packet.get("ip6.payloadlen") is not None:
            assert record[0, 1] == packet.get("ip6.payloadlen") + 40
        else:
            assert record[0, 1] == packet.get("raw.pktlen")
        assert (((0, 27) in record), ((0, 8) in record)) == (
            packet.get("ip6.payloadlen") is not None,
            packet.get("ip.totlen") is not None,
        )


@pytest.mark.parametrize("deltas", [True, False])
def test_accounting_objects(deltas: bool) -> None:
    counters = [{"valid": 1, "packets": 3, "bytes": 1 << 40, "name": b"http"}, {"valid": 1, "name": b"x" * 31}]
    batch = Batch(RecordArray(ffi.new("struct nfl_counter[]", counters), 2), 2, type=SUM, time=(1_790_000_100, 7_000))
    first, second = read(FORMS["deltas" if deltas else "totals"], batch)
    assert first == {
        (0, 335): "http",
        (0, 1 if deltas else 85): 1 << 40,
        (0, 2 if deltas else 86): 3,
        (0, 153): 1_790_000_100_007,
    }
    assert second[0, 335] == "x" * 31


def test_accounting_objects_that_are_columns() -> None:
    columns: dict[str, list[int | float | str | None]] = {
        "sum.name": ["inet.t.http", "é" * 200],
        "sum.pkts": [3, None],
        "sum.bytes": [9, 1 << 63],
    }
    batch = Batch.of_columns(columns, time=(1_790_000_100, 7_000))
    rows, count = ipfix.encode_named(batch)
    assert count == 2
    session = Session()
    found = [r for m in packed(ipfix.named_layout(deltas=True), rows) for r in session.read(m)]
    assert found[0] == {(0, 335): "inet.t.http", (0, 1): 9, (0, 2): 3, (0, 153): 1_790_000_100_007}
    assert found[1] == {(0, 335): "é" * 100, (0, 1): 1 << 63, (0, 153): 1_790_000_100_007}


# -- rows, layouts, messages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_each_template_and_record_has_room(form: Form) -> None:
    """The least `mtu` that IPFIX takes holds each template with a record, and a row holds each record."""
    made = templates(form.layout, 256).values()
    assert made
    assert max(template.most for template in made) <= lib.NFL_IPFIX_RECORD_MAX
    assert max(16 + 4 + len(each.definition) + 4 + each.most for each in made) <= (
        128 if form.name == "ulogd2" else 400
    )


def test_every_class_of_flows_has_a_template() -> None:
    assert len(templates(FORMS["own"].layout, 256)) == 256


@pytest.mark.parametrize("wrong", [(), ("sum.name", "sum.pkts"), ("nflowlevel/ipfix/1", "flow", "0.8:4")])
def test_what_is_no_layout(wrong: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"rows were not made|no field"):
        templates(wrong, 256)


@pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 240, 250])
def test_a_row_is_a_line_whatever_is_in_it(length: int) -> None:
    """Newlines within are taken out and put back."""
    item = f"0.1:{length}?0=0"
    rng = random.Random(length)
    records = [bytes(rng.choice((10, 10, 0, 1, 246)) for _ in range(length)) for _ in range(50)]
    records += [b"\n" * length, b"\0" * length, bytes([length ^ 10]) * length]
    rows = b"".join(ipfix.row_of(0, record) for record in records)
    assert rows.count(b"\n") == len(records)
    assert [len(row) for row in rows.split(b"\n")[:-1]] == [length + 2] * len(records)
    (first, *others) = packed(("nflowlevel/ipfix/1", "flow", item), rows, mtu=65535)
    assert not others
    assert first[16 + 4 + 8 + 4 :] == b"".join(records)


@pytest.mark.parametrize("mtu", [400, 401, 512, 1400, 65535])
@pytest.mark.parametrize("announce", [lib.NFL_IPFIX_ONCE, lib.NFL_IPFIX_ALWAYS])
def test_no_message_is_longer_than_the_mtu(mtu: int, announce: int) -> None:
    """Parity 177; all that fits is in it, but for a template that a record needs."""
    form, batch = FORMS["own"], some_flows(1009)
    rows = b"".join(data for data, _ in form.encode(batch))
    made = packed(form.layout, rows, mtu=mtu, announce=announce)
    session = Session(mtu=mtu)
    records = [record for message in made for record in session.read(message)]
    assert [record[21373, 4] for record in records] == list(range(1, 1010))
    assert session.lost == 0
    assert all(len(message) > mtu - 400 for message in made[:-1])
    if announce == lib.NFL_IPFIX_ALWAYS:
        for message in made:
            fresh = Session(mtu=mtu)
            fresh.count = struct.unpack_from("!I", message, 8)[0]
            assert fresh.read(message), "it cannot be read alone"
    else:
        assert len(session.announced) == len(set(session.announced)) == 5


def test_a_small_mtu_ends() -> None:
    """D-IX5: between 68 and 100 bytes ulogd2 allocates for ever. The option refuses it; C goes beyond it."""
    form = FORMS["ulogd2"]
    rows = b"".join(data for data, _ in form.encode(some_flows(50)))
    for mtu in (1, 68, 84, 100):
        made = packed(form.layout, rows, mtu=mtu, announce=lib.NFL_IPFIX_ALWAYS)
        assert len(made) == 50


def test_a_small_buffer_is_filled_again() -> None:
    form = FORMS["flow"]
    rows = b"".join(data for data, _ in form.encode(some_flows(200)))
    session = Session(mtu=512)
    made = packed(form.layout, rows, mtu=512, room=1100)
    assert sum(len(session.read(message)) for message in made) == 200
    assert session.lost == 0


@pytest.mark.parametrize(
    "rows", [b"\n", b"\0\n", b"\x0b\0\n", b"abc", b"a" * 300 + b"\n", b"\xff\0\0\0\n", bytes([8, 0, 0, 10])]
)
def test_what_is_no_row_ends_the_call(rows: bytes) -> None:
    known = ffi.new("struct nfl_ipfix_template[256]")
    definition = ffi.from_buffer("uint8_t[]", struct.pack("!HHHH", 256, 1, 4, 1))
    known[0] = (definition, 8, 256, 1, 1, 0)
    session = ffi.new("struct nfl_ipfix_session *", {"templates": known, "mtu": 512, "announce": 1, "round": 1})
    out, used = ffi.new("uint8_t[1000]"), ffi.new("size_t *")
    good = ipfix.row_of(0, b"\6")
    data = ffi.from_buffer("uint8_t[]", good + rows)
    size = lib.nfl_ipfix_pack(session, data, len(good) + len(rows), out, 1000, used)
    assert session.broken == 1
    assert used[0] == len(good)
    assert (session.records, session.messages, size) == (1, 1, 16 + 4 + 8 + 4 + 1)


def test_a_selection_of_a_batch() -> None:
    batch = some_flows(10).select([1, 4, 9])
    assert [record[21373, 4] for record in read(FORMS["flow"], batch)] == [2, 5, 10]


def test_a_large_batch_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipfix, "_BUFFER_BYTES", 1000)
    pieces = list(FORMS["flow"].encode(some_flows(50)))
    assert len(pieces) > 5
    assert sum(count for _, count in pieces) == 50
    assert all(data.count(b"\n") == count for data, count in pieces)
