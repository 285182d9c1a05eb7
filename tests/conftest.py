# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests share: fixtures of namespaces and users, the marker `kernel`, and a header on what the run ran on."""

from __future__ import annotations

import os
import platform
import subprocess

import hypothesis
import pytest

from tests.fix_alone import all_netns
from tests.fix_netns import bridge, missing, netns, own_names, pair
from tests.fix_nobody import open_to_all, users
from tests.fix_watched import unstamped, watched

__all__ = ["all_netns", "bridge", "netns", "open_to_all", "pair", "unstamped", "users", "watched"]

_LIBRARIES = ("libnetfilter_log", "libnetfilter_acct", "libmnl")
# How long an example takes on a machine that runs other tests beside it says nothing.
hypothesis.settings.register_profile("beside-others", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("beside-others")

_KERNEL_FIXTURES = {"netns", "pair", "bridge", "watched", "unstamped"}


def pytest_configure() -> None:
    """See to it that runs at the same time do not see each other's namespaces."""
    if not missing():
        own_names()


def pytest_report_header() -> list[str]:
    """Name the kernel, the Netfilter libraries and the user."""
    libraries = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    return [
        f"kernel: {platform.release()} ({'root' if os.geteuid() == 0 else 'not root'})",
        f"libraries: {libraries}",
        f"kernel tests: {missing() or 'can run'}",
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a namespace, before `-m` selects, so that none is forgotten."""
    for item in items:
        if _KERNEL_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kernel)


def _version(library: str) -> str:
    try:
        done = subprocess.run(["pkg-config", "--modversion", library], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown (no pkg-config)"
    return done.stdout.strip() or "not found"
