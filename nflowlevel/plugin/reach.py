# SPDX-License-Identifier: GPL-2.0-or-later
"""Can an output's target be reached? What an output's `examine` asks: files, sockets, peers, an address to listen on.

Nothing is created, written or truncated. A TCP or unix peer sees a connection that closes at once; of a UDP peer only
the address can be looked up.

It stands beside the contract because a `Finding` is part of that: delivery moves bytes and judges nothing.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import stat
from collections.abc import Iterator
from typing import Literal

from nflowlevel.binding.netns import path_of
from nflowlevel.binding.rootpath import address_of, refused
from nflowlevel.delivery.appendfile import REMEDY
from nflowlevel.plugin.contract import Finding

_TIMEOUT_SECS = 2.0
#: With less than this left a file system counts as full.
_LITTLE_BYTES = 1 << 20
_STDOUT = ("-", "/dev/stdout")


def file(path: str) -> Iterator[Finding]:
    """Judge a file that is appended to, or a FIFO; `-` is standard output."""
    if path in _STDOUT:
        yield Finding("ok", "writes to standard output")
        return
    if error := refused(path):
        yield Finding("problem", f"file={path}: {error.strerror}", REMEDY[error.errno or 0])
        return
    target = os.path.realpath(path)
    try:
        status = os.stat(target)
    except FileNotFoundError:
        yield _missing(path, os.path.dirname(target))
        return
    except OSError as error:
        yield (
            _denied(f"file={path}: {error.strerror}")
            if error.errno == errno.EACCES
            else Finding("problem", f"file={path}: {error.strerror}")
        )
        return
    if stat.S_ISDIR(status.st_mode):
        yield Finding("problem", f"file={path} is a directory", "name a file in it")
    elif not os.access(target, os.W_OK, effective_ids=True):
        yield _denied(f"file={path} cannot be written", "change its owner or mode, or the user")
    else:
        yield Finding("ok", f"file={path} can be written")
        yield from _space(target)


def _denied(text: str, remedy: str = "") -> Finding:
    """Judge what this user may not do: the daemon has another user, as far as anybody but root can tell."""
    if os.geteuid() == 0:
        return Finding("problem", text, remedy)
    return Finding("hint", f"{text}, for the user who asks", "ask as the user of the daemon, or as root")


def _missing(path: str, directory: str) -> Finding:
    if not os.path.isdir(directory):
        return Finding("problem", f"file={path}: no such directory: {directory}", f"mkdir -p {directory}")
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return _denied(f"file={path} cannot be created: {directory} is not writable")
    return next(_space(directory), Finding("ok", f"file={path} does not exist and can be created"))


def _space(path: str) -> Iterator[Finding]:
    disk = os.statvfs(path)
    # A file system without blocks (/dev, /proc) is not full.
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < _LITTLE_BYTES:
        yield Finding("problem", f"the file system of {path} is full", "make room")


def directory(path: str) -> Iterator[Finding]:
    """Judge a directory that is made where it is missing."""
    if error := refused(path):
        yield Finding("problem", f"{path}: {error.strerror}", REMEDY[error.errno or 0])
        return
    there = os.path.abspath(path)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        yield Finding("problem", f"{path} cannot be a directory: {there} is none", "name another directory")
    elif not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        yield _denied(f"{path} cannot be used: {there} is not writable", "name another directory, or change its owner")


def existing_directory(path: str) -> Iterator[Finding]:
    """Judge a directory that has to be there, and in which files are made."""
    if error := refused(path):
        yield Finding("problem", f"directory={path}: {error.strerror}", REMEDY[error.errno or 0])
    elif not os.path.isdir(path):
        yield Finding("problem", f"directory={path}: no such directory", f"mkdir -p {path}")
    elif not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        yield _denied(f"directory={path} is not writable", "change its owner or mode, or the user")
    else:
        yield next(_space(path), Finding("ok", f"files can be made in directory={path}"))


def package(module: str, remedy: str) -> Iterator[Finding]:
    """Judge whether a Python module can be imported; it is not."""
    if importlib.util.find_spec(module) is None:
        yield Finding("problem", f"there is no Python module {module}", remedy)


def namespace(netns: str) -> Iterator[Finding]:
    """Judge whether there is a network namespace of that name or path."""
    if not os.path.exists(path_of(netns)):
        yield Finding("problem", f"there is no network namespace {netns}", f"ip netns add {os.path.basename(netns)}")


def unix(path: str) -> Iterator[Finding]:
    """Judge a unix socket that lines are sent to."""
    return _unix(path, "start the program that listens there", socket.SOCK_STREAM)


def syslog(path: str) -> Iterator[Finding]:
    """Judge the socket of the system's log."""
    return _unix(path, "start the system's log: rsyslog, syslog-ng or journald", socket.SOCK_DGRAM, socket.SOCK_STREAM)


def _unix(path: str, remedy: str, kind: int, *others: int) -> Iterator[Finding]:
    with socket.socket(socket.AF_UNIX, kind) as peer:
        peer.settimeout(_TIMEOUT_SECS)
        try:
            with address_of(path) as to:
                peer.connect(to)
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EPROTOTYPE and others:
                yield from _unix(path, remedy, *others)
            elif error.errno == errno.EACCES:
                yield _denied(f"unix socket {path}: {reason}")
            else:
                yield Finding("problem", f"unix socket {path}: {reason}", remedy)
        else:
            yield Finding("ok", f"unix socket {path} accepts connections")


def peer(transport: Literal["tcp", "udp"], host: str, port: str) -> Iterator[Finding]:
    """Judge a peer of TCP, or the address of one of UDP."""
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    shown = f"{transport} peer {host} port {port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=kind)
    except (OSError, UnicodeError) as error:
        yield Finding("problem", f"{shown}: {getattr(error, 'strerror', None) or error}", "check host and port")
        return
    if transport == "udp":
        yield Finding("ok", f"{shown} is {addresses[0][4][0]}; UDP cannot tell whether a program listens")
        return
    reason = ""
    for family, _, _, _, address in addresses:
        with socket.socket(family, kind) as one:
            one.settimeout(_TIMEOUT_SECS)
            try:
                one.connect(address)
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                yield Finding("ok", f"{shown} accepts connections")
                return
    yield Finding("problem", f"{shown}: {reason}", "start the program that listens there, or check the route to it")


def listening(host: str, port: int) -> Iterator[Finding]:
    """Judge an address that an HTTP endpoint of ours is to listen on: free, taken by one that runs, or by others."""
    shown = f"{host} port {port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as server:
            # As the endpoint does: connections that have ended do not count.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
    except (OSError, UnicodeError) as error:
        number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or error
        if number == errno.EACCES:
            yield _denied(f"cannot listen on {shown}: {reason}", "use a port that this user may bind")
        elif number != errno.EADDRINUSE:
            yield Finding("problem", f"cannot listen on {shown}: {reason}", "use an address of this machine")
        elif _is_ours(host, port):
            yield Finding("ok", f"{shown} is served by nflowlevel")
        else:
            yield Finding("problem", f"cannot listen on {shown}: {reason}", "use another port")
    else:
        yield Finding("ok", f"{shown} is free to listen on")


def _is_ours(host: str, port: int) -> bool:
    """Tell whether an endpoint of ours answers there. It has no page `/`, so nothing is counted as a scrape."""
    # Late: it loads TLS.
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECS)
    try:
        connection.request("HEAD", "/")
        return connection.getresponse().headers.get("Server", "").startswith("nflowlevel")
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
