# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths for root, where others may have put something in the way: links, FIFOs, other directories.

A path is walked one directory at a time, by descriptor. A symbolic link is followed only where nobody but root can have
made it, as `/var/run` is. So root touches what the administrator meant, or nothing.

Where somebody else can change what is at a path, a daemon with `-u` opens it as that user. Where only root can
(`/var/log`), a file may need root: `LogDoor` is for that. A daemon that stays root walks to everything that it appends
to or makes: `open_to_append`, `open_document`, `directory_of`. `refused` says beforehand what it will not open.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from nflowlevel.binding._lib import lib
from nflowlevel.binding.opener import agreed, opened

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Whatever is there is neither followed nor waited for.
_NO_SURPRISE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: As many as the kernel follows (MAXSYMLINKS).
_MOST_LINKS = 40

#: The inode of /proc, where that is mounted (PROC_ROOT_INO).
_PROC_ROOT = 1

#: So many documents of one second have a name.
_MOST_DOCUMENTS = 10_000

#: What the spool makes at once; a directory with these is one of ours.
_OF_A_SPOOL = {"lock", "id", "numbers"}
#: What else may be alone in a directory of ours.
_OF_OURS = {"lock", "refused.jsonl"}


class Place(NamedTuple):
    """Where a path leads to."""

    directory: int
    """Descriptor (O_PATH) of the directory."""
    name: str
    """Name in that directory; it need not exist, and is no symbolic link of root's."""
    is_roots: bool
    """Whether nobody but root (and we) can change what has this name."""


@contextlib.contextmanager
def place_of(path: str, *, in_proc: bool = False) -> Iterator[Place]:
    """Walk to the directory of a path.

    With `in_proc`, links of /proc count as well, such as the one that `/dev/stderr` leads to: they mean what this
    process has open, and the last of them is the place itself.

    FileNotFoundError, NotADirectoryError; OSError with ELOOP for a symbolic link that somebody else may have made.
    """
    directory = -1
    try:
        whole = path if path.startswith("/") else os.path.join(os.getcwd(), path)
        directory, name, is_roots = _walk(whole, in_proc)
        yield Place(directory, name, is_roots)
    finally:
        if directory >= 0:
            os.close(directory)


def _walk(path: str, in_proc: bool) -> tuple[int, str, bool]:
    parts = deque(path.split("/"))
    links = 0
    is_safe = True
    directory = os.open("/", _DIRECTORY)
    try:
        while True:
            part = parts.popleft()
            if part in ("", ".") and parts:
                continue
            here = os.fstat(directory)
            is_roots = is_safe and _only_root_writes(here)
            try:
                found = os.stat(part, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                if not parts:
                    return directory, part, is_roots
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
            if stat.S_ISLNK(found.st_mode):
                links += 1
                # Who may write to a directory of root's (/tmp, Ubuntu's /var/log) cannot make a link that is root's.
                is_followed = is_roots or (is_safe and here.st_uid == found.st_uid == 0 and found.st_nlink == 1)
                if not is_followed or links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, f"'{part}' is a symbolic link that others can change", path)
                if _is_proc(here):  # /dev/stderr: every process has its own
                    if not in_proc:
                        raise OSError(errno.ELOOP, f"'{part}' is a link in /proc", path)
                    if not parts:
                        return directory, part, is_roots
                is_safe = is_roots
                target = os.readlink(part, dir_fd=directory)
                parts.extendleft(reversed(target.split("/")))
                if target.startswith("/"):
                    os.close(directory)
                    directory = os.open("/", _DIRECTORY)
                continue
            if not parts:
                return directory, part, is_roots
            below = os.open(part, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
            if not is_roots:
                # In a directory such as /tmp others cannot rename what is root's.
                is_sticky = here.st_uid == 0 and bool(here.st_mode & stat.S_ISVTX)
                is_safe = is_safe and is_sticky and os.fstat(below).st_uid == 0
    except BaseException:
        os.close(directory)
        raise


def _is_proc(status: os.stat_result) -> bool:
    try:
        proc = os.stat("/proc")
    except FileNotFoundError:
        return False
    return status.st_dev == proc.st_dev and proc.st_ino == _PROC_ROOT


def _is_root() -> bool:
    """Whether we have rights that others lack. Who enters a user namespace is root there, but `/` is not theirs."""
    return os.geteuid() == 0 == os.stat("/").st_uid


def _only_root_writes(status: os.stat_result) -> bool:
    others = stat.S_IWOTH if status.st_gid == 0 else _OTHERS_WRITE
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & others


def open_own(path: str, flags: int, mode: int, owners: Collection[int]) -> int:
    """Open a regular file with one name that belongs to one of `owners`, made if `flags` say so; OSError.

    Whatever else is at the path stays as it is.
    """
    with place_of(path) as place:
        return _checked(os.open(place.name, flags | _NO_SURPRISE, mode, dir_fd=place.directory), path, owners)


def renewed(path: str, fd: int, mode: int) -> int:
    """Put a new, empty file in the place of what `open_own` has opened for root where others can change what is there.

    They can link a file of root's there and remove the link again, each time just before somebody looks, so that not
    even the number of its names tells. A file that is theirs stays, and so does `fd`. Return `fd` or the new one;
    OSError.
    """
    if os.geteuid() or os.fstat(fd).st_uid:
        return fd
    with place_of(path) as place:
        if place.is_roots:
            return fd
        name = f"{place.name}.{os.urandom(8).hex()}"
        fresh = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_SURPRISE, mode, dir_fd=place.directory)
        try:
            os.rename(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
        except BaseException:
            os.close(fresh)
            os.unlink(name, dir_fd=place.directory)
            raise
        return fresh


@contextlib.contextmanager
def replacing(path: str, mode: int) -> Iterator[int]:
    """Open a new file that takes the place of what is at a path when the block ends, whole or not at all; OSError.

    What was there is neither opened nor changed: it may be a second name of another file.
    """
    with place_of(path) as place:
        name = f"{place.name}.new"
        with contextlib.suppress(FileNotFoundError):  # of a process that was killed
            os.unlink(name, dir_fd=place.directory)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_SURPRISE, mode, dir_fd=place.directory)
        try:
            yield fd
            os.rename(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=place.directory)
            raise
        finally:
            os.close(fd)


