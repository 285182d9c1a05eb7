# SPDX-License-Identifier: GPL-2.0-or-later
"""A listening unix socket at a path: with owner and mode; a dead one is replaced, whatever else is there stays.

Root walks to the directory as to a pid file (rootpath.py). Nobody can connect before mode and owner are set: the socket
does not listen until then.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Collection
from typing import NamedTuple

from nflowlevel.binding.procfs import name_of, text_of
from nflowlevel.binding.rootpath import Place, name_of_user, place_of, whose
from nflowlevel.errors import StackError

#: Connections that wait until they are accepted.
_BACKLOG = 128
#: `struct sockaddr_un` has room for so many bytes and a NUL.
_LONGEST_ADDRESS = 107
#: `struct ucred`: process, user, group.
_CREDENTIALS = struct.Struct("=iII")
#: /proc/net/unix: a socket listens (__SO_ACCEPTCON); one is connected (SS_CONNECTED).
_LISTENS, _CONNECTED = "00010000", "03"
_ANOTHER = "set another socket_path"


class Listener:
    """The socket, and what is its own at the path. Close it; that may be done again."""

    def __init__(self, path: str, *, mode: int = 0o600, uid: int = -1, gid: int = -1) -> None:
        """Make it. -1 leaves owner or group as they are. StackError where it cannot be made, and what to do."""
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._inode: tuple[int, int] | None = None
        try:
            with place_of(path) as place:
                _make_room(path, place, {0, os.geteuid(), uid})
                # The file gets this mode, as far as the umask lets it.
                os.fchmod(self.socket.fileno(), mode & 0o777)
                self.socket.bind(_address(path, place))
                self._set(place, mode & 0o777, uid, gid)
            self.socket.listen(_BACKLOG)
        except OSError as error:
            self.close()
            raise StackError(f"listen on {path}: {_explained(error, path)}") from None
        except BaseException:
            self.close()
            raise

    def _set(self, place: Place, mode: int, uid: int, gid: int) -> None:
        file = os.open(place.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=place.directory)
        try:
            status = os.fstat(file)
            if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink > 1:
                raise FileExistsError(0, "somebody else has put something else there")
            self._inode = status.st_dev, status.st_ino
            there = f"/proc/self/fd/{file}"
            os.chmod(there, mode)
            if uid >= 0 or gid >= 0:
                _give(there, uid, gid, self.path)
        finally:
            os.close(file)

    def close(self) -> None:
        """Stop listening and remove the file, if it is still ours and its directory allows it."""
        if self._inode:
            with contextlib.suppress(OSError), place_of(self.path) as place:
                status = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
                if (status.st_dev, status.st_ino) == self._inode:
                    os.unlink(place.name, dir_fd=place.directory)
            self._inode = None
        self.socket.close()


def _give(there: str, uid: int, gid: int, path: str) -> None:
    try:
        os.chown(there, uid, gid)
    except PermissionError:
        whom = f"user {uid} and group {gid}".removeprefix("user -1 and ").removesuffix(" and group -1")
        remedy = "leave out owner and group, or use a directory that only root can change"
        raise StackError(f"listen on {path}: only root can give the socket to {whom}; {remedy}") from None


def _address(path: str, place: Place) -> str:
    """Return what to bind to: the path as it is, where nobody leads root elsewhere and it is not too long."""
    if (place.is_roots or os.geteuid()) and len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        return path
    return f"/proc/self/fd/{place.directory}/{place.name}"


def _make_room(path: str, place: Place, owners: Collection[int]) -> None:
    """Remove a socket that nobody listens on; StackError where something else is in the way."""
    try:
        # Held open, so that nothing else gets the number of its inode.
        file = os.open(place.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=place.directory)
    except FileNotFoundError:
        return
    try:
        _remove_stale(path, place, os.fstat(file), owners)
    finally:
        os.close(file)


def _remove_stale(path: str, place: Place, found: os.stat_result, owners: Collection[int]) -> None:
    if not stat.S_ISSOCK(found.st_mode):
        raise StackError(f"listen on {path}: there is something that is no socket, and it stays; {_ANOTHER}")
    if not place.is_roots and found.st_uid not in owners:
        owner = name_of_user(found.st_uid)
        raise StackError(f"listen on {path}: there is a socket of {owner}; remove it, or {_ANOTHER}")
    if who := _listens_at(_address(path, place)):
        raise StackError(f"listen on {path}: {who} listens there; stop it, or {_ANOTHER}")
    # By another name first: what is removed is what was looked at, whoever was quicker.
    aside = f"{place.name}.{os.urandom(8).hex()}"
    os.rename(place.name, aside, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    same = os.path.samestat(found, os.stat(aside, dir_fd=place.directory, follow_symlinks=False))
    if not same:
        with contextlib.suppress(FileExistsError):
            os.link(aside, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory, follow_symlinks=False)
    os.unlink(aside, dir_fd=place.directory)
    if not same:
        raise StackError(f"listen on {path}: another process has just begun to listen there; stop it, or {_ANOTHER}")


def _listens_at(address: str) -> str:
    """Return who listens on a socket; empty: nobody does. OSError where that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return ""
        except BlockingIOError:  # more connections wait than it takes
            return "another process"
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
            return "another process"  # by datagrams
        pid = peer_of(probe)
        return f"process {pid} ({name_of(pid)})" if pid else "another process"


def peer_of(connected: socket.socket) -> int:
    """Return the process at the other end of a unix socket: who connected, or who listened; 0: it is not visible."""
    size = _CREDENTIALS.size
    return int(_CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0])


def _explained(error: OSError, path: str) -> str:
    directory = os.path.dirname(path) or "."
    why = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        return f"no such directory: {directory}; create it (mkdir -p {directory})"
    if isinstance(error, PermissionError):
        return f"{why} — the directory {whose(directory)}; let the daemon's user write there, or {_ANOTHER}"
    return f"{why}; {_ANOTHER}"


class Connections(NamedTuple):
    """Who is at a unix socket."""

    listens: bool
    connected: int


def connections_at(path: str) -> Connections:
    """Return whether anybody listens at a path, and how many connections there are; OSError."""
    names = {path, os.path.realpath(path)}
    listens, connected = False, 0
    for line in text_of("/proc/net/unix").splitlines()[1:]:
        _, _, _, flags, _, state, _, *name = line.split(maxsplit=7)
        there = name[0] if name else ""
        # What was bound through a directory's descriptor shows that.
        if there in names or (there.startswith("/proc/self/fd/") and os.path.basename(there) == os.path.basename(path)):
            listens |= flags == _LISTENS
            connected += state == _CONNECTED
    return Connections(listens, connected)
