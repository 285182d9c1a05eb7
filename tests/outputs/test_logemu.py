# SPDX-License-Identifier: GPL-2.0-or-later
"""LOGEMU: what stands before PRINTPKT's text, and where lines go, with real packets and targets that fail."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nflowlevel.errors import ConfigError
from nflowlevel.outputs.logemu import LOGEMU, LOGEMUOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import BY_NAME, added_key
from tests.corpus import by_name, frames
from tests.fix_daemon import PATIENCE, Daemon, config, log_rule, wait_for
from tests.fix_lines import small_disk
from tests.fix_netns import Pair
from tests.fix_plugins import batch_of, stacks_of, written
from tests.fix_zone import zone
from tests.messages import message_of
from tests.oracle import decode
from tests.printed import printed

__all__ = ["zone"]

_TIME = (1_793_689_482, 190_524)  # 2026-11-03 07:04:42 UTC
_FILTERS = "b:BASE,i:IFINDEX,s:IP2STR,p:PRINTPKT"
_HOST = socket.gethostname().partition(".")[0]


@pytest.fixture
def rendered(tmp_path: Path, zone: object) -> Callable[..., list[str]]:
    """Returns the lines that a stack writes of messages."""

    def render(*messages: bytes) -> list[str]:
        path = tmp_path / "rendered"
        text = config(f"g:NFLOG,{_FILTERS},e:LOGEMU", g="group=1", e=f"file={path}")
        return written(text, path, *messages).decode(errors="surrogateescape").split("\n")[:-1]

    return render


def udp_message(**more: object) -> bytes:
    """Return a logged UDP packet."""
    return message_of(by_name("udp4"), **{"prefix": b"pfx: ", "time": _TIME, **more})


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file, all of them whole."""
    text = path.read_text() if path.exists() else ""
    assert not text or text.endswith("\n"), text[-80:]
    return text.split("\n")[:-1]


def lengths(path: Path, count: int) -> list[int]:
    """Return the LEN of each line of a file, once there are `count`; fail unless each is a line of LOGEMU."""
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"{count} lines in {path}")
    shape = re.compile(
        rf"[A-Z][a-z]{{2}} [ 1-3]\d \d\d:\d\d:\d\d {re.escape(_HOST)} pfx:  IN=va OUT= MAC=[0-9a-f:]{{41}} "
        r"SRC=10.77.0.2 DST=10.77.0.1 LEN=(\d+) TOS=00 PREC=0x00 TTL=64 ID=\d+ DF PROTO=UDP SPT=\d+ DPT=9 LEN=\d+ "
        r"(UID=0 GID=0 )?MARK=0x0 "
    )
    found = [shape.fullmatch(line) for line in lines_of(path)]
    assert len(found) == count
    assert all(found), lines_of(path)[[bool(each) for each in found].index(False)]
    return [int(each[1]) for each in found if each]


# -- the line ---------------------------------------------------------------------------------------------------------


def test_a_line(rendered: Callable[..., list[str]]) -> None:
    assert rendered(udp_message(indev=1)) == [
        f"Nov  3 07:04:42 {_HOST} pfx:  IN=lo OUT= MAC=02:77:00:00:00:01:02:77:00:00:00:02:08:00 "
        "SRC=10.77.0.2 DST=10.77.0.1 LEN=35 TOS=00 PREC=0x00 TTL=64 ID=1 PROTO=UDP SPT=5000 DPT=53 LEN=15 MARK=0x0 "
    ]


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("UTC0", "Nov  3 07:04:42"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "Nov  3 08:04:42"),
        ("AOE12", "Nov  2 19:04:42"),
        ("LMT-0:53:28", "Nov  3 07:58:10"),
    ],
)
def test_the_time_is_local(
    rendered: Callable[..., list[str]], zone: Callable[[str], None], text: str, local: str
) -> None:
    zone(text)
    (line,) = rendered(udp_message())
    assert line.startswith(f"{local} {_HOST} pfx: ")


def test_every_day_of_a_year_and_every_month(rendered: Callable[..., list[str]]) -> None:
    """The names are ctime's, in any locale; a day below 10 is padded with a blank."""
    times = [1_767_225_600 + day * 86_400 + day for day in range(365)]
    lines = rendered(*(udp_message(time=(second, 0)) for second in times))
    assert [line[:15] for line in lines] == [time.ctime(second)[4:19] for second in times]


