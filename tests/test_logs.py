# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's own messages: levels, layout, destinations, rotation, and what repeats."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import sys
import syslog
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel import logs
from nflowlevel.logs import LEVELS, NOTICE, Limited, Messages, UlogdFormatter, level_of, log


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    state = log.handlers[:], log.level, log.propagate, logging.raiseExceptions
    yield
    for handler in log.handlers:
        if handler not in state[0]:
            handler.close()
    log.handlers[:], log.level, log.propagate, logging.raiseExceptions = state


# -- levels -----------------------------------------------------------------------------------------------------------


def test_ulogds_levels() -> None:
    assert [level_of(number) for number in (1, 3, 5, 7, 8)] == [logging.DEBUG, logging.INFO, NOTICE, logging.ERROR, 50]
    assert [level_of(number) for number in (2, 4, 6)] == [logging.INFO, NOTICE, logging.ERROR]
    assert level_of(99) == logging.CRITICAL


@pytest.mark.parametrize("number", LEVELS)
def test_a_line_has_ulogds_layout(number: int) -> None:
    record = logging.LogRecord("nflowlevel", LEVELS[number], "/x/loop.py", 17, "%s: stopping", ("TERM",), None)
    record.created = 0.0
    line = UlogdFormatter().format(record)
    assert re.fullmatch(rf"(Thu Jan  1|Wed Dec 31) \d\d:\d\d:00 19(70|69) <{number}> loop.py:17 TERM: stopping", line)


def test_levels_between_are_shown_as_the_one_below() -> None:
    record = logging.LogRecord("nflowlevel", logging.WARNING, "x.py", 1, "text", (), None)
    assert "<5>" in UlogdFormatter().format(record)
    record.levelno = 1
    assert "<1>" in UlogdFormatter().format(record)


def test_an_exception_follows_its_line() -> None:
    try:
        raise ValueError("of the test")
    except ValueError:
        record = logging.LogRecord("nflowlevel", 40, "x.py", 1, "failed", (), sys.exc_info())
    lines = UlogdFormatter().format(record).split("\n")
    assert lines[0].endswith("failed")
    assert lines[-1] == "ValueError: of the test"


#: What a process or an interface may be called: a forged line, a cleared screen, C1 and DEL, reversed text, a new line.
_HOSTILE = "x\nok all is well\r\x1b[2J\x7f\x9b1m\u202eko\u2028\u2029\udce4"


def test_no_name_of_others_moves_a_cursor_or_begins_a_line(tmp_path: Path) -> None:
    Messages(str(tmp_path / "log"), NOTICE)
    log.error("read by %s", _HOSTILE)
    try:
        raise ValueError(f"read by {_HOSTILE}")
    except ValueError:
        log.error("failed", exc_info=True)
    lines = (tmp_path / "log").read_text().split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[0].endswith(r"read by x\nok all is well\r\x1b[2J\x7f\x9b1m\u202eko\u2028\u2029\udce4")
    assert not any(line.startswith("ok") for line in lines)
    assert lines[-3:] == ["ValueError: read by x", r"  ok all is well\r\x1b[2J\x7f\x9b1m\u202eko\u2028\u2029\udce4", ""]


# -- what repeats -----------------------------------------------------------------------------------------------------


def test_a_kind_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "propagate", True)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limited = Limited()
    for _ in range(5):
        limited(logging.ERROR, "write", "disk full")
    limited(logging.ERROR, "open", "no directory")
    assert caplog.messages == ["disk full", "no directory"]
    now += logs.REPEAT_SECS - 0.001
    limited(logging.ERROR, "write", "disk full")
    assert len(caplog.messages) == 2
    now += 0.001
    limited(logging.ERROR, "write", "still full")
    assert caplog.messages[2] == "still full (5 more like this were not logged)"
    now += 100
    limited(logging.ERROR, "write", "still full")
    assert caplog.messages[3] == "still full"


def test_a_limited_message_names_its_origin(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "propagate", True)
    Limited()(logging.ERROR, "write", "disk full")
    assert caplog.records[0].filename == "test_logs.py"


