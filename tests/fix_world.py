# SPDX-License-Identifier: GPL-2.0-or-later
"""A firewall for one daemon: directories, peers and packets of its own, so that a configuration runs as it is written.

    world = World(pair, tmp_path)
    outcome = world.run(text, ULOGD2)       # {Sink: what was written there}

The daemon sees /var/log, /var/lib, /run and /dev of its own (a mount namespace), and the network of a `Pair`. Whoever
the configuration sends to is there: receivers at TCP, UDP and Unix sockets, readers of FIFOs, /dev/log, databases at
the addresses where Debian has them. The same packets are sent whoever reads.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

import nflowlevel
from nflowlevel.accounting.objects import Accounting
from nflowlevel.errors import NflowError
from nflowlevel.plugin.contract import Output
from nflowlevel.stacks.config import Config, parse
from nflowlevel.stacks.registry import find_plugin
from tests import fix_tables
from tests.corpus import DADDR4, SADDR4, UDP, by_name, ipv4, udp
from tests.fix_netns import Pair
from tests.fix_nflog import bound_groups
from tests.fix_receivers import Receivers
from tests.fix_reports import IN, OUT, PREFIX, SECONDS, STATE, option, report
from tests.fix_tables import Servers
from tests.ulogd2 import _DAEMON, _plugin

PATIENCE = 30.0
#: Far from UTC, and not a whole number of hours.
TIMEZONE = "Asia/Kolkata"

#: Packets that come in: of each protocol that a firewall logs all day, and what its text knows to say of it.
FRAMES = (
    *("tcp4-syn", "tcp4-data", "tcp6-psh-ack", "udp4", "udp6", "icmp-echo-request", "icmpv6-echo-128"),
    *(
        "icmp-time-exceeded-0",
        "icmp-unreachable-4",
        "frag4-udp-first",
        "ip4-options-tcp",
        "igmp4",
        "gre4",
        "sctp4-init",
    ),
)
#: ulogd2's schemas for PostgreSQL have no room for a checksum of SCTP (D-SC1), those for MySQL none for IPv6 either.
_UNFIT = {"PGSQL": ("sctp",), "DBI": ("sctp",), "MYSQL": ("sctp", "tcp6", "udp6", "icmpv6")}
#: What rules say of the packets, for MARK.
_MARKS = "meta l4proto tcp meta mark set 1\nmeta l4proto udp meta mark set 0x12"
#: Packets that make flows, and how conntrack(8) finds those, one after the other.
FLOW_FRAMES = ("udp4", "udp6", "icmp-echo-request", "icmpv6-echo-128", "gre4")
FLOWS = (
    *("-f ipv4 -p udp --orig-port-src 5000", "-f ipv6 -p udp", "-f ipv4 -p icmp", "-f ipv6 -p icmpv6"),
    *(
        "-f ipv4 -p gre",
        "-f ipv4 -p udp --orig-port-src 1234",
        "-f ipv4 -p udp --orig-port-src 5054",
    ),
)
#: What is translated of them: a port that comes in, and an own packet that goes out. Connections to databases here are
#: none of them.
_TRANSLATION = """
table inet flows {
chain pre { type nat hook prerouting priority dstnat; udp dport 99 redirect to :98; }
chain post { type nat hook postrouting priority srcnat; meta nfproto ipv4 udp dport 55 snat ip to 10.77.0.1:4055; }
chain in { type filter hook prerouting priority raw; iifname lo notrack; }
chain out { type filter hook output priority raw; oifname lo notrack; }
chain marks { type filter hook prerouting priority 0; udp dport 53 ct mark set 0x12; }
}"""

#: Accounting objects: packets and bytes.
COUNTERS = {"web": (23, 1790), "dns": (7, 512), "ssh-in": (5, 300), "idle": (0, 0)}

#: Prepared for the daemon in directories of its own. Arguments: where they are, then the command.
_PRIVATE = """
set -e
at=$1
shift
mount --make-rprivate /
for name in null zero full random urandom; do
	: > "$at/dev/$name"
	mount --bind "/dev/$name" "$at/dev/$name"
done
mount --bind "$at/dev" /dev
mount --bind "$at/log" /var/log
mount --bind "$at/lib" /var/lib
mount --bind "$at/run" /run
for name in $NEEDED_OF_TMP; do
	mkdir "$at/tmp/$name"
	mount --bind "/tmp/$name" "$at/tmp/$name"
