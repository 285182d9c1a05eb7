# SPDX-License-Identifier: GPL-2.0-or-later
"""A process opens for us what we may not open any more: what was agreed on, nothing else, and it ends with us."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from nflowlevel.binding._lib import lib
from nflowlevel.binding.netlink import NetlinkDoor, NetlinkSocket
from nflowlevel.binding.netns import NamespaceDoor
from nflowlevel.binding.opener import Opener, opened, use
from nflowlevel.errors import KernelError
from tests.fix_group import run_python
from tests.fix_netns import Netns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can keep what another user may not")


@dataclass(frozen=True)
class FileDoor:
    """A file to read."""

    path: str
    capabilities: ClassVar[int] = 0

    def open(self) -> int:
        """Open it."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)


@dataclass(frozen=True)
class Wrong:
    """A door that raises something."""

    capabilities: ClassVar[int] = 0

    def open(self) -> int:
        """Raise it."""
        raise ZeroDivisionError


@dataclass(frozen=True)
class Slow:
    """A door that takes long."""

    capabilities: ClassVar[int] = 0

    def open(self) -> int:
        """Take long."""
        time.sleep(60)
        return -1


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def test_it_opens_what_was_agreed_on_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    doors = [FileDoor(str(tmp_path / name)) for name in ("a", "b", "a", "missing")]
    before = descriptors()
    with Opener(doors) as opener:
        assert [read(opener.open(door)) for door in (doors[1], doors[0], doors[1])] == [b"b", b"a", b"b"]
        assert doors[2] in opener
        with pytest.raises(FileNotFoundError):
            opener.open(doors[3])
        other = FileDoor(str(tmp_path / "c"))
        assert other not in opener
        with pytest.raises(PermissionError):
            opener.open(other)
        assert read(opener.open(doors[0])) == b"a"
    assert descriptors() == before


def test_what_it_hands_over_is_not_inherited(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    door = FileDoor(str(tmp_path / "a"))
    with Opener([door]) as opener:
        fd = opener.open(door)
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_numbers_that_are_no_door(tmp_path: Path) -> None:
    """Whoever has our end of the line gets no further by it."""
    (tmp_path / "a").touch()
    with Opener([FileDoor(str(tmp_path / "a"))]) as opener:
        for request in (b"\1\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0", b"\0\0\0\0/etc/shadow"):
            opener._socket.send(request)
            answer, fds, _, _ = socket.recv_fds(opener._socket, 4, 1)
            if request.startswith(b"\0\0\0\0"):
                assert answer == bytes(4), "what follows the number is not read"
                os.close(fds[0])
            else:
                assert int.from_bytes(answer, "little")
                assert not fds


def test_an_error_in_a_door_is_no_end() -> None:
    with Opener([Wrong(), FileDoor("/dev/null")]) as opener:
        with pytest.raises(OSError, match="Input/output error"):
            opener.open(Wrong())
        os.close(opener.open(FileDoor("/dev/null")))


def test_it_keeps_what_its_doors_need(netns: Netns) -> None:
    opener = Opener([FileDoor("/dev/null"), NamespaceDoor(netns.path)])
    with opener:
        os.close(opener.open(FileDoor("/dev/null")))
        state = status(opener.pid)
    assert int(state["CapEff"], 16) == int(state["CapPrm"], 16) == 1 << lib.CAP_SYS_PTRACE
    assert state["Name"] == "nflowlevel-open"


def test_it_holds_nothing_of_ours() -> None:
    """A pipe whose other end waits for our end would wait for ever."""
    end, ours = os.pipe()
    os.set_inheritable(ours, True)
    with Opener([FileDoor("/dev/null")]) as opener:
        os.close(opener.open(FileDoor("/dev/null")))
        os.close(ours)
        assert os.read(end, 1) == b""
        links = {os.readlink(f"/proc/{opener.pid}/fd/{fd}") for fd in range(3)}
        assert links == {"/dev/null"}
    os.close(end)


def test_it_ends_with_us_and_not_by_what_is_meant_for_us() -> None:
    code = """if True:
        import json, os, signal
        from nflowlevel.binding.netns import NamespaceDoor
        from nflowlevel.binding.opener import Opener
        door = NamespaceDoor("/proc/self/ns/net")
        opener = Opener([door])
        opener.open(door)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(opener.pid, number)
        opener.open(door)
        print(opener.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run_python(code)
    assert done.returncode == -9, done.stderr
    pid = int(done.stdout)
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and status(pid)["State"][0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_that_does_not_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflowlevel.binding.opener._ANSWER_SECS", 0.1)
    opener = Opener([Slow(), FileDoor("/dev/null")])
    try:
        for door in (Slow(), FileDoor("/dev/null")):
            with pytest.raises(KernelError, match="restart the daemon") as caught:
                opener.open(door)
            assert caught.value.errno == errno.ECONNRESET
    finally:
        pid = opener.pid
        opener.close()
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_namespace_is_opened_for_who_may_not_enter_it(netns: Netns) -> None:
    code = f"""if True:
        import json, os, pwd
        from nflowlevel.binding._lib import lib
        from nflowlevel.binding.netlink import BUSES, NetlinkDoor, NetlinkSocket
        from nflowlevel.binding.netns import NamespaceDoor
        from nflowlevel.binding.opener import Opener, opened, use
        from nflowlevel.binding.privileges import confine, drop_to
        from nflowlevel.binding.interfaces import Links
        from nflowlevel.binding.nflog import GroupSocket
        path = {netns.path!r}
        user = pwd.getpwnam("nobody")
        confine(user)
        opener = Opener([NamespaceDoor(path), *(NetlinkDoor(path, bus) for bus in BUSES)])
        use(opener)
        drop_to(user)
        found = [os.fstat(opened(NamespaceDoor(path))).st_ino]
        links = Links(path)
        found.append(sorted(links.table.names.values()))
        group = GroupSocket(5, netns=path)
        group.bind(copy_mode=2, copy_range=0, qthreshold=1, qtimeout=1, nlbufsiz=0, seq_global=False)
        found.append(group.socket.portid == os.getpid())
        try:
            Links("/proc/1/ns/net")
        except Exception as error:
            found.append(str(error))
        print(json.dumps(found))
    """
    netns.run("ip", "link", "add", "seen", "type", "veth", "peer", "name", "other")
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    inode, names, is_ours, refused = json.loads(done.stdout)
    assert inode == os.stat(netns.path).st_ino
    assert names == ["lo", "other", "seen"]
    assert is_ours, "the kernel names it after the process that reads"
    assert refused.startswith("enter network namespace /proc/1/ns/net: Operation not permitted")


def test_without_one_in_use_this_thread_opens(netns: Netns) -> None:
    fd = opened(NamespaceDoor(netns.path))
    assert os.fstat(fd).st_ino == os.stat(netns.path).st_ino
    os.close(fd)
    with Opener([NetlinkDoor(netns.path, lib.NETLINK_ROUTE)]) as opener:
        use(opener)
        try:
            with pytest.raises(KernelError, match="Operation not permitted"):
                NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns.path)
            NetlinkSocket(lib.NETLINK_ROUTE, netns=netns.path).close()
        finally:
            use(None)
        NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns.path).close()
