# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job on real packets: a firewall logs what it accepts and drops, the daemon writes lines and a capture.

Firewall, daemon and attacker live in two network namespaces of their own, which vanish with this program: nothing on
the machine is touched. An ordinary user can run it too, where the kernel lets users make namespaces. The rules and the
configuration are those of examples/. Exit status 0 only if every packet the rules counted is a line of JSON and one as
the kernel's log has it, and every dropped one is in the capture.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from running import ask, daemon, enter_namespaces, other_side, run, say, until

import nflowlevel as nfl

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
RULES = EXAMPLES / "nft" / "firewall.nft"
CONFIG = EXAMPLES / "text-and-capture.conf"
TABLE = "table inet firewall"


def main() -> int:
    """Run the demo; the result is the exit status."""
    enter_namespaces(__file__)
    with (
        tempfile.TemporaryDirectory(prefix="nflowlevel-demo-") as name,
        other_side("attacker.py") as attacker,
    ):
        directory = Path(name)
        output, text, capture = (directory / f"ulogd.{ending}" for ending in ("json", "log", "pcap"))
        say("a firewall and an attacker, joined by a cable, each in its own network namespace")
        _connect(attacker.pid)
        say(f"the rules of {_shown(RULES)}: accepted SSH and IPv6 pings to group 1, dropped packets to group 2")
        run("nft", "-f", str(RULES))
        config = directory / "ulogd.conf"
        config.write_text(CONFIG.read_text().replace('"/var/log/', f'"{directory}/'))
        with daemon(config, directory) as process, _listener():
            say(f"nflowlevel-daemon runs with {_shown(CONFIG)} (process {process.pid})")
            sent = _attack(attacker)
            total = sum(sent.values())
            until(lambda: sum(_counted().values()) >= total, "the packets have arrived")
            until(lambda: _lines(output) >= total and _lines(text) >= total, "the lines are written")
            counted = _counted()
        records = [json.loads(line) for line in output.read_text().splitlines()]
        _show(output.read_text().splitlines(), records)
        captured = _show_others(text.read_text().splitlines(), capture)
        return _verdict(sent, counted, records, _lines(text), captured)


def _connect(attacker: int) -> None:
    """Lay the cable between the two and give the firewall its addresses."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(attacker))
    for address in ("192.0.2.1/24", "2001:db8::1/64"):
        run("ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    run("ip", "link", "set", "eth0", "up")


def _listener() -> socket.socket:
    """What stands behind the SSH port."""
    return socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True)


def _attack(attacker: subprocess.Popen[str]) -> dict[str, int]:
    """Let the attacker begin; return how many packets it sent for each of the rules' counters."""
    sent = ask(attacker)
    say(f"the attacker sent {sent['accepted']} packets to be accepted and {sent['dropped']} to be dropped")
    return sent


def _counted() -> dict[str, int]:
    """What the rules themselves counted."""
    listed = json.loads(run("nft", "-j", "list", "counters", *TABLE.split()))["nftables"]
    return {item["counter"]["name"]: item["counter"]["packets"] for item in listed if "counter" in item}


def _lines(output: Path) -> int:
    return output.read_bytes().count(b"\n") if output.exists() else 0


def _show(lines: list[str], records: list[dict[str, Any]]) -> None:
    for action in ("allowed", "blocked"):
        chosen = [(line, record) for line, record in zip(lines, records, strict=True) if record["action"] == action]
        print(f'\n{len(chosen)} lines with "action": "{action}"; the first:\n')
        print(*(line for line, _ in chosen[:1]))
        print("\nall of them, in short:\n")
        for _, record in chosen:
            print("  ", _short(record))


def _show_others(lines: list[str], capture: Path) -> int:
    """Show a line of LOGEMU and a packet of the capture; return how many packets that holds."""
    print(f"\n{len(lines)} lines as the kernel's log has them; the first:\n\n{lines[0]}")
    with nfl.read_pcap(str(capture)) as packets:
        found = [packet for batch in packets.batches() for packet in batch]
        first = found[0]
        print(f"\n{len(found)} packets in the capture; the first:\n")
        print(f"   {first.ip_saddr} > {first.ip_daddr}, {len(first.payload)} bytes: {bytes(first.payload[:20]).hex()}…")
        return len(found)


def _short(record: dict[str, Any]) -> str:
    members = ("action", "oob.prefix", "src_ip", "src_port", "dest_ip", "dest_port", "icmp.type", "icmpv6.type")
    return json.dumps({name: record[name] for name in members if name in record})


def _verdict(
    sent: dict[str, int], counted: dict[str, int], records: list[dict[str, Any]], texts: int, captured: int
) -> int:
    """Print the counts; 0 if all agree."""
    lines = {
        "accepted": sum(record["action"] == "allowed" for record in records),
        "dropped": sum(record["action"] == "blocked" for record in records),
    }
    total = sum(counted.values())
    print(
        f"\nsent {sum(sent.values())}, counted by the rules {total}, logged {len(records)}, lost {total - len(records)}"
    )
    if sent == counted == lines and (texts, captured) == (total, counted["dropped"]):
        return 0
    print(f"these must be equal: sent {sent}, counted {counted}, logged {lines}", file=sys.stderr)
    print(f"as many lines of text: {texts}; as many dropped packets in the capture: {captured}", file=sys.stderr)
    return 1


def _shown(path: Path) -> str:
    return str(path.relative_to(HERE.parent))


if __name__ == "__main__":
    sys.exit(main())
