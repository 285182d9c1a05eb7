# SPDX-License-Identifier: GPL-2.0-or-later
"""SYSLOG: messages as ulogd2 sends them by syslog(3), and where they stay with the logs of Debian as readers."""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import signal
import socket
import syslog as libc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from nflowlevel.errors import ConfigError
from nflowlevel.outputs.syslog import SYSLOG, Facility, Level, SYSLOGOptions
from tests.corpus import by_name
from tests.fix_daemon import Daemon, config, log_rule, wait_for
from tests.fix_netns import Pair
from tests.fix_plugins import batch_of, stacks_of
from tests.fix_syslog import SystemLog
from tests.messages import message_of
from tests.ulogd2 import Nflowlevel, Ulogd2

_FILTERS = "b:BASE,i:IFINDEX,s:IP2STR,p:PRINTPKT"
_NAMES = ("BASE", "IFINDEX", "IP2STR", "PRINTPKT")
_TEXT = re.compile(r"pfx:  IN=va OUT= MAC=\S+ SRC=10.77.0.2 DST=10.77.0.1 LEN=\d+ .* SPT=(\d+) DPT=9 LEN=\d+ (?:\S+ )*")


@contextlib.contextmanager
def log_in(directory: Path) -> Iterator[socket.socket]:
    """A socket `log` as the system's log has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(directory / "log"))
        sock.settimeout(20)
        yield sock


@pytest.fixture
def log(tmp_path: Path) -> Iterator[socket.socket]:
    """Such a socket."""
    with log_in(tmp_path) as sock:
        yield sock


def stack(path: Any, options: str = "", group: int = 2) -> str:
    """Return a configuration of one stack that ends in SYSLOG."""
    return config(f"g:NFLOG,{_FILTERS},l:SYSLOG", g=f"group={group}\nseq_local=1", l=f"socket_path={path}\n{options}")


def sent(log: socket.socket, path: Path, **options: Any) -> bytes:
    """Return the message that a packet becomes."""
    output = SYSLOG("l", SYSLOGOptions(socket_path=str(path), **options))
    output.bind(())
    output.open()
    output.write(batch_of(message_of(by_name("udp4"), prefix=b"pfx: ", time=(1_793_689_482, 0))))
    message = log.recv(1 << 16)
    output.close()
    assert (output.stats.written, output.stats.pending) == (1, 0)
    return message


# -- the message ------------------------------------------------------------------------------------------------------


def test_a_message(log: socket.socket, tmp_path: Path) -> None:
    local = time.ctime(1_793_689_482)[4:19]
    assert sent(log, tmp_path / "log").decode() == (
        f"<29>{local} ulogd[{os.getpid()}]: pfx:  IN= OUT= MAC=02:77:00:00:00:01:02:77:00:00:00:02:08:00 SRC=10.77.0.2 "
        "DST=10.77.0.1 LEN=35 TOS=00 PREC=0x00 TTL=64 ID=1 PROTO=UDP SPT=5000 DPT=53 LEN=15 MARK=0x0 \n"
    )


@pytest.mark.parametrize("facility", get_args(Facility))
def test_facilities(log: socket.socket, tmp_path: Path, facility: str) -> None:
    """D-Y01, D-Y02: ulogd2 knows nine of them; LOG_KERN it turns into LOG_DAEMON."""
    numbers = {"LOG_FTP": 11 << 3, "LOG_KERN": libc.LOG_DAEMON, "LOG_AUTHPRIV": 10 << 3}
    number = numbers.get(facility) or getattr(libc, facility)
    assert sent(log, tmp_path / "log", facility=facility).startswith(b"<%d>" % (number | libc.LOG_NOTICE))


@pytest.mark.parametrize("level", get_args(Level))
def test_levels(log: socket.socket, tmp_path: Path, level: str) -> None:
    message = sent(log, tmp_path / "log", facility="LOG_LOCAL7", level=level)
    assert message.startswith(b"<%d>" % (libc.LOG_LOCAL7 | getattr(libc, level)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("facility=LOG_LOCAL8", "unknown — did you mean 'LOG_LOCAL7'?"),
        ("facility=local0", "unknown — did you mean 'LOG_LOCAL0'?"),
        ("level=notice", "unknown — did you mean 'LOG_NOTICE'?"),
        ("level=9", "must be LOG_ALERT, LOG_CRIT, LOG_DEBUG, LOG_EMERG, LOG_ERR, LOG_INFO, LOG_NOTICE or LOG_WARNING"),
    ],
)
def test_others_are_refused_with_what_is_meant_or_all(options: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stacks_of(stack("/dev/log", options))
    assert str(caught.value).endswith(said)


def test_a_section_is_not_needed_and_printpkt_is() -> None:
    (made,) = stacks_of(config(f"g:NFLOG,{_FILTERS},l:SYSLOG", g="group=1"))
    assert made.output.options == SYSLOGOptions(socket_path="/dev/log", facility="LOG_KERN", level="LOG_NOTICE")
    with pytest.raises(ConfigError, match="l:SYSLOG needs the key print"):
        stacks_of(config("g:NFLOG,b:BASE,l:SYSLOG", g="group=1"))


#: /dev/log is a fixed path: the daemon gets a /dev of its own, with that socket in it.
_OWN_DEV = """
mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9 && ln -s "$0" /dev/log && exec "$@"
"""


class _Ulogd2(Ulogd2):
    command = ("unshare", "-m", "sh", "-c", _OWN_DEV, "LOG", *Ulogd2.command)


class _Nflowlevel(Nflowlevel):
    command = ("unshare", "-m", "sh", "-c", _OWN_DEV, "LOG", *Nflowlevel.command)


def test_it_is_what_ulogd2_sends(pair: Pair, tmp_path: Path, log: socket.socket) -> None:
    """With the defaults of both, to /dev/log: but for pid and time, the same bytes."""
    pair.fw.nft(log_rule(4))
    found = []
    for kind in (_Ulogd2, _Nflowlevel):
        directory = tmp_path / kind.__name__
        directory.mkdir()
        daemon = kind(pair.fw, directory, group=4, filters=_NAMES, output="SYSLOG")
        daemon.config.write_text(re.sub(r"(?m)^(file|sync)=.*\n", "", daemon.config.read_text()))
        daemon.command = tuple(str(tmp_path / "log") if word == "LOG" else word for word in kind.command)
        with daemon:
            pair.send_udp(2, source_port=4000)
            messages = [log.recv(1 << 16) for _ in range(2)]
        found.append([re.sub(rb" ID=\d+ ", b" ", message) for message in messages])
    shape = re.compile(rb"<29>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) ulogd\[\d+\]: (.*)", re.DOTALL)
    ours, theirs = ([shape.fullmatch(message) for message in messages] for messages in found)
    assert all(ours)
    assert [each and each[2] for each in ours] == [each and each[2] for each in theirs]


# -- logs of Debian ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["rsyslog", "syslog-ng", "syslog-ng stream"])
def system_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SystemLog]:
    """One of Debian's, running."""
    name, _, stream = request.param.partition(" ")
    with SystemLog(name, request.config, tmp_path, kind="unix-stream" if stream else "unix-dgram") as log:
        yield log


