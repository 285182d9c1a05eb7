# SPDX-License-Identifier: GPL-2.0-or-later
"""Can an output's target be written? Looks without disturbing: nothing is created, written, or truncated.

A TCP or unix peer sees a connection that closes at once. Of a UDP peer only its address can be looked up.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator

from nflowlevel.doctor.groups import Finding
from nflowlevel.options import Options

_TIMEOUT_SECS = 2.0
#: With less than this left a file system counts as full.
_LITTLE_BYTES = 1 << 20
_STDOUT = ("-", "/dev/stdout")


def check_target(instance: str, options: Options) -> Iterator[Finding]:
    """Judge where an output writes, by its options `mode`, `file`, `host` and `port`; nothing for those without.

    Databases have a command of their own, which can do more.
    """
    if hasattr(options, "spool_directory"):
        yield Finding("hint", f"[{instance}] its database is not looked at here", "see: nflowlevel sql check")
        return
    mode, file = getattr(options, "mode", "file"), getattr(options, "file", "")
    if mode in ("tcp", "udp"):
        yield _peer(instance, mode, getattr(options, "host", ""), getattr(options, "port", ""))
    elif mode == "unix" and file:
        yield _unix(instance, file)
    elif mode == "file" and file:
        yield from _file(instance, file)


def _file(instance: str, file: str) -> Iterator[Finding]:
    if file in _STDOUT:
        yield Finding("ok", f"[{instance}] writes to standard output")
        return
    target = os.path.realpath(file)
    try:
        status = os.stat(target)
    except FileNotFoundError:
        yield _missing(instance, file, os.path.dirname(target))
        return
    except OSError as error:
        yield Finding("problem", f"[{instance}] file={file}: {error.strerror}")
        return
    if stat.S_ISDIR(status.st_mode):
        yield Finding("problem", f"[{instance}] file={file} is a directory", "name a file in it")
    elif not os.access(target, os.W_OK, effective_ids=True):
        yield Finding(
            "problem", f"[{instance}] file={file} may not be written", "change its owner or mode, or the user"
        )
    else:
        yield Finding("ok", f"[{instance}] file={file} can be written")
        yield from _space(instance, target)


def _missing(instance: str, file: str, directory: str) -> Finding:
    if not os.path.isdir(directory):
        return Finding(
            "problem", f"[{instance}] file={file}: there is no directory {directory}", f"mkdir -p {directory}"
        )
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return Finding("problem", f"[{instance}] file={file} cannot be created: {directory} may not be written")
    return next(
        _space(instance, directory), Finding("ok", f"[{instance}] file={file} does not exist and can be created")
    )


def _space(instance: str, path: str) -> Iterator[Finding]:
    disk = os.statvfs(path)
    # A file system without blocks (/dev, /proc) is not full.
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < _LITTLE_BYTES:
        yield Finding("problem", f"[{instance}] the file system of {path} is full", "make room")


def _unix(instance: str, path: str) -> Finding:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(_TIMEOUT_SECS)
        try:
            peer.connect(path)
        except OSError as error:
            reason = error.strerror or str(error)
            return Finding("problem", f"[{instance}] unix socket {path}: {reason}", "start who listens there")
    return Finding("ok", f"[{instance}] unix socket {path} accepts connections")


def _peer(instance: str, mode: str, host: str, port: str) -> Finding:
    kind = socket.SOCK_STREAM if mode == "tcp" else socket.SOCK_DGRAM
    shown = f"[{instance}] {mode} peer {host} port {port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=kind)
    except (OSError, UnicodeError) as error:
        return Finding("problem", f"{shown}: {getattr(error, 'strerror', None) or error}", "check host and port")
    if mode == "udp":
        return Finding("ok", f"{shown} is {addresses[0][4][0]}; with UDP nothing tells whether anybody listens")
    reason = ""
    for family, _, _, _, address in addresses:
        with socket.socket(family, kind) as peer:
            peer.settimeout(_TIMEOUT_SECS)
            try:
                peer.connect(address)
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                return Finding("ok", f"{shown} accepts connections")
    return Finding("problem", f"{shown}: {reason}", "start who listens there, or mend the way to it")
