# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `nflowlevel`: a file per subcommand, with `configure(parser)` and `run(options)`, and what they share."""

from __future__ import annotations

from nflowlevel.binding import standard  # noqa: F401  # before all others: it opens what is closed of 0 to 2

# isort: split
import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from nflowlevel import __version__
from nflowlevel.errors import NflowError

#: Subcommand and what it is for; the module has the same name with `_` for `-`.
COMMANDS = {
    "tail": "show the packets of a group as they arrive",
    "acct": "show, create and restore the kernel's accounting objects",
    "doctor": "find out why no packets arrive",
    "nf-log": "show or choose the back end for packets that the kernel itself logs",
    "check-config": "check a configuration for errors",
    "sql": "create and check the tables of SQL outputs",
    "prefilter": "load, change, watch and remove BPF programs that choose what is logged",
    "describe": "describe a plugin: its options and keys",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="nflowlevel", description="Netfilter packet logs and accounting.")
    parser.add_argument("-V", "--version", action="version", version=f"nflowlevel {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        if name in words:
            _module(name).configure(command)
    options = parser.parse_args(words)
    try:
        status = int(_module(options.command).run(options))
        sys.stdout.flush()  # here, where a reader that has gone can be dealt with
        return status
    except NflowError as error:
        print(f"nflowlevel {options.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `| head` has seen enough. Python flushes once more at exit: let that go nowhere.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        return 0
    except KeyboardInterrupt:
        return 130


def _module(command: str) -> Any:
    """Import the module of a subcommand: only the one that is used."""
    return importlib.import_module(f"nflowlevel.cli.{command.replace('-', '_')}")
