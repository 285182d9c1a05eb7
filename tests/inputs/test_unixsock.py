# SPDX-License-Identifier: GPL-2.0-or-later
"""UNIXSOCK: reports through the stacks of a daemon, beside ulogd2 with the same bytes, and what harms ulogd2 only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from nflowlevel.binding.unixsocket import connections_at
from nflowlevel.errors import StackError
from nflowlevel.inputs.unixsock import UNIXSOCK, UNIXSOCKOptions
from nflowlevel.plugin.contract import Finding
from nflowlevel.records.keys import published_by
from nflowlevel.records.reported import REPORTED
from tests import oracle
from tests.corpus import by_name, frames
from tests.fix_daemon import Daemon, config, lines_of, records, run, wait_for
from tests.fix_nobody import NOBODY
from tests.fix_plugins import stacks_of
from tests.fix_reports import FULL, IN, PREFIX, SECONDS, USER_NAME, full, is_disconnected, option, report
from tests.parity_differences import DIFFERENCES, Case
from tests.ulogd2 import missing

STACK = "u:UNIXSOCK,b:BASE,s:IP2STR,j:JSON"
UDP = by_name("udp4").payload

needs_ulogd2 = pytest.mark.skipif(bool(missing()), reason=missing())


def connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(str(path))
    except BaseException:
        made.close()
        raise
    made.settimeout(20)
    return made


@pytest.fixture
def place(open_to_all: Path) -> Path:
    """A directory with a short name: an address has room for 107 bytes."""
    return open_to_all


# -- the plugin -------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(place: Path) -> Iterator[Callable[..., UNIXSOCK]]:
    """Opens the input at place/s; it is closed in the end."""
    made: list[UNIXSOCK] = []

    def open_(**options: Any) -> UNIXSOCK:
        made.append(UNIXSOCK("u", UNIXSOCKOptions(**{"socket_path": str(place / "s"), **options})))
        made[-1].open()
        return made[-1]

    yield open_
    for each in made:
        each.close()


def test_what_it_publishes() -> None:
    plugin = UNIXSOCK("u", UNIXSOCKOptions())
    assert plugin.published() == published_by("UNIXSOCK")
    assert (plugin.records, plugin.options.perms, plugin.options.socket_path) == (
        REPORTED,
        0o600,
        "/var/run/ulogd/ulogd2.sock",
    )


def test_permissions_are_octal_as_in_ulogd(place: Path) -> None:
    (stack,) = stacks_of(config(STACK, u=f"socket_path={place}/s\nperms=0660\nbufsize=65536", j="file=x"))
    assert stack.source.input.options.perms == 0o660


def test_two_sections_cannot_have_one_socket(place: Path) -> None:
    with pytest.raises(Exception, match="is already read by"):
        stacks_of(
            config(
                STACK, STACK.replace("u:", "v:").replace("j:", "k:"),
                u=f"socket_path={place}/s", v=f"socket_path={place}/../{place.name}/s", j="file=x", k="file=y",
            )
        )  # fmt: skip


def test_counters_outlive_the_socket(opened: Callable[..., UNIXSOCK], place: Path) -> None:
    plugin = opened()
    for number in range(1, 3):
        with connected(place / "s") as reporter:
            reporter.sendall(full(UDP))
            assert len(plugin.receive()) == 1
            assert plugin.stats.clients == 1
        plugin.close()
        assert not (place / "s").exists()
        assert (plugin.stats.received, plugin.stats.clients) == (number, 0)
        plugin.open()


def test_drain_takes_what_was_written(opened: Callable[..., UNIXSOCK], place: Path) -> None:
    plugin = opened()
    with connected(place / "s") as reporter:
        reporter.sendall(full(UDP) * 3)
        assert sum(map(len, plugin.drain())) == 3
        plugin.close()
        assert is_disconnected(reporter)
    with pytest.raises(FileNotFoundError):
        connected(place / "s")


@pytest.mark.parametrize(("option_", "said"), [("owner", "no such user"), ("group", "no such group")])
def test_unknown_names(opened: Callable[..., UNIXSOCK], option_: str, said: str) -> None:
    with pytest.raises(StackError, match=f"{option_}=nosuch: {said}"):
        opened(**{option_: "nosuch"})
    found = list(UNIXSOCK("u", UNIXSOCKOptions(socket_path="/nosuch/s", **{option_: "nosuch"})).needs())
    assert [(each.status, each.text) for each in found] == [
        ("problem", "socket_path=/nosuch/s: no such directory: /nosuch"),
        ("problem", f"{option_}=nosuch: {said}"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group_by_name_or_number(opened: Callable[..., UNIXSOCK], place: Path) -> None:
    opened(owner="nobody", group="65533", perms=0o666)
    status = (place / "s").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (NOBODY, 65533, 0o666)


def test_whether_root_opens_it(place: Path) -> None:
    (place / "roots").mkdir()
    (place / "theirs").mkdir()
    os.chown(place / "theirs", NOBODY, NOBODY)
    asked = {
        name: UNIXSOCK("u", UNIXSOCKOptions(socket_path=str(place / name / "s"))).for_root
        for name in ("roots", "theirs", "no")
    }
    # What is in /tmp belongs to everybody, but not what root has made there.
    assert asked == {"roots": True, "theirs": False, "no": False}


def test_what_the_doctor_says(opened: Callable[..., UNIXSOCK], place: Path) -> None:
    idle = UNIXSOCK("u", UNIXSOCKOptions(socket_path=str(place / "s"), perms=0o660, group="adm"))
    path = f"socket_path={place}/s"
    assert list(idle.examine()) == [Finding("hint", f"{path}: nobody listens", "start the daemon")]
    plugin = opened()
    (found,) = idle.examine()
    assert (found.status, found.text) == ("hint", f"{path}: nobody is connected, so no packets come")
    assert found.remedy.endswith("must be allowed to write to the socket (its mode is 0660, its group adm)")
    with connected(place / "s"), connected(place / "s"):
        plugin.receive()
        assert list(idle.examine()) == [Finding("ok", f"{path}: 2 connected")]
    gone = UNIXSOCK("u", UNIXSOCKOptions(socket_path=str(place / "no" / "s")))
    assert [each.status for each in gone.examine()] == ["problem", "hint"]


def test_the_doctor_asks_it(place: Path) -> None:
    conf = place / "u.conf"
    conf.write_text(config(STACK, u=f"socket_path={place}/s", j=f"file={place}/out"))
    done = subprocess.run(
        [sys.executable, "-m", "nflowlevel", "doctor", "--config", str(conf)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"[u] socket_path={place}/s: nobody listens" in done.stdout, done.stdout + done.stderr


# -- in the daemon ----------------------------------------------------------------------------------------------------


def test_several_reporters_through_the_daemon(place: Path) -> None:
    out, path = place / "out.json", place / "s"
    with Daemon(place, config(STACK, u=f"socket_path={path}\nperms=0660", j=f"file={out}")) as daemon:
        reporters = [connected(path) for _ in range(5)]
        for number, reporter in enumerate(reporters):
            for at in range(23):
                reporter.sendall(full(UDP, user_name=f"user {number}", user_id=at))
        found = records(out, 5 * 23)
        for number in range(5):
            name = f"user {number}"
            assert [each["nufw.user.id"] for each in found if each["nufw.user.name"] == name] == list(range(23))
        for reporter in reporters:
            reporter.close()
        daemon.stop()
    assert not path.exists()


def test_what_was_written_before_the_stop_is_delivered(place: Path) -> None:
    out, path = place / "out.json", place / "s"
    conf = config(STACK, u=f"socket_path={path}", j=f"file={out}")
    with Daemon(place, conf) as daemon, connected(path) as reporter:
        reporter.sendall(full(UDP) * 500)
        daemon.stop()
    assert len(lines_of(out)) == 500


def test_each_byte_of_a_prefix_breaks_no_record_of_any_format(place: Path) -> None:
    """Whoever reports chooses the prefix; NUL ends it, as in C."""
    chain, text = "u:UNIXSOCK,b:BASE,s:IP2STR", "u:UNIXSOCK,b:BASE,s:IP2STR,p:PRINTPKT"
    conf = config(
        f"{chain},j:JSON", f"{text},e:LOGEMU", f"{chain},g:GPRINT", f"{chain},o:OPRINT", f"{chain},x:XML",
        f"{text},l:SYSLOG", f"{chain},q:SQLITE3",
        u=f"socket_path={place}/s", j=f"file={place}/j", e=f"file={place}/e", g=f"file={place}/g",
        o=f"file={place}/o", x=f"directory={place}", l=f"socket_path={place}/log",
        q=f"db={place}/q.db\nspool_directory={place}/spool",
    )  # fmt: skip
    prefixes = [bytes((byte,)) for byte in range(256)]
    prefixes += [b"a" + byte + b"b" for byte in prefixes]
    prefixes += [b"\r\n", b"\n===>PACKET BOUNDARY\n", b"</prefix></log>", b"]]>", b"%s%n", b"x" * 4000, b"\xff" * 999]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(f"{place}/log")
        log.settimeout(20)
        messages = []
        with Daemon(place, conf) as daemon, connected(place / "s") as reporter:
            for prefix in prefixes:
                reporter.sendall(report(UDP, option(PREFIX, prefix + b"\0"), option(SECONDS, 1_700_000_000)))
                messages.append(log.recv(1 << 17))
            daemon.stop()
    plain = [prefix.split(b"\0")[0] for prefix in prefixes]
    count = len(plain)
    found = lines_of(place / "j")
    texts = [each["oob.prefix"].encode() for each in found]
    assert all(text == prefix for text, prefix in zip(texts, plain, strict=True) if prefix.isascii())
    for name, marks in (("e", b"SRC="), ("g", b"ip.saddr=")):
        lines = (place / name).read_bytes().split(b"\n")
        assert lines.pop() == b""
        assert [line.count(marks) for line in lines] == [1] * count, name
        assert not re.search(rb"[\0-\x08\x0a-\x1f\x7f]", b"".join(lines)), name
    blocks = (place / "o").read_bytes().split(b"===>PACKET BOUNDARY\n")
    assert [block.count(b"\noob.prefix=") + block.startswith(b"oob.prefix=") for block in blocks] == [0] + [1] * count
    assert [message.count(b"SRC=") for message in messages] == [1] * count
    assert not any(re.search(rb"[\0-\x08\x0a-\x1f\x7f]", message.removesuffix(b"\n")) for message in messages)
    (document,) = place.glob("*.xml")
    assert len(ET.fromstring(document.read_bytes())) == count
    with contextlib.closing(sqlite3.connect(place / "q.db")) as connection:
        rows = connection.execute("SELECT oob_prefix FROM packets ORDER BY 1").fetchall()
    assert len(rows) == count


def test_a_stack_waits_for_its_directory(place: Path) -> None:
    conf = place / "u.conf"
    conf.write_text(config(STACK, u=f"socket_path={place}/no/s", j=f"file={place}/out"))
    done = run("--check-config", "-c", str(conf))
    assert done.returncode == 0
    assert f"u:UNIXSOCK cannot start here: socket_path={place}/no/s: no such directory: {place}/no" in done.stderr
    done = run("-c", str(conf))
    assert done.returncode == 1
    assert f"listen on {place}/no/s: no such directory: {place}/no; create it (mkdir -p {place}/no)" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("owner", [0, NOBODY])
def test_with_u_the_socket_is_of_him_who_can_change_its_directory(place: Path, owner: int) -> None:
    path = place / "d" / "s"
    path.parent.mkdir(mode=0o755)
    os.chown(path.parent, owner, owner)
    out = place / "o"
    out.mkdir()
    os.chown(out, NOBODY, NOBODY)
    with Daemon(place, config(STACK, u=f"socket_path={path}", j=f"file={out}/x"), "-u", "nobody") as daemon:
        assert path.stat().st_uid == owner
        with connected(path) as reporter:
            reporter.sendall(full(UDP))
            records(out / "x", 1)
        daemon.stop()
    assert path.exists() == (owner == 0), "only root could remove it"
    with Daemon(place, config(STACK, u=f"socket_path={path}", j=f"file={out}/x"), "-u", "nobody"):
        connected(path).close()


# -- beside ulogd2 ----------------------------------------------------------------------------------------------------

_MODULES = {
    "UNIXSOCK": "inppkt", "BASE": "raw2packet", "IP2STR": "filter", "PWSNIFF": "filter", "PRINTPKT": "filter",
    "LOGEMU": "output", "JSON": "output",
    "GPRINT": "output",
}  # fmt: skip
#: ulogd2 gives itself real-time priority, and some of this makes it run in a circle: it may have little of the machine.
_CAGE = ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", "prlimit", "--cpu=2", "--fsize=1000000")


class Peer:
    """A daemon with a stack that begins with UNIXSOCK."""

    def __init__(self, directory: Path, command: tuple[str, ...], output: str, filters: tuple[str, ...]) -> None:
        self.name = "ulogd2" if "ulogd" in command[-1] else "ours"
        self.path, self.out = directory / f"{self.name}.sock", directory / f"{self.name}.out"
        self.log = directory / f"{self.name}.log"
        self._command = (*command, "-c", str(directory / f"{self.name}.conf"))
        plugins = ["UNIXSOCK", "BASE", "IP2STR", *filters, output]
        modules = Path(next(Path("/usr/lib").glob("*/ulogd"), "/usr/lib/ulogd"))
        loads = "".join(f'plugin="{modules}/ulogd_{_MODULES[name]}_{name}.so"\n' for name in plugins)
        stack = ",".join(f"{name.lower()}1:{name}" for name in plugins)
        (directory / f"{self.name}.conf").write_text(
            f'[global]\nlogfile="{self.log}"\nloglevel=1\n{loads}stack={stack}\n[unixsock1]\nsocket_path="{self.path}"\n'
            f'[{output.lower()}1]\nfile="{self.out}"\nsync=1\n'
        )

    def __enter__(self) -> Self:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(self._command, env={**os.environ, "TZ": "UTC"}, **quiet)
        try:
            wait_for(lambda: self.process.poll() is not None or self._answers(), f"{self.name} listens", self.told)
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(20)

    def _answers(self) -> bool:
        """Tell without a connection, of which ulogd2 takes one only."""
        return connections_at(str(self.path)).listens

    def told(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def connect(self) -> socket.socket:
        return connected(self.path)

    def wait(self, count: int) -> None:
        """Wait until so many records are written."""
        wait_for(
            lambda: self.out.exists() and self.out.read_bytes().count(b"\n") >= count,
            f"{count} records of {self.name}",
            self.told,
        )

    def records(self, count: int) -> list[dict[str, Any]]:
        self.wait(count)
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def ended(self) -> int:
        return self.process.wait(20)


def theirs(directory: Path, output: str = "JSON", filters: tuple[str, ...] = ()) -> Peer:
    return Peer(directory, (*_CAGE, "/usr/sbin/ulogd"), output, filters)


def ours(directory: Path, output: str = "JSON", filters: tuple[str, ...] = ()) -> Peer:
    return Peer(directory, (sys.executable, "-m", "nflowlevel.daemon.main"), output, filters)


#: What differs beside that which DIFFERENCES lists for the packets of rules.
_PROTOCOL = "ulogd2 writes 0, as its BASE copies what UNIXSOCK has never set; we write the EtherType where it is known"
_TIME = "ulogd2 leaves out the zone where it is UTC (D-J01), and has no microseconds of the time of reception"


def explained(case: Case, member: str) -> bool:
    if member == "timestamp":
        return case.ours["timestamp"][:13] == case.theirs["timestamp"][:13]
    if member == "oob.protocol":
        known = {4: 0x0800, 6: 0x86DD}.get(case.keys["raw.pkt"][0] >> 4 if case.keys["raw.pkt"] else 0)
        return case.theirs[member] == 0 and case.ours.get(member) == known
    return any(entry.explains(case, member) for entry in DIFFERENCES)


@needs_ulogd2
def test_the_same_bytes_into_both(place: Path) -> None:
    """Every frame, once with every option and once with one; compared member by member, in their order."""
    packets = [frame.payload for frame in frames() if frame.payload]
    reports = [each for packet in packets for each in (full(packet), report(packet, option(PREFIX, "p")))]
    with theirs(place) as ulogd2, ours(place) as daemon:
        with ulogd2.connect() as one, daemon.connect() as other:
            for number, data in enumerate(reports, 1):
                one.sendall(data)
                other.sendall(data)
                # One by one: of several that come together, ulogd2 gives the later ones options of the earlier.
                ulogd2.wait(number)
        pairs = list(zip(ulogd2.records(len(reports)), daemon.records(len(reports)), strict=True))
    compared, wrong = 0, []
    for number, (their, our) in enumerate(pairs):
        packet = packets[number // 2]
        family, protocol = {4: (2, 0x0800), 6: (10, 0x86DD)}.get(packet[0] >> 4, (0, 0))
        keys = oracle.decode(oracle.build_message(packet, family=family, protocol=protocol))
        assert keys is not None
        case = Case(f"report {number}", keys, our, their)
        compared += 1
        for member in {**our, **their}:
            if our.get(member) != their.get(member) and not explained(case, member):
                wrong.append(f"{case.name}: {member}: ours {our.get(member)!r}, theirs {their.get(member)!r}")
        if [name for name in our if name in their] != [name for name in their if name in our]:
            wrong.append(f"{case.name}: order: ours {list(our)}, theirs {list(their)}")
    print(f"{compared} records compared")
    assert compared == len(reports) > 200
    assert not wrong, "\n".join(wrong[:20])
    assert {name: pairs[0][0][name] for name in FULL} == {name: pairs[0][1][name] for name in FULL} == FULL


@needs_ulogd2
def test_the_same_lines_of_logemu(place: Path) -> None:
    """Byte for byte: names of interfaces are the reporter's, and there is no mark."""
    names = ("tcp4-syn", "tcp4-all", "udp4", "udp6", "tcp6-syn", "icmp-echo-request")
    reports = [full(by_name(name).payload) for name in names]
    reports.append(report(UDP, option(SECONDS, 1_700_000_000), option(PREFIX, "p")))
    lines = []
    for peer in (theirs(place, "LOGEMU", ("PRINTPKT",)), ours(place, "LOGEMU", ("PRINTPKT",))):
        with peer, peer.connect() as reporter:
            for number, data in enumerate(reports, 1):
                reporter.sendall(data)
                peer.wait(number)
            lines.append(peer.out.read_text().splitlines())
    assert lines[0] == lines[1]
    assert "nufw:  IN=eth0 OUT=ppp7 MAC= SRC=10.77.0.2" in lines[1][0]


