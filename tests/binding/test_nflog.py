# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket of one group: requests answered among packets, nothing lost between them, refusals explained."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.binding._lib import lib
from nflowlevel.binding.buffers import BufferPool
from nflowlevel.binding.netns import entered
from nflowlevel.binding.nflog import COPY_MODES, GroupSocket
from nflowlevel.binding.procfs import bound_groups
from nflowlevel.errors import KernelError, NflowError
from tests.fix_group import log_udp
from tests.fix_netns import Netns, Pair


def bind(sock: GroupSocket, *, qthreshold: int = 1, qtimeout: int = 60_000, seq_global: bool = False) -> None:
    sock.bind(
        copy_mode=COPY_MODES["packet"],
        copy_range=0,
        qthreshold=qthreshold,
        qtimeout=qtimeout,
        nlbufsiz=0,
        seq_global=seq_global,
    )


@pytest.fixture
def logged(pair: Pair) -> Pair:
    log_udp(pair)
    return pair


@pytest.fixture
def sock(pair: Pair) -> Iterator[GroupSocket]:
    made = GroupSocket(2, netns=pair.fw.path)
    yield made
    made.close()


def groups(netns: Netns) -> set[int]:
    with entered(netns.path):
        return set(bound_groups())


def test_bind_and_unbind(pair: Pair, sock: GroupSocket) -> None:
    assert groups(pair.fw) == set()
    bind(sock)
    assert groups(pair.fw) == {2}
    sock.unbind()
    assert groups(pair.fw) == set()
    bind(sock)
    assert groups(pair.fw) == {2}


def test_close_gives_the_group_up(pair: Pair, sock: GroupSocket) -> None:
    bind(sock)
    sock.close()
    sock.close()
    assert groups(pair.fw) == set()


def test_a_group_that_is_given_up_already(pair: Pair, sock: GroupSocket) -> None:
    """An unbind whose answer was lost is sent again: that the group is gone then is no error."""
    bind(sock)
    sock.unbind()
    sock.unbind()


def test_packets_that_come_before_an_answer_are_kept(logged: Pair, sock: GroupSocket) -> None:
    """The kernel sends what it queues first, then the answer to the unbind."""
    bind(sock, qthreshold=1000)
    logged.send_udp(13)
    assert sock.receive() is None
    assert not sock.early
    sock.unbind()
    assert sock.early
    received = sock.receive()
    assert received is not None
    assert received.count == 13
    assert not sock.early
    assert sock.receive() is None
    assert (sock.state.received, sock.state.gap, sock.state.acked) == (13, 0, 1)


def test_what_is_valid_of_all_and_of_any(logged: Pair, sock: GroupSocket) -> None:
    bind(sock)
    logged.send_udp(3)
    received = sock.receive()
    assert received is not None
    assert received.valid_all == received.valid_any
    assert received.valid_all >> lib.NFL_VALID_UDP & 1
    assert not received.valid_any >> lib.NFL_VALID_TCP & 1


def test_a_second_reader(pair: Pair, sock: GroupSocket) -> None:
    bind(sock)
    other = GroupSocket(2, netns=pair.fw.path)
    with pytest.raises(KernelError, match="group 2 is read by netlink port") as caught:
        bind(other)
    assert caught.value.errno == errno.EPERM
    with pytest.raises(KernelError, match="group 2 is read by netlink port") as caught:
        bind(sock)
    assert caught.value.errno == errno.EBUSY
    other.close()


def test_what_the_kernel_refuses(pair: Pair, sock: GroupSocket) -> None:
    """Other refusals carry the kernel's word alone."""
    with pytest.raises(KernelError, match=r"^take over packet logging of family 200: ") as caught:
        sock.become_logger(200, unbind_first=False)
    assert caught.value.errno


@pytest.mark.parametrize("family", [2, 10])
def test_become_logger(pair: Pair, sock: GroupSocket, family: int) -> None:
    def logger() -> str:
        with pair.fw.enter():
            return Path(f"/proc/sys/net/netfilter/nf_log/{family}").read_text().strip()

    bind(sock)
    sock.become_logger(family, unbind_first=True)
    assert logger() == "nfnetlink_log"
    sock.become_logger(family, unbind_first=False)
    assert logger() == "nfnetlink_log"


def test_the_ceiling_of_held_memory(logged: Pair) -> None:
    """Packets wait in the socket meanwhile; when some are let go they come."""
    sock = GroupSocket(2, netns=logged.fw.path, pool=BufferPool(max_held_bytes=1))
    bind(sock)
    logged.send_udp(5)
    kept = sock.receive()
    assert kept is not None
    logged.send_udp(7)
    for _ in range(2):
        with pytest.raises(NflowError, match=r"1 buffers with [0-9]+ bytes are held by packets"):
            sock.receive()
    del kept
    received = sock.receive()
    assert received is not None
    assert received.count == 7
    assert sock.state.gap == 0
    sock.close()


def test_a_closed_socket_reads_nothing(logged: Pair) -> None:
    """Not even from the file that has got its descriptor since."""
    sock, successor = GroupSocket(2, netns=logged.fw.path), GroupSocket(2, netns=logged.fw.path)
    bind(sock)
    number = sock.fileno()
    sock.close()
    successor.close()
    successor = GroupSocket(2, netns=logged.fw.path)
    assert successor.fileno() == number
    bind(successor)
    logged.send_udp(1)
    with pytest.raises(KernelError, match="receive from group 2: Bad file descriptor"):
        sock.receive()
    with pytest.raises(ValueError, match="closed"):
        sock.unbind()
    received = successor.receive()
    assert received is not None
    assert received.count == 1
    successor.close()