def ports(log: SystemLog, pid: int, priority: str = "daemon.notice") -> list[int]:
    """Return the source ports of the packets that a log has stored, in its order; each line must be one of ours."""
    shape = re.compile(rf"{re.escape(priority)} [A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d ulogd\[{pid}\]: {_TEXT.pattern}")
    found = [shape.fullmatch(line) for line in log.lines()]
    assert all(found), log.lines()[[bool(each) for each in found].index(False)]
    return [int(each[1]) for each in found if each]


def in_order(found: list[int]) -> list[int]:
    """Return each number where it came first."""
    return list(dict.fromkeys(found))


def send(pair: Pair, first: int, count: int) -> list[int]:
    """Send packets from as many ports; return those."""
    numbers = list(range(first, first + count))
    script = (
        "from socket import *\n"
        "for port in range({0}, {0} + {1}):\n"
        " with socket(AF_INET, SOCK_DGRAM) as s:\n"
        "  s.bind(('', port))\n"
        "  s.sendto(b'x', ('10.77.0.1', 9))\n"
    )
    pair.peer.run("python3", "-c", script.format(first, count))
    return numbers


def has_all(log: SystemLog, daemon: Daemon, numbers: list[int]) -> None:
    """Wait until a log has stored all packets; they must be in order, though some may have come twice."""

    def missing() -> int:
        return len({*numbers} - {*ports(log, daemon.pid)})

    wait_for(lambda: not missing(), "all is stored", lambda: f"{missing()} are missing\n{daemon.stderr}")
    assert in_order(ports(log, daemon.pid)) == numbers


