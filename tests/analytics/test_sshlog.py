# SPDX-License-Identifier: GPL-2.0-or-later
"""What sshd says of its peers, in lines and in the journal's exports; names that try to be somebody else."""

from __future__ import annotations

import calendar
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflowlevel.analytics.sshlog import Login, SSHLog, read

_NOON = calendar.timegm((2026, 11, 27, 12, 0, 0))
_HEAD = "2026-11-27T12:00:00.000007Z fw sshd[77]: "


def said(message: str, head: str = _HEAD) -> Login:
    """Return what a message must say."""
    log = SSHLog(_NOON)
    login = log.parse(head + message + "\n")
    assert login is not None, log.counts
    return login


@pytest.mark.parametrize(
    ("message", "what", "who", "known", "method", "port"),
    [
        ("Failed password for root from 192.0.2.66 port 40022 ssh2", "failed", "root", True, "password", 40022),
        ("Failed password for invalid user admin from 192.0.2.66 port 1 ssh2", "failed", "admin", False, "password", 1),
        ("Failed password for illegal user a b from 192.0.2.66 port 1 ssh2", "failed", "a b", False, "password", 1),
        ("Failed password for invalid user  from 192.0.2.66 port 1 ssh2", "failed", "", False, "password", 1),
        ("Failed none for invalid user x from 192.0.2.66 port 1 ssh2", "failed", "x", False, "none", 1),
        ("Failed publickey for root from 192.0.2.66 port 1 ssh2: RSA SHA256:abc",
         "failed", "root", True, "publickey", 1),
        ("Accepted publickey for me from 192.0.2.66 port 1 ssh2: ED25519 SHA256:a/b",
         "accepted", "me", True, "publickey", 1),
        ("Accepted password for me from 192.0.2.66 port 1 ssh2", "accepted", "me", True, "password", 1),
        ("Invalid user admin from 192.0.2.66 port 1", "invalid user", "admin", False, None, 1),
        ("Invalid user admin from 192.0.2.66", "invalid user", "admin", False, None, None),
        ("Connection from 192.0.2.66 port 5 on 10.77.0.1 port 22 rdomain \"\"", "connection", None, None, None, 5),
        ("Connection closed by 192.0.2.66 port 5 [preauth]", "closed", None, None, None, 5),
        ("Connection closed by authenticating user root 192.0.2.66 port 5 [preauth]", "closed", "root", None, None, 5),
        ("Connection reset by invalid user a b 192.0.2.66 port 5 [preauth]", "closed", "a b", False, None, 5),
        ("Disconnected from authenticating user root 192.0.2.66 port 5 [preauth]",
         "disconnected", "root", None, None, 5),
        ("Disconnected from user me 192.0.2.66 port 5", "disconnected", "me", None, None, 5),
        ("Received disconnect from 192.0.2.66 port 5:11: Bye Bye [preauth]", "disconnected", None, None, None, 5),
        ("Received disconnect from 192.0.2.66: 11: Bye Bye [preauth]", "disconnected", None, None, None, None),
        ("Did not receive identification string from 192.0.2.66 port 5", "no banner", None, None, None, 5),
        ("Bad protocol version identification 'GET / HTTP/1.1' from 192.0.2.66 port 5",
         "bad banner", None, None, None, 5),
        ("banner exchange: Connection from 192.0.2.66 port 5: invalid format", "bad banner", None, None, None, 5),
        ("Unable to negotiate with 192.0.2.66 port 5: no matching cipher found. Their offer: x [preauth]",
         "no agreement", None, None, None, 5),
        ("error: maximum authentication attempts exceeded for root from 192.0.2.66 port 5 ssh2 [preauth]",
         "max attempts", "root", None, None, 5),
        ("pam_unix(sshd:auth): authentication failure; logname= uid=0 tty=ssh ruser= rhost=192.0.2.66  user=root",
         "failed", "root", None, "pam", None),
        ("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.66",
         "failed", None, None, "pam", None),
    ],
)  # fmt: skip
def test_messages(
    message: str, what: str, who: str | None, known: bool | None, method: str | None, port: int | None
) -> None:
    us = _NOON * 1_000_000 + 7
    assert said(message) == Login(us, "fw", what, "192.0.2.66", port, who, known, method, 1, message)


