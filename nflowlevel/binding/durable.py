# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to be there after a crash of the machine: that a file is on the disk does not say that its name is."""

from __future__ import annotations

import os


def sync_directory(path: str, directory: int | None = None) -> None:
    """Force the names in a directory to the disk; OSError, also of a file system that cannot.

    With `directory`, a descriptor that may be one of O_PATH, the path begins there: it may be `.`.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
