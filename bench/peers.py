# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python peers, from PyPI, in a virtual environment of their own under build/bench.

The two that read log groups do not run on Python 3.11 as they are. nflogr passes lengths to `Py_BuildValue("y#")`
without PY_SSIZE_T_CLEAN, which Python 3.10 made an error: it is compiled with that macro defined. scapy-nflog-capture3
fails on prefixes: reader.py steps around that.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys

from bench.programs import BUILD

_INSTALL_SECS = 300
_PACKAGES = {
    "nflogr": ("nflogr==0.2.12",),
    "scapy_nflog": ("scapy", "scapy-nflog-capture3==22.11.6"),
    "scapy": ("scapy",),
    "dpkt": ("dpkt==1.9.8",),
}
_IMPORTS = {
    "nflogr": "import nflogr",
    "scapy_nflog": "from nflog_cffi import NFLOG; NFLOG()",
    "scapy": "import scapy",
    "dpkt": "import dpkt",
}


def peer_python(name: str) -> str:
    """Return the Python that has the peer, installed if need be; RuntimeError says why it cannot be had."""
    python = _environment()
    if _imports(python, name):
        _install(python, name)
    if why := _imports(python, name):
        raise RuntimeError(f"it cannot be imported: {why}")
    return python


@functools.cache
def _environment() -> str:
    directory = BUILD / "peers"
    python = directory / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(directory)], "make a virtual environment")
    return str(python)


def _install(python: str, name: str) -> None:
    flags = {"CFLAGS": "-DPY_SSIZE_T_CLEAN", "CPPFLAGS": "-DPY_SSIZE_T_CLEAN"}
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_PACKAGES[name]]
    _run(command, f"install {', '.join(_PACKAGES[name])}", flags)


def _imports(python: str, name: str) -> str:
    """Return why a peer cannot be imported, or an empty string."""
    done = subprocess.run([python, "-c", _IMPORTS[name]], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else _last_line(done.stderr) or f"exit {done.returncode}"


def _run(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=_INSTALL_SECS,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise RuntimeError(f"cannot {what}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