def test_the_time_changes_with_the_season(rendered: Callable[..., list[str]], zone: Callable[[str], None]) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    change = 1_793_494_800 - 7 * 86400  # 2026-10-25 01:00 UTC
    lines = rendered(*(udp_message(time=(change + offset, 7)) for offset in (-1, 0, -1)))
    assert [line[:15] for line in lines] == ["Oct 25 02:59:59", "Oct 25 02:00:00", "Oct 25 02:59:59"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("fw", "fw"), ("fw.example.org", "fw"), (".odd", ""), ("gr\udcfcn.x", "gr\udcfcn"), ("n" * 64, "n" * 64)],
)
def test_the_name_of_the_host_ends_at_its_first_dot(
    rendered: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    (line,) = rendered(udp_message())
    assert line.startswith(f"Nov  3 07:04:42 {shown} pfx: ")


def test_every_frame_is_one_line(rendered: Callable[..., list[str]]) -> None:
    messages = [message_of(frame, prefix=b"a\nb\r\x1b[31m\x7f ", time=_TIME) for frame in frames()]
    lines = rendered(*messages)
    texts = [printed(decode(message) or {}, {}).decode() for message in messages]
    assert [f"{line}\n" for line in lines] == [f"Nov  3 07:04:42 {_HOST} {text}" for text in texts]


def test_a_line_longer_than_the_first_buffer(rendered: Callable[..., list[str]]) -> None:
    """D-P05: ulogd2 writes beyond a buffer of 4 kB."""
    lines = rendered(*(udp_message(prefix=b"p" * 60_000) for _ in range(3)), *(udp_message(prefix=b"\n" * 60_000),) * 3)
    assert [len(line) > 60_000 for line in lines] == [True] * 6
    assert [line.count("\\x0a") for line in lines] == [0] * 3 + [60_000] * 3


# -- in a stack -------------------------------------------------------------------------------------------------------


def test_a_stack_without_printpkt_is_refused() -> None:
    text = config("g:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,e:LOGEMU", g="group=1", e="file=-")
    with pytest.raises(ConfigError, match="e:LOGEMU needs the key print, which no plugin before it publishes"):
        stacks_of(text)


def test_a_text_that_another_filter_made(tmp_path: Path, zone: Callable[[str], None]) -> None:
    """It may be None, hold a newline or none; the packet's time is there, or not."""
    path = tmp_path / "out"
    output = LOGEMU("e", LOGEMUOptions(file=str(path)))
    key = added_key("print", "string", "Somebody else's.")
    output.bind((("print", key),))
    output.open()
    batch = batch_of(*(udp_message(time=(_TIME[0] + row, 0)) for row in range(3)))
    batch.add(key, ["one\n", None, "th\nree\x1b"])
    output.write(batch)
    before = int(time.time())
    output.write(Batch.of_columns({key: ["now"]}, time=(1, None)))
    output.write(Batch.of_columns({key: [None]}, time=(1, None)))
    assert (output.stats.records, output.stats.written) == (3, 3)
    output.close()
    first, third, now = lines_of(path)
    assert (first, third) == (f"Nov  3 07:04:42 {_HOST} one", f"Nov  3 07:04:44 {_HOST} th\\x0aree\\x1b")
    assert now in [f"{time.ctime(second)[4:19]} {_HOST} now" for second in (before, before + 1)]


def test_its_file_is_that_of_ulogd2() -> None:
    assert LOGEMUOptions().file == "/var/log/ulogd_syslogemu.log"
    assert BY_NAME["print"].plugin == "PRINTPKT"


# -- targets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(pair: Pair, tmp_path: Path) -> Callable[..., Daemon]:
    """Starts a daemon whose stack ends in LOGEMU with these options."""
    pair.fw.nft(log_rule(2))

    def start(options: str) -> Daemon:
        return Daemon(tmp_path, config(f"g:NFLOG,{_FILTERS},e:LOGEMU", g="group=2", e=options), netns=pair.fw)

    return start


def test_rotation(pair: Pair, tmp_path: Path, started: Callable[..., Daemon]) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    with started(f"file={path}\nsync=1") as daemon:
        pair.send_udp(23)
        lengths(path, 23)
        path.rename(old)
        pair.send_udp(5)
        lengths(old, 28)
        daemon.reload()
        pair.send_udp(7)
        lengths(path, 7)
    assert len(lines_of(old)) == 28


def test_a_fifo(pair: Pair, tmp_path: Path, started: Callable[..., Daemon]) -> None:
    """Nobody reads at first; what was logged meanwhile comes when somebody does."""
    path, out = tmp_path / "fifo", tmp_path / "out"
    os.mkfifo(path)
    with started(f"file={path}"):
        pair.send_udp(23)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        read = b""
        end = time.monotonic() + PATIENCE
        while read.count(b"\n") < 23 and time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                read += os.read(reader, 1 << 16)
            time.sleep(0.003)
        os.close(reader)
    out.write_bytes(read)
    lengths(out, 23)


def test_a_full_disk(pair: Pair, tmp_path: Path, started: Callable[..., Daemon]) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        path = disk / "log"
        with started(f"file={path}") as daemon:
            pair.send_udp(499)
            daemon.says(f"write {path}: No space left on device")
            assert lines_of(path)  # no torn line
            subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
            lengths(path, 499)


@pytest.mark.parametrize("cut", [1, 5, 15, 18, 40])
def test_a_line_that_a_crash_tore_is_cut_off(
    pair: Pair, tmp_path: Path, started: Callable[..., Daemon], cut: int
) -> None:
    path = tmp_path / "log"
    whole = f"Nov  3 07:04:42 {_HOST} pfx:  IN=va OUT= SRC=10.77.0.2 \n"
    path.write_text(whole + whole[:cut])
    with started(f"file={path}") as daemon:
        pair.send_udp(1)
        wait_for(lambda: path.read_bytes().count(b"\n") == 2, "a line is written")
        daemon.says("ended in a torn line")
    first, second = lines_of(path)
    assert f"{first}\n" == whole
    assert f" {_HOST} pfx:  IN=va" in second


@pytest.mark.parametrize("rest", ["Nov 03", "Nox  3 07:04:42", "Nov  3 07:04:42 other", "{"])
def test_what_somebody_else_left_is_kept(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"line\n{rest}")
    output = LOGEMU("e", LOGEMUOptions(file=str(path)))
    output.bind(())
    output.open()
    output.close()
    assert path.read_text() == f"line\n{rest}\n"


def test_two_stacks_with_one_file(pair: Pair, tmp_path: Path) -> None:
    pair.fw.nft(log_rule(2, 3))
    path = tmp_path / "log"
    stacks = (f"g:NFLOG,{_FILTERS},e:LOGEMU", f"f:NFLOG,{_FILTERS},e:LOGEMU")
    text = config(*stacks, g="group=2", f="group=3", e=f"file={path}")
    with Daemon(tmp_path, text, netns=pair.fw):
        pair.send_udp(211)
        lengths(path, 422)
