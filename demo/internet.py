# SPDX-License-Identifier: GPL-2.0-or-later
"""The Internet of demo-analytics: clients of several systems, three scanners, and the one that comes back.

analytics.py starts it in a network namespace of its own. It says (JSON, a line) that it is there, is given a cable and
a word at a time, and answers how many packets or connections it made. Clients and scanners write their packets
themselves, under addresses that are not this machine's: so no kernel answers in their place. The brute force is of
ordinary sockets, which need the address of the attacker, and get it only then.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

GATEWAY = "192.0.2.254"
FIREWALL = ("192.0.2.19", "192.0.2.20", "192.0.2.21", "192.0.2.22")
#: The address in the article, and two others of its country.
ATTACKER = "218.2.22.118"
SCANNERS = (ATTACKER, "61.147.103.7", "222.186.30.5")
SCAN_WINDOW, SCAN_PORT, SCAN_ID, SCAN_TTL, RST_TTL = 16384, 6000, 256, 103, 111
SCANNED_PORTS = (21, 22, 23, 110, 139, 445, 1433, 3306, 3389, 5900, 8080)
BRUTE_WINDOW, BRUTE_TTL, GUESSES = 65535, 113, 24

_MSS, _SACK, _STAMP, _NOP, _END = b"\2\4\5\xb4", b"\4\2", b"\x08\x0a\0\1\xe2\x40\0\0\0\0", b"\1", b"\0"
_IPV4 = 0x0800
_SYN, _RST, _SYN_ACK = 0x02, 0x04, 0x12


def _scale(shift: int) -> bytes:
    return bytes((3, 3, shift))


class System(NamedTuple):
    """How a system asks for a connection."""

    ttl: int
    window: int
    options: bytes


_WINDOWS = System(128, 64240, _MSS + _NOP + _scale(8) + _NOP * 2 + _SACK)
_WINDOWS_7 = System(128, 8192, _MSS + _NOP + _scale(2) + _NOP * 2 + _SACK)
_LINUX = System(64, 64240, _MSS + _SACK + _STAMP + _NOP + _scale(7))
_OLD_LINUX = System(64, 14600, _MSS + _SACK + _STAMP + _NOP + _scale(7))
_ANDROID = System(64, 65535, _MSS + _SACK + _STAMP + _NOP + _scale(9))
_APPLE = System(64, 65535, _MSS + _NOP + _scale(6) + _NOP * 2 + _STAMP + _SACK + _END * 2)
_FREEBSD = System(64, 65535, _MSS + _NOP + _scale(6) + _SACK + _STAMP)
CLIENTS = {
    "128.32.10.4": _WINDOWS,
    "193.99.144.80": _LINUX,
    "194.2.0.20": _WINDOWS,
    "133.11.0.17": _APPLE,
    "130.59.31.9": _OLD_LINUX,
    "143.106.10.30": _ANDROID,
    "150.203.1.10": _FREEBSD,
    "128.100.72.5": _WINDOWS_7,
}
CLIENT_PORTS = (443, 443, 80, 443, 25, 80, 443, 443)


def main() -> None:
    """Do what each line says, until there is none."""
    tell({"ready": 1})
    input()
    configure()
    tell({"configured": 1})
    words: dict[str, Callable[[], int]] = {
        "use": use,
        "scan": scan,
        "guess by ssh": lambda: guess(by_ssh),
        "guess plainly": lambda: guess(plainly),
    }
    for line in sys.stdin:
        tell({"made": words[line.strip()]()})


def tell(what: dict[str, int]) -> None:
    """Say something to the demo."""
    print(json.dumps(what), flush=True)


def configure() -> None:
    """Take the cable into use, and wait until it carries."""
    for words in ("link set lo up", f"address add {GATEWAY}/24 dev eth0", "link set eth0 up"):
        ip(*words.split())
    while json.loads(ip("-json", "link", "show", "eth0"))[0]["operstate"] != "UP":
        time.sleep(0.01)


def ip(*words: str) -> str:
    """Run ip(8)."""
    return subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


# -- packets that are written here -------------------------------------------------------------------------------------


def use() -> int:
    """Ask for connections as ordinary clients of several systems do; return how many."""
    draw = random.Random(2014)
    made = 0
    with raw() as out:
        for port in CLIENT_PORTS:
            for hops, (address, system) in enumerate(CLIENTS.items(), 7):
                options, sport, number = system.options, draw.randrange(32768, 61000), draw.randrange(1, 65536)
                sequence = draw.randrange(2**32)
                flow = Flow(address, sport, draw.choice(FIREWALL), port)
                out(flow.packet(_SYN, sequence, system.ttl - hops, number, system.window, options, fragment=0x4000))
                made += 1
                time.sleep(0.005)
    return made


def scan() -> int:
    """Scan as the article's tool: one SYN for each port, a RST for each answer; return how many packets."""
    draw = random.Random(1990)
    made = 0
    with raw() as out, socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_IPV4)) as wire:
        wire.settimeout(0.5)
        for port in SCANNED_PORTS:
            for scanner in SCANNERS if port == 22 else (ATTACKER,):
                for address in FIREWALL:
                    sequence = draw.randrange(2**32)
                    flow = Flow(scanner, SCAN_PORT, address, port)
                    out(flow.packet(_SYN, sequence, SCAN_TTL, SCAN_ID, SCAN_WINDOW))
                    made += 1
                    if port == 22 and answered(wire, flow):
                        # It is not of this connection (the sequence is wrong), so the firewall drops and logs it.
                        out(flow.packet(_RST, draw.randrange(2**32), RST_TTL, draw.randrange(1, 65536), 0))
                        made += 1
    return made


