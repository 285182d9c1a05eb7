# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's own messages: levels, layout, destinations, rotation, and what repeats."""

from __future__ import annotations

import errno
import logging
import re
import sys
import syslog
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def test_syslog(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, str]] = []
    opened: list[Any] = []
    monkeypatch.setattr(syslog, "openlog", lambda *args: opened.append(args))
    monkeypatch.setattr(syslog, "syslog", lambda priority, text: sent.append((priority, text)))
    Messages("syslog", logging.DEBUG, verbose=True).started()
    for number, level in LEVELS.items():
        log.log(level, "message %d", number)
    log.warning("between")
    log.error("J\udce4rn \0")
    assert opened == [("nflowlevel", syslog.LOG_PID, syslog.LOG_DAEMON)]
    assert sent == [
        (syslog.LOG_DEBUG, "message 1"),
        (syslog.LOG_INFO, "message 3"),
        (syslog.LOG_NOTICE, "message 5"),
        (syslog.LOG_ERR, "message 7"),
        (syslog.LOG_CRIT, "message 8"),
        (syslog.LOG_WARNING, "between"),
        (syslog.LOG_ERR, "J\\udce4rn \\0"),
    ]


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