@needs_ulogd2
def test_an_option_is_of_its_own_report(place: Path) -> None:
    """ulogd2 gives a report what the one before it said, where both are read together."""
    data = report(UDP, option(USER_NAME, "alice")) + report(UDP)
    with theirs(place) as ulogd2, ours(place) as daemon:
        for peer, second in ((ulogd2, "alice"), (daemon, None)):
            with peer.connect() as reporter:
                reporter.sendall(data)
                assert [each.get("nufw.user.name") for each in peer.records(2)] == ["alice", second]


@needs_ulogd2
def test_d_u01_an_option_near_two_to_the_32(place: Path) -> None:
    """ulogd2 runs in a circle until its processor time is up."""
    data = report(UDP, option(IN, "va"), option(PREFIX, b"12345678", 0xFFFFFFF8))
    with theirs(place) as ulogd2, ulogd2.connect() as reporter:
        reporter.sendall(data)
        assert ulogd2.ended() in (-signal.SIGXCPU, -signal.SIGXFSZ)
    with ours(place) as daemon, daemon.connect() as reporter:
        reporter.sendall(data + full(UDP))
        first, second = daemon.records(2)
        assert (first["oob.in"], first.get("oob.prefix")) == ("va", None)
        assert second["nufw.user.name"] == "alice"


