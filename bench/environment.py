# SPDX-License-Identifier: GPL-2.0-or-later
"""What a result was measured on: commit, kernel, CPU, versions. Without these a figure says nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contenders import ulogd2_version

if TYPE_CHECKING:
    from bench.scale import Scale

_HERE = Path(__file__).resolve().parent
_LIBRARIES = ("libmnl", "libnetfilter_log", "libnetfilter_acct")
_PACKAGES = ("cffi", "msgspec", "numpy", "pyarrow")


def environment(scale: Scale) -> dict[str, Any]:
    """Return it as plain data."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "kernel": platform.release(),
        "cpu": f"{os.cpu_count()} x {_cpu()}",
        "governor": _governor(),
        "load": load(),
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {_output('pkg-config', '--modversion', name)}" for name in _LIBRARIES),
        "packages": ", ".join(f"{name} {_package(name)}" for name in _PACKAGES),
        "compiler": _output("cc", "--version").partition("\n")[0],
        "ulogd2": ulogd2_version(),
        "tcpdump": _output("tcpdump", "--version").partition("\n")[0],
        "file system": _output("stat", "--file-system", "--format=%T", os.environ.get("TMPDIR", "/tmp")),
        "scale": dataclasses.asdict(scale),
    }


def load() -> str:
    """Return the load averages: when others use the machine, figures spread."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_HERE)
    except FileNotFoundError:
        return "unknown"
    return (done.stdout or done.stderr).strip() if not done.returncode else "unknown"


def _commit() -> str:
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    return commit if changed in ("", "unknown") else f"{commit} with changes"


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _governor() -> str:
    with contextlib.suppress(OSError):
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    return "none (left to the hypervisor or the firmware)"


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"
