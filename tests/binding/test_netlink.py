# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink sockets: one owner, closed once, with the options that libmnl does not set."""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path

import pytest

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.binding.netns import identity
from nflowlevel.errors import KernelError
from tests.fix_interrupt import interrupt_everywhere
from tests.fix_netns import Netns


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_close() -> None:
    before = descriptors()
    with NetlinkSocket(lib.NETLINK_NETFILTER) as sock:
        assert descriptors() == before + 1
        assert os.readlink(f"/proc/self/fd/{sock.fileno()}").startswith("socket:")
        assert sock.portid
    sock.close()
    assert descriptors() == before


def test_a_closed_socket_is_not_used() -> None:
    """libmnl would look into memory it has freed."""
    sock = NetlinkSocket(lib.NETLINK_NETFILTER)
    sock.close()
    message = lib.mnl_nlmsg_put_header(ffi.new("char[]", 64))
    for use in (sock.fileno, lambda: sock.portid, lambda: sock.send(message)):
        with pytest.raises(ValueError, match="closed"):
            use()
    for use in (
        lambda: sock.receive_buffer,
        lambda: sock.drops,
        lambda: sock.set_receive_buffer(5),
        sock.connect_to_kernel,
    ):
        with pytest.raises(OSError, match="Bad file descriptor"):
            use()


def test_a_forgotten_socket_is_closed() -> None:
    gc.collect()
    before = descriptors()
    NetlinkSocket(lib.NETLINK_NETFILTER)
    gc.collect()
    assert descriptors() == before


@pytest.mark.kernel
def test_nothing_goes_wrong_when_a_failed_one_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a destructor raises nobody can catch."""
    raised: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    for wrong in ("no-such-netns", "/dev/null", "nul\0", 5):
        with pytest.raises((KernelError, ValueError, TypeError)):
            NetlinkSocket(lib.NETLINK_NETFILTER, netns=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        NetlinkSocket()  # type: ignore[call-arg]
    gc.collect()
    assert not raised


def test_interrupts(netns: Netns) -> None:
    """No descriptor is lost, and the thread is never left in the other namespace."""

    def use() -> None:
        with NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns.path) as sock:
            sock.connect_to_kernel()
            sock.set_receive_buffer(1 << 20)

    interrupt_everywhere(use, least=50)


def test_its_namespace(netns: Netns) -> None:
    for given in (netns.path, None):
        with NetlinkSocket(lib.NETLINK_ROUTE, netns=given) as sock:
            before = descriptors()
            assert sock.namespace == identity(given or "/proc/self/ns/net")
            assert descriptors() == before


def test_it_is_not_inherited_and_does_not_block() -> None:
    with NetlinkSocket(lib.NETLINK_NETFILTER) as sock:
        assert not os.get_inheritable(sock.fileno())
        assert not os.get_blocking(sock.fileno())


def test_each_has_a_port_of_its_own() -> None:
    with NetlinkSocket(lib.NETLINK_ROUTE) as one, NetlinkSocket(lib.NETLINK_ROUTE) as other:
        assert one.portid != other.portid


@pytest.mark.skipif(os.geteuid() != 0, reason="past net.core.rmem_max only root can go")
def test_receive_buffer() -> None:
    """Past net.core.rmem_max; the kernel grants the double."""
    with NetlinkSocket(lib.NETLINK_NETFILTER) as sock:
        assert sock.set_receive_buffer(32 << 20) == sock.receive_buffer == 64 << 20
        assert sock.set_receive_buffer(2**40) == 0x7FFFFFFE


def test_in_a_namespace(netns: Netns) -> None:
    with NetlinkSocket(lib.NETLINK_ROUTE, netns=netns.path) as sock:
        of_socket = os.readlink(f"/proc/self/fd/{sock.fileno()}")
        with netns.enter():
            inside = Path("/proc/thread-self/net/netlink").read_text()
        assert of_socket.removeprefix("socket:[").removesuffix("]") in inside.split()


def test_an_unknown_bus() -> None:
    before = descriptors()
    with pytest.raises(KernelError, match="open a netlink socket: Protocol not supported"):
        NetlinkSocket(31)
    assert descriptors() == before


def test_others_cannot_send_to_it() -> None:
    with NetlinkSocket(lib.NETLINK_NETFILTER) as sock, _forger(lib.NETLINK_NETFILTER) as forger:
        forger.sendto(b"not from the kernel", (sock.portid, 0))
        sock.connect_to_kernel()
        with pytest.raises(ConnectionRefusedError):
            forger.sendto(b"not from the kernel", (sock.portid, 0))


def _forger(bus: int) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, bus)


def test_drops_are_counted(netns: Netns) -> None:
    """Datagrams of the kernel that found no room (SO_MEMINFO)."""
    with NetlinkSocket(lib.NETLINK_ROUTE, groups=1, netns=netns.path) as sock:
        sock.set_receive_buffer(0)
        assert sock.drops == 0
        netns.ip("link add n0 type bridge\n" + "\n".join(f"link set n{n} name n{n + 1}" for n in range(30)))
        assert sock.drops > 0