def open_plain(path: str, flags: int, mode: int = 0o600) -> int:
    """Open a regular file and nothing else: no link is followed, no FIFO waited for; OSError."""
    fd = os.open(path, flags | _NO_SURPRISE, mode)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "no regular file; remove it", path)


def _checked(fd: int, path: str, owners: Collection[int]) -> int:
    if wrong := _wrong(os.fstat(fd), owners):
        os.close(fd)
        raise OSError(errno.EPERM, f"{wrong}, or use another path", path)
    return fd


def _wrong(status: os.stat_result, owners: Collection[int]) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file; remove it"
    if status.st_nlink > 1:  # one without a name was removed just now
        return f"it has {status.st_nlink} names (hard links); remove it"
    return "" if status.st_uid in owners else f"it belongs to {name_of_user(status.st_uid)}; give it to root"


@dataclass(frozen=True, slots=True)
class LogDoor:
    """A door (opener.py) to a file that is appended to by the user `uid`, in a directory that only root can change."""

    path: str
    uid: int

    #: A file of that user's need not let root in.
    capabilities: ClassVar[int] = 1 << lib.CAP_DAC_OVERRIDE

    @property
    def is_roots(self) -> bool:
        """Whether root may open it: nobody else can have put there what it finds."""
        try:
            with place_of(self.path) as place:
                return place.is_roots
        except OSError:
            return False

    def open(self) -> int:
        """Return a descriptor for appending, for a regular file one that can be read, too; OSError."""
        with place_of(self.path) as place:
            if not place.is_roots:
                raise PermissionError(errno.EACCES, "others can change what is at this path", self.path)
            flags = os.O_APPEND | _NO_SURPRISE
            try:
                # Only root can replace it between this look and the opening.
                is_regular = stat.S_ISREG(os.stat(place.name, dir_fd=place.directory, follow_symlinks=False).st_mode)
            except FileNotFoundError:
                is_regular = True
            if not is_regular:  # a FIFO, a device
                return os.open(place.name, flags | os.O_WRONLY, dir_fd=place.directory)
            fd = os.open(place.name, flags | os.O_RDWR | os.O_CREAT, 0o666, dir_fd=place.directory)
            return _checked(fd, self.path, (0, self.uid))


@dataclass(frozen=True, slots=True)
class DocumentDoor:
    """A door (opener.py) to new documents of the user `uid`, in a directory that only root can change."""

    directory: str
    prefix: str
    uid: int

    #: The directory need not let root in.
    capabilities: ClassVar[int] = 1 << lib.CAP_DAC_OVERRIDE

    @property
    def is_roots(self) -> bool:
        """Whether root may open them: nobody else can have put anything there."""
        try:
            with place_of(os.path.join(self.directory, self.prefix)) as place:
                return place.is_roots
        except OSError:
            return False

    def open(self) -> int:
        """Make a document and return a descriptor for appending; OSError."""
        with place_of(os.path.join(self.directory, self.prefix)) as place:
            if not place.is_roots:
                raise PermissionError(errno.EACCES, "others can change what is in this directory", self.directory)
            return _new_document(self.prefix, dir_fd=place.directory)[0]


