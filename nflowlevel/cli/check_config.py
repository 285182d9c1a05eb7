# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel check-config FILE`: what `nflowlevel-daemon --check-config -c FILE` says."""

from __future__ import annotations

import argparse

from nflowlevel.cli.arguments import add_config
from nflowlevel.daemon import main as daemon


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", nargs="?", help=f"configuration (default {daemon.DEFAULT_CONFIG})")
    add_config(parser, default=None, what="the same, as other subcommands have it")


def run(options: argparse.Namespace) -> int:
    """Check the file; exit status 78 when it is wrong."""
    return daemon.main(["--check-config", "--configfile", options.file or options.config or daemon.DEFAULT_CONFIG])