done
mount --rbind "$at/tmp" /tmp
exec "$@"
"""
_PLACES = {"/var/log": "log", "/var/lib": "lib", "/var/run": "run", "/run": "run", "/dev": "dev", "/tmp": "tmp"}


@dataclass(frozen=True)
class Program:
    """A daemon: how it is started, and how a configuration is written for it."""

    name: str
    command: tuple[str, ...]
    rewrite: Callable[[bytes], bytes] = field(default=lambda text: text)


def _with_own_modules(text: bytes) -> bytes:
    """Name ulogd2's modules where they are on this machine: only the directory is another one."""
    own = str(_plugin("NFLOG").parent).encode()
    return re.sub(rb'(?m)^(\s*plugin[\s=]+"?)[^"\s#]*/(?=ulogd_)', rb"\1" + own + b"/", text)


ULOGD2 = Program("ulogd2", (str(_DAEMON),), _with_own_modules)
NFLOWLEVEL = Program("nflowlevel", (sys.executable, "-m", "nflowlevel.daemon.main"))


@dataclass(frozen=True)
class Sink:
    """Where stacks end: one instance of an output, and how many stacks end in it."""

    instance: str
    plugin: str
    options: Any = field(compare=False, hash=False)
    stacks: int = 1

    @property
    def target(self) -> str:
        """The file, the directory or the address that is written to."""
        options = msgspec.structs.asdict(self.options)
        if options.get("mode", "file") not in ("file", "unix") or self.plugin == "GRAPHITE":
            return f"{options['host']}:{options['port']}"
        return str(options.get("file") or options.get("directory") or options.get("db") or "/dev/log")


@dataclass(frozen=True)
class Plan:
    """What a configuration needs to run."""

    config: Config
    groups: tuple[int, ...]
    sinks: tuple[Sink, ...]
    accounting: float
    """Seconds between two readings of the accounting objects; 0: none."""
    zeroes: bool
    packets: tuple[bytes, ...]
    """Frames that come in."""
    sockets: tuple[str, ...] = ()
    """Those of UNIXSOCK, where the packets are reported."""
    flows: bool = False
    """Whether flows are read."""
    stored: bool = True
    """Whether a database gets rows: not where rows of flows are to be replaced that nothing has inserted."""


def plan(text: bytes) -> Plan:
    """Return what a configuration needs, as our own parser reads it: where it is wrong, ulogd2 writes elsewhere."""
    config = _parse(text)
    groups: dict[int, None] = {}
    sinks: dict[str, Sink] = {}
    sockets: dict[str, None] = {}
    interval, zeroes, flows, ends, stored = 0.0, True, False, False, True
    for stack in config.stacks:
        for item in stack.items:
            plugin = find_plugin(item.plugin)
            options: Any = config.options(stack, item, plugin.Options)
            if item.plugin == "NFLOG":
                groups[options.group] = None
            elif item.plugin == "NFCT":
                flows, ends = True, options.hash_enable
            elif item.plugin == "UNIXSOCK":
                sockets[options.socket_path] = None
            elif item.plugin == "NFACCT":
                interval, zeroes = max(interval, options.pollinterval), zeroes and options.zerocounter
            elif issubclass(plugin, Output):
                stored = stored and not (ends and getattr(options, "procedure", "") == "INSERT_OR_REPLACE_CT")
                known = sinks.get(item.instance)
                sinks[item.instance] = Sink(item.instance, item.plugin, options, known.stacks + 1 if known else 1)
    unfit = tuple(word for sink in sinks.values() for word in _UNFIT.get(sink.plugin, ()))
    packets = tuple(by_name(name).wire() for name in FRAMES if not (unfit and name.startswith(unfit)))
    return Plan(config, tuple(groups), tuple(sinks.values()), interval, zeroes, packets, tuple(sockets), flows, stored)


def _parse(text: bytes) -> Config:
    with tempfile.NamedTemporaryFile(suffix=".conf") as file:
        file.write(text)
        file.flush()
        return parse(file.name)


# -- the machine -------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What a daemon has written: bytes by sink (datagrams, streams, files), or rows."""

    written: dict[Sink, list[bytes] | list[dict[str, Any]]]
    files: dict[str, bytes]
    """All files, by the path that the daemon knows."""
    log: str
    began: float
    ended: float


