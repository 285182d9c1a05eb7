# SPDX-License-Identifier: GPL-2.0-or-later
"""The field: two network namespaces joined by a veth pair. `peer` sends, `fw` logs what comes with one counted rule.

Loss is the rule's counter less what a contender delivered, so the counter stands in the rule itself, before `log`.
The rule then drops: nobody answers, and nothing but the logging costs anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

GROUP = 5
PORT = 9
PREFIX = "bench: "
FW, PEER = "10.99.0.1", "10.99.0.2"
_FW_MAC, _PEER_MAC = "02:99:00:00:00:01", "02:99:00:00:00:02"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

_RULES = f"""
table inet bench
delete table inet bench
table inet bench {{
    chain logged {{
        type filter hook prerouting priority 0; policy accept;
        udp dport {PORT} counter log prefix "{PREFIX}" group {GROUP} drop
    }}
}}
"""


class Netns:
    """A named network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        _run("ip", "netns", "add", name)

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Move this thread into the namespace for the block; sockets and processes made inside stay inside."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command inside and return what it wrote."""
        with self.enter():
            return _run(*command, text=text)

    def close(self) -> None:
        """Remove the namespace."""
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


class Field:
    """The two namespaces, the rule and its counter; a context manager."""

    def __init__(self) -> None:
        _remove_stale()
        self.fw, self.peer = Netns(f"nflbench-{os.getpid()}-fw"), Netns(f"nflbench-{os.getpid()}-peer")
        self._groups: IO[str] | None = None
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        self.fw.run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", self.peer.name)
        ends = ((self.fw, "va", _FW_MAC, FW, _PEER_MAC, PEER), (self.peer, "vb", _PEER_MAC, PEER, _FW_MAC, FW))
        for netns, link, mac, address, other_mac, other in ends:
            script = (
                "link set lo up\n"
                f"link set {link} address {mac}\n"
                f"address add {address}/24 dev {link}\n"
                f"link set {link} up\n"
                f"neighbour replace {other} lladdr {other_mac} nud permanent dev {link}\n"
            )
            netns.run("ip", "-batch", "-", text=script)
        with self.fw.enter():
            self._groups = open("/proc/thread-self/net/netfilter/nfnetlink_log")  # noqa: SIM115 (kept open)
        self.reset()

    def reset(self) -> None:
        """Load the rule anew: its counter is zero."""
        self.fw.run("nft", "-f", "-", text=_RULES)

    def counted(self) -> int:
        """Return how many packets the rule has logged."""
        answer = json.loads(self.fw.run("nft", "-j", "list", "table", "inet", "bench"))
        rules = (item["rule"] for item in answer["nftables"] if "rule" in item)
        return next(int(part["counter"]["packets"]) for rule in rules for part in rule["expr"] if "counter" in part)

    def holder(self) -> int:
        """Return the port id of the socket bound to the group, 0 when there is none."""
        assert self._groups is not None
        self._groups.seek(0)
        for line in self._groups:
            group, portid = line.split()[:2]
            if int(group) == GROUP:
                return int(portid)
        return 0

    def sender(self) -> socket.socket:
        """Return a UDP socket whose datagrams go through the rule."""
        with self.peer.enter():
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.connect((FW, PORT))
        return udp

    def close(self) -> None:
        """Remove the namespaces."""
        if self._groups:
            self._groups.close()
        self.fw.close()
        self.peer.close()

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def lacking() -> str:
    """Return what the benchmarks lack here, or an empty string."""
    if os.geteuid() != 0:
        return "the benchmarks make network namespaces: run them as root"
    if not Path("/proc/net/netfilter/nfnetlink_log").exists():
        return "the kernel has no nfnetlink_log (try: modprobe nfnetlink_log)"
    return ""


def _remove_stale() -> None:
    """Remove the namespaces of earlier runs that were killed before they could clean up."""
    directory = Path("/run/netns")
    for entry in directory.glob("nflbench-*-*") if directory.is_dir() else ():
        owner = entry.name.split("-")[1]
        if not Path("/proc", owner).exists():
            subprocess.run(["ip", "netns", "del", entry.name], check=False, capture_output=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):  # os.setns came with Python 3.12
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


def _run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout
