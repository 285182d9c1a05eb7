# SPDX-License-Identifier: GPL-2.0-or-later
"""A listening unix socket: who may connect, what is replaced, and what is left alone; root beside a user who plants."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nflowlevel.binding import unixsocket
from nflowlevel.binding.unixsocket import Listener, connections_at, peer_of
from nflowlevel.errors import StackError
from tests.fix_nobody import NOBODY, run_as_nobody

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory of ours, whose path is short enough for a socket."""
    os.chmod(tmp_path, 0o755)
    directory = os.open(tmp_path, os.O_PATH)
    yield Path(f"/proc/self/fd/{directory}") if len(str(tmp_path)) > 90 else tmp_path
    os.close(directory)


def connected(path: Path) -> socket.socket:
    """Connect to a socket."""
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(path))
    return made


def stale(path: Path, kind: int = socket.SOCK_STREAM) -> None:
    """Leave a socket as a killed process does."""
    with socket.socket(socket.AF_UNIX, kind) as dead:
        dead.bind(str(path))


def test_who_may_connect(here: Path) -> None:
    path = here / "s"
    before = os.umask(0o077)
    try:
        listener = Listener(str(path), mode=0o660)
    finally:
        os.umask(before)
    status = path.stat()
    assert (stat.S_ISSOCK(status.st_mode), stat.S_IMODE(status.st_mode)) == (True, 0o660)
    assert listener.socket.getblocking() is False
    with connected(path) as peer:
        assert peer_of(peer) == os.getpid()
    listener.close()
    assert not path.exists()
    listener.close()


@needs_root
def test_owner_and_group(here: Path) -> None:
    nobody, nogroup = pwd.getpwuid(NOBODY).pw_uid, grp.getgrgid(NOBODY).gr_gid
    listener = Listener(str(here / "s"), mode=0o600, uid=nobody, gid=nogroup)
    status = (here / "s").stat()
    assert (status.st_uid, status.st_gid) == (nobody, nogroup)
    listener.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_stale_socket_is_replaced(here: Path, kind: int) -> None:
    """D-U04: ulogd2 does not start then."""
    path = here / "s"
    stale(path, kind)
    listener = Listener(str(path))
    connected(path).close()
    assert sorted(os.listdir(here)) == ["s"]
    listener.close()


@needs_root
def test_a_stale_socket_of_its_own_owner_is_replaced(here: Path) -> None:
    stale(here / "s")
    os.chown(here / "s", NOBODY, NOBODY)
    Listener(str(here / "s"), uid=NOBODY).close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_live_socket_stays(here: Path, kind: int) -> None:
    path = here / "s"
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            live.listen()
        before = path.stat()
        with pytest.raises(StackError, match="listens there; stop it, or set another socket_path") as caught:
            Listener(str(path))
        assert os.path.samestat(before, path.stat())
    if kind == socket.SOCK_STREAM:
        assert f"process {os.getpid()} (" in str(caught.value)


def test_a_live_socket_with_a_full_backlog_stays(here: Path) -> None:
    path = here / "s"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(3)]
        for each in waiting:
            each.connect_ex(str(path))
        assert waiting[-1].connect_ex(str(path)) == errno.EAGAIN
        with pytest.raises(StackError, match="another process listens there"):
            Listener(str(path))
        for each in waiting:
            each.close()


def _make_file(path: Path) -> None:
    path.write_text("mine")


def _make_link(path: Path) -> None:
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [_make_file, os.mkfifo, os.mkdir])
def test_what_is_no_socket_stays(here: Path, make: Callable[[Path], None]) -> None:
    make(here / "s")
    before = (here / "s").lstat()
    with pytest.raises(StackError, match="no socket, and it stays; set another socket_path"):
        Listener(str(here / "s"))
    assert os.path.samestat(before, (here / "s").lstat())


def test_a_link_to_nothing_of_ours_leads_there(here: Path) -> None:
    """As /var/run leads to /run: root's own links are followed."""
    if os.geteuid():
        pytest.skip("whose link it is matters to root only")
    (here / "d").mkdir()
    (here / "link").symlink_to("d")
    listener = Listener(str(here / "link" / "s"))
    assert (here / "d" / "s").is_socket()
    listener.close()


def test_a_missing_directory(here: Path) -> None:
    with pytest.raises(StackError, match=rf"no such directory: {here}/no; create it \(mkdir -p {here}/no\)"):
        Listener(str(here / "no" / "s"))


