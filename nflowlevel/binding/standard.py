# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard input, output and error: whichever was closed at the start leads to /dev/null from here on.

What is opened later would otherwise get its number, and everything that writes to standard output or error would write
there: into a file, a socket, a pipe of the program's own. So importing this module does it, and our programs import it
before anything else of theirs. A library must not: who embeds us decides about descriptors.
"""

from __future__ import annotations

import os
import sys

_NAMES = ("stdin", "stdout", "stderr")


def fill() -> tuple[str, ...]:
    """Open /dev/null on each that is closed, for this process and the programs it starts; return which ones were."""
    closed = []
    for fd, name in enumerate(_NAMES):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is given: this one, as those below it are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            closed.append(name)
        if getattr(sys, name) is None:
            # Python leaves it out where the descriptor was closed.
            stream = open(fd, "r" if fd == 0 else "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    return tuple(closed)


#: Those that were closed when the program started.
CLOSED = fill()
