# SPDX-License-Identifier: GPL-2.0-or-later
"""The other side of the demo: knocks at the firewall with ordinary sockets, each attempt exactly one logged packet.

demo.py starts it in a network namespace of its own. It says (JSON, a line) that it is there, is given a cable and the
word, and then says how many packets it sent, by the counter of the rule they were meant for.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping

FIREWALL = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
MINE = ("192.0.2.66/24", "2001:db8::66/64")

#: Attempts by family.
SSH = {socket.AF_INET: 7, socket.AF_INET6: 3}
PINGS = {socket.AF_INET: 2, socket.AF_INET6: 3}
OTHER_PORTS = {
    socket.AF_INET: (21, 23, 25, 80, 443, 445, 3306, 3389, 5900, 6000, 8080),
    socket.AF_INET6: (23, 80, 443, 8080),
}
UDP_PORTS = {socket.AF_INET: (53, 123, 161), socket.AF_INET6: (53, 123, 161)}


def main() -> None:
    """Wait for the word, then knock."""
    tell({"ready": True})
    input()
    configure()
    sent = {"accepted": 0, "dropped": 0}
    for family in FIREWALL:
        for _ in range(SSH[family]):
            connect_to_ssh(family)
        for port in OTHER_PORTS[family]:
            knock(family, port)
        for port in UDP_PORTS[family]:
            send_udp(family, port)
        for number in range(PINGS[family]):
            ping(family, number)
        sent["accepted"] += SSH[family]
        sent["dropped"] += len(OTHER_PORTS[family]) + len(UDP_PORTS[family])
    # The firewall accepts pings over IPv6 only.
    sent["accepted"] += PINGS[socket.AF_INET6]
    sent["dropped"] += PINGS[socket.AF_INET]
    tell(sent)
    # Its interface goes with it, and with that the name of the firewall's.
    sys.stdin.read()


def tell(what: Mapping[str, int]) -> None:
    """Say something to the demo."""
    print(json.dumps(what), flush=True)


def configure() -> None:
    """Take the cable into use, and wait until it carries: what is sent before would have to be sent again."""
    for address in MINE:
        ip("address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    ip("link", "set", "eth0", "up")
    while json.loads(ip("-json", "link", "show", "eth0"))[0]["operstate"] != "UP":
        time.sleep(0.01)


def ip(*words: str) -> str:
    """Run ip(8)."""
    return subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def connect_to_ssh(family: socket.AddressFamily) -> None:
    """A connection that is accepted: only its first packet is new, and logged."""
    with socket.socket(family, socket.SOCK_STREAM) as tcp:
        tcp.settimeout(10)
        tcp.connect((FIREWALL[family], 22))


def knock(family: socket.AddressFamily, port: int) -> None:
    """One SYN into the void; closing the socket forbids a second."""
    with socket.socket(family, socket.SOCK_STREAM) as tcp, contextlib.suppress(BlockingIOError):
        tcp.setblocking(False)
        tcp.connect((FIREWALL[family], port))


def send_udp(family: socket.AddressFamily, port: int) -> None:
    """One datagram."""
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"is anybody there?", (FIREWALL[family], port))


def ping(family: socket.AddressFamily, number: int) -> None:
    """One echo request; over IPv6 the answer is waited for."""
    v6 = family == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        # Another identifier each time, or it is no new conversation. The kernel fills in ICMPv6's checksum, not ICMP's.
        header = struct.pack(">BBHHH", 128 if v6 else 8, 0, 0, number + 1, 1)
        raw.sendto(header if v6 else with_checksum(header), (FIREWALL[family], 0))
        if v6:
            select.select([raw], [], [], 10)


def with_checksum(message: bytes) -> bytes:
    """Return an ICMP message with the checksum of RFC 1071 in its place."""
    total = sum(struct.unpack(f">{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack(">H", ~total & 0xFFFF) + message[4:]


if __name__ == "__main__":
    main()
