# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths where others may have put something: what root follows, opens and gives away, and what it leaves alone."""

from __future__ import annotations

import errno
import os
import pwd
import socket
from pathlib import Path

import pytest

from nflowlevel.binding.opener import Opener, use
from nflowlevel.binding.rootpath import (
    LogDoor,
    address_of,
    directory_of,
    give_directory,
    is_ours_alone,
    make_directory,
    name_of_user,
    open_document,
    open_own,
    open_plain,
    open_to_append,
    open_to_read,
    place_of,
    refused,
    renewed,
    replacing,
    unlink_open,
    whose,
)
from tests.fix_nobody import NOBODY, enter_user_namespace, run_as_nobody

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="this is about what root does")

_USER = pwd.getpwuid(NOBODY)
_PLANTED = ("symbolic link", "dangling link", "hard link", "fifo", "directory", "another's file")


def is_roots(path: Path | str) -> bool:
    with place_of(str(path)) as place:
        return place.is_roots


def plant(kind: str, path: Path, open_to_all: Path) -> Path:
    """Put something at a path; return the file of root's that must stay as it is."""
    victim = open_to_all / "victim"
    victim.write_text("root's")
    victim.chmod(0o600)
    if kind == "symbolic link":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(open_to_all / "new")
    elif kind == "hard link":
        path.hardlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_text("another's")
        os.chown(path, 1, 1)
    return victim


# -- places -----------------------------------------------------------------------------------------------------------


def test_where_only_root_can_change_a_name(open_to_all: Path, users: Path) -> None:
    assert is_roots("/etc/passwd")
    assert is_roots("/var/log/no-such-file")
    assert is_roots(open_to_all / "file"), "in /tmp, but others cannot rename it"
    (open_to_all / "below").mkdir()
    assert is_roots(f"{open_to_all}/./below/../file")
    assert not is_roots(users / "../file"), "a user's directory can be moved"
    assert not is_roots("/tmp/file")
    assert not is_roots(users / "file")
    open_to_all.chmod(0o775)
    assert is_roots(open_to_all / "file"), "root's group"
    os.chown(open_to_all, 0, 4)
    assert not is_roots(open_to_all / "file")


def test_what_lies_below_what_others_can_change_is_theirs(users: Path) -> None:
    (users / "roots").mkdir()
    assert not is_roots(users / "roots/file"), "another directory of root's can be moved there"
    users.chmod(0o1777)
    assert not is_roots(users / "roots/file"), "the owner of a sticky directory can rename all"


