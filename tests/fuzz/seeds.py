# SPDX-License-Identifier: GPL-2.0-or-later
"""Write what the fuzzers mutate: `messages` for decode_fuzz and receive_main, `captures` for capture_fuzz, `reports`
for report_fuzz, `flows` for flow_fuzz and flowtext_fuzz, `lines` for scan_fuzz, `logs`
for log_fuzz.

`inputs DIRECTORY` makes a directory with a file for each input of receive_fuzz, as libFuzzer wants them; the others
go to standard output.

Of a message, of reports or of lines their length (32 bits, native), then their bytes. Of a capture four such numbers,
then what follows its header: whether it is pcapng, whether it is of the other byte order, its link type, its length.
"""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests import captures, fix_archive, fix_reports, oracle
from tests.corpus import Frame, frames
from tests.messages import FULL, egress_message_of, message_of
from tests.test_flow_oracle import samples


def seeds() -> Iterator[bytes]:
    """Yield each corpus frame as its family sees it, as a bridge does with all attributes, and at egress."""
    for frame in frames():
        yield message_of(frame)
        yield message_of(frame, oracle.BRIDGE, **FULL)
        yield egress_message_of(frame)


def capture_seeds() -> Iterator[tuple[bool, bool, int, bytes]]:
    """Yield the corpus as each link type, three frames a file, in pcap and pcapng of either byte order."""
    ways: dict[int, Callable[[Frame, str], bytes]] = {
        captures.ETHERNET: lambda frame, _: frame.wire(),
        captures.RAW: lambda frame, _: frame.payload,
        captures.SLL: lambda frame, _: captures.cooked(frame),
        captures.SLL2: lambda frame, _: captures.cooked2(frame),
        captures.NFLOG: lambda frame, order: captures.nflog(message_of(frame, oracle.BRIDGE, **FULL), order),
    }
    for (linktype, way), order in itertools.product(ways.items(), (captures.NATIVE, captures.OTHER)):
        for at in range(0, len(frames()) - 2, 9):
            packets = [captures.Captured(way(frame, order), flags=1 + at % 2) for frame in frames()[at : at + 3]]
            yield False, order == captures.OTHER, linktype, captures.pcap(packets, linktype, order=order)[24:]
            blocks = captures.interface(linktype, order=order) + captures.block(5, bytes(12), order)
            blocks += captures.packet_block(packets[0], order=order) + captures.simple_block(packets[1], order=order)
            blocks += captures.packet_block(packets[2], order=order, old=True)
            yield True, order == captures.OTHER, linktype, blocks


def report_seeds() -> Iterator[bytes]:
    """Yield reports of each corpus frame, with every option, with none, and several."""
    for frame in frames():
        yield fix_reports.full(frame.payload)
        yield fix_reports.report(frame.payload)
        yield fix_reports.report(frame.payload[:40]) + fix_reports.full(frame.payload[:21], prefix=b"no nul") * 2


def line_seeds() -> Iterator[bytes]:
    """Yield lines of JSON: plain and damaged ones, those of other relations, and forms that no output of ours has."""
    plain = fix_archive.log(
        range(3), **{"raw.label": 1, "orig.raw.pktlen": 2**63, "oob.prefix": "a text behind a view"}
    )
    yield plain
    yield plain.replace(b": ", b":").replace(b'"raw.label":1', b'"action" : "blocked"')
    yield fix_archive.record(1)[:-20] + b"\n" + fix_archive.record(2)
    yield b'{"oob.time.sec": 1, "sum.name": "http", "third.party": "a", "oob.mark": 4294967295}\n' + fix_archive.record(
        3
    )


def log_seeds() -> Iterator[bytes]:
    """Yield lines of the kernel's LOG target and of LOGEMU: of each head and each body that are plain, and others."""
    heads = (
        "Nov 27 12:00:00 fw kernel: [ 1.5] DROP ",
        "2026-11-27T12:00:00.25+01:00 fw ulogd[7]: x ",
        "Nov  7 12:00:00 fw x ",
    )
    link = "IN=eth0 OUT= PHYSIN=eth1 MAC=02:77:00:00:00:01:02:77:00:00:00:02:08:00 "
    ether = "IN= OUT=eth0 MACSRC=02:77:00:00:00:02 MACDST=02:77:00:00:00:01 MACPROTO=0800 "
    four = "SRC=192.0.2.66 DST=10.77.0.1 LEN=40 TOS=0x08 PREC=0x20 TTL=103 ID=256 DF "
    six = "SRC=2001:db8::1 DST=ff02::1 LEN=60 TC=0 HOPLIMIT=64 FLOWLBL=12 "
    ends = (
        "PROTO=TCP SPT=1 DPT=2 SEQ=3 ACK=4 WINDOW=5 RES=0x00 CWR URG SYN URGP=9 OPT (020405B4) UID=7 GID=8 MARK=0xab",
        "PROTO=UDP SPT=1 DPT=2 LEN=8 ",
        "PROTO=ICMP TYPE=8 CODE=0 ID=1 SEQ=2 ",
        "PROTO=ICMPv6 TYPE=128 CODE=0 ID=1 SEQ=2 MARK=0x0",
        "PROTO=ESP SPI=0x1 ",
    )
    for head, where, ip, end in itertools.product(heads, (link, ether), (four, six), ends):
        yield f"{head}{where}{ip}{end}\nNov 27 12:00:00 fw systemd[1]: Started.\n".encode()


_LENGTHS_FIRST = {"messages": seeds, "reports": report_seeds, "flows": samples, "lines": line_seeds, "logs": log_seeds}


def write_inputs(directory: Path) -> None:
    """Make files of one to three messages each, with their lengths before them."""
    directory.mkdir()
    messages = list(seeds())
    for at in range(0, len(messages), 5):
        some = messages[at : at + 1 + at % 3]
        (directory / f"{at}").write_bytes(b"".join(struct.pack("<H", len(each)) + each for each in some))


def main(what: str, directory: str = "") -> None:
    """Write them."""
    out = sys.stdout.buffer
    if what == "inputs":
        write_inputs(Path(directory))
        return
    if what in _LENGTHS_FIRST:
        for message in _LENGTHS_FIRST[what]():
            out.write(struct.pack("=I", len(message)) + message)
    else:
        for blocks, swapped, linktype, data in capture_seeds():
            out.write(struct.pack("=IIII", blocks, swapped, linktype, len(data)) + data)


if __name__ == "__main__":
    main(*sys.argv[1:])
