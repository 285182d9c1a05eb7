# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files a log was rotated into: the names that logrotate and others make of its own.

ulogd.json   ulogd.json.1   ulogd.json.2.gz   ulogd.json-20261127.zst   ulogd-20261127.json   ulogd.1.json
"""

from __future__ import annotations

import contextlib
import os
import re
import stat

_NUMBER = r"[.-][0-9][0-9T:_-]*(?:\.[0-9]+)?"
_COMPRESSED = r"(?:\.gz|\.zst|\.xz|\.bz2)?"


def rotated(path: str) -> list[str]:
    """Return the regular files that the log at `path` was rotated into, the oldest first; OSError.

    The log itself is not among them: its writer goes on with it.
    """
    directory, name = os.path.split(os.path.abspath(path))
    stem, extension = os.path.splitext(name)
    names = re.escape(name) + _NUMBER
    if extension:
        names += f"|{re.escape(stem)}{_NUMBER}{re.escape(extension)}"
    pattern = re.compile(f"(?:{names}){_COMPRESSED}")
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):  # rotated just now
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append((status.st_mtime_ns, entry.path))
    return [found_path for _, found_path in sorted(found)]


def is_locked(path: str) -> bool:
    """Tell whether a process holds a lock on the file, as our outputs do; without asking for it.

    That is flock's, or that of a capture's one writer (openfile.py).
    """
    try:
        status = os.stat(path)
        with open("/proc/locks") as file:
            locks = [line.split() for line in file]
    except OSError:
        return False
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    held = (("FLOCK", "READ"), ("FLOCK", "WRITE"), ("OFDLCK", "WRITE"))
    return any((words[1], words[3]) in held and words[5] == wanted for words in locks if len(words) > 5)
