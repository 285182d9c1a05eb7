# SPDX-License-Identifier: GPL-2.0-or-later
"""The program's own messages: ulogd's levels and line layout, and a limit for what repeats.

ulogd numbers its levels 1, 3, 5, 7, 8; they map onto the standard library's logging, with NOTICE between INFO and
WARNING. Messages go to standard error until the configuration says otherwise. No message waits for its reader: the
receive loop writes them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from nflowlevel.errors import printable

if TYPE_CHECKING:
    import socket

NOTICE = 25
logging.addLevelName(NOTICE, "NOTICE")

#: ulogd's numbers, for `loglevel=` and `-l`, and for the `<n>` in a log line.
LEVELS = {1: logging.DEBUG, 3: logging.INFO, 5: NOTICE, 7: logging.ERROR, 8: logging.CRITICAL}

log = logging.getLogger("nflowlevel")

#: Where syslog(3) sends to.
SYSLOG = "/dev/log"

#: syslog.h: the facility, and the priority of a message of at least that level.
_LOG_DAEMON = 3 << 3
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (NOTICE, 5), (logging.INFO, 6), (0, 7))

#: Other names of standard error and output, which a daemon that has become another user may not open.
_STANDARD = {"/dev/stderr": "stderr", "/dev/stdout": "stdout"}

#: How a log is opened: whoever reads it, or does not, is not waited for.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: A FIFO without a reader is opened again this often at most.
_RETRY_SECS = 1.0

#: An error that repeats is logged at most once in this many seconds.
REPEAT_SECS = 10.0


class Limited:
    """Logs each kind of message at most once every `REPEAT_SECS`; the next line says how many were held back."""

    def __init__(self, repeat_secs: float = REPEAT_SECS) -> None:
        self._repeat_secs = repeat_secs
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def __call__(self, level: int, kind: str, message: str) -> None:
        """Log `message` unless one of the same `kind` was logged less than `REPEAT_SECS` ago."""
        now = time.monotonic()
        if now - self._last.get(kind, float("-inf")) < self._repeat_secs:
            self._held[kind] = self._held.get(kind, 0) + 1
            return
        self._last[kind] = now
        held = self._held.pop(kind, 0)
        log.log(level, "%s%s", message, f" ({held} more like this were not logged)" if held else "", stacklevel=2)


class UlogdFormatter(logging.Formatter):
    """ulogd's line: date as ctime(3) writes it, `<level>`, source file and line, text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback of an exception below it."""
        number = max(number for number, level in LEVELS.items() if level <= max(record.levelno, logging.DEBUG))
        when = time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(record.created))
        text = f"{when} <{number}> {record.filename}:{record.lineno} {_one_line(record.getMessage())}"
        return text + "\n" + self.formatException(record.exc_info) if record.exc_info else text

    def formatException(self, ei: Any) -> str:
        """Return the traceback. What an exception says may quote others: no line of it begins like one of ours."""
        parts = (part if part.startswith("  ") else _indented(part) for part in traceback.format_exception(*ei))
        return printable("".join(parts), None, keep="\n").rstrip("\n")


def _one_line(message: str) -> str:
    """Return a message in one line, whatever it quotes: names of processes, interfaces and rules, bytes of a path."""
    return printable(message, None)


def _indented(part: str) -> str:
    return part.rstrip("\n").replace("\n", "\n  ") + "\n"


