# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts: what is gathered about real namespaces and real readers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import nflowlevel
from nflowlevel.binding.netns import OWN
from nflowlevel.doctor.facts import gather, other_namespaces
from nflowlevel.errors import KernelError
from nflowlevel.firewall import nf_log
from nflowlevel.readers.group import open_group
from tests.fix_daemon import wait_for
from tests.fix_netns import Netns
from tests.fix_nobody import CLONE_NEWNET, enter_network_namespace, enter_user_namespace, run_as_nobody

_GROUP = 7


@contextmanager
def _tail(netns: Netns) -> Iterator[subprocess.Popen[str]]:
    """Another process that reads the group."""
    command = (sys.executable, "-m", "nflowlevel", "tail", "--group", str(_GROUP))
    environment = {**os.environ, "PYTHONPATH": str(Path(nflowlevel.__file__).parents[1])}
    child = netns.popen(*command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr
    assert "waiting for packets" in child.stderr.readline()
    yield child


def test_empty_namespace(netns: Netns, all_netns: bool | None) -> None:
    facts = gather(netns.name)
    assert facts.knows_groups
    assert not facts.obstacle
    assert facts.user_namespace == "the initial user namespace"
    assert facts.readers == {}
    assert facts.groups == set()
    assert facts.families == nf_log.families(netns.name)
    assert facts.log_invalid == "off"
    assert facts.kernel_log == all_netns


def test_initial_namespace_has_the_kernels_log() -> None:
    assert gather().kernel_log is True


def test_reader_in_this_process(netns: Netns) -> None:
    with open_group(_GROUP, netns=netns.name, copy_mode="meta", qtimeout=30):
        facts = gather(netns.name)
    assert facts.readers is not None
    reader = facts.readers[_GROUP]
    assert reader.holder.pid == os.getpid()
    assert (reader.bound.copy_mode, reader.bound.flush_centisecs, reader.bound.queued) == (1, 30, 0)
    assert reader.port is not None
    assert reader.port.drops == 0
    assert not reader.stopped
    assert not gather(netns.name).readers


def test_reader_in_another_process_and_stopped(netns: Netns) -> None:
    with _tail(netns) as child:
        readers = gather(netns.name).readers
        assert readers is not None
        reader = readers[_GROUP]
        assert reader.holder.pid == child.pid
        assert f"-m nflowlevel tail --group {_GROUP}" in reader.command
        assert not reader.stopped
        os.kill(child.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: (gather(netns.name).readers or {})[_GROUP].stopped, "the reader is stopped")
        finally:
            os.kill(child.pid, signal.SIGCONT)


def test_packets_the_reader_had_no_room_for(netns: Netns) -> None:
    netns.nft(f"table ip t {{ chain c {{ type filter hook input priority 0; udp dport 9 log group {_GROUP}; }}; }}")
    with open_group(_GROUP, netns=netns.name, profile="latency", socket_buffer=2048, max_socket_buffer=2048):
        with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for _ in range(500):
                udp.sendto(b"x" * 1000, ("127.0.0.1", 9))
        port = (gather(netns.name).readers or {})[_GROUP].port
    assert port is not None
    assert port.queued_bytes > 0
    assert 0 < port.drops < 500


def test_packets_that_wait_in_the_kernel(netns: Netns) -> None:
    netns.nft(f"table ip t {{ chain c {{ type filter hook input priority 0; udp dport 9 log group {_GROUP}; }}; }}")
    with open_group(_GROUP, netns=netns.name, qthreshold=100, qtimeout=100_000) as group:
        with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for _ in range(5):
                udp.sendto(b"x", ("127.0.0.1", 9))
        assert (gather(netns.name).readers or {})[_GROUP].bound.queued == 5
        # Looking took nothing away.
        group.stop()
        assert sum(len(batch) for batch in group.batches()) == 5


def test_other_namespaces(netns: Netns) -> None:
    netns.nft(f"table ip t {{ chain c {{ type filter hook input priority 0; log group {_GROUP}; }}; }}")
    others, closed = other_namespaces(None)
    assert others[netns.name].groups == {_GROUP}
    assert OWN not in others
    assert netns.name not in closed
    others, _ = other_namespaces(netns.name)
    assert OWN in others
    assert netns.name not in others


@pytest.mark.kernel
def test_ordinary_user() -> None:
    def function() -> int:
        facts = gather()
        print(facts.obstacle, facts.readers, sep="\n")
        print(*(f"{what} — {remedy}" for what, remedy in facts.ruleset.unseen), sep="\n")
        return 0

    status, output = run_as_nobody(function)
    lines = output.splitlines()
    assert status == 0, output
    assert lines[:2] == ["CAP_NET_ADMIN is missing", "None"]
    assert lines[2].startswith("rules of nft: nft: Operation not permitted")
    assert lines[2].endswith("— run as root")


@pytest.mark.kernel
@pytest.mark.parametrize("at_once", [True, False])
def test_user_namespace(at_once: bool) -> None:
    """Made in one go, the network namespace does not tell its groups: then the sockets are all there is to see."""

    def function() -> int:
        enter_user_namespace(also=CLONE_NEWNET if at_once else 0)
        if not at_once:
            enter_network_namespace()
        rule = f"table ip t {{ chain c {{ type filter hook input priority 0; log group {_GROUP}; }}; }}"
        subprocess.run(["nft", "-f", "-"], input=rule, text=True, check=True)
        alone = gather()
        with open_group(_GROUP, socket_buffer=1 << 16, max_socket_buffer=1 << 16):
            read = gather()
            with pytest.raises(KernelError, match=f"group {_GROUP} is read by") as refused:
                open_group(_GROUP)
        assert ("another socket" in str(refused.value)) == at_once
        print(read.user_namespace, read.obstacle, read.ruleset.groups)
        assert (alone.readers is None) == at_once
        assert not alone.suspects
        seen = [holder.pid for holder in read.suspects] or [(read.readers or {})[_GROUP].holder.pid]
        assert seen == [os.getpid()]
        return 0

    status, output = run_as_nobody(function)
    assert status == 0, output
    assert f"a user namespace where uid 0 is uid 65534 outside  {{{_GROUP}}}" in output