def test_links_of_roots_are_followed(open_to_all: Path) -> None:
    (open_to_all / "real").mkdir()
    (open_to_all / "link").symlink_to("real")
    (open_to_all / "again").symlink_to(open_to_all / "link")
    (open_to_all / "file").symlink_to("again/target")
    with place_of(f"{open_to_all}/again/name") as place:
        assert place.is_roots
        assert os.path.samestat(os.fstat(place.directory), (open_to_all / "real").stat())
    with place_of(f"{open_to_all}/file") as place:
        assert place.name == "target"
    (open_to_all / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic link") as caught, place_of(f"{open_to_all}/loop/name"):
        pass
    assert caught.value.errno == errno.ELOOP


def test_links_of_a_process_are_not() -> None:
    """The process that opens what is root's would find its own."""
    with pytest.raises(OSError, match="is a link in /proc"), place_of("/dev/stderr"):
        pass
    assert not LogDoor("/dev/stderr", NOBODY).is_roots


@pytest.mark.parametrize("where", ["link/name", "link"])
def test_links_of_others_are_not(open_to_all: Path, users: Path, where: str) -> None:
    (users / "link").symlink_to(open_to_all)
    with pytest.raises(OSError, match="'link' is a symbolic link that others can change"), place_of(f"{users}/{where}"):
        pass


def test_what_is_missing(open_to_all: Path) -> None:
    with place_of(f"{open_to_all}/missing") as place:
        assert place == (place.directory, "missing", True)
    with pytest.raises(FileNotFoundError), place_of(f"{open_to_all}/missing/name"):
        pass
    (open_to_all / "file").touch()
    with pytest.raises(NotADirectoryError), place_of(f"{open_to_all}/file/name"):
        pass


def test_a_relative_path(open_to_all: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(open_to_all)
    with place_of("name") as place:
        assert os.path.samestat(os.fstat(place.directory), open_to_all.stat())


def test_no_descriptor_is_left(open_to_all: Path, users: Path) -> None:
    before = os.listdir("/proc/self/fd")
    (users / "link").symlink_to("/")
    for path in (open_to_all / "a/b", users / "link/a", open_to_all / "a"):
        try:
            with place_of(str(path)):
                pass
        except OSError:
            pass
    assert os.listdir("/proc/self/fd") == before


# -- files of root's --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _PLANTED)
def test_a_file_of_ours_is_opened_and_nothing_else(open_to_all: Path, users: Path, kind: str) -> None:
    path = users / "pid"
    victim = plant(kind, path, open_to_all)
    before = path.lstat()
    with pytest.raises(OSError, match=r"remove it|symbolic link|directory|give it to root"):
        open_own(str(path), os.O_RDWR | os.O_CREAT, 0o644, (0, NOBODY))
    assert victim.read_text() == "root's"
    assert not (open_to_all / "new").exists()
    assert path.lstat()[:6] == before[:6]


def test_a_file_of_ours_is_made_and_found_again(users: Path) -> None:
    path = users / "pid"
    for _ in range(2):
        os.close(open_own(str(path), os.O_RDWR | os.O_CREAT, 0o644, (0,)))
    assert path.stat().st_uid == 0
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(OSError, match="it belongs to nobody"):
        open_own(str(path), os.O_RDWR, 0o644, (0,))
    os.close(open_own(str(path), os.O_RDWR, 0o644, (0, NOBODY)))


def test_what_others_can_change_is_put_in_anew(open_to_all: Path, users: Path) -> None:
    for path, is_new in ((open_to_all / "file", False), (users / "file", True)):
        fd = open_own(str(path), os.O_RDWR | os.O_CREAT, 0o644, (0, NOBODY))
        os.write(fd, b"text")
        fresh = renewed(str(path), fd, 0o600)
        assert (fresh != fd) == is_new
        assert path.read_text() == ("" if is_new else "text")
        assert os.path.samestat(os.fstat(fresh), path.stat())
        assert path.stat().st_uid == 0
        os.chown(path, NOBODY, NOBODY)
        assert renewed(str(path), fresh, 0o600) == fresh, "writing to a file of theirs gives them nothing"
    assert [path.name for path in users.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["symbolic link", "dangling link", "fifo", "directory"])
def test_a_plain_file_is_no_link_and_no_fifo(open_to_all: Path, users: Path, kind: str) -> None:
    plant(kind, users / "id", open_to_all)
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_CREAT):
        with pytest.raises(OSError, match=r"levels of symbolic links|no regular file|directory|No such device"):
            open_plain(str(users / "id"), flags)
    assert not (open_to_all / "new").exists()
    os.close(open_plain(str(users / "other"), os.O_WRONLY | os.O_CREAT))
    assert (users / "other").stat().st_mode & 0o777 == 0o600


# -- logs -------------------------------------------------------------------------------------------------------------


def test_a_log_of_roots_is_opened_to_append_and_to_read(open_to_all: Path) -> None:
    path = open_to_all / "log"
    door = LogDoor(str(path), NOBODY)
    assert door.is_roots
    for text in (b"one\n", b"two\n"):
        fd = door.open()
        os.write(fd, text)
        assert os.pread(fd, 4, 0) == b"one\n"
        os.close(fd)
    assert path.read_text() == "one\ntwo\n"
    os.chown(path, NOBODY, NOBODY)
    os.close(door.open())


@pytest.mark.parametrize("kind", ["hard link", "directory", "another's file"])
def test_what_is_no_log_of_roots(open_to_all: Path, kind: str) -> None:
    path = open_to_all / "log"
    victim = plant(kind, path, open_to_all)
    with pytest.raises(OSError, match=r"names|directory|belongs to"):
        LogDoor(str(path), NOBODY).open()
    assert victim.read_text() == "root's"


def test_a_fifo_of_roots_is_not_waited_for(open_to_all: Path) -> None:
    path = open_to_all / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device") as caught:
        LogDoor(str(path), NOBODY).open()
    assert caught.value.errno == errno.ENXIO
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.close(LogDoor(str(path), NOBODY).open())
    os.close(reader)


@pytest.mark.parametrize("kind", _PLANTED)
def test_no_log_is_opened_where_others_can_change_it(open_to_all: Path, users: Path, kind: str) -> None:
    path = users / "log"
    victim = plant(kind, path, open_to_all)
    door = LogDoor(str(path), NOBODY)
    assert not door.is_roots
    with pytest.raises(OSError, match=r"others can change"):
        door.open()
    assert victim.read_text() == "root's"


def test_root_opens_what_was_agreed_on_and_the_user_may_not(open_to_all: Path) -> None:
    """Also a file that only the user may write, in a directory that the user may not enter."""
    ours, others = open_to_all / "ours", open_to_all / "others"
    for path in (ours, others):
        path.touch(0o600)
    flags = os.O_WRONLY | os.O_APPEND

    def appended() -> int:
        for path in (ours, others):
            try:
                os.write(open_to_append(str(path), flags), b"line\n")
            except OSError as error:
                print(error.strerror)
        return 0

    with Opener([LogDoor(str(ours), NOBODY)]) as opener:
        use(opener)
        try:
            assert run_as_nobody(appended) == (0, "Permission denied\n")
            open_to_all.chmod(0o700)
            os.chown(ours, NOBODY, NOBODY)
            assert run_as_nobody(appended) == (0, "Permission denied\n")
            open_to_all.chmod(0o777)
            ours.chmod(0)
            assert run_as_nobody(appended) == (0, "Permission denied\nPermission denied\n"), "it is nobody's affair now"
        finally:
            use(None)
    assert ours.read_text() == "line\nline\n"
    assert others.read_text() == ""


def test_other_errors_of_roots_opening_are_told(open_to_all: Path) -> None:
    fifo = open_to_all / "fifo"
    os.mkfifo(fifo, 0o600)

    def opened() -> int:
        try:
            open_to_append(str(fifo), os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            print(error.errno)
        return 0

    with Opener([LogDoor(str(fifo), NOBODY)]) as opener:
        use(opener)
        try:
            assert run_as_nobody(opened) == (0, f"{errno.ENXIO}\n")
        finally:
            use(None)


# -- a daemon that stays root -----------------------------------------------------------------------------------------

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK


def append(path: Path | str, data: bytes = b"line\n") -> None:
    fd = open_to_append(str(path), _APPEND)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "link above"])
