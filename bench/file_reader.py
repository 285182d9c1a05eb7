# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that reads a capture file with one library: source address as text and destination port of each packet.

`python file_reader.py WAY FILE`. It says as JSON how many packets it read and in how much processor time, imports not
counted. It also runs in the peers' own environment, so it imports only what its way needs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable


def rows(path: str) -> Callable[[], int]:
    """nflowlevel, tuples."""
    import nflowlevel as nfl

    def read() -> int:
        count = 0
        with nfl.read_pcap(path) as packets:
            for batch in packets.batches():
                for _source, _port in batch.rows("ip.saddr", "udp.dport"):
                    count += 1
        return count

    return read


def packets(path: str) -> Callable[[], int]:
    """nflowlevel, packet by packet."""
    import nflowlevel as nfl

    def read() -> int:
        count = 0
        with nfl.read_pcap(path) as capture:
            for packet in capture:
                packet.saddr, packet.dport  # noqa: B018
                count += 1
        return count

    return read


def columns(path: str) -> Callable[[], int]:
    """nflowlevel, NumPy columns; addresses stay bytes."""
    import numpy  # noqa: F401 - its import is not what is measured

    import nflowlevel as nfl

    def read() -> int:
        count = 0
        with nfl.read_pcap(path) as capture:
            for batch in capture.batches():
                batch.column("ip.saddr")
                batch.column("udp.dport").sum()
                count += len(batch)
        return count

    return read


def dpkt(path: str) -> Callable[[], int]:
    """The dpkt package."""
    import socket

    import dpkt as library

    def read() -> int:
        count = 0
        with open(path, "rb") as file:
            for _time, data in library.pcap.Reader(file):
                packet = library.ethernet.Ethernet(data).data
                socket.inet_ntoa(packet.src), packet.data.dport
                count += 1
        return count

    return read


def scapy(path: str) -> Callable[[], int]:
    """The scapy package, with no more layers than are asked for."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapReader

    Ether, IP, UDP  # noqa: B018

    def read() -> int:
        count = 0
        with PcapReader(path) as reader:
            for packet in reader:
                packet[IP].src, packet[UDP].dport
                count += 1
        return count

    return read


WAYS = {"rows": rows, "packets": packets, "columns": columns, "dpkt": dpkt, "scapy": scapy}

if __name__ == "__main__":
    run = WAYS[sys.argv[1]](sys.argv[2])
    started = time.process_time()
    done = run()
    print(json.dumps({"packets": done, "secs": time.process_time() - started}))
