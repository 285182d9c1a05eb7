# SPDX-License-Identifier: GPL-2.0-or-later
"""For how long nobody read a group is known after a restart, and nothing that somebody planted is touched."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding import rootpath
from nflowlevel.daemon import lastread
from nflowlevel.daemon.lastread import LastRead, path_for
from tests.fix_daemon import FILTERS, Daemon, config
from tests.fix_netns import Netns
from tests.fix_nobody import NOBODY


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert path_for(None) == ""
    assert path_for("/run/x.pid") == "/run/x.pid.last"
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/other")
    assert path_for("/run/x.pid") == f"{tmp_path}/last-read"


def test_times(tmp_path: Path) -> None:
    path = str(tmp_path / "last")
    first = LastRead(path)
    now = time.time()
    assert first.since("group 1", now) is None
    first.note(["group 1", "group 2 of namespace a b"])
    first.note(["group 1"], "stopped")
    first.close()
    first.note(["group 1"])
    later = LastRead(path)
    for what, exact in (("group 1", True), ("group 2 of namespace a b", False)):
        known = later.since(what, now + 5)
        assert known
        assert 4900 < known[0] < 5001
        assert known[1] is exact
    assert later.since("group 3", now) is None
    assert later.since("group 1", now - 100) == (0, True), "the clock was set back"
    later.close()
    later.close()


def test_before_the_machine_was_started_nobody_logged(tmp_path: Path) -> None:
    path = tmp_path / "last"
    path.write_text(f"{lastread._HEAD}1000 stopped group 1\n")
    known = LastRead(str(path)).since("group 1", time.time())
    assert known
    assert abs(known[0] / 1000 - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5


def test_groups_of_old_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "last"
    kept = LastRead(str(path))
    kept.note(f"group {number}" for number in range(1000))
    kept.note(["group 5"])
    kept.close()
    assert len(path.read_text().splitlines()) == 201
    again = LastRead(str(path))
    assert again.since("group 5", time.time()) is not None
    assert again.since("group 4", time.time()) is None
    again.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="this is about what root does")
def test_an_empty_file_of_roots_that_is_linked_there_for_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    with tempfile.TemporaryDirectory(prefix="nfltest-") as users:
        os.chown(users, NOBODY, NOBODY)
        path = Path(users, "last")
        path.hardlink_to(victim)
        checked = rootpath._checked

        def check(*arguments: Any) -> int:
            path.unlink()
            return checked(*arguments)

        monkeypatch.setattr(rootpath, "_checked", check)
        kept = LastRead(str(path))
        monkeypatch.undo()
        kept.note(["group 1"])
        kept.close()
        assert victim.read_text() == ""
        # What an earlier run has left there is taken over.
        kept = LastRead(str(path))
        assert kept.since("group 1", time.time())
        kept.note([])
        kept.close()
        assert "reading group 1" in path.read_text()


@pytest.mark.parametrize("what", ["link", "hard link", "directory", "other file", "fifo"])
def test_what_is_not_ours_is_left_alone(tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    precious, path = tmp_path / "precious", tmp_path / "last"
    precious.write_text("of great value\n")
    if what == "link":
        path.symlink_to(precious)
    elif what == "hard link":
        path.hardlink_to(precious)
    elif what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("of great value\n")
    before = len(os.listdir("/proc/self/fd"))
    refused = LastRead(str(path))
    refused.note(["group 1"], "stopped")
    assert refused.since("group 1", time.time()) is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert precious.read_text() == "of great value\n"
    if what == "other file":
        assert path.read_text() == "of great value\n"


@pytest.mark.parametrize("damage", [b"\0\xff\xff", b"x y\n", b"99999999999999999999 stopped group 1\n", b"12 stopped"])
def test_a_damaged_file_tells_nothing(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "last"
    path.write_bytes(lastread._HEAD.encode() + damage)
    kept = LastRead(str(path))
    assert kept.since("group 1", time.time()) is None
    kept.note(["group 1"], "stopped")
    assert kept.since("group 1", time.time()) is not None
    kept.close()


@pytest.mark.kernel
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("by", ["pid file", "state directory"])
def test_a_restart(netns: Netns, tmp_path: Path, user: bool, by: str) -> None:
    """The status names the time between the two runs: after an orderly end exactly, after a kill at most."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        text = config(f"g:NFLOG,{FILTERS},j:JSON", g="group=2", j=f"file={place}/out.json")
        words = ("-u", "nobody") if user else ()
        words = (*words, "-p", f"{place}/pid") if by == "pid file" else words
        state = {"STATE_DIRECTORY": place} if by == "state directory" else {}
        kept = Path(place, "last-read" if state else "pid.last")
        with Daemon(tmp_path, text, *words, netns=netns, environment=state) as daemon:
            daemon.stop()
            assert "nobody read" not in daemon.stderr
            assert "unread_milliseconds" not in daemon.stderr
        stopped = kept.stat().st_mtime
        with Daemon(tmp_path, text, *words, netns=netns, environment=state) as daemon:
            told = daemon.stderr.split("nobody read group 2 for ")[1].split(" s")[0]
            assert 0 < float(told) <= time.time() - stopped + 0.01
            daemon.send(signal.SIGUSR1)
            daemon.says(f"unread_milliseconds {round(float(told) * 1000)}")
            os.kill(daemon.pid, signal.SIGKILL)
            daemon.wait()
        with Daemon(tmp_path, text, *words, netns=netns, environment=state) as daemon:
            daemon.says("nobody read group 2 for up to ")
