# SPDX-License-Identifier: GPL-2.0-or-later
"""What a service manager is told, through a socket of the test's own."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from nflowlevel.daemon.notify import Notifier as _Notifier


@pytest.fixture
def made() -> Iterator[Any]:
    """Makes a Notifier that is closed in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(_Notifier()))


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The manager's socket; $NOTIFY_SOCKET names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.bind(f"\0nfltest-notify-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@nfltest-notify-{os.getpid()}")
        yield sock


def test_assignments_are_lines(manager: socket.socket, made: Any) -> None:
    notifier = made()
    assert notifier
    notifier(READY=1, STATUS="one\ntwo: ä")
    assert manager.recv(4096).decode() == "READY=1\nSTATUS=one two: ä"


def test_a_path(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("notify")
        sock.settimeout(20)
        made()(WATCHDOG=1)
        assert sock.recv(4096) == b"WATCHDOG=1"


def test_text_that_is_not_utf8(manager: socket.socket, made: Any) -> None:
    made()(STATUS="J\udce4rn")
    assert manager.recv(4096) == b"STATUS=J?rn"


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    notifier = made()
    notifier(READY=1)
    assert not notifier
    assert notifier.watchdog_secs == 0


def test_a_manager_that_is_gone_is_no_error(manager: socket.socket, made: Any) -> None:
    notifier = made()
    manager.close()
    notifier(READY=1)


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket, made: Any) -> None:
    """Its queue takes so many messages; what follows waits a moment and is given up."""
    notifier = made()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while count < 100_000:
                other.sendto(b"x", manager.getsockname())
                count += 1
    assert count < 100_000
    notifier(READY=1)
    for _ in range(count):
        assert manager.recv(16) == b"x"
    notifier(READY=1)
    assert manager.recv(16) == b"READY=1"


@pytest.mark.parametrize(
    ("limit", "pid", "secs"),
    [("3000000", "", 1.5), ("3000000", "own", 1.5), ("3000000", "1", 0), ("", "", 0), ("soon", "", 0)],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_must(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, limit: str, pid: str, secs: float, made: Any
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    else:
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert made().watchdog_secs == secs