class _Handler(logging.Handler):
    """Hands messages over without ever waiting: a log that nobody reads must not stop the receive loop.

    A message that finds no room is dropped and counted; the next one that gets through says how many were. It never
    raises: a disk that is full under the log file is no reason to stop either.
    """

    def __init__(self) -> None:
        super().__init__()
        #: Messages that were not taken.
        self.dropped = 0
        self._untold = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one message over, after what was dropped before."""
        if self._untold:
            told = logging.LogRecord(
                log.name, NOTICE, __file__, 0, "messages that the log did not take, dropped: %d", (self._untold,), None
            )
            if not self._handed_over(told):
                self._drop()
                return
            self._untold = 0
        if not self._handed_over(record):
            self._drop()

    def _handed_over(self, record: logging.LogRecord) -> bool:
        try:
            return self._hand_over(record)
        except OSError:
            return False

    def _drop(self) -> None:
        self.dropped += 1
        self._untold += 1

    def _hand_over(self, record: logging.LogRecord) -> bool:
        """Write or send a message; False where it could not, or OSError."""
        raise NotImplementedError


class _LineHandler(_Handler):
    """Lines to a descriptor."""

    def __init__(self, fd: int, *, is_ours: bool) -> None:
        super().__init__()
        self.fd = fd
        self._is_ours = is_ours
        self._socket: socket.socket | None = None
        #: Whether the last line is there in part only.
        self._torn = False

    @classmethod
    def of_standard(cls, stream: TextIO) -> logging.Handler:
        """Return what writes to standard output or standard error."""
        try:
            fd = stream.fileno()
        except (OSError, ValueError):  # it is no descriptor but an object that takes its place
            return logging.StreamHandler(stream)
        handler = cls(fd, is_ours=False)
        kind = os.fstat(fd).st_mode
        if stat.S_ISSOCK(kind):
            import socket

            handler._socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            # O_NONBLOCK belongs to the open file, which others share: one of our own.
            with contextlib.suppress(OSError):
                handler.fd, handler._is_ours = os.open(f"/proc/self/fd/{fd}", _FLAGS), True
        return handler

    def _hand_over(self, record: logging.LogRecord) -> bool:
        line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        if self._torn:
            line = b"\n" + line
        written = self._write(line)
        if written:
            self._torn = written < len(line)
        return written == len(line)

    def _write(self, line: bytes) -> int:
        if self._socket:
            import socket

            return self._socket.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if os.get_blocking(self.fd) and not _has_room(self.fd):
            return 0
        return os.write(self.fd, line)

    def close(self) -> None:
        """Close what is ours."""
        super().close()
        if self._socket:
            self._socket.close()
        elif self._is_ours and self.fd >= 0:
            os.close(self.fd)
        self._socket, self.fd = None, -1


def _has_room(fd: int) -> bool:
    """Tell whether a write of a line would not wait."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def _open(path: str, flags: int) -> int:
    return os.open(path, flags, 0o666)


class _FileHandler(_LineHandler):
    """A log file. One that is a FIFO is written while somebody reads it."""

    def __init__(self, path: str, opener: Callable[[str, int], int]) -> None:
        """OSError when it cannot be opened; a FIFO without a reader can, later."""
        self.path = os.path.abspath(path)
        self.opener = opener
        self._next_try = 0.0
        try:
            fd = self._opened()
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            fd = -1
        super().__init__(fd, is_ours=True)

    def _opened(self) -> int:
        return self.opener(self.path, _FLAGS | os.O_CREAT)

    def _write(self, line: bytes) -> int:
        if self.fd < 0:
            now = time.monotonic()
            if now < self._next_try:
                return 0
            self._next_try = now + _RETRY_SECS
            self.fd = self._opened()
        return super()._write(line)

    def reopen(self) -> None:
        """Open the path anew; OSError where that fails, and then the old file stays in use."""
        fd = self._opened()
        with self.lock or contextlib.nullcontext():
            old, self.fd, self._torn = self.fd, fd, False
        if old >= 0:
            os.close(old)


