# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages that are looked into, not installed: they would start services or take the place of others.

archives(request.config, "rsyslog", "libestr0")         # the archives, for dpkg-deb
unpack(request.config, machine, "psad", "fail2ban")     # their files are on the machine, and nothing was started
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fix_alone import alone
from tests.fix_machine import Machine

_PATIENCE = 120


def archives(config: pytest.Config, *packages: str) -> list[Path]:
    """Return the archives of these packages; they stay in pytest's cache. Skip where they cannot be had."""
    assert config.cache
    directory = Path(config.cache.mkdir("debian-archives"))
    # Half of an archive that another run still downloads would be taken for the archive.
    with alone("debian-archives"):
        missing = [package for package in packages if not list(directory.glob(f"{package}_*.deb"))]
        if missing:
            command = ["apt-get", "download", "-q", *missing]
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_PATIENCE)
            if done.returncode:
                pytest.skip(f"these Debian packages cannot be downloaded: {' '.join(missing)}: {done.stderr.strip()}")
    return [archive for package in packages for archive in directory.glob(f"{package}_*.deb")]


def unpack(config: pytest.Config, machine: Machine, *packages: str) -> None:
    """Unpack packages on a machine, without what they do when they are installed."""
    machine.run("mkdir", "/tmp/packages")
    for archive in archives(config, *packages):
        shutil.copy(archive, machine.path("/tmp/packages"))
    one = "dpkg-deb --fsys-tarfile $archive | tar -x -C / --keep-directory-symlink"
    machine.run("sh", "-ec", f"for archive in /tmp/packages/*.deb; do {one}; done")
