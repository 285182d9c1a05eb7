# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages that are looked into, not installed: they would start services or take the place of others.

packages = unpacked(request.config, "psad", "fail2ban")     # a tree as of /: packages / "usr/sbin/psad"
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_PATIENCE = 120


def unpacked(config: pytest.Config, *packages: str) -> Path:
    """Return a directory with the files of these packages; they stay in pytest's cache. Skip if they cannot be had."""
    assert config.cache
    archives = Path(config.cache.mkdir("debian-archives"))
    tree = Path(config.cache.mkdir("debian"))
    for package in packages:
        mark = archives / package
        if not mark.exists():
            done = subprocess.run(
                ["apt-get", "download", "-q", package], cwd=archives, capture_output=True, text=True, timeout=_PATIENCE
            )
            if done.returncode:
                pytest.skip(f"the Debian package {package} cannot be downloaded: {done.stderr.strip()}")
            (archive,) = archives.glob(f"{package}_*.deb")
            subprocess.run(["dpkg-deb", "--extract", archive, tree], check=True)
            mark.touch()
    return tree