# -- destinations -----------------------------------------------------------------------------------------------------


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    messages = Messages("", NOTICE)
    log.error("one")
    messages.started()
    log.log(NOTICE, "two")
    log.info("three")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("> ")[1].split(" ", 1)[1] for line in err.splitlines()] == ["one", "two"]


def test_errors_of_the_start_are_seen_by_who_starts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages = Messages(str(tmp_path / "log"), logging.INFO)
    log.info("a remark")
    log.error("an early fault")
    messages.started()
    log.error("a late fault")
    assert "an early fault" in (err := capsys.readouterr().err)
    assert "a remark" not in err
    assert "a late fault" not in err
    text = (tmp_path / "log").read_text()
    assert [word for word in ("remark", "early", "late") if word in text] == ["remark", "early", "late"]


@pytest.mark.parametrize(("destination", "copied"), [("file", True), ("stdout", True), ("", False)])
def test_verbose(tmp_path: Path, capsys: pytest.CaptureFixture[str], destination: str, copied: bool) -> None:
    messages = Messages(str(tmp_path / "log") if destination == "file" else destination, NOTICE, verbose=True)
    messages.started()
    log.error("text")
    out, err = capsys.readouterr()
    assert err.count("text") == 1
    assert out.count("text") == (destination == "stdout")


@pytest.mark.parametrize("destination", ["/dev/stdout", "/dev/stderr"])
def test_a_stream_by_its_path_is_not_opened(capsys: pytest.CaptureFixture[str], destination: str) -> None:
    """A daemon that has become another user might not be allowed to."""
    messages = Messages(destination, NOTICE, opener=lambda *_: pytest.fail("opened"))
    messages.started()
    log.error("text")
    assert "text" in capsys.readouterr()[destination == "/dev/stderr"]


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    Messages(str(tmp_path / "log"), NOTICE)
    log.error("after")
    assert [line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()] == ["before", "after"]


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as info:
        Messages(str(tmp_path / "missing/log"), NOTICE)
    assert info.value.errno == errno.ENOENT


def test_bytes_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    Messages(str(tmp_path / "log"), NOTICE)
    log.error("stack %s", "J\udce4rn ü")
    assert (tmp_path / "log").read_text().endswith("stack J\\udce4rn ü\n")


@pytest.fixture
def system_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that a syslog daemon would read."""
    monkeypatch.setattr(logs, "SYSLOG", str(tmp_path / "dev-log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(logs.SYSLOG)
        sock.settimeout(10)
        yield sock


def priority_and_text(datagram: bytes) -> tuple[int, str]:
    found = re.fullmatch(r"<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d nflowlevel\[(\d+)\]: (.*)", datagram.decode(), re.DOTALL)
    assert found, datagram
    assert int(found[2]) == os.getpid()
    return int(found[1]), found[3]


def test_syslog(system_log: socket.socket) -> None:
    Messages("syslog", logging.DEBUG, verbose=True).started()
    for number, level in LEVELS.items():
        log.log(level, "message %d", number)
    log.warning("between")
    log.error("J\udce4rn \0")
    assert [priority_and_text(system_log.recv(4096)) for _ in range(7)] == [
        (syslog.LOG_DAEMON | syslog.LOG_DEBUG, "message 1"),
        (syslog.LOG_DAEMON | syslog.LOG_INFO, "message 3"),
        (syslog.LOG_DAEMON | syslog.LOG_NOTICE, "message 5"),
        (syslog.LOG_DAEMON | syslog.LOG_ERR, "message 7"),
        (syslog.LOG_DAEMON | syslog.LOG_CRIT, "message 8"),
        (syslog.LOG_DAEMON | syslog.LOG_WARNING, "between"),
        (syslog.LOG_DAEMON | syslog.LOG_ERR, "J\\udce4rn \\x00"),
    ]


# -- a log that nobody reads ------------------------------------------------------------------------------------------

#: More than any buffer of the kernel holds, in messages of the size that `fill` writes.
_MANY = 5000


def fill(messages: Messages) -> int:
    """Log more than finds room; it must not wait. Returns how many were dropped."""
    for number in range(_MANY):
        log.error("message %d %s", number, "x" * 400)
    assert 0 < messages.dropped < _MANY
    return messages.dropped


def told(text: str, dropped: int) -> None:
    """Before what gets through again, the log says how much was dropped; together that is all."""
    assert sum(map(int, re.findall(r"messages that the log did not take, dropped: (\d+)", text))) == dropped
    assert re.search(r"dropped: \d+\n.* after\n$", text)


def drained(sock: socket.socket) -> list[bytes]:
    """Return all datagrams, or pieces of the stream, that wait."""
    sock.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while piece := sock.recv(1 << 20):
            found.append(piece)
    return found


def test_a_pipe_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream, open(read, "rb", buffering=0) as reader:
        monkeypatch.setattr(sys, "stderr", stream)
        messages = Messages("", NOTICE)
        dropped = fill(messages)
        assert [*messages.status()] == [f"messages that the log did not take, dropped: {dropped}"]
        assert os.get_blocking(write), "others have this open file, too"
        text = reader.read(1 << 20)
        log.error("after")
        told((text + reader.read(1 << 20)).decode(), dropped)
        assert messages.dropped == dropped


def test_a_socket_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd's journal is one."""
    ours, theirs = socket.socketpair()
    with os.fdopen(ours.detach(), "w") as stream, theirs:
        monkeypatch.setattr(sys, "stderr", stream)
        messages = Messages("", NOTICE)
        dropped = fill(messages)
        text = b"".join(drained(theirs))
        log.error("after")
        told((text + theirs.recv(1 << 20)).decode(), dropped)


