# SPDX-License-Identifier: GPL-2.0-or-later
"""Tell the service manager how things are: sd_notify(3), without its library. Without a manager nothing happens."""

from __future__ import annotations

import os
import socket
import struct

#: How long a message may wait for room in the manager's queue.
_PATIENCE_USECS = 100_000


class Notifier:
    """Sends state to the socket in $NOTIFY_SOCKET. `watchdog_secs` is how often `WATCHDOG=1` is due; 0: never."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for a name in the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket:
            # A READY that is lost in a busy moment ends the service: a little patience. The kernel cannot wait long.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, _PATIENCE_USECS))
        limit = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Half the limit, as sd_watchdog_enabled(3) recommends.
        self.watchdog_secs = int(limit) / 2e6 if self._socket and mine and limit.isdecimal() else 0.0

    def __bool__(self) -> bool:
        """Whether there is a manager to tell anything."""
        return self._socket is not None

    def __call__(self, **state: str | int) -> None:
        """Send assignments such as READY=1, STATUS="..."; a manager that does not listen is no error."""
        if self._socket is None:
            return
        message = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in state.items())
        try:
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return

    def close(self) -> None:
        """Close the socket; may be called again."""
        if self._socket:
            self._socket.close()
            self._socket = None