class Flow(NamedTuple):
    """Who asks, and whom."""

    source: str
    sport: int
    destination: str
    dport: int

    def packet(
        self, flags: int, sequence: int, ttl: int, number: int, window: int, options: bytes = b"", *, fragment: int = 0
    ) -> bytes:
        """Return a TCP segment without data in a packet of IPv4. The kernel adds the checksum of IPv4."""
        ends = socket.inet_aton(self.source) + socket.inet_aton(self.destination)
        size = 20 + len(options)
        tcp = struct.pack(">HHIIBBHHH", *self[1::2], sequence, 0, size // 4 << 4, flags, window, 0, 0) + options
        check = checksum(ends + struct.pack(">HH", socket.IPPROTO_TCP, size) + tcp)
        tcp = tcp[:16] + struct.pack(">H", check) + tcp[18:]
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, number, fragment, ttl, socket.IPPROTO_TCP, 0)
        return head + ends + tcp


def checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071 of whole 16 bit words."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@contextlib.contextmanager
def raw() -> Iterator[Callable[[bytes], object]]:
    """Yield what sends whole packets of IPv4."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out:
        yield lambda packet: out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))


def answered(wire: socket.socket, flow: Flow) -> bool:
    """Wait for the SYN,ACK of a connection; False: it did not come."""
    ends = socket.inet_aton(flow.destination) + socket.inet_aton(flow.source)
    wanted = ends + struct.pack(">HH", flow.dport, flow.sport)
    with contextlib.suppress(TimeoutError):
        while True:
            packet = wire.recv(2048)
            if packet[12:24] == wanted and packet[33] == _SYN_ACK:
                return True
    return False


# -- the brute force ---------------------------------------------------------------------------------------------------


def guess(attempt: Callable[[str], None]) -> int:
    """Come back with another tool, which uses the sockets of its system, and guess passwords; return how often."""
    ip("address", "add", f"{ATTACKER}/32", "dev", "eth0")
    # This machine has another window and TTL than the article's.
    rules = f"""table ip tool {{
        chain output {{
            type filter hook output priority mangle
            ip saddr {ATTACKER} ip ttl set {BRUTE_TTL}
            ip saddr {ATTACKER} tcp flags & (syn | ack) == syn tcp window set {BRUTE_WINDOW}
        }}
    }}"""
    subprocess.run(["nft", "-f", "-"], check=True, input=rules, text=True)
    with ThreadPoolExecutor(4) as several:
        list(several.map(attempt, [FIREWALL[0]] * GUESSES))
    return GUESSES


def by_ssh(address: str) -> None:
    """Guess root's password once, by ssh."""
    options = "UserKnownHostsFile=/dev/null StrictHostKeyChecking=no PubkeyAuthentication=no NumberOfPasswordPrompts=1"
    command = ["ssh", "-F", "none", "-b", ATTACKER]
    for option in [*options.split(), "LogLevel=QUIET"]:
        command += ["-o", option]
    # echo makes the question the answer, which is as wrong as any.
    environment = {**os.environ, "SSH_ASKPASS": "/bin/echo", "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run([*command, f"root@{address}", "true"], env=environment, stdin=subprocess.DEVNULL, timeout=20)


def plainly(address: str) -> None:
    """Connect as a client of SSH does, for a server that only plays one."""
    with socket.create_connection((address, 22), timeout=20, source_address=(ATTACKER, 0)) as tcp:
        tcp.sendall(b"SSH-2.0-libssh-0.5\r\n")
        tcp.recv(100)


if __name__ == "__main__":
    main()