class World:
    """Runs configurations, one after the other, in the network of a `Pair` and in directories of its own."""

    def __init__(self, pair: Pair, directory: Path, servers: Servers) -> None:
        self._pair, self._directory, self._servers = pair, directory, servers
        self._runs = 0

    def run(self, text: bytes, needs: Plan, program: Program, timezone: str = TIMEZONE) -> Outcome:
        """Run a configuration while the packets come, stop it in order, and return what it has written."""
        self._runs += 1
        at = self._directory / f"{program.name}-{self._runs}"
        for name in ("dev", "log/ulog", "log/ulogd", "lib/ulogd", "run/ulogd", "tmp"):
            (at / name).mkdir(parents=True)
        (at / "ulogd.conf").write_bytes(program.rewrite(text))
        began = time.time()
        with contextlib.ExitStack() as stack:
            receivers = stack.enter_context(contextlib.ExitStack())
            peers, asked = self._prepare(at, needs, receivers, stack)
            status = self._play(at, needs, program, timezone, asked)
            written = {sink: rows() for sink, rows in asked.items()}
            receivers.close()
        ended = time.time()
        log = self._log(at)
        assert status == 0, f"{program.name} ended with {status}\n{log}"
        files = self._files(at)
        for sink in needs.sinks:
            if sink not in written:
                written[sink] = peers.received.get(sink.target) or self._found(files, sink)
        return Outcome(written, files, log, began, ended)

    def _prepare(
        self, at: Path, needs: Plan, receivers: contextlib.ExitStack, stack: contextlib.ExitStack
    ) -> tuple[Receivers, dict[Sink, Callable[[], list[Any]]]]:
        """Have everybody there whom the configuration writes to; rows are asked for by functions."""
        peers = Receivers()
        asked: dict[Sink, Callable[[], list[Any]]] = {}
        peers.listen("/dev/log", self._pair.fw, socket.SOCK_DGRAM, _short(at / "dev/log"))
        for sink in needs.sinks:
            mode = getattr(sink.options, "mode", "file")
            if sink.plugin == "PGSQL":
                asked[sink] = stack.enter_context(
                    fix_tables.postgres(self._servers.postgres(), sink.options, self._pair.fw, at / "run")
                )
            elif sink.plugin == "MYSQL":
                asked[sink] = stack.enter_context(fix_tables.mariadb(self._servers.mariadb(), sink.options, at / "run"))
            elif sink.plugin == "SQLITE3":
                path, table = _outside(at, sink.options.db), sink.options.table
                fix_tables.make_sqlite(path, table)
                asked[sink] = _asker(path, table)
            elif sink.plugin == "GRAPHITE" or mode in ("tcp", "udp"):
                kind = socket.SOCK_DGRAM if mode == "udp" else socket.SOCK_STREAM
                self._own(sink.options.host)
                peers.listen(sink.target, self._pair.fw, kind, (sink.options.host, int(sink.options.port)))
            elif mode == "unix":
                peers.listen(sink.target, self._pair.fw, socket.SOCK_STREAM, _short(_outside(at, sink.target)))
            elif sink.target.endswith("fifo") and sink.target not in peers.received:
                peers.read(sink.target, _outside(at, sink.target))
        receivers.enter_context(peers)
        return peers, asked

    def _own(self, host: str) -> None:
        """Have an address that is sent to."""
        if not host.startswith("127."):
            self._pair.fw.ip(f"address replace {host}/32 dev lo")

    def _play(
        self,
        at: Path,
        needs: Plan,
        program: Program,
        timezone: str,
        asked: dict[Sink, Callable[[], list[Any]]],
    ) -> int:
        """Start the daemon, let the packets come, wait until it has them, stop it; return its status."""
        netns = self._pair.fw
        for table in ("corpus", "flows"):
            netns.run("nft", "delete", "table", "inet", table, check=False)
        if needs.flows:
            self._track()
        with (at / "messages").open("wb") as messages:
            daemon = netns.popen(
                *("unshare", "--mount", "sh", "-c", _PRIVATE, "sh", str(at)),
                *program.command,
                *("-c", str(at / "ulogd.conf")),
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                cwd="/",
                env={**_environment(timezone), "NEEDED_OF_TMP": " ".join(sorted(_needed_of_tmp(at)))},
            )
        try:
            self._until(at, daemon, lambda: set(needs.groups) <= bound_groups(netns).keys(), "the groups are read")
            if needs.accounting:
                self._count(at, needs, daemon)
            if needs.groups:
                self._send(needs)
                self._until(at, daemon, lambda: self._drained(needs.groups), "it has read all packets")
            if needs.flows:
                self._until(at, daemon, self._hears_of_flows, "it listens to conntrack")
                self._flow(at, daemon)
            for path in needs.sockets:
                self._report(at, needs, daemon, _outside(at, path))
            # What ulogd2 has in a ring is lost when it stops (D-Q07); what waits here is written at the next start.
            least = len(needs.packets) + 1 if needs.groups else len(FLOWS) if needs.flows else len(COUNTERS)
            for rows in asked.values():
                wanted = least if needs.stored else 0
                self._until(at, daemon, functools.partial(_are_there, rows, wanted), "the rows are there")
            daemon.send_signal(signal.SIGTERM)
            return daemon.wait(PATIENCE)
        finally:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()

    def _send(self, needs: Plan) -> None:
        """Let rules log the packets to each group, and send them."""
        # The kernel hands them over when the last has come: not each alone, and not after a second.
        last = f"queue-threshold {len(needs.packets) + 1}"
        logs = "\n".join(f'log prefix "corpus {group}: " group {group} {last}' for group in needs.groups)
        outs = "\n".join(
            f'udp dport 9 log prefix "corpus out {group}: " group {group} {last}' for group in needs.groups
        )
        self._pair.fw.nft(
            "table inet corpus {\n"
            f"chain pre {{\ntype filter hook prerouting priority 0; policy accept\niifname != va accept\n{_MARKS}\n"
            f"{logs}\ndrop\n}}\n"
            f"chain out {{\ntype filter hook output priority 0; policy accept\n{outs}\nudp dport 9 drop\n}}\n}}\n"
        )
        self._pair.inject(needs.packets)
        # One of a process here, with the header made by hand: the kernel would number it as it likes.
        packet = ipv4(UDP, udp(sport=4321, dport=9), saddr=DADDR4, daddr=SADDR4)
        with self._pair.fw.enter():
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        # Nobody shall answer: the rule drops it, which the sender is told.
        with raw, contextlib.suppress(PermissionError):
            raw.sendto(packet, (Pair.PEER4, 0))

    def _track(self) -> None:
        """Have the kernel track flows, count and stamp them; none is there yet."""
        for name in ("acct", "timestamp", "events"):
            self._pair.fw.sysctl(f"net.netfilter.nf_conntrack_{name}", 1)
        self._pair.fw.nft(_TRANSLATION)
        self._pair.fw.run("conntrack", "-F")

    def _flow(self, at: Path, daemon: subprocess.Popen[Any]) -> None:
        """Let flows begin and end, one after the other: so they come in this order."""
        udp4 = by_name("udp4").wire()
        frames = [by_name(name).wire() for name in FLOW_FRAMES]
        frames.append(udp4[:14] + ipv4(UDP, udp(sport=1234, dport=99)))
        for frame, flow in zip(frames, FLOWS, strict=False):
            self._pair.inject([frame])
            self._until(at, daemon, functools.partial(self._is_tracked, flow), f"there is a flow {flow}")
        with self._pair.fw.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.bind(("", 5054))
            own.sendto(b"hello", (Pair.PEER4, 55))
        for flow in FLOWS:
            self._until(at, daemon, self._has_heard, "it has heard of all flows")
            self._pair.fw.run("conntrack", "-D", *flow.split())
        self._until(at, daemon, self._has_heard, "it has heard of all ends")

    def _is_tracked(self, flow: str) -> bool:
        return bool(self._pair.fw.run("conntrack", "-L", *flow.split()).stdout)

    def _listeners(self) -> list[str]:
        """Return how many bytes wait for each who listens to events of netfilter."""
        with self._pair.fw.enter():
            sockets = Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]
        # Columns: protocol (12 is netfilter), groups, bytes that wait.
        return [each[4] for each in map(str.split, sockets) if each[1] == "12" and int(each[3], 16)]

    def _hears_of_flows(self) -> bool:
        return bool(self._listeners())

    def _has_heard(self) -> bool:
        return set(self._listeners()) == {"0"}

    def _report(self, at: Path, needs: Plan, daemon: subprocess.Popen[Any], place: Path) -> None:
        """Report the packets to a socket as NuFW does, and wait until they have been read."""
        with socket.socket(socket.AF_UNIX) as reporter:
            self._until(at, daemon, functools.partial(_is_connected, reporter, _short(place)), "it listens")
            for packet in needs.packets:
                options = (
                    option(PREFIX, "reported: "),
                    option(IN, "eth0"),
                    option(OUT, ""),
                    option(SECONDS, int(time.time())),
                    option(STATE, 1),
                )
                reporter.sendall(report(packet[14:], *options))
            self._until(at, daemon, lambda: not _unread(reporter), "it has read all reports")

    def _drained(self, groups: Sequence[int]) -> bool:
        """Tell whether neither the kernel nor a socket's buffer holds a packet for these groups."""
        with self._pair.fw.enter():
            queues = Path("/proc/thread-self/net/netfilter/nfnetlink_log").read_text().splitlines()
            sockets = Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]
        readers = {int(line.split()[0]): line.split()[1:3] for line in queues}
        # Protocol 12 is netfilter; column 5 is what waits in the receive buffer.
        waiting = {line.split()[2]: line.split()[4] for line in sockets if line.split()[1] == "12"}
        return all(
            group in readers and readers[group][1] == "0" and waiting.get(readers[group][0]) == "0" for group in groups
        )

    def _count(self, at: Path, needs: Plan, daemon: subprocess.Popen[Any]) -> None:
        """Have counters, and wait until they have been read."""
        with Accounting(self._pair.fw.name) as accounting:
            for name, (packets, size) in COUNTERS.items():
                with contextlib.suppress(NflowError):  # from an earlier run
                    accounting.delete(name)
                accounting.create(name, packets=packets, bytes=size)
            if needs.zeroes:
                self._until(at, daemon, lambda: not accounting.get("web").packets, "the counters are read")
            else:
                time.sleep(2 * needs.accounting + 1)

    def _until(self, at: Path, daemon: subprocess.Popen[Any], ready: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not ready():
            assert daemon.poll() is None, f"it ended with {daemon.poll()} before {what}\n{self._log(at)}"
            assert time.monotonic() < end, f"waited in vain: {what}\n{self._log(at)}"
            time.sleep(0.005)

    def _log(self, at: Path) -> str:
        paths = [at / "messages", *(path for path in (at / "log").rglob("ulogd*.log") if path.is_file())]
        return "\n".join(path.read_text(errors="replace") for path in paths)[-6000:]

    def _files(self, at: Path) -> dict[str, bytes]:
        """Return all files that are there now, by the path that the daemon knows."""
        found = {}
        for place, name in (("/var/log", "log"), ("/var/lib", "lib"), ("/run", "run")):
            for path in sorted((at / name).rglob("*")):
                if path.is_file() and not path.is_symlink():
                    found[f"{place}/{path.relative_to(at / name)}"] = path.read_bytes()
        return found

    def _found(self, files: dict[str, bytes], sink: Sink) -> list[bytes]:
        """Return what a sink wrote to its file, or to the files in its directory."""
        target = sink.target
        if sink.plugin == "XML":
            return [data for path, data in files.items() if path.startswith(target) and path.endswith(".xml")]
        return [files[target]] if target in files else []


def _is_connected(sender: socket.socket, address: str) -> bool:
    """Connect; tell whether somebody listens there by now."""
    try:
        sender.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _unread(sender: socket.socket) -> int:
    """Return how many bytes the other side of a Unix socket has not read yet."""
    answer = fcntl.ioctl(sender, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def _are_there(rows: Callable[[], list[Any]], count: int) -> bool:
    return len(rows()) >= count


def _asker(path: Path, table: str) -> Callable[[], list[Any]]:
    return lambda: fix_tables.rows_of_sqlite(path, table)


def _outside(at: Path, path: str) -> Path:
    """Return where a path of the daemon's lies out here; fail where it has no directory of its own."""
    for place, name in _PLACES.items():
        if path.startswith(place + "/"):
            return at / name / path.removeprefix(place + "/")
    raise AssertionError(f"{path} is in none of {', '.join(_PLACES)}")


def _needed_of_tmp(at: Path) -> set[str]:
    """Return what of /tmp the daemon still has to see: itself, Python, the directory `at`, and where its links lead."""
    links = (path.resolve() for path in (at / "run").rglob("*") if path.is_symlink())
    needed = (at, Path(nflowlevel.__file__), Path(sys.executable), Path(sys.executable).resolve(), *links)
    return {path.parts[2] for path in needed if path.parts[:2] == ("/", "tmp")}


def _short(path: Path) -> str:
    """Return a name of `path` that fits into the address of a Unix socket."""
    return f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}" if len(str(path)) > 100 else str(path)


def _environment(timezone: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "WATCHDOG_"))}
    return {**kept, "PYTHONPATH": str(Path(nflowlevel.__file__).parents[1]), "TZ": timezone}