@pytest.mark.parametrize(
    "head",
    [
        "Nov 27 12:00:00 fw sshd[77]: ",
        "<38>Nov 27 12:00:00 fw sshd-session[77]: ",
        "2026-11-27T12:00:00+00:00 fw sshd-auth[77]: ",
        "Nov 27 12:00:00 fw sshd: ",
    ],
)
def test_heads(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC0")
    login = said("Invalid user x from 2001:0db8::0066 port 7", head)
    assert (login.us, login.dvc, login.src_ip) == (_NOON * 1_000_000, "fw", "2001:db8::66")


def test_a_repeated_message() -> None:
    login = said("message repeated 5 times: [ Failed password for root from 192.0.2.66 port 40022 ssh2]")
    assert (login.times, login.who, login.src_port) == (5, "root", 40022)


@given(st.text(max_size=60).filter(lambda text: "\n" not in text and "\r" not in text) | st.sampled_from([
    "root from 10.0.0.1 port 22 ssh2", "x from 10.0.0.1 port 1 ssh2: RSA SHA256:x", "invalid user y", "a from 10.0.0.1",
    "x from 10.0.0.1 port 22 ssh2]", "root] message repeated 3 times: [ Failed",
]))  # fmt: skip
def test_a_name_cannot_be_another_peer(name: str) -> None:
    for message in (
        f"Failed password for invalid user {name} from 192.0.2.66 port 40022 ssh2",
        f"Invalid user {name} from 192.0.2.66 port 40022",
        f"Connection closed by invalid user {name} 192.0.2.66 port 40022 [preauth]",
        f"Disconnected from invalid user {name} 192.0.2.66 port 40022 [preauth]",
    ):
        login = said(message)
        assert (login.src_ip, login.src_port, login.known, login.who) == ("192.0.2.66", 40022, False, name)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "other"),
        ("Nov 27 12:00:00 fw cron[1]: Failed password for root from 192.0.2.66 port 1 ssh2", "other"),
        (f"{_HEAD}Server listening on 0.0.0.0 port 22.", "other"),
        (f"{_HEAD}Failed password for root from 192.0.2.666 port 1 ssh2", "other"),
        (f"{_HEAD}Failed password for root from 192.0.2.66 port 99999 ssh2", "other"),
        ("fw sshd[7]: Failed password for root from 192.0.2.66 port 1 ssh2", "without_time"),
        (f"{_HEAD}{'x' * 9000}", "other"),
    ],
)
def test_what_is_no_login_is_counted(line: str, why: str) -> None:
    log = SSHLog(_NOON)
    assert log.parse(line) is None
    assert {name: count for name, count in vars(log.counts).items() if count} == {"lines": 1, why: 1}


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    log = SSHLog(_NOON)
    log.parse(text)
    log.parse(_HEAD + text)
    counts = vars(log.counts)
    assert counts.pop("lines") == sum(counts.values()) == 2


def test_a_file_with_times_without_a_year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC0")
    path = tmp_path / "auth.log"
    path.write_text("Dec 31 23:59:59 fw sshd[1]: Invalid user x from 192.0.2.66 port 1\nx\n")
    os.utime(path, (_NOON, _NOON))
    (login,), counts = read(path)
    assert login.us == calendar.timegm((2025, 12, 31, 23, 59, 59)) * 1_000_000
    assert (counts.lines, counts.logins, counts.other) == (2, 1, 1)
    assert read(path, year=2014)[0][0].us == calendar.timegm((2014, 12, 31, 23, 59, 59)) * 1_000_000


# -- the journal ------------------------------------------------------------------------------------------------------

_ENTRY = {
    "__CURSOR": "s=1", "__REALTIME_TIMESTAMP": str(_NOON * 1_000_000 + 9),
    "_SOURCE_REALTIME_TIMESTAMP": str(_NOON * 1_000_000 + 7),
    "_HOSTNAME": "fw", "_COMM": "sshd", "SYSLOG_IDENTIFIER": "sshd", "_UID": "0", "_PID": "7",
    "MESSAGE": "Failed password for invalid user a b from 192.0.2.66 port 40022 ssh2",
}  # fmt: skip
_WANTED = Login(
    _NOON * 1_000_000 + 7, "fw", "failed", "192.0.2.66", 40022, "a b", False, "password", 1, _ENTRY["MESSAGE"]
)


def exported(fields: dict[str, str], binary: str = "") -> bytes:
    """Return an entry as `journalctl -o export` writes it; `binary` names a field with its length."""
    parts = [
        name.encode() + b"\n" + len(value.encode()).to_bytes(8, "little") + value.encode() + b"\n"
        if name == binary
        else f"{name}={value}\n".encode()
        for name, value in fields.items()
    ]
    return b"".join(parts) + b"\n"


@pytest.mark.parametrize("form", ["json", "export", "binary", "end"])
def test_exports_of_the_journal(form: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    forged = _ENTRY | {"_UID": "1000"}
    other = _ENTRY | {"MESSAGE": "a\n\nb=c", "SYSLOG_IDENTIFIER": "x"}
    timeless = {name: value for name, value in _ENTRY.items() if "TIMESTAMP" not in name}
    if form == "json":
        numbers = _ENTRY | {"MESSAGE": list(_ENTRY["MESSAGE"].encode())}
        entries = [_ENTRY, forged, other, numbers, timeless]
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + "[]\n{\n")
        wanted, counted = 2, (7, 2, 4, 1)
    else:
        name = "MESSAGE" if form == "binary" else "_PID"
        data = exported(_ENTRY, name) + exported(forged) + exported(other, "MESSAGE") + exported(timeless)
        data += exported(_ENTRY)
        path.write_bytes(data[:-1] if form == "end" else data)
        wanted, counted = 2, (5, 2, 2, 1)
    found, counts = read(path)
    assert found == [_WANTED] * wanted
    assert (counts.lines, counts.logins, counts.other, counts.without_time) == counted


@given(st.binary(max_size=200))
def test_any_export(data: bytes) -> None:
    from nflowlevel.analytics.sshlog import _entries, _fields

    entries = _entries(data)
    log = SSHLog(_NOON)
    for fields in _fields(entries):
        log.entry(fields)


@pytest.mark.parametrize("name", ["x rhost=10.0.0.1", "rhost=10.0.0.1  user=root", "x  user=y rhost=10.0.0.1"])
@pytest.mark.parametrize("peer", ["192.0.2.66", "host.example"])
def test_a_name_that_pam_says_cannot_be_another_peer(peer: str, name: str) -> None:
    lines = SSHLog(_NOON)
    head = "2026-11-27T12:00:00+00:00 fw sshd[77]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0"
    found = lines.parse(f"{head} tty=ssh ruser= rhost={peer}  user={name}")
    assert (found and (found.src_ip, found.who)) == ((peer, name) if peer != "host.example" else None)
