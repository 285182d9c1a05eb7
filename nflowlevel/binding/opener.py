# SPDX-License-Identifier: GPL-2.0-or-later
"""What needs root after the daemon has become another user: a process that opens it, and hands the descriptor over.

    class Door(Protocol)            one thing that may be opened: it is agreed on before, and never changes
    opener = Opener([door, …])      starts the process: before threads, and before the privileges are given up
    use(opener)                     from now on `opened(door)` asks it
    fd = opened(door)               where there is no Opener, this thread opens the door itself

A request is the number of a door, and nothing else: there is nothing in it that could be misread. The answer is an
errno and, with 0, a descriptor (SCM_RIGHTS, unix(7)). The process keeps the capabilities that its doors need, is deaf
to signals that mean the daemon, and ends with it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Hashable, Iterable
from types import TracebackType
from typing import Never, Protocol

from nflowlevel.binding.privileges import keep
from nflowlevel.errors import KernelError

#: Opening takes no time; a file system that hangs must not hold up the receive loop for longer.
_ANSWER_SECS = 2.0

#: A door, an errno, a descriptor.
_NUMBER = struct.Struct("=i")
#: Descriptors from here on are not those that the process uses itself.
_ABOVE = 8
#: For one descriptor.
_ROOM = socket.CMSG_LEN(_NUMBER.size)

#: What is sent to the daemon may reach all processes of its terminal or of its service.
_MEANT_FOR_THE_DAEMON = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
    signal.SIGPIPE,
)  # fmt: skip


class Door(Hashable, Protocol):
    """Something that can be opened. Doors that lead to the same are equal."""

    @property
    def capabilities(self) -> int:
        """What opening needs, as bits: 1 << CAP_SYS_ADMIN."""

    def open(self) -> int:
        """Return a new descriptor; OSError."""


class Opener:
    """The process, and our end of the line to it. Any thread may ask. Close it, or use it as a context manager."""

    def __init__(self, doors: Iterable[Door]) -> None:
        self._numbers = {door: number for number, door in enumerate(dict.fromkeys(doors))}
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # What is in our buffers must not be written twice.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        self.pid = os.fork()
        if not self.pid:
            _be_the_opener(theirs, list(self._numbers))
        theirs.close()
        self._socket.settimeout(_ANSWER_SECS)

    def __contains__(self, door: Door) -> bool:
        """Tell whether this door was agreed on."""
        return door in self._numbers

    def open(self, door: Door) -> int:
        """Return a new descriptor, closed on exec; OSError as opening gave it, EPERM for a door not agreed on.

        KernelError where the process is gone.
        """
        number = self._numbers.get(door)
        if number is None:
            raise PermissionError(errno.EPERM, f"{door} may not be opened any more")
        with self._lock:
            try:
                self._socket.send(_NUMBER.pack(number))
                # Not by recv_fds, which takes no flags.
                answer, extra, _, _ = self._socket.recvmsg(_NUMBER.size, _ROOM, socket.MSG_CMSG_CLOEXEC)
                (refused,) = _NUMBER.unpack(answer)
            except (OSError, struct.error):
                # An answer that comes late would be taken for that to the next request.
                self._socket.close()
                raise KernelError(
                    "ask the process that opens files for the daemon", errno.ECONNRESET, "restart the daemon"
                ) from None
        if refused:
            raise OSError(refused, os.strerror(refused))
        ((_, _, data),) = extra
        return int(_NUMBER.unpack(data)[0])

    def close(self) -> None:
        """End the process, unless a file system holds it up; may be called again."""
        self._socket.close()
        if self.pid:
            pid, self.pid = self.pid, 0
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(pid)
                try:
                    poll = select.poll()
                    poll.register(handle, select.POLLIN)
                    poll.poll(_ANSWER_SECS * 1000)
                    os.waitpid(pid, os.WNOHANG)
                finally:
                    os.close(handle)

    def __enter__(self) -> Opener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_in_use: Opener | None = None


def use(opener: Opener | None) -> None:
    """Let `opened` ask this one; None: open everything in the calling thread again."""
    global _in_use
    _in_use = opener


def in_use() -> bool:
    """Tell whether there is a process that opens for us."""
    return _in_use is not None


def opened(door: Door) -> int:
    """Open a door, through the Opener where there is one in use; OSError."""
    return _in_use.open(door) if _in_use else door.open()


def agreed(door: Door) -> bool:
    """Tell whether an Opener is in use that may open this door."""
    return _in_use is not None and door in _in_use


def _be_the_opener(line: socket.socket, doors: list[Door]) -> Never:
    """Serve until the other end is closed, in the child."""
    try:
        for number in _MEANT_FOR_THE_DAEMON:
            signal.signal(number, signal.SIG_IGN)
        # Nothing of the daemon's is held: neither its terminal nor a file that it closes.
        null = fcntl.fcntl(os.open(os.devnull, os.O_RDWR), fcntl.F_DUPFD, _ABOVE)
        end = fcntl.fcntl(line.detach(), fcntl.F_DUPFD, _ABOVE)
        for fd, place in ((null, 0), (null, 1), (null, 2), (end, 3)):
            os.dup2(fd, place)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        with contextlib.suppress(OSError), open("/proc/self/comm", "wb", 0) as name:  # what `ps` shows
            name.write(b"nflowlevel-open")
        capabilities = 0
        for door in doors:
            capabilities |= door.capabilities
        keep(capabilities)
        _serve(socket.socket(fileno=3), doors)
    finally:
        os._exit(0)


def _serve(line: socket.socket, doors: list[Door]) -> None:
    while request := line.recv(_NUMBER.size):
        fd = -1
        try:
            (number,) = _NUMBER.unpack(request)
            fd = doors[number].open() if 0 <= number < len(doors) else -1
            refused = 0 if fd >= 0 else errno.EINVAL
        except Exception as error:
            refused = (error.errno if isinstance(error, OSError) else None) or errno.EIO
        socket.send_fds(line, [_NUMBER.pack(refused)], [fd] if fd >= 0 else [])
        if fd >= 0:
            os.close(fd)