@needs_ulogd2
def test_d_u01_a_report_without_options(place: Path) -> None:
    """Here, too: it looks for options behind the report."""
    with theirs(place) as ulogd2, ulogd2.connect() as reporter:
        reporter.sendall(report(UDP))
        assert ulogd2.ended() in (-signal.SIGXCPU, -signal.SIGXFSZ)
    with ours(place) as daemon, daemon.connect() as reporter:
        reporter.sendall(report(UDP))
        assert daemon.records(1)[0]["src_ip"] == "10.77.0.2"


@needs_ulogd2
def test_d_u02_a_first_write_of_fewer_than_four_bytes(place: Path) -> None:
    data = full(UDP)
    with theirs(place) as ulogd2, ulogd2.connect() as reporter:
        reporter.sendall(data[:3])
        assert is_disconnected(reporter)
    with ours(place) as daemon, daemon.connect() as reporter:
        for at in range(0, len(data), 3):
            reporter.sendall(data[at : at + 3])
        assert daemon.records(1)[0]["oob.prefix"] == "nufw: "


@needs_ulogd2
def test_d_u03_a_write_that_ends_in_the_length(place: Path) -> None:
    data = full(UDP)
    with theirs(place) as ulogd2, ulogd2.connect() as reporter:
        reporter.sendall(data[:5])
        (bogus,) = ulogd2.records(1)
        assert bogus.get("src_ip") is None, "it is no packet of ours"
    with ours(place) as daemon, daemon.connect() as reporter:
        reporter.sendall(data[:5])
        reporter.sendall(data[5:])
        assert [each["src_ip"] for each in daemon.records(1)] == ["10.77.0.2"]