class _SyslogHandler(_Handler):
    """The system's log, with ulogd's facility and priorities, as syslog(3) writes it; but that one waits."""

    def __init__(self) -> None:
        super().__init__()
        self._socket: socket.socket | None = None
        self._is_stream = False

    def _hand_over(self, record: logging.LogRecord) -> bool:
        """Send one message, without the source position."""
        priority = next(priority for level, priority in _PRIORITIES if record.levelno >= level)
        when = time.strftime("%b %e %H:%M:%S", time.localtime(record.created))
        text = _one_line(record.getMessage())
        message = f"<{_LOG_DAEMON | priority}>{when} nflowlevel[{os.getpid()}]: {text}".encode()
        try:
            return self._send(message)
        except BlockingIOError:
            return False
        except OSError:  # the system's log was started anew
            self.close_socket()
            return self._send(message)

    def _send(self, message: bytes) -> bool:
        import socket

        if self._socket is None:
            self._socket, self._is_stream = self._connected()
        if self._is_stream:
            message += b"\0"
        return self._socket.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) == len(message)

    def _connected(self) -> tuple[socket.socket, bool]:
        import socket

        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            sock = socket.socket(socket.AF_UNIX, kind)
            try:
                sock.setblocking(False)
                sock.connect(SYSLOG)
            except OSError as error:
                sock.close()
                if error.errno != errno.EPROTOTYPE or kind == socket.SOCK_STREAM:
                    raise
            else:
                return sock, kind == socket.SOCK_STREAM
        raise AssertionError

    def close_socket(self) -> None:
        """Give the socket up; the next message connects again."""
        sock, self._socket = self._socket, None
        if sock:
            sock.close()

    def close(self) -> None:
        """Close the socket."""
        super().close()
        self.close_socket()


class Messages:
    """Where the daemon's own messages go. Nothing of it ever waits; what finds no room is dropped and counted."""

    def __init__(
        self, destination: str, level: int, *, verbose: bool = False, opener: Callable[[str, int], int] = _open
    ) -> None:
        """`destination`: '' standard error, `stdout`, `syslog` or a file; `verbose` copies to standard error too.

        Until `started` is called errors go to standard error in any case: whoever starts the daemon sees why it fails.
        `opener` opens the file, given its absolute path and flags. OSError when it cannot be opened.
        """
        destination = _STANDARD.get(destination, destination)
        self._file: _FileHandler | None = None
        self._until_started: logging.Handler | None = None
        handlers: list[logging.Handler] = []
        if destination == "syslog":
            handlers.append(_SyslogHandler())
        elif destination in ("", "stderr", "stdout"):
            handlers.append(_LineHandler.of_standard(sys.stdout if destination == "stdout" else sys.stderr))
        else:
            self._file = _FileHandler(destination, opener)
            handlers.append(self._file)
        if verbose and destination not in ("", "stderr", "syslog"):
            handlers.append(_LineHandler.of_standard(sys.stderr))
        elif destination not in ("", "stderr"):
            self._until_started = _LineHandler.of_standard(sys.stderr)
            self._until_started.setLevel(logging.ERROR)
            handlers.append(self._until_started)
        for handler in handlers:
            handler.setFormatter(UlogdFormatter())
        for old in log.handlers[:]:
            log.removeHandler(old)
        for handler in handlers:
            log.addHandler(handler)
        self._handlers = handlers
        log.setLevel(level)
        log.propagate = False
        logging.raiseExceptions = False

    @property
    def dropped(self) -> int:
        """Messages that a destination did not take."""
        return sum(handler.dropped for handler in self._handlers if isinstance(handler, _Handler))

    def status(self) -> Iterator[str]:
        """Yield what the daemon's status has to say of its own log: nothing while all is well."""
        if dropped := self.dropped:
            yield f"messages that the log did not take, dropped: {dropped}"

    def started(self) -> None:
        """From now on messages go where they were sent, and nowhere else."""
        if self._until_started:
            log.removeHandler(self._until_started)
            self._until_started.close()

    def reopen(self) -> None:
        """Open the log file anew after it was rotated; where that fails the old one stays in use, and says so."""
        if self._file is None:
            return
        try:
            self._file.reopen()
        except OSError as error:
            log.error("reopen log file %s: %s; the old one stays in use", self._file.path, error.strerror)


def level_of(number: int) -> int:
    """Return logging's level for ulogd's number (1 to 8): the lowest of LEVELS that is not below it."""
    return LEVELS[min((known for known in LEVELS if known >= number), default=8)]
