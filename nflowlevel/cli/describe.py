# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel describe PLUGIN`: a plugin's purpose, options and keys."""

from __future__ import annotations

import argparse

from nflowlevel.stacks.describe import describe_plugin
from nflowlevel.stacks.registry import builtin_names


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("plugin", help="; ".join(("a plugin's name", f"built in: {', '.join(builtin_names())}")))


def run(options: argparse.Namespace) -> int:
    """Print the description."""
    print(describe_plugin(options.plugin))
    return 0