@needs_ulogd2
def test_d_u04_a_socket_that_a_crash_has_left(place: Path) -> None:
    for peer in (theirs(place), ours(place)):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(peer.path))
    process = subprocess.run([*theirs(place)._command], capture_output=True, check=False, timeout=20)
    assert process.returncode != 0, "ulogd2 does not start"
    with ours(place) as daemon, daemon.connect() as reporter:
        reporter.sendall(full(UDP))
        assert len(daemon.records(1)) == 1


@needs_ulogd2
def test_d_u05_a_packet_longer_than_its_report(place: Path) -> None:
    """ulogd2 takes the length for granted, and what lies behind in memory for the packet."""
    data = report(UDP, length=5000)
    with theirs(place) as ulogd2, ulogd2.connect() as reporter:
        reporter.sendall(data)
        assert ulogd2.records(1)[0]["raw.pktlen"] == 5000
    with ours(place) as daemon, daemon.connect() as reporter:
        reporter.sendall(data + full(UDP))
        assert [each["raw.pktlen"] for each in daemon.records(1)] == [len(UDP)]


@needs_ulogd2
def test_d_u06_a_prefix_of_many_bytes(place: Path) -> None:
    """With GPRINT it ends ulogd2."""
    data = report(UDP, option(PREFIX, "p" * 4090))
    with theirs(place, "GPRINT") as ulogd2, ulogd2.connect() as reporter:
        reporter.sendall(data)
        assert ulogd2.ended() in (-signal.SIGABRT, -signal.SIGSEGV)
    with ours(place) as daemon, daemon.connect() as reporter:
        reporter.sendall(data)
        assert daemon.records(1)[0]["oob.prefix"] == "p" * 4090


