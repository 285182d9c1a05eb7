# SPDX-License-Identifier: GPL-2.0-or-later
"""Tell the service manager how things are: sd_notify(3), without its library. Without a manager nothing happens."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Sends state to the socket in $NOTIFY_SOCKET. `watchdog_secs` is how often `WATCHDOG=1` is due; 0: never."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for a name in the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Half the limit, as sd_watchdog_enabled(3) recommends.
        self.watchdog_secs = int(os.environ.get("WATCHDOG_USEC", 0)) / 2e6 if self._socket and mine else 0.0

    def __call__(self, **state: str | int) -> None:
        """Send assignments such as READY=1, STATUS="..."; a manager that does not listen is no error."""
        if self._socket is None:
            return
        message = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in state.items())
        try:
            self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError:
            return