def test_every_packet_is_stored_in_order(pair: Pair, tmp_path: Path, system_log: SystemLog) -> None:
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, stack(system_log.log, "facility=LOG_LOCAL3\nlevel=LOG_WARNING"), netns=pair.fw) as daemon:
        numbers = send(pair, 2000, 1009)
        wait_for(lambda: len(system_log.lines()) >= 1009, "all is stored", lambda: daemon.stderr)
        assert ports(system_log, daemon.pid, "local3.warning") == numbers


def test_a_log_that_is_killed_while_packets_flow(pair: Pair, tmp_path: Path, system_log: SystemLog) -> None:
    """It stops reading, is killed with unread messages, is away for a while, and comes back: all are there, in order.

    What it had read is stored at once (fix_syslog.py); a message may come twice.
    """
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, stack(system_log.log), netns=pair.fw) as daemon:
        numbers = send(pair, 2000, 211)
        has_all(system_log, daemon, numbers)
        for round_, number in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
            system_log.send_signal(signal.SIGSTOP)
            numbers += send(pair, 10_000 + 3000 * round_, 907)
            if number == signal.SIGTERM:
                system_log.send_signal(signal.SIGCONT)
            system_log.end(number)
            numbers += send(pair, 11_000 + 3000 * round_, 307)
            system_log.start()
            numbers += send(pair, 12_000 + 3000 * round_, 101)
            has_all(system_log, daemon, numbers)
        daemon.stop()
    counts = re.search(r"records (\d+), written (\d+), pending 0.*dropped 0", daemon.stderr)
    assert counts, daemon.stderr
    assert counts[1] == counts[2] == str(len(numbers))


