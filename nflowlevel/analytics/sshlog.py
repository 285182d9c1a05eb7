# SPDX-License-Identifier: GPL-2.0-or-later
"""What sshd says of its peers: its lines in a log, or the journal's export, as logins.

Read are syslog's lines (`Nov 27 12:00:00 host sshd[7]: …`, with or without year, zone and fraction: see stamps.py),
`journalctl -o json` and `journalctl -o export`. The program is `sshd`, or `sshd-session` from OpenSSH 9.8 on. Of the
journal only what it vouches for counts: entries whose sender was root (`_UID`).

What can be forged. The user's name is the peer's to choose. It may hold blanks, and ` from 192.0.2.1 port 22 ssh2`:
sshd writes the true address behind it, so the last one counts, and only at the end of the message. Whoever may write to
the log can write lines that look like sshd's; in a file nothing tells them apart.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nflowlevel.analytics.stamps import Stamps
from nflowlevel.analytics.wholelines import WholeLines

#: Longer lines are none of sshd's.
LONGEST = 8192

_PROGRAMS = ("sshd", "sshd-session", "sshd-auth")
_HEAD = re.compile(r"(?:(?P<host>\S{1,255}) )?(?:sshd|sshd-session|sshd-auth)(?:\[\d{1,10}\])?: ", re.ASCII)
_REPEATED = re.compile(r"message repeated (\d{1,6}) times: \[ ?(.*)\]", re.ASCII | re.DOTALL)

_ADDRESS = r"(?P<ip>(?=[0-9A-Fa-f]{0,4}[.:])[0-9A-Fa-f.:]{1,44}[0-9A-Fa-f])"
_PORT = r"(?: port (?P<port>\d{1,5}))?"
_FROM = rf" from {_ADDRESS}{_PORT}"
_END = r"(?: ssh2?)?(?: \[preauth\])?"
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (what, re.compile(text, re.ASCII | re.DOTALL))
    for what, text in (
        (
            "failed",
            r"Failed (?P<method>\S{1,40}) for (?P<invalid>invalid user |illegal user )?(?P<who>.*)"
            rf"{_FROM}(?: ssh2?)?(?:: \S+ \S+)?",
        ),
        ("accepted", rf"Accepted (?P<method>\S{{1,40}}) for (?P<who>.*){_FROM}(?: ssh2?)?(?:: \S+ \S+( .*)?)?"),
        ("invalid user", rf"(?P<invalid>Invalid|Illegal) user (?P<who>.*){_FROM}"),
        (
            "max attempts",
            r"(?:error: )?maximum authentication attempts exceeded for (?P<invalid>invalid user )?(?P<who>.*)"
            rf"{_FROM}{_END}",
        ),
        ("connection", rf"Connection{_FROM} on \S+ port \d{{1,5}}(?: rdomain .*)?"),
        (
            "closed",
            r"Connection (?:closed|reset) by (?:(?:authenticating|(?P<invalid>invalid)) user (?P<who>.*) )?"
            rf"{_ADDRESS}{_PORT}{_END}",
        ),
        (
            "disconnected",
            r"Disconnected from (?:(?:authenticating |(?P<invalid>invalid )|)user (?P<who>.*) )?"
            rf"{_ADDRESS}{_PORT}{_END}",
        ),
        ("disconnected", rf"Received disconnect{_FROM}:? ?\d{{0,5}}: .*"),
        ("no banner", rf"(?:error: )?Did not receive identification string{_FROM}"),
        ("bad banner", rf"Bad protocol version identification '.*'{_FROM}"),
        ("bad banner", rf"(?:error: )?banner exchange: Connection{_FROM}: .*"),
        ("no agreement", rf"(?:fatal: )?Unable to negotiate with {_ADDRESS}{_PORT}: .*"),
        (
            "failed",
            # The user's name stands last, and may be `x rhost=192.0.2.1`.
            r"pam_unix\(sshd:auth\): authentication failure; (?:(?:logname|uid|euid|tty|ruser)=\S* )*"
            rf"rhost={_ADDRESS}(?:  ?user=(?P<who>.*))?",
        ),
    )
)
_METHOD_OF_PAM = "pam"


class Login(NamedTuple):
    """What sshd said of a peer once."""

    us: int
    """Microseconds since 1970."""
    dvc: str | None
    """The host that sshd ran on."""
    what: str
    """failed, accepted, invalid user, max attempts, connection, closed, disconnected, no banner, bad banner or no
    agreement."""
    src_ip: str
    src_port: int | None
    who: str | None
    """The user's name as the peer gave it."""
    known: bool | None
    """Whether there is such a user; None: it does not say."""
    method: str | None
    """password, publickey …"""
    times: int
    """How many times it was said: of `message repeated N times`."""
    message: str


@dataclass
class Counts:
    """What became of lines or entries."""

    lines: int = 0
    """Lines of a file, or entries of the journal."""
    logins: int = 0
    """Those that became logins, each once."""
    other: int = 0
    """Those of other programs, or that say nothing of a peer."""
    without_time: int = 0
    """Lines of sshd without a time that is one."""