def test_root_reads_nothing_that_others_have_planted(open_to_all: Path, users: Path, kind: str) -> None:
    path = users / "log"
    if kind == "link above":
        plant("file", open_to_all / "log", open_to_all)
        (users / "above").symlink_to(open_to_all)
        path = users / "above/victim"
    else:
        plant(kind, path, open_to_all)
    with pytest.raises(OSError, match=r"others can change a symbolic link there; name the file|several names"):
        open_to_read(str(path))


def test_what_is_read_by_root_and_by_others(open_to_all: Path, users: Path) -> None:
    """Whose name it is tells whether it has to be held; a link of the reader's own is followed, as ever."""
    for directory in (open_to_all, users):
        (directory / "log").write_text("it")
        os.link(directory / "log", directory / "second")
        owner = directory.stat()
        os.chown(directory / "log", owner.st_uid, owner.st_gid)
    (open_to_all / "link").symlink_to("log")
    (users / "link").symlink_to("log")

    def read(path: Path | str) -> bool:
        fd, is_roots = open_to_read(str(path))
        with open(fd) as file:
            assert file.read() == "it"
        return is_roots

    assert [read(open_to_all / name) for name in ("log", "second", "link")] == [True] * 3
    assert [read(users / name) for name in ("log", "second")] == [False] * 2
    assert run_as_nobody(lambda: int(not read(users / "link"))).status == 0
    with open(users / "log") as file:
        assert read(f"/dev/fd/{file.fileno()}"), "what this process has open"
    users.chmod(0o777)
    with pytest.raises(OSError, match=r"several names.*others than its owner may"):
        open_to_read(str(users / "log"))


