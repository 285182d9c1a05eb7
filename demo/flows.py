# SPDX-License-Identifier: GPL-2.0-or-later
"""Flows on real packets: a router with NAT, a client behind it that downloads, looks up and scans, and a server.

All three live in network namespaces of their own, which vanish with this program. The daemon writes each flow as a line
of JSON and as a line of the NAT log, and sends it to nfcapd by IPFIX, whose files nfdump reads back. Exit status 0 only
if the flows that were made, the packets that the rules counted and what was reported are the same, to the byte.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flow_ends import DOWNLOAD_BYTES, LONG_PORT
from running import PATIENCE_SECS, ask, daemon, enter_namespaces, other_side, run, say, until

import nflowlevel as nfl

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
RULES = EXAMPLES / "nft" / "nat.nft"
CONFIG = EXAMPLES / "flows.conf"
COLLECTOR_PORT = 4739
#: Closed connections are forgotten after a second, instead of two minutes: nobody wants to wait.
QUICK = {"tcp_timeout_time_wait": 1, "tcp_timeout_close": 1, "tcp_timeout_last_ack": 1, "udp_timeout": 1,
         "udp_timeout_stream": 1}  # fmt: skip


class Collector(NamedTuple):
    """nfcapd, and where its files are."""

    process: subprocess.Popen[bytes]
    files: Path


def main() -> int:
    """Run the demo; the result is the exit status."""
    enter_namespaces(__file__)
    with contextlib.ExitStack() as parts:
        directory = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="nflowlevel-demo-")))
        server, client = (parts.enter_context(other_side("flow_ends.py", role)) for role in ("server", "client"))
        say("a router, a server and a client behind it, each in its own network namespace")
        _connect("wan", "198.51.100.1", server.pid)
        _connect("lan", "10.0.0.1", client.pid)
        _set("net.ipv4.ip_forward", 1)
        say("the kernel counts and stamps flows: nf_conntrack_acct=1, nf_conntrack_timestamp=1")
        for name, value in {"acct": 1, "timestamp": 1, "events": 1, **QUICK}.items():
            _set(f"net.netfilter.nf_conntrack_{name}", value)
        say(f"the rules of {_shown(RULES)}: what leaves to the server is masqueraded, and counted")
        run("nft", "-f", str(RULES))
        collector = parts.enter_context(_collector(directory))
        config = directory / "ulogd.conf"
        text = CONFIG.read_text().replace('"/var/log/', f'"{directory}/')
        # The last section is that of IPFIX. What waits in this machine's own spool is for another collector.
        config.write_text(f"{text}spool_directory={directory / 'spool'}\n")
        with daemon(config, directory) as process:
            say(f"nflowlevel-daemon runs with {_shown(CONFIG)} (process {process.pid})")
            ask(server)
            made = ask(client)
            say(f"the client downloaded {made['downloaded']} bytes, looked up, scanned, and keeps a connection open")
            until(lambda: _going_on() <= 1, "the kernel has forgotten what was closed")
            say("the daemon stops; the connection that is open is reported as it is (flush_at_stop)")
        counted = _counted()
        records = [json.loads(line) for line in (directory / "flows.json").read_text().splitlines()]
        _show("a line of JSON for the download", _of_port(records, 80))
        _show("and the connection that is still open", _of_port(records, LONG_PORT))
        translations = (directory / "nat.log").read_text().splitlines()
        print(f"\n{len(translations)} lines of the NAT log; the first:\n\n{translations[0]}")
        dumped = _dumped(collector)
    return _verdict(made, counted, records, dumped)


def _connect(name: str, address: str, process: int) -> None:
    """Lay a cable to an end; `name` is that of ours."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(process))
    run("ip", "address", "add", f"{address}/24", "dev", name)
    run("ip", "link", "set", name, "up")


def _set(name: str, value: int) -> None:
    Path("/proc/sys", *name.split(".")).write_text(str(value))


@contextlib.contextmanager
def _collector(directory: Path) -> Iterator[Collector | None]:
    """Run nfcapd, if it is installed."""
    if not shutil.which("nfcapd"):
        say("nfcapd is not installed, so nobody collects IPFIX here; to see it: apt install nfdump")
        yield None
        return
    files = directory / "collected"
    files.mkdir()
    command = ["nfcapd", "-b", "127.0.0.1", "-p", str(COLLECTOR_PORT), "-w", str(files), "-t", "300"]
    log = (directory / "nfcapd.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        say(f"nfcapd listens on port {COLLECTOR_PORT}")
        time.sleep(0.5)
        yield Collector(process, files)
    finally:
        _stop(process)
        log.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECS)


def _going_on() -> int:
    """Return how many flows of the client the kernel knows."""
    return len(nfl.flows().where("orig.ip.saddr == 10.0.0.0/24"))


def _counted() -> tuple[int, int]:
    """Return the packets and bytes that the rules counted, in both directions."""
    listed = json.loads(run("nft", "-j", "list", "counters"))["nftables"]
    counters = [item["counter"] for item in listed if "counter" in item]
    return sum(each["packets"] for each in counters), sum(each["bytes"] for each in counters)


def _of_port(records: list[dict[str, Any]], port: int) -> dict[str, Any]:
    return next(record for record in records if record.get("orig.l4.dport") == port)


def _show(what: str, record: dict[str, Any]) -> None:
    print(f"\n{what}:\n\n{json.dumps(record)}")


def _dumped(collector: Collector | None) -> list[str]:
    """Return what nfdump reads of the collector's files, and show some."""
    if collector is None:
        return []
    _stop(collector.process)  # so that it finishes its file
    form = "fmt:%ts %pr %sap -> %dap %pkt %byt"
    found = run("nfdump", "-R", str(collector.files), "-q", "-O", "tstart", "-o", form).splitlines()
    lines = [line for line in found if "->" in line]
    print(f"\n{len(lines)} flows in the files of nfcapd, as nfdump shows them; the first:\n")
    print(*lines[:4], sep="\n")
    return lines


def _verdict(made: dict[str, int], counted: tuple[int, int], records: list[dict[str, Any]], dumped: list[str]) -> int:
    ways = ("orig", "reply")
    packets, size = (sum(record[f"{way}.raw.{name}"] for record in records for way in ways) for name in
                     ("pktcount", "pktlen"))  # fmt: skip
    print(f"\nflows: made {made['flows']}, reported {len(records)}" + (f", collected {len(dumped)}" if dumped else ""))
    print(f"packets: counted by the rules {counted[0]}, reported {packets}")
    print(f"bytes: downloaded {made['downloaded']}, counted by the rules {counted[1]}, reported {size}")
    right = made["downloaded"] == DOWNLOAD_BYTES and len(records) == made["flows"] and counted == (packets, size)
    right = right and (not dumped or len(dumped) >= made["flows"])
    print("nothing is missing" if right else "something is missing")
    return 0 if right else 1


def _shown(path: Path) -> str:
    return str(path.relative_to(HERE.parent))


if __name__ == "__main__":
    sys.exit(main())