def test_a_path_that_is_too_long_for_an_address(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    os.chmod(tmp_path, 0o755)
    listener = Listener(str(directory / "s"))
    there = os.open(directory, os.O_PATH)
    connected(Path(f"/proc/self/fd/{there}/s")).close()
    os.close(there)
    listener.close()
    assert not list(directory.iterdir())


def test_what_another_put_there_meanwhile_is_not_removed_at_the_end(here: Path) -> None:
    path = here / "s"
    listener = Listener(str(path))
    path.unlink()
    stale(path)
    listener.close()
    assert path.exists()


def test_somebody_who_was_quicker_keeps_its_socket(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at a stale socket and its removal another process listens at its path."""
    path = here / "s"
    stale(path)
    quicker: list[socket.socket] = []

    def look(address: str) -> str:
        path.unlink()
        quicker.append(socket.socket(socket.AF_UNIX))
        quicker[0].bind(str(path))
        quicker[0].listen()
        return ""

    monkeypatch.setattr(unixsocket, "_listens_at", look)
    with pytest.raises(StackError, match="another process has just begun to listen there"):
        Listener(str(path))
    connected(path).close()
    assert os.listdir(here) == ["s"]
    quicker[0].close()


# -- what a user plants for root -------------------------------------------------------------------------------------


@pytest.fixture
def theirs(open_to_all: Path) -> Path:
    """A directory of nobody's, which root is to use."""
    place = open_to_all / "theirs"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    return place


def _plant(function: Callable[[], object]) -> None:
    def act() -> int:
        function()
        return 0

    done = run_as_nobody(act)
    assert done.status == 0, done.output


@needs_root
def test_root_does_not_follow_a_link_that_a_user_planted(theirs: Path, open_to_all: Path) -> None:
    target = open_to_all / "target"
    target.mkdir()
    _plant(lambda: os.symlink(target, theirs / "way"))
    with pytest.raises(StackError, match="'way' is a symbolic link that others can change"):
        Listener(str(theirs / "way" / "s"))
    _plant(lambda: os.symlink(target / "s", theirs / "s"))
    with pytest.raises(StackError, match="symbolic link"):
        Listener(str(theirs / "s"))
    assert not list(target.iterdir())


@needs_root
def test_root_removes_no_socket_of_a_user_in_a_directory_of_theirs(theirs: Path) -> None:
    _plant(lambda: stale(theirs / "s"))
    with pytest.raises(StackError, match="there is a socket of nobody; remove it, or set another socket_path"):
        Listener(str(theirs / "s"))
    assert (theirs / "s").is_socket()


def _make_socket(path: Path) -> None:
    stale(path)


def _make_socket_of_theirs(path: Path) -> None:
    stale(path)
    os.chown(path, NOBODY, NOBODY)


@needs_root
@pytest.mark.parametrize("make", [_make_file, _make_socket, _make_socket_of_theirs])
def test_root_gives_away_only_its_own(
    theirs: Path, open_to_all: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    """Just after the socket was made, the user puts something else in its place: another of root's files, a socket."""
    secret = open_to_all / "secret"
    make(secret)
    os.chmod(secret, 0o600)
    before = secret.stat()
    bind = unixsocket._address

    def swapped(path: str, place: unixsocket.Place) -> str:
        monkeypatch.setattr(os, "open", swap)
        return bind(path, place)

    real = os.open

    def swap(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "s":
            (theirs / "s").unlink()
            (os.link if make is _make_socket else os.rename)(secret, theirs / "s")
        return real(path, flags, mode, dir_fd=dir_fd)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(unixsocket, "_address", swapped)
    with pytest.raises(StackError, match="somebody else has put something else there"):
        Listener(str(theirs / "s"), mode=0o666, uid=NOBODY)
    after = (theirs / "s").stat()
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)


@needs_root
def test_an_ordinary_user_is_told_whose_the_directory_is(open_to_all: Path) -> None:
    place = open_to_all / "roots"
    place.mkdir(mode=0o755)

    def attempt() -> int:
        try:
            Listener(str(place / "s"))
        except StackError as error:
            print(error)
            return 3
        return 0

    done = run_as_nobody(attempt)
    assert done.status == 3
    said = (
        f"listen on {place}/s: Permission denied — the directory belongs to root:root, mode 0755; let the daemon's user"
    )
    assert done.output.startswith(said), done.output


@needs_root
def test_an_ordinary_user_cannot_give_the_socket_away(theirs: Path) -> None:
    def attempt() -> int:
        try:
            Listener(str(theirs / "s"), uid=0, gid=0)
        except StackError as error:
            print(error)
        return len(os.listdir(theirs))

    done = run_as_nobody(attempt)
    assert "only root can give the socket to user 0 and group 0; leave out owner and group, or use a" in done.output
    assert done.status == 0, "nothing is left"


# -- who is there -----------------------------------------------------------------------------------------------------


def test_who_is_connected(here: Path) -> None:
    path = here / "s"
    assert connections_at(str(path)) == (False, 0)
    listener = Listener(str(path))
    assert connections_at(str(path)) == (True, 0)
    peers = [connected(path) for _ in range(3)]
    accepted = [listener.socket.accept()[0] for _ in peers]
    assert connections_at(str(path)) == (True, 3)
    for each in (*peers, *accepted):
        each.close()
    assert connections_at(str(path)) == (True, 0)
    listener.close()
    assert connections_at(str(path)) == (False, 0)