@pytest.mark.parametrize("kind", ["symbolic link", "dangling link", "hard link", "directory", "link above"])
def test_root_appends_to_nothing_that_others_have_planted(open_to_all: Path, users: Path, kind: str) -> None:
    path = users / "log"
    if kind == "link above":
        victim = plant("file", open_to_all / "log", open_to_all)
        (users / "above").symlink_to(open_to_all)
        path = users / "above/victim"
    else:
        victim = plant(kind, path, open_to_all)
    with pytest.raises(OSError, match=r"symbolic link that others can change|has 2 names|directory"):
        append(path)
    assert victim.read_text() == "root's"
    assert not (open_to_all / "new").exists()
    error = refused(str(path))
    assert (error is None) == (kind == "directory"), "the doctor knows"
    if kind != "directory":
        with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
            open_document(str(path), "x-")
    assert run_as_nobody(lambda: int(refused(str(path)) is not None)).status == 0, "it is no news for other users"


def test_root_appends_to_what_others_own_and_to_a_fifo_of_theirs(users: Path) -> None:
    append(users / "log")
    assert (users / "log").read_text() == "line\n"
    os.chown(users / "log", NOBODY, NOBODY)
    append(users / "log")
    assert (users / "log").read_text() == "line\nline\n"
    os.mkfifo(users / "fifo")
    reader = os.open(users / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    append(users / "fifo")
    assert os.read(reader, 10) == b"line\n"
    os.close(reader)
    assert refused(f"{users}/fifo") is refused(f"{users}/no/such") is None


def test_root_follows_roots_links(open_to_all: Path) -> None:
    """Also where a group may write, as in Ubuntu's /var/log, and in /tmp; but then nothing there is root's alone."""
    (open_to_all / "data").mkdir()
    (open_to_all / "log").symlink_to("data")
    (open_to_all / "one").symlink_to(open_to_all / "data/two")
    append(open_to_all / "log/file")
    for mode in (0o755, 0o775, 0o1777):
        os.chown(open_to_all, 0, 4)
        open_to_all.chmod(mode)
        append(open_to_all / "one")
        assert refused(f"{open_to_all}/one") is None
        assert is_roots(open_to_all / "one") == (mode == 0o755)
    os.lchown(open_to_all / "one", 1, 1)
    with pytest.raises(OSError, match="symbolic link that others can change"):
        append(open_to_all / "one")
    assert (open_to_all / "data/two").read_text() == "line\n" * 3
    fd, path = open_document(f"{open_to_all}/log/", "x-")
    os.close(fd)
    assert (open_to_all / "data" / Path(path).name).exists()


def test_a_moved_link_of_roots_is_not_followed(open_to_all: Path, users: Path) -> None:
    """They can give it a second name in /tmp, and move it in a directory of theirs."""
    victim = plant("symbolic link", open_to_all / "link", open_to_all)
    shared = open_to_all / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    os.link(open_to_all / "link", shared / "log", follow_symlinks=False)
    os.link(open_to_all / "link", users / "log", follow_symlinks=False)
    for path in (shared, users):
        with pytest.raises(OSError, match="symbolic link that others can change"):
            append(path / "log")
    (open_to_all / "link").unlink()
    (shared / "log").unlink()
    with pytest.raises(OSError, match="symbolic link that others can change"):
        append(users / "log")
    assert victim.read_text() == "root's"


def test_what_this_process_has_open_is_appended_to(open_to_all: Path, users: Path) -> None:
    read, write = os.pipe()
    (open_to_all / "fd").symlink_to(f"/proc/self/fd/{write}")
    for path in (f"/proc/self/fd/{write}", f"/dev/fd/{write}", open_to_all / "fd", f"/proc/{os.getpid()}/fd/{write}"):
        append(path)
        assert os.read(read, 10) == b"line\n"
        assert refused(str(path)) is None
    (users / "fd").symlink_to(f"/proc/self/fd/{write}")
    with pytest.raises(OSError, match="'fd' is a symbolic link that others can change"):
        append(users / "fd")
    append("/dev/null")
    (open_to_all / "cwd").mkdir()
    before = os.getcwd()
    os.chdir(open_to_all / "cwd")
    try:
        append("/proc/self/cwd/log")
        append("relative")
    finally:
        os.chdir(before)
    assert sorted(path.name for path in (open_to_all / "cwd").iterdir()) == ["log", "relative"]
    os.close(read)
    os.close(write)


def test_root_of_a_user_namespace_follows_as_its_user_does(open_to_all: Path) -> None:
    """It has no rights there that its user lacks."""
    (open_to_all / "log").symlink_to(open_to_all / "data")
    (open_to_all / "data").touch()
    (open_to_all / "data").chmod(0o666)

    def appended() -> int:
        enter_user_namespace()
        append(open_to_all / "log")
        return int(refused("/dev/stderr") is not None)

    assert run_as_nobody(appended) == (0, "")
    assert (open_to_all / "data").read_text() == "line\n"


def test_a_directory_is_made_and_opened_by_no_link_of_others(open_to_all: Path, users: Path) -> None:
    make_directory(f"{open_to_all}/a/b/")
    make_directory(f"{open_to_all}/a/b")
    assert (open_to_all / "a/b").stat().st_mode & 0o777 == 0o700
    assert is_ours_alone(f"{open_to_all}/a/b/")
    make_directory(f"{users}/a/b")
    assert not is_ours_alone(f"{users}/a")
    (open_to_all / "link").symlink_to("a")
    make_directory(f"{open_to_all}/link/c")
    assert (open_to_all / "a/c").is_dir()
    (users / "link").symlink_to(open_to_all)
    (users / "dangling").symlink_to(open_to_all / "new")
    for name in ("link/x", "link", "dangling"):
        with pytest.raises(OSError, match="symbolic link that others can change"):
            make_directory(f"{users}/{name}")
        with pytest.raises(OSError, match="symbolic link that others can change"), directory_of(f"{users}/{name}"):
            pass
    (open_to_all / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(f"{open_to_all}/file")
    assert sorted(path.name for path in open_to_all.iterdir()) == ["a", "file", "link", "users"]


def test_only_the_open_file_loses_its_name(open_to_all: Path, users: Path) -> None:
    (users / "there").mkdir()
    for directory in (open_to_all, users / "there"):
        (directory / "file").touch()
    fd = os.open(users / "there/file", os.O_RDONLY)
    (users / "there").rename(users / "moved")
    (users / "there").symlink_to(open_to_all)
    with pytest.raises(OSError, match="symbolic link"):
        unlink_open(f"{users}/there/file", fd)
    unlink_open(f"{open_to_all}/file", fd)
    assert (open_to_all / "file").exists()
    unlink_open(f"{users}/moved/file", fd)
    assert not (users / "moved/file").exists()
    os.close(fd)


def test_root_connects_to_no_socket_by_a_link_of_others(open_to_all: Path, users: Path) -> None:
    for directory in (open_to_all, users):
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(f"{directory}/socket")
            server.listen()
            with address_of(f"{directory}/socket") as address:
                client.connect(address)
            server.accept()[0].close()
    (users / "link").symlink_to(open_to_all / "socket")
    with pytest.raises(OSError, match="symbolic link"), address_of(f"{users}/link"):
        pass


# -- directories ------------------------------------------------------------------------------------------------------


def owners(directory: Path) -> dict[str, int]:
    return {path.name: path.lstat().st_uid for path in (directory, *directory.iterdir())}


def test_a_directory_is_made_with_what_is_above_it(open_to_all: Path) -> None:
    path = open_to_all / "spool/nflowlevel/db"
    assert give_directory(str(path), _USER)
    assert path.stat().st_uid == NOBODY
    assert path.stat().st_gid == _USER.pw_gid
    assert path.stat().st_mode & 0o777 == 0o700
    assert owners(path.parent)["nflowlevel"] == 0
    assert not give_directory(str(path), _USER), "it has it already"


def test_what_an_earlier_run_made_as_root_is_given(open_to_all: Path) -> None:
    path = open_to_all / "db"
    path.mkdir(0o700)
    for name in ("lock", "id", "numbers", "position", "1.rows", "refused.jsonl"):
        (path / name).touch(0o600)
    victim = plant("hard link", path / "id.new", open_to_all)
    (path / "link").symlink_to(victim)
    (path / "below").mkdir()
    assert give_directory(str(path), _USER)
    assert owners(path) == {
        "db": NOBODY, "lock": NOBODY, "id": NOBODY, "numbers": NOBODY, "position": NOBODY, "1.rows": NOBODY,
        "refused.jsonl": NOBODY, "id.new": 0, "link": 0, "below": 0,
    }  # fmt: skip
    assert victim.stat().st_uid == 0


@pytest.mark.parametrize("names", [(), ("refused.jsonl",)])
def test_one_without_a_spool_is_given_too(open_to_all: Path, names: tuple[str, ...]) -> None:
    path = open_to_all / "db"
    path.mkdir()
    for name in names:
        (path / name).touch()
    assert give_directory(str(path), _USER)
    assert set(owners(path).values()) == {NOBODY}


@pytest.mark.parametrize("why", ["not ours", "another's", "others write", "in a user's directory", "a link there"])
def test_what_is_not_given(open_to_all: Path, users: Path, why: str) -> None:
    path = (users if "user" in why or "there" in why else open_to_all) / "db"
    if why == "a link there":
        (open_to_all / "empty").mkdir()
        path.symlink_to(open_to_all / "empty")
        with pytest.raises(OSError, match="symbolic link"):
            give_directory(str(path), _USER)
        assert (open_to_all / "empty").stat().st_uid == 0
        return
    path.mkdir()
    if why == "not ours":  # /var/lib/dpkg has a file `lock`, too
        for name in ("lock", "status"):
            (path / name).touch()
    elif why == "another's":
        os.chown(path, 1, 1)
    elif why == "others write":
        path.chmod(0o777)
    before = owners(path)
    assert not give_directory(str(path), _USER)
    assert owners(path) == before


def test_nothing_is_made_in_a_users_directory(users: Path) -> None:
    assert not give_directory(str(users / "db"), _USER)
    for path in ("spool/db", "spool/a/db", "spool/a/b/c/db"):
        with pytest.raises(FileNotFoundError):
            give_directory(str(users / path), _USER)
    assert list(users.iterdir()) == []


# -- words ------------------------------------------------------------------------------------------------------------


def test_whose_it_is(open_to_all: Path) -> None:
    path = open_to_all / "file"
    path.touch()
    path.chmod(0o640)
    os.chown(path, 0, 4)
    assert whose(str(path)) == "belongs to root:adm, mode 0640"
    os.chown(path, 4_000_000, 4_000_001)
    assert whose(str(path)) == "belongs to user id 4000000:4000001, mode 0640"
    assert whose(str(open_to_all / "missing")) == ""
    assert name_of_user(0) == "root"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """What a killed process left is in nobody's way, also not where it has a second name."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("old")
    other.write_text("precious")
    os.link(other, tmp_path / "file.new")
    with pytest.raises(ZeroDivisionError), replacing(str(path), 0o600) as fd:
        os.write(fd, b"x" * (1 // 0))
    assert path.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]
    with replacing(str(path), 0o600) as fd:
        os.write(fd, b"new")
    assert path.read_text() == "new"
    assert other.read_text() == "precious"
