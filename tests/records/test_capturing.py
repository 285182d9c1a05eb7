# SPDX-License-Identifier: GPL-2.0-or-later
"""CapturePlan: what is written of each packet, read again by our own reader, over the whole corpus of messages."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

import nflowlevel as nfl
from nflowlevel.binding.interfaces import NameTable
from nflowlevel.delivery.captureform import CaptureForm, Format, LinkType
from nflowlevel.records.batch import Batch
from nflowlevel.records.capturing import CapturePlan
from tests import oracle
from tests.corpus import by_name, frames
from tests.fix_decoder import decode
from tests.fix_pcap import blocks_of
from tests.messages import FULL, egress_message_of, message_of, sample_messages

_TIME = (1_795_460_084, 190_524)


def written(path: Path, batch: Batch, format_: Format, link_type: LinkType, *, group: int = 0) -> tuple[int, int]:
    """Write a batch to a file; return how many packets are in it, and how many were left out."""
    form = CaptureForm(format_, link_type)
    plan = CapturePlan(form)
    records, count, unfit = b"", 0, 0
    for piece, some, out in plan.render(batch.raw, group=group):
        records += bytes(piece)
        count += some
        unfit += out
    path.write_bytes(form.prelude(-1, is_empty=True) + records)
    return count, unfit


def read(path: Path) -> list[dict[str, Any]]:
    """Return all keys of the packets of a file; memory as bytes."""
    with nfl.read_pcap(path) as packets:
        return [row for batch in packets.batches() for row in batch.to_dicts()]


def options_of(body: bytes, captured: int) -> list[tuple[int, bytes]]:
    """Return the options of the body of a packet block."""
    at, found = 20 + (captured + 3 & ~3), []
    while at < len(body):
        code, size = struct.unpack_from("=HH", body, at)
        found.append((code, body[at + 4 : at + 4 + size]))
        at += 4 + (size + 3 & ~3)
    assert found[-1:] in ([], [(0, b"")])
    return found[:-1]


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_nflog_holds_all_that_the_kernel_said(tmp_path: Path, format_: Format) -> None:
    messages = [message for message in sample_messages() if oracle.decode(message) is not None]
    batch = decode(messages).batch
    assert written(tmp_path / "f", batch, format_, "nflog") == (len(batch), 0)
    without_names = decode(messages).batch
    without_names.names = NameTable({})
    for number, (got, want) in enumerate(zip(read(tmp_path / "f"), without_names.to_dicts(), strict=True)):
        for row in (got, want):
            row.pop("raw.label")
        assert got == want, number


def test_nflog_is_what_the_kernel_sends(tmp_path: Path) -> None:
    """To the byte: the head of nfnetlink_log and the attributes, in the kernel's order."""
    message = message_of(by_name("udp4"), time=_TIME, prefix=b"pfx: ", indev=2, mark=7, uid=1, gid=2, seq=3, group=5)
    written(tmp_path / "f", decode([message]).batch, "pcap", "nflog", group=5)
    data = (tmp_path / "f").read_bytes()[40:]
    assert data[:4] == message[16:20]
    assert attributes(data[4:]) == attributes(message[20:])


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes by type."""
    found = {}
    while data:
        size, kind = struct.unpack_from("=HH", data)
        assert kind & 0x3FFF not in found
        found[kind & 0x3FFF] = data[4:size]
        data = data[size + 3 & ~3 :]
    return found


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_raw_holds_ip_and_nothing_else(tmp_path: Path, format_: Format) -> None:
    batch = decode([message_of(frame, family=oracle.BRIDGE, time=_TIME) for frame in frames()]).batch
    packets = []
    for row in batch.to_dicts():
        ethertype, packet, _ = oracle.network(oracle.BRIDGE, {"raw.pkt": b"", **row})
        if ethertype in (oracle.ETH_IPV4, oracle.ETH_IPV6):
            packets.append(packet)
    assert 200 < len(packets) < len(batch)
    assert written(tmp_path / "f", batch, format_, "raw") == (len(packets), len(batch) - len(packets))
    assert [row["raw.pkt"] for row in read(tmp_path / "f")] == packets


def test_raw_of_an_egress_hook_begins_behind_the_header(tmp_path: Path) -> None:
    frame = by_name("udp4")
    written(tmp_path / "f", decode([egress_message_of(frame)]).batch, "pcap", "raw")
    assert [row["raw.pkt"] for row in read(tmp_path / "f")] == [frame.payload]


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
@pytest.mark.parametrize("family", [oracle.BRIDGE, oracle.NETDEV])
def test_ethernet_is_the_frame_as_it_was_on_the_wire(tmp_path: Path, format_: Format, family: int) -> None:
    """With the VLAN tag that the kernel had taken off. The frame is read by hand: our reader takes tags off again."""
    known = [frame for frame in frames() if frame.ethertype]
    batch = decode([message_of(frame, family=family, time=_TIME) for frame in known]).batch
    assert written(tmp_path / "f", batch, "pcap", "ethernet") == (len(known), 0)
    data, at = (tmp_path / "f").read_bytes(), 24
    for frame in known:
        size = struct.unpack_from("=I", data, at + 8)[0]
        assert data[at + 16 : at + 16 + size] == frame.wire(), frame.name
        at += 16 + size
    assert at == len(data)


def test_ethernet_of_an_egress_hook_is_its_payload(tmp_path: Path) -> None:
    frame = by_name("udp4")
    written(tmp_path / "f", decode([egress_message_of(frame)]).batch, "pcap", "ethernet")
    assert (tmp_path / "f").read_bytes()[40:] == frame.wire()


@pytest.mark.parametrize(
    ("more", "header"),
    [
        ({"hwheader": None, "hwaddr": None}, bytes(12) + b"\x08\x00"),
        ({"hwheader": None, "hwaddr": bytes.fromhex("020000000007")}, bytes(6) + b"\2\0\0\0\0\7\x08\x00"),
    ],
)
def test_without_a_header_one_is_made(tmp_path: Path, more: dict[str, Any], header: bytes) -> None:
    frame = by_name("udp4")
    written(tmp_path / "f", decode([message_of(frame, **more)]).batch, "pcap", "ethernet")
    assert (tmp_path / "f").read_bytes()[40:] == header + frame.payload


def test_pcapng_says_what_the_link_type_cannot(tmp_path: Path) -> None:
    messages = [
        message_of(by_name("udp4"), time=_TIME, prefix=b"in ", hook=1, indev=2, outdev=None, mark=0x2A),
        message_of(by_name("udp4"), time=_TIME, prefix="größe\n".encode(), hook=3, indev=None, outdev=1, mark=0),
        message_of(by_name("udp4"), time=_TIME, prefix=b"bad \xff", hook=2, indev=2, outdev=1, mark=None),
        message_of(by_name("udp4"), time=_TIME, prefix=b"", hook=4, indev=2, outdev=1),
        message_of(by_name("udp4"), time=_TIME, prefix=None, hook=0, indev=None, outdev=None),
    ]
    assert written(tmp_path / "f", decode(messages).batch, "pcapng", "raw") == (5, 0)
    packets = [body for kind, body in blocks_of(tmp_path / "f") if kind == 6]
    found = []
    for body in packets:
        number, high, low, captured, original = struct.unpack_from("=IIIII", body)
        assert (high << 32) + low == _TIME[0] * 10**6 + _TIME[1]
        assert captured == original == len(by_name("udp4").payload)
        found.append((number, options_of(body, captured)))
    inbound, outbound = struct.pack("=I", 1), struct.pack("=I", 2)
    assert found == [
        (1, [(1, b"in "), (1, b"hook input, mark 0x2a"), (2, inbound)]),
        (2, [(1, "größe\n".encode()), (1, b"hook output"), (2, outbound)]),
        (1, [(1, "bad \ufffd".encode()), (1, b"hook forward"), (2, inbound)]),
        (2, [(1, b"hook postrouting"), (2, outbound)]),
        (0, [(1, b"hook prerouting")]),
    ]


def test_the_interfaces_have_their_names(tmp_path: Path) -> None:
    written(
        tmp_path / "f",
        decode([message_of(by_name("udp4"), hook=1, indev=index) for index in (2, 1, 2, 99)]).batch,
        "pcapng",
        "nflog",
    )
    assert [body.count(b"va") for kind, body in blocks_of(tmp_path / "f") if kind == 1] == [0, 1, 0, 0]
    written(
        tmp_path / "f",
        decode([message_of(by_name("udp4"), hook=1, indev=index) for index in (2, 1, 2, 99)]).batch,
        "pcapng",
        "raw",
    )
    assert [row.get("oob.in") for row in read(tmp_path / "f")] == ["va", "lo", "va", ""]


def test_a_renamed_interface_is_another_one(tmp_path: Path) -> None:
    form = CaptureForm("pcapng", "raw")
    plan = CapturePlan(form)
    batch = decode([message_of(by_name("udp4"), hook=1, indev=2)]).batch
    records = b"".join(bytes(piece) for piece, _, _ in plan.render(batch.raw))
    batch.names = NameTable({2: "wan"})
    records += b"".join(bytes(piece) for piece, _, _ in plan.render(batch.raw))
    batch.names = NameTable({2: "va"})
    records += b"".join(bytes(piece) for piece, _, _ in plan.render(batch.raw))
    # The same index in another network namespace.
    records += b"".join(bytes(piece) for piece, _, _ in plan.render(batch.raw, place="other"))
    (tmp_path / "f").write_bytes(form.prelude(-1, is_empty=True) + records)
    numbers = [struct.unpack_from("=I", body)[0] for kind, body in blocks_of(tmp_path / "f") if kind == 6]
    assert numbers == [1, 2, 1, 3]
    assert [row["oob.in"] for row in read(tmp_path / "f")] == ["va", "wan", "va", "va"]


def test_the_original_length_is_what_the_header_tells(tmp_path: Path) -> None:
    frame = by_name("udp4")
    cut = oracle.build_message(frame.payload[:24], family=2, protocol=0x800, time=_TIME)
    padded = oracle.build_message(frame.payload + bytes(20), family=7, protocol=0x800, time=_TIME)
    for link_type, more in (("raw", 0), ("ethernet", 14)):
        written(tmp_path / "f", decode([cut, padded]).batch, "pcap", link_type)  # type: ignore[arg-type]
        data = (tmp_path / "f").read_bytes()
        assert struct.unpack_from("=II", data, 32) == (24 + more, len(frame.payload) + more)
        second = 24 + 16 + 24 + more
        size = len(frame.payload) + 20 + more
        assert struct.unpack_from("=II", data, second + 8) == (size, size)


@pytest.mark.parametrize("count", [1, 700, 2000])
def test_a_batch_of_any_size_comes_whole(tmp_path: Path, count: int) -> None:
    payload = by_name("udp4").payload + bytes(400)
    messages = [oracle.build_message(payload, family=2, protocol=0x800, time=(1, n), **_small()) for n in range(count)]
    batch = decode(messages).batch
    form = CaptureForm("pcapng", "nflog")
    plan = CapturePlan(form)
    for _ in range(2):
        pieces = [(bytes(piece), some) for piece, some, _ in plan.render(batch.raw)]
        assert sum(some for _, some in pieces) == count
    assert len(pieces) == 1, "the buffer has not grown to hold a batch like the last one"
    (tmp_path / "f").write_bytes(form.prelude(-1, is_empty=True) + pieces[0][0])
    assert [row["oob.time.usec"] for row in read(tmp_path / "f")] == list(range(count))


def _small() -> dict[str, Any]:
    return {"prefix": FULL["prefix"]}


def test_selected_packets_only(tmp_path: Path) -> None:
    batch = decode([message_of(by_name("udp4"), time=(1, n)) for n in range(7)]).batch.select([1, 2, 5])
    assert written(tmp_path / "f", batch, "pcap", "raw") == (3, 0)
    assert [row["oob.time.usec"] for row in read(tmp_path / "f")] == [1, 2, 5]