def _new_document(prefix: str, dir_fd: int | None = None) -> tuple[int, str]:
    """Make a file whose name has the local time, and, where that is taken, a number."""
    stem = prefix + time.strftime("%d%m%Y-%H%M%S")
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _NO_SURPRISE
    for number in range(_MOST_DOCUMENTS):
        name = f"{stem}-{number}.xml" if number else f"{stem}.xml"
        with contextlib.suppress(FileExistsError):
            return os.open(name, flags, 0o666, dir_fd=dir_fd), name
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), f"{stem}.xml")


def open_document(directory: str, prefix: str) -> tuple[int, str]:
    """Make a document for appending, as ourselves or, where only root can, by a `DocumentDoor`; OSError.

    Return the descriptor and the path. Nothing that exists is opened, and no link followed: root comes to the directory
    by none either that others can change.
    """
    try:
        if _is_root():
            with place_of(os.path.join(directory, ".")) as place:
                fd, name = _new_document(prefix, dir_fd=place.directory)
            return fd, os.path.join(directory, name)
        return _new_document(os.path.join(directory, prefix))
    except PermissionError:
        door = DocumentDoor(directory, prefix, os.geteuid())
        if not agreed(door):
            raise
        with contextlib.suppress(PermissionError):
            fd = opened(door)
            return fd, os.readlink(f"/proc/self/fd/{fd}")
        raise


def open_to_append(path: str, flags: int) -> int:
    """Open a file as ourselves, or where only root can, as was agreed on by a `LogDoor`; OSError.

    Root follows no link that others can change, and appends to no file that others have given a second name.
    """
    if _is_root():
        with place_of(path, in_proc=True) as place:
            is_link = _is_proc(os.fstat(place.directory))
            fd = os.open(place.name, flags | (0 if is_link else os.O_NOFOLLOW), 0o666, dir_fd=place.directory)
            try:
                _check_names(os.fstat(fd), place, path)
            except BaseException:
                os.close(fd)
                raise
            return fd
    try:
        return os.open(path, flags, 0o666)
    except PermissionError:
        door = LogDoor(path, os.geteuid())
        if not agreed(door):
            raise
        with contextlib.suppress(PermissionError):
            return opened(door)
        raise


def open_to_read(path: str, more_flags: int = 0) -> tuple[int, bool]:
    """Open what is at a path to read it; OSError. Return the descriptor, and whether only root can change the name.

    Root follows no link that others can change, and reads no file of one user that another one may have linked there.
    For other users, and what this process has open (`/dev/stdin`), nothing is checked.
    """
    flags = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | more_flags
    if not _is_root():
        return os.open(path, flags), True
    try:
        with place_of(path, in_proc=True) as place:
            here = os.fstat(place.directory)
            if _is_proc(here):
                return os.open(place.name, flags, dir_fd=place.directory), True
            fd = os.open(place.name or ".", flags | os.O_NOFOLLOW, dir_fd=place.directory)
            try:
                status = os.fstat(fd)
                if not place.is_roots and not _is_named_by_its_owner(status, here):
                    told = "it has several names (hard links), which others than its owner may have made"
                    raise OSError(errno.EMLINK, told, path)
            except BaseException:
                os.close(fd)
                raise
            return fd, place.is_roots
    except OSError as error:
        told = "others can change a symbolic link there; name the file that it leads to"
        # Of a name in a directory, the whole path is told.
        raise OSError(error.errno, told if error.errno == errno.ELOOP else error.strerror, path) from None


def _is_named_by_its_owner(status: os.stat_result, directory: os.stat_result) -> bool:
    """Whether who may give names in a directory may have given one to somebody else's file."""
    is_theirs = status.st_uid == directory.st_uid and not directory.st_mode & _OTHERS_WRITE
    return status.st_nlink < 2 or is_theirs or not stat.S_ISREG(status.st_mode)


def _check_names(status: os.stat_result, place: Place, path: str) -> None:
    if not place.is_roots and stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise OSError(errno.EMLINK, f"it has {status.st_nlink} names (hard links), and others can change them", path)


def refused(path: str) -> OSError | None:
    """Return why `open_to_append` refuses what is at a path as no place for root; None: it does not."""
    if not _is_root():
        return None
    try:
        with place_of(path, in_proc=True) as place, contextlib.suppress(FileNotFoundError):
            _check_names(os.stat(place.name, dir_fd=place.directory, follow_symlinks=False), place, path)
    except OSError as error:
        return error if error.errno in (errno.ELOOP, errno.EMLINK) else None
    return None


