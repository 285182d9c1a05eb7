# SPDX-License-Identifier: GPL-2.0-or-later
"""The two ends of demo-flows, each in a network namespace of its own: a server, and a client behind NAT.

flows.py starts both. Each says (JSON, a line) that it is there, is given a cable and the word, and does its part.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time

SERVER, CLIENT = "198.51.100.80", "10.0.0.2"
#: What is downloaded.
DOWNLOAD_BYTES = 2_000_000
DOWNLOAD_PORT, LONG_PORT = 80, 9000
SCANNED_PORTS = (21, 22, 23, 25, 110, 143, 443, 445, 3306, 3389, 5432, 5900, 6379, 8080, 8443, 9200)
DATAGRAMS, ECHO_PORT = 3, 5353


def main() -> None:
    """Play the end that the first argument names."""
    tell({"ready": True})
    input()
    {"server": serve, "client": use}[sys.argv[1]]()
    sys.stdin.read()


def tell(what: dict[str, int]) -> None:
    """Say something to the demo."""
    print(json.dumps(what), flush=True)


def configure(address: str, router: str) -> None:
    """Take the cable into use, and wait until it carries."""
    for words in ("link set lo up", f"address add {address}/24 dev eth0", "link set eth0 up"):
        subprocess.run(["ip", *words.split()], check=True)
    link = ["ip", "-json", "link", "show", "eth0"]
    while json.loads(subprocess.run(link, check=True, stdout=subprocess.PIPE).stdout)[0]["operstate"] != "UP":
        time.sleep(0.01)
    subprocess.run(["ip", "route", "add", "default", "via", router], check=True)


def serve() -> None:
    """Give the download to whoever connects, keep what comes to the other port open, and echo datagrams."""
    configure(SERVER, "198.51.100.1")
    kept = []

    def give(listener: socket.socket) -> None:
        while True:
            connected, _ = listener.accept()
            with connected:
                connected.sendall(bytes(DOWNLOAD_BYTES))

    def keep(listener: socket.socket) -> None:
        while True:
            kept.append(listener.accept()[0])

    def echo(udp: socket.socket) -> None:
        while True:
            data, sender = udp.recvfrom(2000)
            udp.sendto(data, sender)

    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((SERVER, ECHO_PORT))
    parts = [(give, socket.create_server((SERVER, DOWNLOAD_PORT)))]
    parts += [(keep, socket.create_server((SERVER, LONG_PORT))), (echo, udp)]
    for part, listener in parts:
        threading.Thread(target=part, args=(listener,), daemon=True).start()
    tell({"served": len(parts)})


def use() -> None:
    """Download, look something up, scan, and open a connection that stays."""
    configure(CLIENT, "10.0.0.1")
    with socket.create_connection((SERVER, DOWNLOAD_PORT), timeout=20) as download:
        received = 0
        while data := download.recv(65536):
            received += len(data)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(20)
        for _ in range(DATAGRAMS):
            udp.sendto(b"who is there?", (SERVER, ECHO_PORT))
            udp.recv(2000)
    for port in SCANNED_PORTS:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((SERVER, port), timeout=20).close()
    stays = socket.create_connection((SERVER, LONG_PORT), timeout=20)
    stays.sendall(b"still here")
    tell({"flows": 3 + len(SCANNED_PORTS), "downloaded": received})
    sys.stdin.read()
    stays.close()


if __name__ == "__main__":
    main()