@needs_ulogd2
def test_d_u07_a_second_reporter(place: Path) -> None:
    with theirs(place) as ulogd2, ulogd2.connect() as first:
        first.sendall(full(UDP))
        ulogd2.records(1)
        with ulogd2.connect() as second:
            assert is_disconnected(second)
    with ours(place) as daemon, daemon.connect() as first, daemon.connect() as second:
        first.sendall(report(UDP, option(SECONDS, 1)))
        second.sendall(report(UDP, option(SECONDS, 2)))
        assert sorted(each["oob.time.sec"] for each in daemon.records(2)) == [1, 2]


def test_d_u08_an_error_of_one_connection(place: Path) -> None:
    """By ulogd2's source a read error ends it with 255; nothing that a reporter does makes one there. Here it is the
    reporter that goes away in the middle, and one that was never there."""
    with ours(place) as daemon:
        with daemon.connect() as gone:
            gone.sendall(full(UDP)[:50])
        with daemon.connect() as wrong:
            wrong.sendall(b"GET /")
            assert is_disconnected(wrong)
        with daemon.connect() as reporter:
            reporter.sendall(full(UDP))
            assert len(daemon.records(1)) == 1
        daemon.process.terminate()
        assert daemon.ended() == 0
    told = daemon.told()
    assert "unfinished 1" in told
    assert "broken 1" in told


@contextlib.contextmanager
def failing_read(pid: int) -> Iterator[None]:
    """Let the next call of a process that reads from a socket fail with a reset."""
    calls = "read,recvfrom,recvmsg"
    command = ["strace", "-p", str(pid), "-e", f"trace={calls}", "-e", f"inject={calls}:error=ECONNRESET:when=1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr
        assert "attached" in tracer.stderr.readline()
        try:
            yield
        finally:
            tracer.terminate()


@needs_ulogd2
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; type: make setup")
def test_d_u08_a_read_error(place: Path) -> None:
    """A reporter cannot cause one in ulogd2, which writes nothing to it: the kernel is made to say so."""
    with theirs(place) as peer, failing_read(peer.process.pid), peer.connect() as reporter:
        reporter.sendall(full(UDP))
        assert peer.ended() == 255
    with ours(place) as peer:
        with failing_read(peer.process.pid), peer.connect() as reporter:
            reporter.sendall(full(UDP))
            wait_for(lambda: is_disconnected(reporter), "it is disconnected", peer.told)
        with peer.connect() as reporter:
            reporter.sendall(full(UDP))
            peer.wait(1)
            assert peer.process.poll() is None