@contextlib.contextmanager
def directory_of(path: str) -> Iterator[int]:
    """Open a directory (O_PATH) in which names are looked up, made or removed; OSError.

    Root follows no link to it that others can change.
    """
    if _is_root():
        with place_of(os.path.join(path, ".")) as place:
            yield place.directory
        return
    fd = os.open(path or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def is_ours_alone(directory: str) -> bool:
    """Whether root need not fear that others put another directory at this path; OSError."""
    if not _is_root():
        return True
    with place_of(directory.rstrip("/") or "/.") as place:
        return place.is_roots


def make_directory(path: str, mode: int = 0o700) -> None:
    """Make a directory that is missing, and those above it with the usual mode; OSError.

    Root follows no link to it that others can change.
    """
    if not _is_root():
        Path(path).mkdir(mode, parents=True, exist_ok=True)
        return
    path = path.rstrip("/") or "/."
    try:
        with place_of(path) as place:
            try:
                os.mkdir(place.name, mode, dir_fd=place.directory)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(place.name, dir_fd=place.directory, follow_symlinks=False).st_mode):
                    raise
    except FileNotFoundError:
        if not (above := os.path.dirname(path)):
            raise
        make_directory(above, 0o777)
        make_directory(path, mode)


@contextlib.contextmanager
def address_of(path: str) -> Iterator[str]:
    """Say how to connect to the unix socket at a path: for root by no link that others can change; OSError."""
    if not _is_root():
        yield path
        return
    with place_of(path) as place:
        if place.is_roots:
            yield path
            return
        found = os.open(place.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.directory)
        try:
            yield f"/proc/self/fd/{found}"
        finally:
            os.close(found)


def unlink_open(path: str, fd: int) -> None:
    """Remove the name of a file that is open, if the path still leads to it; OSError."""
    directory, name = os.path.split(path)
    with directory_of(directory) as place:
        if os.path.samestat(os.stat(name, dir_fd=place, follow_symlinks=False), os.fstat(fd)):
            os.unlink(name, dir_fd=place)


def give_directory(path: str, user: pwd.struct_passwd) -> bool:
    """Make a directory for a user, or give them one that an earlier run made as root; whether that was done.

    Nothing is done where somebody else could have put it there, nor with a directory that is none of ours. OSError.
    """
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(place_of(path))
        except FileNotFoundError:
            _make_parents(os.path.dirname(path))
            place = stack.enter_context(place_of(path))
        if not place.is_roots:
            return False
        is_new = True
        try:
            os.mkdir(place.name, 0o700, dir_fd=place.directory)
        except FileExistsError:
            is_new = False
        fd = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | _NO_SURPRISE, dir_fd=place.directory)
        stack.callback(os.close, fd)
        status = os.fstat(fd)
        if not is_new and not (status.st_uid == 0 and _only_root_writes(status) and _is_of_ours(fd)):
            return False
        for name in os.listdir(fd):
            _give_file(name, fd, user)
        os.fchown(fd, user.pw_uid, user.pw_gid)
        return True


def _make_parents(path: str) -> None:
    """Make what is missing of a path, in directories that only root can change; FileNotFoundError where it may not."""
    try:
        _make_for_all(path)
    except FileNotFoundError:
        _make_parents(os.path.dirname(path))
        _make_for_all(path)


def _make_for_all(path: str) -> None:
    with place_of(path) as place:
        if place.is_roots:
            with contextlib.suppress(FileExistsError):
                os.mkdir(place.name, 0o755, dir_fd=place.directory)


def _is_of_ours(directory: int) -> bool:
    names = set(os.listdir(directory))
    return names >= _OF_A_SPOOL or names <= _OF_OURS


def _give_file(name: str, directory: int, user: pwd.struct_passwd) -> None:
    """Give a user a file of root's. What is not a regular file with one name stays as it is."""
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return
    fd = os.open(name, os.O_RDONLY | _NO_SURPRISE, dir_fd=directory)
    try:
        if not _wrong(os.fstat(fd), (0,)):
            os.fchown(fd, user.pw_uid, user.pw_gid)
    finally:
        os.close(fd)


def name_of_user(uid: int) -> str:
    """Return a user's name, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def whose(path: str) -> str:
    """Say whose a file or directory is, and its mode: `belongs to root:adm, mode 0640`; empty where nobody can tell."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return f"belongs to {name_of_user(status.st_uid)}:{group}, mode {stat.S_IMODE(status.st_mode):04o}"
