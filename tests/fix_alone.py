# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine has only one of, when several runs of the tests share it: locks, and ports that nobody else has."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator

import pytest

from nflowlevel.firewall import nf_log

#: Below the ports that the kernel gives to who asks for any (net.ipv4.ip_local_port_range): none of them is taken by
#: chance between the look and the use.
_PORTS = range(10_000, 32_000)
_untried = iter(random.SystemRandom().sample(_PORTS, len(_PORTS)))


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Have something to oneself for the block; other runs of the tests wait."""
    path = os.path.join(tempfile.gettempdir(), f"nfltest-{os.geteuid()}.{what}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@pytest.fixture
def all_netns() -> Iterator[bool | None]:
    """Whether all namespaces write to the kernel's log: it stays so unless the test sets it, and is restored."""
    with alone("nf_log_all_netns"):
        before = nf_log.all_netns()
        try:
            yield before
        finally:
            if before is not None and nf_log.all_netns() is not before:
                nf_log.set_all_netns(before)


def unused_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a port of loopback that nobody has, and that nobody gets unasked."""
    for port in _untried:
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"this run has had all ports of {_PORTS}")
