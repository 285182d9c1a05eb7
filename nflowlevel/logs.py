# SPDX-License-Identifier: GPL-2.0-or-later
"""The program's own messages: ulogd's levels and line layout, and a limit for what repeats.

ulogd numbers its levels 1, 3, 5, 7, 8; they map onto the standard library's logging, with NOTICE between INFO and
WARNING. Messages go to standard error until the configuration says otherwise.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time

NOTICE = 25
logging.addLevelName(NOTICE, "NOTICE")

#: ulogd's numbers, for `loglevel=` and `-l`, and for the `<n>` in a log line.
LEVELS = {1: logging.DEBUG, 3: logging.INFO, 5: NOTICE, 7: logging.ERROR, 8: logging.CRITICAL}

log = logging.getLogger("nflowlevel")

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
        text = f"{when} <{number}> {record.filename}:{record.lineno} {_encodable(record.getMessage())}"
        return text + "\n" + self.formatException(record.exc_info) if record.exc_info else text


def _encodable(message: str) -> str:
    """Return the message with what UTF-8 cannot say escaped: bytes of a path that came from the configuration."""
    return message.encode("utf-8", "backslashreplace").decode()


class _SyslogHandler(logging.Handler):
    """syslog(3), with ulogd's identity, facility and priorities."""

    def __init__(self) -> None:
        super().__init__()
        import syslog

        self._send = syslog.syslog
        self._priorities = (
            (logging.CRITICAL, syslog.LOG_CRIT),
            (logging.ERROR, syslog.LOG_ERR),
            (logging.WARNING, syslog.LOG_WARNING),
            (NOTICE, syslog.LOG_NOTICE),
            (logging.INFO, syslog.LOG_INFO),
            (0, syslog.LOG_DEBUG),
        )
        syslog.openlog("nflowlevel", syslog.LOG_PID, syslog.LOG_DAEMON)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one message, without the source position."""
        priority = next(priority for level, priority in self._priorities if record.levelno >= level)
        self._send(priority, _encodable(record.getMessage()).replace("\0", "\\0"))


class Messages:
    """Where the daemon's own messages go."""

    def __init__(self, destination: str, level: int, *, verbose: bool = False) -> None:
        """`destination`: '' standard error, `stdout`, `syslog` or a file; `verbose` copies to standard error too.

        Until `started` is called errors go to standard error in any case: whoever starts the daemon sees why it fails.
        OSError when the file cannot be opened.
        """
        self._file: logging.FileHandler | None = None
        self._until_started: logging.Handler | None = None
        handlers: list[logging.Handler] = []
        if destination == "syslog":
            handlers.append(_SyslogHandler())
        elif destination in ("", "stderr", "stdout"):
            handlers.append(logging.StreamHandler(sys.stdout if destination == "stdout" else sys.stderr))
        else:
            self._file = logging.FileHandler(destination, encoding="utf-8", errors="backslashreplace")
            handlers.append(self._file)
        if verbose and destination not in ("", "stderr", "syslog"):
            handlers.append(logging.StreamHandler(sys.stderr))
        elif destination not in ("", "stderr"):
            self._until_started = logging.StreamHandler(sys.stderr)
            self._until_started.setLevel(logging.ERROR)
            handlers.append(self._until_started)
        for handler in handlers:
            handler.setFormatter(UlogdFormatter())
        for old in log.handlers[:]:
            log.removeHandler(old)
        for handler in handlers:
            log.addHandler(handler)
        log.setLevel(level)
        log.propagate = False
        # A full disk under the log file must not print a traceback per message, nor stop the daemon.
        logging.raiseExceptions = False

    def started(self) -> None:
        """From now on messages go where they were sent, and nowhere else."""
        if self._until_started:
            log.removeHandler(self._until_started)

    def reopen(self) -> None:
        """Open the log file anew after it was rotated; where that fails the old one stays in use, and says so."""
        if self._file is None:
            return
        try:
            stream = open(self._file.baseFilename, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except OSError as error:
            log.error("reopen log file %s: %s; the old one stays in use", self._file.baseFilename, error.strerror)
            return
        # Not setStream(): that flushes the old file first, which raises when its disk is full.
        self._file.acquire()
        old, self._file.stream = self._file.stream, stream
        self._file.release()
        if old:
            with contextlib.suppress(OSError):
                old.close()


def level_of(number: int) -> int:
    """Return logging's level for ulogd's number (1 to 8): the lowest of LEVELS that is not below it."""
    return LEVELS[min((known for known in LEVELS if known >= number), default=8)]