class SSHLog:
    """Reads what sshd said in one file."""

    def __init__(self, changed: float | None = None, *, year: int | None = None) -> None:
        self.counts = Counts()
        self._stamps = Stamps(changed, year=year)

    def parse(self, line: str) -> Login | None:
        """Return what a line of syslog says of a peer; None: nothing, which is counted."""
        self.counts.lines += 1
        line = line.rstrip("\r\n")
        stamp = self._stamps.find(line)
        head = _HEAD.match(line, stamp.end) if stamp else _HEAD.search(line[:LONGEST])
        if head is None or len(line) > LONGEST:
            self.counts.other += 1
            return None
        if stamp is None:
            self.counts.without_time += 1
            return None
        return self._said(stamp.sec * 1_000_000 + stamp.usec, head["host"], line[head.end() :])

    def entry(self, fields: Mapping[str, Any]) -> Login | None:
        """Return what an entry of the journal says of a peer; None: nothing, which is counted."""
        self.counts.lines += 1
        message, uid = fields.get("MESSAGE"), fields.get("_UID")
        program = fields.get("SYSLOG_IDENTIFIER", fields.get("_COMM"))
        if isinstance(message, list):  # bytes that are no UTF-8
            message = _of_numbers(message)
        if program not in _PROGRAMS or uid not in (None, "0") or not isinstance(message, str):
            self.counts.other += 1
            return None
        when = fields.get("_SOURCE_REALTIME_TIMESTAMP", fields.get("__REALTIME_TIMESTAMP"))
        if not isinstance(when, str) or not when.isascii() or not when.isdecimal() or len(when) > 18:
            self.counts.without_time += 1
            return None
        host = fields.get("_HOSTNAME")
        return self._said(int(when), host if isinstance(host, str) else None, message[:LONGEST])

    def _said(self, us: int, host: str | None, message: str) -> Login | None:
        count = 1
        if (repeated := _REPEATED.fullmatch(message)) is not None:
            count, message = int(repeated[1]), repeated[2]
        for what, rule in _RULES:
            if (found := rule.fullmatch(message.rstrip(" "))) is None:
                continue
            said = found.groupdict()
            address, port = _address(said["ip"]), said.get("port")
            if address is None or (port is not None and int(port) > 0xFFFF):
                continue
            self.counts.logins += 1
            method = said.get("method") or (_METHOD_OF_PAM if message.startswith("pam_") else None)
            known = False if said.get("invalid") else True if what == "accepted" else None
            if what == "failed" and method != _METHOD_OF_PAM:
                known = not said.get("invalid")
            return Login(
                us, host, what, address, int(port) if port else None, said.get("who"), known, method, count, message
            )
        self.counts.other += 1
        return None


def read(path: str | os.PathLike[str], *, year: int | None = None) -> tuple[list[Login], Counts]:
    """Return what sshd said in a file, which may be compressed, and what became of its lines. OSError."""
    with WholeLines(Path(path)) as lines:
        log = SSHLog(lines.changed, year=year)
        found = list(_of_chunks(log, lines))
    return found, log.counts


def _of_chunks(log: SSHLog, lines: WholeLines) -> Iterator[Login]:
    rest = b""
    kind = ""
    for chunk in lines.chunks():
        kind = kind or _kind(chunk)
        if kind == "export":
            *entries, rest = _entries(rest + chunk)
            yield from filter(None, (log.entry(fields) for fields in _fields(entries)))
            continue
        for line in chunk.split(b"\n"):
            if line:
                login = _of_json(log, line) if kind == "json" else log.parse(line.decode("utf-8", "replace"))
                if login is not None:
                    yield login
    if rest.strip():
        yield from filter(None, (log.entry(fields) for fields in _fields([rest])))


def _kind(begin: bytes) -> str:
    begin = begin.lstrip()
    return "json" if begin.startswith(b"{") else "export" if re.match(rb"__[A-Z_]{1,64}=", begin) else "text"


def _of_json(log: SSHLog, line: bytes) -> Login | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = {}
    return log.entry(fields if isinstance(fields, dict) else {})


def _entries(data: bytes) -> list[bytes]:
    """Split the journal's export into entries; the last one may not be whole.

    A value with newlines stands as its name, a newline, its length in 8 bytes and itself: an empty line in it ends
    nothing.
    """
    entries, begin, at = [], 0, 0
    while (end := data.find(b"\n", at)) >= 0:
        if end == at:
            entries.append(data[begin:at])
            begin = at = end + 1
            continue
        at = end + 1
        if b"=" not in data[data.rfind(b"\n", begin, end) + 1 : end]:
            size = int.from_bytes(data[at : at + 8], "little")
            if at + 8 + size >= len(data):
                break
            at += 8 + size + 1
    return [*entries, data[begin:]]


def _fields(entries: Iterable[bytes]) -> Iterator[dict[str, str]]:
    for entry in entries:
        fields: dict[str, str] = {}
        at = 0
        while at < len(entry):
            end = entry.find(b"\n", at)
            line = entry[at : end if end >= 0 else len(entry)]
            at = (end if end >= 0 else len(entry)) + 1
            name, is_plain, value = line.partition(b"=")
            if not is_plain:
                size = int.from_bytes(entry[at : at + 8], "little")
                value = entry[at + 8 : at + 8 + size]
                at += 8 + size + 1
            fields[name.decode("ascii", "replace")] = value.decode("utf-8", "replace")
        if fields:
            yield fields


def _of_numbers(numbers: list[Any]) -> str | None:
    try:
        return bytes(numbers).decode("utf-8", "replace")
    except (TypeError, ValueError):
        return None


def _address(text: str) -> str | None:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except OSError:
        return None
