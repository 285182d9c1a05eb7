# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel report`: what happened, as one page that asks for nothing, or as text to be mailed.

nflowlevel report --since 24h -o report.html
nflowlevel report --since 24h --text | mail -s "Firewall" root
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from nflowlevel.binding.rootpath import directory_of
from nflowlevel.cli import terminal
from nflowlevel.cli.logfiles import add_files, opened
from nflowlevel.errors import printable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_files(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it; without: standard output")
    parser.add_argument("--text", action="store_true", help="text, not HTML")


def run(options: argparse.Namespace) -> int:
    """Make the report."""
    from nflowlevel.analytics.databases import without_password
    from nflowlevel.analytics.progress import Progress
    from nflowlevel.analytics.report import make, to_html, to_text

    terminal.tolerate("utf-8")
    log = opened(options)
    named = ", ".join(printable(without_password(name), None) for name in options.files)
    with Progress(None) as progress:
        made = make(log, named, lambda what: progress.step(what, 0))
    text = to_text(made) if options.text else to_html(made)
    if options.output:
        try:
            _write(options.output, text)
        except OSError as error:
            # Some errors say no file, others the one aside.
            raise OSError(error.errno, f"write the report: {error.strerror}", options.output) from None
    else:
        sys.stdout.write(text)
    return 0


def _write(path: str, text: str) -> None:
    """Write a file aside, and put it in its place whole: what stands there, also a link, is replaced, not followed.

    On the way there, no link of another user's is followed where we are root.

    Devices and what this process has open (`/dev/null`, `/dev/stdout`, `/dev/fd/63`) are written to: a file in their
    place would be one for the whole machine.
    """
    directory, name = os.path.split(path)
    # As it is spelled: a link to there may be another user's.
    spelled = os.path.abspath(directory or ".")
    if spelled in ("/dev", "/dev/fd", "/dev/pts") or spelled.startswith("/proc/"):
        with open(path, "w", encoding="utf-8") as device:
            device.write(text)
        return
    with directory_of(directory or ".") as place:
        aside = f".{name}.{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(aside, flags, 0o666 & ~_umask(), dir_fd=place)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(aside, name, src_dir_fd=place, dst_dir_fd=place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside, dir_fd=place)
            raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