def test_a_fifo_without_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    messages = Messages(str(tmp_path / "log"), NOTICE)
    log.error("to nobody")
    assert messages.dropped == 1
    messages._file._next_try = 0.0  # type: ignore[union-attr]
    with open(os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        log.error("after")
        told(reader.read().decode(), 1)


def test_a_fifo_in_the_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    messages = Messages(str(path), NOTICE)
    path.rename(tmp_path / "old")
    os.mkfifo(path)
    messages.reopen()
    assert f"reopen log file {path}: " in (tmp_path / "old").read_text()


def test_a_system_log_that_is_full_or_away(system_log: socket.socket) -> None:
    messages = Messages("syslog", NOTICE)
    messages.started()
    dropped = fill(messages)
    drained(system_log)
    log.error("after")
    texts = [priority_and_text(system_log.recv(4096))[1] for _ in range(2)]
    assert texts == [f"messages that the log did not take, dropped: {dropped}", "after"]
    os.unlink(logs.SYSLOG)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(logs.SYSLOG)
        system_log.close()
        log.error("to the new one")
        assert priority_and_text(again.recv(4096))[1] == "to the new one"
    os.unlink(logs.SYSLOG)
    log.error("to nobody")
    assert messages.dropped == dropped + 1


def test_a_system_log_that_takes_streams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(logs, "SYSLOG", str(tmp_path / "dev-log"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(logs.SYSLOG)
        listener.listen()
        Messages("syslog", NOTICE).started()
        log.error("text")
        with listener.accept()[0] as connection:
            assert connection.recv(4096).endswith(b": text\0")


# -- rotation ---------------------------------------------------------------------------------------------------------


def test_reopen_after_a_rename(tmp_path: Path) -> None:
    path = tmp_path / "log"
    messages = Messages(str(path), NOTICE)
    log.error("one")
    path.rename(tmp_path / "log.1")
    log.error("two")
    messages.reopen()
    log.error("three")
    assert (tmp_path / "log.1").read_text().count("\n") == 2
    assert "three" in path.read_text()


def test_reopen_that_fails_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    messages = Messages(str(directory / "log"), NOTICE)
    directory.rename(tmp_path / "gone")
    messages.reopen()
    log.error("after")
    text = (tmp_path / "gone/log").read_text()
    assert f"reopen log file {directory}/log: No such file or directory; the old one stays in use" in text
    assert "after" in text


def test_reopen_without_a_file_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Messages("", NOTICE).reopen()
    log.error("still here")
    assert "still here" in capsys.readouterr().err


def test_a_full_disk_is_no_reason_to_fail(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    messages = Messages(str(path), NOTICE)
    messages.started()
    log.error("lost")
    path.unlink()
    messages.reopen()
    log.error("kept")
    assert "kept" in path.read_text()
    assert capsys.readouterr().err == ""
