# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel drop-in`: put nflowlevel-daemon in the place of /usr/sbin/ulogd, and take it out again.

Debian's package ulogd2 stays installed: its unit, init script, logrotate file and configuration are used as they are.
dpkg-divert(1) moves its program aside and keeps upgrades of the package from bringing it back; a link takes its place.

The link leads to a program and not to a script (nflowlevel/daemon/ulogd.c), because start-stop-daemon and pidof look
at the executable and at the name of a process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from nflowlevel import daemon
from nflowlevel.binding.rootpath import place_of
from nflowlevel.cli.arguments import add_action
from nflowlevel.daemon.main import DEFAULT_CONFIG
from nflowlevel.errors import NflowError, printable

PLACE = Path("/usr/sbin/ulogd")
ASIDE = Path("/usr/sbin/ulogd.distrib")

#: What the package has, if it was built where Python can be linked.
_BUILT = Path(daemon.__file__).with_name("ulogd")
_RESTART = "restart the service for it: systemctl restart ulogd2, or /etc/init.d/ulogd2 restart"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION")
    add_action(commands, "status", _status, f"say whose program {PLACE} is (the default)")
    add_action(commands, "install", _install, f"divert {PLACE} to nflowlevel-daemon")
    add_action(commands, "remove", _remove, f"undo that: {PLACE} is ulogd2's again")
    parser.set_defaults(act=_status)


def run(options: argparse.Namespace) -> int:
    """Install, remove, or tell."""
    return int(options.act())


def program() -> Path:
    """Return where our program is installed: beside the interpreter, whose packages it uses."""
    return Path(os.path.abspath(sys.executable)).with_name("ulogd")


def is_installed() -> bool:
    """Tell whether PLACE leads to our program."""
    return PLACE.is_symlink() and PLACE.readlink() == program()


def _others_link() -> Path | None:
    """Return where PLACE leads if that is not our program, such as that of another installation."""
    return PLACE.readlink() if PLACE.is_symlink() and not is_installed() else None


def _undo(other: Path) -> str:
    command = other.with_name("nflowlevel")
    if command.exists():
        return f"undo that with: {printable(str(command), None)} drop-in remove"
    return f"undo that with: rm {PLACE}; dpkg-divert --local --rename --remove {PLACE}"


def _status() -> int:
    if is_installed():
        print(f"{PLACE} is nflowlevel-daemon ({program()}); ulogd2's is {ASIDE}")
    elif other := _others_link():
        print(f"{PLACE} leads to {printable(str(other), None)}, not to {program()}; {_undo(other)}")
    else:
        whose = "ulogd2's" if PLACE.exists() else "not there"
        print(f"{PLACE} is {whose}; 'nflowlevel drop-in install' puts nflowlevel-daemon in its place")
    return 0


def _install() -> int:
    if is_installed():
        print(f"{PLACE} is nflowlevel-daemon already")
        return 0
    _need_root()
    _place_program()
    _divert("--add")
    try:
        # A name of its own first: at no time is there a link that leads nowhere, or none.
        new = PLACE.with_name("ulogd.nflowlevel")
        new.unlink(missing_ok=True)
        new.symlink_to(program())
        new.rename(PLACE)
    except OSError as error:
        _divert("--remove")
        raise NflowError(f"link {PLACE} to {program()}: {error.strerror}; nothing was changed") from None
    print(f"{PLACE} is nflowlevel-daemon now; {_RESTART}")
    _judge_configuration()
    return 0


def _remove() -> int:
    if other := _others_link():
        raise NflowError(f"{PLACE} leads to {printable(str(other), None)}, not to {program()}; {_undo(other)}")
    if not is_installed():
        raise NflowError(f"{PLACE} does not lead to {program()}, so there is nothing to undo")
    _need_root()
    target = PLACE.readlink()
    PLACE.unlink()
    try:
        _divert("--remove")
    except NflowError:
        PLACE.symlink_to(target)
        raise
    # The daemon may still run: its executable stays until it ends.
    target.unlink(missing_ok=True)
    print(f"{PLACE} is ulogd2's again; {_RESTART}")
    return 0


def _need_root() -> None:
    if os.geteuid():
        raise NflowError(f"changing {PLACE} needs root")
    if not shutil.which("dpkg-divert"):
        raise NflowError("there is no dpkg-divert; this is for Debian and systems made from it")


def _place_program() -> None:
    """Copy the program beside the interpreter and see that it runs there."""
    if not _BUILT.exists():
        raise NflowError(
            "this installation has no program ulogd, as Python could not be linked when it was built; "
            "install python3-dev and a C compiler, then install nflowlevel anew"
        )
    target = program()
    for path in (target.parent, *target.parent.resolve().parents, _BUILT.parent):
        # Sticky, as /tmp: what root has there stays root's.
        status = path.stat()
        if status.st_uid or (status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX):
            raise NflowError(
                f"{path} can be changed by others than root, and {PLACE} is run by root; "
                "install nflowlevel in a directory of root's, such as /opt/nflowlevel"
            )
    for path in (target, _BUILT):
        _need_roots(path)
    try:
        # Renamed, as one that runs cannot be written to.
        new = target.with_name("ulogd.new")
        shutil.copyfile(_BUILT, new)
        new.chmod(0o755)
        new.rename(target)
    except OSError as error:
        raise NflowError(f"install {target}: {error.strerror}") from None
    done = subprocess.run([target, "--version"], capture_output=True, text=True)
    if done.returncode:
        target.unlink()
        said = done.stderr.strip().splitlines()
        raise NflowError(f"{target} does not run: {said[-1] if said else done.returncode}; nothing was changed")


def _need_roots(path: Path) -> None:
    """Refuse a path that others can lead elsewhere, also by a link in the middle of it, or on which they put files."""
    try:
        with place_of(str(path)) as place:
            is_roots = place.is_roots
        why = ""
    except OSError as error:
        is_roots, why = False, f" ({error.strerror})"
    if not is_roots:
        raise NflowError(
            f"{path} can be changed by others than root{why}, and {PLACE} is run by root; "
            "install nflowlevel in a directory of root's, such as /opt/nflowlevel"
        )


def _divert(action: str) -> None:
    command = ["dpkg-divert", "--local", "--rename", "--divert", str(ASIDE), action, str(PLACE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NflowError(f"{' '.join(command)}: {done.stderr.strip()}")


def _judge_configuration() -> None:
    """Say what keeps the service from starting; the diversion stands in any case."""
    done = subprocess.run([program(), "--check-config"], capture_output=True, text=True)
    if done.returncode:
        print(f"the service cannot start with this {DEFAULT_CONFIG}:\n{done.stderr.strip()}", file=sys.stderr)