def test_the_example_for_rsyslog(pair: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What we send with that facility goes to the file of the example, and nothing else does."""
    pair.fw.nft(log_rule(2))
    example = Path(__file__).parents[2] / "examples/rsyslog/10-nflowlevel.conf"
    own = tmp_path / "firewall.log"
    rules = example.read_text().replace("/var/log/firewall.log", str(own))
    assert str(own) in rules
    with SystemLog("rsyslog", request.config, tmp_path, rules=rules) as log:
        for facility, count in (("LOCAL4", 7), ("LOCAL5", 5)):
            with Daemon(tmp_path, stack(log.log, f"facility=LOG_{facility}"), netns=pair.fw):
                pair.send_udp(count)
        wait_for(lambda: len(log.lines()) == 5, "what is not of the example's facility")
        lines = own.read_text().splitlines()
    assert len(lines) == 7
    assert all(re.search(rf" ulogd\[\d+\]: {_TEXT.pattern}", f"{line.rstrip()} ") for line in lines), lines
    assert {line.partition(" ")[0] for line in log.lines()} == {"local5.notice"}


def test_a_log_that_comes_later(pair: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pair.fw.nft(log_rule(2))
    log = SystemLog("rsyslog", request.config, tmp_path)
    with Daemon(tmp_path, stack(log.log), netns=pair.fw) as daemon:
        numbers = send(pair, 2000, 101)
        daemon.says(f"connect to syslog {log.log}: No such file or directory; records waiting: ")
        with log:
            wait_for(lambda: ports(log, daemon.pid) == numbers, "all is stored", lambda: daemon.stderr)


def test_a_log_that_reads_nothing_costs_no_other_stack_anything(pair: Pair, tmp_path: Path, log: socket.socket) -> None:
    """Nothing waits for it; beyond the limit new messages are dropped, and counted."""
    pair.fw.nft(log_rule(2))
    safe = tmp_path / "safe"
    text = config(
        f"g:NFLOG,{_FILTERS},l:SYSLOG", f"g:NFLOG,{_FILTERS},e:LOGEMU", g="group=2",
        l=f"socket_path={tmp_path / 'log'}\nmax_pending_bytes=20000", e=f"file={safe}",
    )  # fmt: skip
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        for _ in range(20):
            pair.send_udp(211)
        wait_for(lambda: safe.exists() and safe.read_bytes().count(b"\n") == 4220, "the other stack has all")
        log.close()
        Path(tmp_path / "log").unlink()
        daemon.stop()
    shape = r"l:SYSLOG of stack.* records 4220, written (\d+), pending 0.*dropped (\d+) \((.*)\)"
    counts = re.search(shape, daemon.stderr)
    assert counts, daemon.stderr
    assert int(counts[1]) + int(counts[2]) == 4220
    assert counts[3].startswith("full ")


#: How often the log is replaced in `test_a_hostile_log_that_is_replaced_again_and_again`; 1,000 were tried.
_REPLACED = int(os.environ.get("NFL_TEST_REPLACED", "25"))


def test_a_hostile_log_that_is_replaced_again_and_again(pair: Pair, tmp_path: Path) -> None:
    """By a log that reads a little or nothing, of datagrams or a stream, and by what is no log at all."""
    pair.fw.nft(log_rule(2))
    path = tmp_path / "log"
    draw, seen, number = random.Random(7), set[int](), 0

    def removed() -> None:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    def read(log: socket.socket, most: float) -> None:
        with contextlib.suppress(OSError):
            while len(seen) < most:
                log.settimeout(0.02)
                data = log.recv(1 << 16)
                seen.update(int(found) for found in re.findall(rb"SPT=(\d+) ", data))

    with Daemon(tmp_path, stack(path), netns=pair.fw) as daemon:
        before = fds(daemon.pid)
        for _ in range(_REPLACED):
            removed()
            kind = draw.choice(("reads", "reads", "deaf", "stream", "mute stream", "fifo", "directory", "file", "loop"))
            sockets: list[socket.socket] = []
            if kind in ("reads", "deaf", "stream", "mute stream"):
                of_kind = socket.SOCK_STREAM if "stream" in kind else socket.SOCK_DGRAM
                log = socket.socket(socket.AF_UNIX, of_kind)
                log.bind(str(path))
                sockets.append(log)
                if of_kind == socket.SOCK_STREAM:
                    log.listen(1)
            elif kind == "fifo":
                os.mkfifo(path)
            elif kind == "directory":
                path.mkdir()
            elif kind == "file":
                path.touch()
            else:
                path.symlink_to(path)
            for _ in range(draw.randrange(4)):
                number += 1
                pair.send_udp(1, source_port=number + 1024)
            if kind == "reads":
                read(sockets[0], len(seen) + draw.randrange(4))
            elif "stream" in kind:
                with contextlib.suppress(OSError):
                    sockets[0].settimeout(0.1)
                    sockets.append(sockets[0].accept()[0])
                    if kind == "stream":
                        read(sockets[1], len(seen) + draw.randrange(4))
                        sockets[1].send(b"unread")
            time.sleep(draw.choice((0.0, 0.0, 0.02)))
            for each in sockets:
                each.close()
        removed()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.bind(str(path))
            end = time.monotonic() + 60
            while len(seen) < number and time.monotonic() < end:
                read(log, number)
            read(log, math.inf)  # what comes twice
            assert fds(daemon.pid) < before + 5
            daemon.stop()
    assert seen == set(range(1025, 1025 + number)), daemon.stderr
    assert f"records {number}, written {number}, pending 0" in daemon.stderr


def fds(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_as_another_user(pair: Pair, tmp_path: Path, open_to_all: Path) -> None:
    """A daemon that has become another user goes on logging: the system's log is open to everybody."""
    pair.fw.nft(log_rule(2))
    text = stack(open_to_all / "log")
    with log_in(open_to_all) as log, Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw):
        os.chmod(open_to_all / "log", 0o666)
        pair.send_udp(3)
        assert [log.recv(1 << 16)[:4] for _ in range(3)] == [b"<29>"] * 3


def test_the_doctor(tmp_path: Path, log: socket.socket) -> None:
    def found(path: Path) -> str:
        (finding,) = SYSLOG("l", SYSLOGOptions(socket_path=str(path))).examine()
        return f"{finding.status} {finding.remedy}"

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(tmp_path / "stream"))
        stream.listen()
        assert found(tmp_path / "stream") == "ok "
    assert found(tmp_path / "log") == "ok "
    assert found(tmp_path / "none") == "problem start the system's log: rsyslog, syslog-ng or journald"
