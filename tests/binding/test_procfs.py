# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells: who reads a group, what waits in its socket, what this process may do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nflowlevel as nfl
from nflowlevel.binding import procfs
from nflowlevel.binding.netns import entered
from tests.fix_group import log_udp, run_python
from tests.fix_netns import Netns, Pair
from tests.fix_nobody import run_as_nobody


def test_bound_groups(pair: Pair) -> None:
    log_udp(pair)
    with (
        nfl.open_group(2, netns=pair.fw.path, qthreshold=100, qtimeout=500, copy_range=77),
        nfl.open_group(65535, netns=pair.fw.path, copy_mode="meta"),
    ):
        pair.send_udp(3)
        with entered(pair.fw.path):
            assert procfs.knows_groups()
            assert procfs.may_read_groups()
            found = procfs.bound_groups()
            ports = procfs.netfilter_ports()
    assert set(found) == {2, 65535}
    two = found[2]
    assert (two.group, two.queued, two.copy_mode, two.copy_range, two.flush_centisecs) == (2, 3, 2, 77, 500)
    assert found[65535].copy_mode == 1
    assert {two.portid, found[65535].portid} <= set(ports)


def test_what_waits_in_a_socket(pair: Pair) -> None:
    log_udp(pair)
    with nfl.open_group(2, netns=pair.fw.path, qthreshold=1, socket_buffer=8192) as group:

        def port() -> procfs.PortState:
            with entered(pair.fw.path):
                return procfs.netfilter_ports()[procfs.bound_groups()[2].portid]

        assert (port().queued_bytes, port().drops) == (0, 0)
        pair.send_udp(100)
        assert port().queued_bytes > 0
        assert port().drops == group._socket.socket.drops > 0


def test_no_groups(netns: Netns) -> None:
    with entered(netns.path):
        assert procfs.bound_groups() == {}
        assert procfs.holder_of(2) is None
        assert procfs.netfilter_ports() == {}


def test_holder(netns: Netns) -> None:
    with nfl.open_group(7, netns=netns.path) as group, entered(netns.path):
        holder = procfs.holder_of(7)
        portid = group._socket.socket.portid
    assert holder is not None
    assert (holder.portid, holder.pid) == (portid, os.getpid())
    assert str(holder) == f"netlink port {portid} (process {os.getpid()}, {holder.command})"


def test_who_may_see_nothing_is_told_the_process_by_its_port(netns: Netns) -> None:
    code = "import sys, nflowlevel as nfl\nwith nfl.open_group(2):\n    print(flush=True)\n    sys.stdin.read()"
    reader = netns.popen(sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    with netns.enter():
        assert procfs.suspects() == (f"process {reader.pid} (python)",)
        done = run_as_nobody(lambda: print(procfs.holder_of(2), *procfs.suspects()) or 0)
    assert done.output == f"None process {reader.pid} (python)\n"
    reader.communicate()


def test_an_unknown_holder(netns: Netns) -> None:
    with entered(netns.path):
        assert procfs.holder_at(4_000_000_000) == procfs.Holder(4_000_000_000)
    assert str(procfs.Holder(4_000_000_000)) == "netlink port 4000000000"


def test_command_line() -> None:
    assert sys.executable.rpartition("/")[2] in procfs.command_line(os.getpid())
    words = [sys.executable, "-c", "print(flush=True); input()", "ö" * 100, "\udcff"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        line = procfs.command_line(child.pid)
        child.stdin.close()
    assert len(line) == 80
    assert line.startswith(f"{sys.executable} -c print")
    assert line.endswith("ö…")
    assert procfs.command_line(2**22 + 1) == ""


_NAMED = r"""
import ctypes, sys
ctypes.CDLL(None).prctl(15, b"ev\xff\r\x1b\n(\tT", 0, 0, 0)
print(flush=True)
sys.stdin.read()
"""


def test_a_name_may_hold_any_bytes() -> None:
    """A process gives itself its name: prctl(2), PR_SET_NAME."""
    with subprocess.Popen([sys.executable, "-c", _NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        assert procfs.name_of(child.pid) == r"ev\udcff\r\x1b\n(\tT"
        assert not procfs.is_stopped(child.pid)
        assert not procfs.is_ours(child.pid)
        child.stdin.close()
    assert procfs.name_of(2**22 + 1) == "?"


def test_is_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert not procfs.is_stopped(child.pid)
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        assert procfs.is_stopped(child.pid)
        child.send_signal(signal.SIGCONT)
        os.waitid(os.P_PID, child.pid, os.WCONTINUED)
        assert not procfs.is_stopped(child.pid)
        assert child.stdin
        child.stdin.close()
    assert not procfs.is_stopped(2**22 + 1)


_SAY = "from nflowlevel.binding import procfs; print({})"


def say(expression: str, *before: str) -> str:
    done = run_python(_SAY.format(expression), *before)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_UNSHARE_USER = ("unshare", "--user", "--map-root-user")


@pytest.mark.skipif(os.geteuid() != 0, reason="this needs root's capabilities")
def test_capabilities() -> None:
    has = "procfs.has_capability(procfs.CAP_NET_ADMIN)"
    assert say(has) == "True"
    assert say(has, "setpriv", "--bounding-set", "-net_admin") == "False"
    assert say(has, *_UNSHARE_USER) == "True", "in effect, although for its own namespaces only"


@pytest.mark.skipif(os.geteuid() != 0, reason="this needs root's capabilities")
def test_admin_obstacle() -> None:
    obstacle = "procfs.admin_obstacle()"
    assert say(obstacle) == ""
    assert say(obstacle, "setpriv", "--bounding-set", "-net_admin") == "CAP_NET_ADMIN is missing"
    foreign = "CAP_NET_ADMIN is missing in the user namespace that owns this network namespace"
    assert say(obstacle, *_UNSHARE_USER) == foreign
    assert say(obstacle, *_UNSHARE_USER, "--net") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="this needs root's capabilities")
def test_user_namespace() -> None:
    if Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]:
        assert say("procfs.user_namespace()") == "the initial user namespace"
    assert say("procfs.user_namespace()", *_UNSHARE_USER) == "a user namespace where uid 0 is uid 0 outside"
    assert say("procfs.user_namespace()", "unshare", "--user") == "a user namespace without users"
