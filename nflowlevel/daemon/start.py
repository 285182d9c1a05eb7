# SPDX-License-Identifier: GPL-2.0-or-later
"""The first steps of the daemon's program: signals are held back until the receive loop can take them.

Without a handler SIGHUP, SIGUSR1, SIGUSR2 and SIGALRM end a process, and whoever rotates logs does not know that it has
just been started. Most of the time of a start goes into imports, so this comes before them: the module imports nothing
of ours. SIGTERM and SIGINT end a start at once.
"""

from __future__ import annotations

import signal

_HELD = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


def hold() -> None:
    """Hold these signals back. Who embeds us decides about signals, so only programs call this."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def let_go() -> None:
    """Let them come, with those that came meanwhile: the handlers are set."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


def main() -> int:
    """Run the daemon; the result is the exit status."""
    hold()
    from nflowlevel.daemon.main import main  # late: what comes before is held back

    return main()
