# SPDX-License-Identifier: GPL-2.0-or-later
"""How conntrack is set up in a namespace, and who listens: as the kernel says it, and as it was set."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.errors import KernelError
from nflowlevel.firewall import conntrack
from nflowlevel.firewall.conntrack import DESTROY, NEW, UPDATE, Listener, settings
from tests.fix_netns import Netns, netns

__all__ = ["netns"]

_SOL_NETLINK, _NETLINK_BROADCAST_ERROR, _NETLINK_NETFILTER = 270, 4, 12


@contextlib.contextmanager
def listening(place: Netns, events: int, *, reliable: bool = False) -> Iterator[int]:
    """Listen in a namespace; yield the port id."""
    with place.enter():
        listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    with listener:
        listener.bind((0, events))
        listener.setsockopt(_SOL_NETLINK, _NETLINK_BROADCAST_ERROR, reliable)
        yield listener.getsockname()[0]


def test_what_was_set_is_what_is_told(netns: Netns) -> None:
    for name, value in (("acct", 1), ("timestamp", 0), ("events", 1)):
        netns.sysctl(f"net.netfilter.nf_conntrack_{name}", value)
    found = settings(netns.path)
    assert found
    assert (found.acct, found.timestamp, found.events, found.count, found.listeners) == (True, False, 1, 0, ())
    assert found.most > 1000
    netns.sysctl("net.netfilter.nf_conntrack_acct", 0)
    netns.sysctl("net.netfilter.nf_conntrack_timestamp", 1)
    netns.sysctl("net.netfilter.nf_conntrack_events", 2)
    found = settings(netns.path)
    assert found
    assert (found.acct, found.timestamp, found.events) == (False, True, 2)


def test_a_flow_is_counted(netns: Netns) -> None:
    netns.nft("table inet t { chain c { type filter hook output priority 0; ct state new; }; }")
    with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))
    found = settings(netns.path)
    assert found
    assert found.count >= 1


def test_listeners(netns: Netns) -> None:
    with listening(netns, NEW | DESTROY) as one, listening(netns, DESTROY, reliable=True) as two:
        found = settings(netns.path)
        assert found
        told = {(each.holder.portid, each.events, each.reliable) for each in found.listeners}
        assert told == {(one, 5, False), (two, 4, True)}
        assert {each.holder.pid for each in found.listeners} == {os.getpid()}
    found = settings(netns.path)
    assert found
    assert not found.listeners


def test_where_the_kernel_does_not_tell_who_is_reliable(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> Iterator[Listener]:
        raise KernelError("list the listeners to conntrack", 2)
        yield

    monkeypatch.setattr(conntrack, "_asked", refused)
    with listening(netns, UPDATE) as port:
        found = settings(netns.path)
        assert found
        (told,) = found.listeners
        assert (told.holder.portid, told.events, told.reliable) == (port, 2, None)


def test_a_namespace_that_is_not_there() -> None:
    with pytest.raises(KernelError, match="not-there"):
        settings("/run/netns/not-there")


def test_a_kernel_without_conntrack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflowlevel.binding.conntrack._SETTINGS", Path("/proc/sys/net/netfilter/not-there"))
    assert settings() is None
