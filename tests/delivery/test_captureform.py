# SPDX-License-Identifier: GPL-2.0-or-later
"""CaptureForm: heads of files, ends of files, and which files are not ours to append to."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.delivery.captureform import CaptureForm, Format
from nflowlevel.delivery.openfile import OpenFile
from tests import captures
from tests.fix_nobody import run_as_nobody
from tests.fix_pcap import HEAD, RECORD, head_of


def written(format_: Format, count: int, *, size: int = 40, seed: int = 1) -> bytes:
    """Return a file of that format with packets of raw IP."""
    form = CaptureForm(format_, "raw")
    chance = random.Random(seed)
    records = []
    for number in range(count):
        data = b"\x45" + chance.randbytes(size + chance.randrange(20))
        if format_ == "pcap":
            records.append(RECORD.pack(1_795_000_000 + number, number, len(data), len(data)) + data)
        else:
            records.append(captures.packet_block(captures.Captured(data)))
    return form.prelude(-1, is_empty=True) + b"".join(records)


def kept(path: Path, form: CaptureForm) -> int:
    """Return how many bytes the file has when it was opened."""
    file = OpenFile(str(path), form=form)
    file.close()
    return path.stat().st_size


def test_the_head_of_pcap_is_that_of_ulogd2_in_utc(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CaptureForm("pcap", "raw").prelude(-1, is_empty=True))
    assert head_of(tmp_path / "f") == (0xA1B2C3D4, 2, 4, 0, 0, 65536, 101)


def test_pcap_that_is_not_empty_needs_no_head() -> None:
    assert CaptureForm("pcap", "raw").prelude(-1, is_empty=False) == b""


def test_a_section_describes_what_is_known_and_then_what_is_new() -> None:
    form = CaptureForm("pcapng", "nflog")
    assert form.described == 1, "packets without an interface"
    assert (form.number_of("a", 2, "eth0"), form.number_of("b", 2, "eth0"), form.number_of("a", 2, "wan")) == (1, 2, 3)
    assert form.number_of("a", 2, "eth0") == 1
    assert form.number_of("b", 0, "") == 0
    whole = form.prelude(-1, is_empty=False)
    assert whole.startswith(struct.pack("=I", 0x0A0D0D0A))
    assert whole.endswith(form.prelude(1, is_empty=False))
    assert form.prelude(4, is_empty=False) == b""
    assert form.prelude(3, is_empty=False).count(b"wan") == 1


# -- the end of a file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_any_cut_leaves_the_whole_packets(tmp_path: Path, format_: Format) -> None:
    data = written(format_, 5)
    form = CaptureForm(format_, "raw")
    start = len(form.prelude(-1, is_empty=True))
    ends = [0, start]
    for count in range(1, 6):
        ends.append(len(written(format_, count)))
    for size in range(len(data)):
        (tmp_path / "f").write_bytes(data[:size])
        expected = max(end for end in ends if end <= size) if size >= start or format_ == "pcap" else None
        got = kept(tmp_path / "f", form)
        if expected is None:  # the section is there, the first interface is not
            assert got in (0, len(form.prelude(-1, is_empty=True)) - len(form.prelude(0, is_empty=True)))
        else:
            assert got == expected, size


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
@pytest.mark.parametrize("zeros", [1, 16, 5000])
def test_zeros_that_a_power_failure_left_are_cut_off(tmp_path: Path, format_: Format, zeros: int) -> None:
    data = written(format_, 5)
    (tmp_path / "f").write_bytes(data + bytes(zeros))
    assert kept(tmp_path / "f", CaptureForm(format_, "raw")) == len(data)


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_of_a_long_file_the_end_is_enough(tmp_path: Path, format_: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(format_, 90_000, size=90)
    assert len(data) > 8 << 20
    form = CaptureForm(format_, "raw")
    monkeypatch.setattr("nflowlevel.delivery.captureform._SMALL_BLOCKS_BYTES", 1 << 20)
    monkeypatch.setattr(form, "_from_the_start", None)
    (tmp_path / "f").write_bytes(data[:-7])
    last = kept(tmp_path / "f", form)
    assert last == len(written(format_, 89_999, size=90))
    assert kept(tmp_path / "f", form) == last


def test_packets_that_look_like_records_do_not_mislead(tmp_path: Path) -> None:
    """A sender has filled packets with what looks like records, over megabytes, the last one up to the next packet."""
    false = RECORD.pack(1_795_000_000, 1, 48, 48) + bytes(48)
    last = RECORD.pack(1_795_000_000, 1, 48 + 16 + 8, 72) + bytes(48)
    payload = bytes(8) + false * 999 + last
    true = RECORD.pack(1_795_000_000, 1, len(payload), len(payload)) + payload
    data = CaptureForm("pcap", "raw").prelude(-1, is_empty=True) + true * 150
    assert len(data) > 9 << 20
    (tmp_path / "f").write_bytes(data + true[:5000])
    assert kept(tmp_path / "f", CaptureForm("pcap", "raw")) == len(data)


def test_a_file_that_is_damaged_in_its_middle_is_not_cut(tmp_path: Path) -> None:
    data = bytearray(written("pcap", 50))
    data[24 + 8 : 24 + 12] = b"\xff\xff\xff\x7f"
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(OSError, match="damaged at byte 24, after 0 packets; move it away, or name another file"):
        OpenFile(str(tmp_path / "f"), form=CaptureForm("pcap", "raw"))
    assert (tmp_path / "f").read_bytes() == data


# -- files of others ---------------------------------------------------------------------------------------------------

_OTHER = ">" if captures.NATIVE == "<" else "<"
_PACKETS = captures.udp_packets(2)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"Nov 27 08:00:00 host kernel: IN=eth0 OUT=\n", "it is no capture file"),
        (b"x", "it is no capture file"),
        (captures.pcap(_PACKETS, 1), r"it is a capture of link type 1 \(ethernet\), not of 101 \(raw\)"),
        (captures.pcap(_PACKETS, 113), r"it is a capture of link type 113 \(another\), not of 101 \(raw\)"),
        (captures.pcap(_PACKETS, 101, nano=True), "it is a capture with nanoseconds"),
        (captures.pcap(_PACKETS, 101, order=_OTHER), "it is a capture of the other byte order"),
        (captures.pcap(_PACKETS, 101, order=_OTHER, nano=True), "it is a capture of the other byte order"),
        (captures.pcapng(_PACKETS, 101), "it is a capture of format pcapng"),
        (HEAD.pack(0xA1B2C3D4, 2, 5, 0, 0, 65536, 101), "it is a capture of version 2.5"),
        (HEAD.pack(0xA1B2C3D4, 2, 4, 0, 0, 1 << 20, 101), "it is a capture with a snaplen of 1048576"),
    ],
)
def test_what_is_not_ours_is_refused_and_kept(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(OSError, match=why + "; move it away, or name another file"):
        OpenFile(str(tmp_path / "f"), form=CaptureForm("pcap", "raw"))
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (captures.pcap(_PACKETS, 101), "it is a capture of format pcap"),
        (captures.pcapng(_PACKETS, 101), "it is a capture of pcapng that another program wrote"),
        (captures.section(), "it is a capture of pcapng that another program wrote"),
        (CaptureForm("pcapng", "nflog").prelude(-1, is_empty=True), "link type 239 .nflog., not of 12 .raw."),
        (b"log\n", "it is no capture file"),
    ],
)
def test_what_is_not_ours_is_refused_as_pcapng(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(OSError, match=why):
        OpenFile(str(tmp_path / "f"), form=CaptureForm("pcapng", "raw"))
    assert (tmp_path / "f").read_bytes() == data


def test_what_ulogd2_wrote_in_another_zone_is_ours(tmp_path: Path) -> None:
    data = HEAD.pack(0xA1B2C3D4, 2, 4, -3600, 0, 65536, 101) + written("pcap", 3)[24:]
    (tmp_path / "f").write_bytes(data)
    assert kept(tmp_path / "f", CaptureForm("pcap", "raw")) == len(data)


def test_who_may_not_read_the_file_does_not_append_to_it(open_to_all: Path) -> None:
    path = open_to_all / "f"
    path.write_bytes(written("pcap", 1))
    path.chmod(0o222)

    def attempt() -> int:
        OpenFile(str(path), form=CaptureForm("pcap", "raw"))
        return 0

    assert "PermissionError" in run_as_nobody(attempt).output


# -- what waits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_records_that_wait_are_told_apart(format_: Format) -> None:
    form = CaptureForm(format_, "raw")
    start = len(form.prelude(-1, is_empty=True))
    ends = [len(written(format_, count)) - start for count in range(5)]
    data = bytearray(written(format_, 4)[start:])
    framing: Any = form.framing
    assert framing.joins
    for position in range(len(data) + 1):
        count = max(number for number, end in enumerate(ends) if end <= position)
        assert framing.before(data, position) == (count, ends[count])
        assert framing.after(data, position) == min(end for end in ends if end >= position)
    assert framing.datagram(data, 0) == len(data)


def test_descriptions_that_wait_are_no_packets() -> None:
    form = CaptureForm("pcapng", "raw")
    data = bytearray(form.prelude(-1, is_empty=True))
    assert form.framing.before(data, len(data)) == (0, len(data))
