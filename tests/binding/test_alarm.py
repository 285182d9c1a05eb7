# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting that another thread can end, for good, before it closes what is waited for."""

from __future__ import annotations

import os
import signal
import threading

from nflowlevel.binding.alarm import Alarm
from nflowlevel.binding.descriptor import Descriptor


def test_it_waits_for_the_descriptor_or_the_time() -> None:
    alarm, event = Alarm(), Descriptor.event()
    assert not alarm.wait(event.fd, 0.001)
    os.eventfd_write(event.fd, 1)
    assert alarm.wait(event.fd)
    assert not alarm.rung


def test_ringing_ends_the_waiting_for_good() -> None:
    alarm, event = Alarm(), Descriptor.event()
    waits, ended = threading.Event(), threading.Event()

    def wait() -> None:
        with alarm.lock:
            waits.set()
            alarm.wait(event.fd)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(10)
    alarm.ring()
    assert ended.wait(10)
    thread.join()
    with alarm.lock:
        assert alarm.wait(event.fd)
        alarm.close()
        assert alarm.wait(event.fd), "it has rung before"
    alarm.ring()
    assert alarm.fileno() == -1


def test_a_signal_handler_may_close_what_its_thread_waits_for() -> None:
    alarm, event = Alarm(), Descriptor.event()

    def close(*_: object) -> None:
        alarm.ring()
        with alarm.lock:
            event.close()

    before = signal.signal(signal.SIGUSR1, close)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with alarm.lock:
            assert alarm.wait(event.fd, 10)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert alarm.rung
