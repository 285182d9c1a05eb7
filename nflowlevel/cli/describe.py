# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel describe PLUGIN`: a plugin's purpose, options and keys; without a name, which plugins there are."""

from __future__ import annotations

import argparse
import sys

from nflowlevel.cli import terminal
from nflowlevel.cli.status import WrongArgument
from nflowlevel.stacks.describe import describe_plugin, list_plugins
from nflowlevel.stacks.registry import UnknownPlugin, builtin_names


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "plugin",
        nargs="?",
        help=f"a plugin's name, in any case; none: list all; built in: {', '.join(builtin_names())}",
    )


def run(options: argparse.Namespace) -> int:
    """Print the description, or the list."""
    if options.plugin is None:
        print(terminal.wrapped(list_plugins(), sys.stdout))
    else:
        try:
            name, _, text = describe_plugin(options.plugin).partition("\n")
        except UnknownPlugin as error:
            raise WrongArgument(str(error)) from None
        print(name, terminal.reflowed(text, terminal.width()), sep="\n")
    return 0
