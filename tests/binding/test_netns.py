# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls in another network namespace: back home afterwards, whatever happens, and other threads stay where they are."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from nflowlevel.binding.netns import OWN, elsewhere, entered, everywhere, identity_of_own, name_of_own, path_of
from nflowlevel.errors import KernelError
from tests.fix_interrupt import interrupt_everywhere
from tests.fix_netns import Netns, Pair
from tests.fix_nobody import run_as_nobody


def here() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


@pytest.mark.parametrize(
    ("given", "path"), [("blue", "/run/netns/blue"), ("/proc/1/ns/net", "/proc/1/ns/net"), ("./file", "./file")]
)
def test_path_of(given: str, path: str) -> None:
    assert path_of(given) == path


def test_entered(netns: Netns) -> None:
    home, there = here(), os.stat(netns.path).st_ino
    assert home != there
    for given in (netns.name, netns.path):
        with entered(given):
            assert here() == there
        assert here() == home


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_namespace_is_the_own_one(nothing: str | None) -> None:
    home = here()
    with entered(nothing):
        assert here() == home


def test_back_home_after_an_exception(netns: Netns) -> None:
    home = here()
    with pytest.raises(ZeroDivisionError), entered(netns.path):
        raise ZeroDivisionError
    assert here() == home


def test_back_home_after_an_interrupt(netns: Netns) -> None:
    home, there = here(), os.stat(netns.path).st_ino
    seen: list[int] = []

    def visit() -> None:
        with entered(netns.path):
            seen.append(here())

    interrupt_everywhere(visit, least=10)
    assert set(seen) == {there}
    assert here() == home


def test_within_one_another(pair: Pair) -> None:
    home = here()
    outer, inner = (os.stat(netns.path).st_ino for netns in (pair.fw, pair.peer))
    with entered(pair.fw.path):
        with entered(pair.peer.path):
            assert here() == inner
        assert here() == outer
    assert here() == home


def test_other_threads_stay(netns: Netns) -> None:
    home, seen = here(), []
    with entered(netns.path):
        # A new thread begins where its maker is; one that runs already does not move.
        thread = threading.Thread(target=lambda: seen.append(here()))
        thread.start()
        thread.join()
    assert seen == [os.stat(netns.path).st_ino]
    go, done = threading.Event(), threading.Event()

    def wait() -> None:
        go.wait(10)
        seen.append(here())
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    with entered(netns.path):
        go.set()
        assert done.wait(10)
    thread.join()
    assert seen[1] == home


@pytest.mark.parametrize("planted", ["fifo", "file"])
def test_what_is_no_namespace_is_not_opened(tmp_path: Path, planted: str) -> None:
    """Who can write in the directory of a configured path may put a FIFO there, for which an open would wait."""
    path = tmp_path / planted
    os.mkfifo(path) if planted == "fifo" else path.touch()
    before = path.stat().st_atime_ns
    with pytest.raises(KernelError, match=f"^enter network namespace {path}: Invalid argument"), entered(str(path)):
        pass
    assert path.stat().st_atime_ns == before


def test_no_descriptor_is_left(netns: Netns) -> None:
    before = os.listdir("/proc/self/fd")
    with entered(netns.path):
        pass
    with pytest.raises(KernelError), entered("/dev/null"):
        pass
    with pytest.raises(KernelError), entered("no-such-netns"):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_what_cannot_be_entered() -> None:
    home = here()
    with pytest.raises(KernelError) as missing, entered("no-such-netns"):
        pass
    assert str(missing.value) == (
        "enter network namespace no-such-netns (/run/netns/no-such-netns): No such file or directory"
        " — list them with: ip netns"
    )
    with (
        pytest.raises(KernelError, match=r"^enter network namespace /dev/null: Invalid argument"),
        entered("/dev/null"),
    ):
        pass
    assert here() == home


def _inode(name: str | None) -> int:
    with entered(name):
        return here()


def test_everywhere(netns: Netns) -> None:
    with netns.enter():
        own = here()
        found, _ = everywhere(_inode)
    assert found[OWN] == own
    assert netns.name not in found, "it is our own"
    assert len(set(found.values())) == len(found)


@pytest.mark.kernel
def test_namespaces_that_cannot_be_entered() -> None:
    made = Netns()
    try:
        status, output = run_as_nobody(lambda: made.name not in everywhere(_inode)[1])
    finally:
        made.close()
    assert (status, output) == (0, "")


def test_elsewhere(netns: Netns) -> None:
    found, _ = elsewhere(_inode, None)
    assert OWN not in found
    assert found[netns.name] == os.stat(netns.path).st_ino
    found, _ = elsewhere(_inode, netns.name)
    assert found[OWN] == here()
    assert netns.name not in found


def test_a_namespace_that_has_just_been_removed_is_not_missed(netns: Netns) -> None:
    def gone(name: str | None) -> None:
        if name == netns.name:
            raise KernelError("enter it", errno.ENOENT)
        if name:
            raise KernelError("enter it", errno.EPERM)

    found, closed = everywhere(gone)
    assert OWN in found
    assert netns.name not in (*found, *closed)


def test_the_namespace_of_a_thread_has_a_name(netns: Netns) -> None:
    with netns.enter():
        assert name_of_own() == netns.name
        assert identity_of_own() == f"net:[{os.stat(netns.path).st_ino}]"


def test_a_namespace_without_a_name(netns: Netns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one count that has just been removed."""
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr("nflowlevel.binding.netns._NAMED", str(tmp_path))
    with netns.enter():
        assert name_of_own() == ""
