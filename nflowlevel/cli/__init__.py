# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `nflowlevel`: a file per subcommand, with `configure(parser)` and `run(options)`, and what they share."""

from __future__ import annotations

from nflowlevel.binding import standard  # noqa: F401  # before all others: it opens what is closed of 0 to 2

# isort: split
import argparse
import importlib
import keyword
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from nflowlevel import __version__
from nflowlevel.cli import status
from nflowlevel.cli.parser import Parser
from nflowlevel.cli.terminal import wrapped
from nflowlevel.errors import ConfigError, NflowError, printable
from nflowlevel.options import ConfigErrors

#: Subcommand and what it is for; the module has the same name with `_` for `-`, and one behind a word of Python's.
COMMANDS = {
    "tail": "show the packets of a group as they arrive",
    "flows": "list, follow and rank the flows that conntrack knows",
    "acct": "show, create and restore the kernel's accounting objects",
    "doctor": "find out why no packets or flows arrive",
    "nf-log": "show or choose the back end for packets that the kernel itself logs",
    "migrate": "convert rules of the kernel's LOG target to groups, and print the configuration",
    "explore": "look at a log in the browser: histograms, records, SQL",
    "report": "make a report of a log: one page to read, print or mail",
    "top": "show the busiest sources, ports and countries, live",
    "check-config": "check a configuration for errors",
    "sql": "create and check the tables of SQL outputs",
    "prefilter": "load, change, watch and remove BPF programs that choose what is logged",
    "find": "find scans, guessing, beacons and more in what was logged",
    "drop-in": "run the daemon in the place of Debian's ulogd, and undo that",
    "import": "archive lines of the kernel's log, of LOGEMU and of JSON as Parquet",
    "compact": "archive closed JSON files as Parquet, and remove what is too old",
    "describe": "describe a plugin: its options and keys",
}


#: Modules whose errors are about data or the machine.
_ENGINES = ("duckdb", "_duckdb", "psycopg", "pymysql", "sqlite3")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = [word for word in words if word in COMMANDS]
    name = " ".join(["nflowlevel", *named[:1]])
    result = status.DONE
    try:
        try:
            result = _run(name, named, words)
        finally:
            sys.stdout.flush()  # here, where it can be dealt with that nobody reads, or that a disk is full
    except BrokenPipeError:
        _give_up_output()  # `| head` has seen enough
    except OSError as error:
        if error.filename is None:
            _give_up_output()
        _say(name, error)
        return status.FAILED
    except KeyboardInterrupt:
        return status.INTERRUPTED
    return result


def _run(name: str, named: Sequence[str], words: Sequence[str]) -> int:
    # What a subcommand imports is paid for by those who use it.
    options = _parser(named).parse_args(words)
    try:
        return int(_module(options.command).run(options))
    except NflowError as error:
        _say(name, error)
        return _status_of(error)
    except Exception as error:
        from nflowlevel.archive.engine import told, was_interrupted

        if was_interrupted(error):
            raise KeyboardInterrupt from None
        # DuckDB's and a database's own: a full disk, a damaged file, a server that is away. They are no faults of ours.
        if type(error).__module__.partition(".")[0] not in _ENGINES:
            raise
        _say(name, NflowError(told(error)))
        return status.FAILED


def get_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands, for programs that make shell completions or manual pages of it."""
    return _parser(COMMANDS)


def _parser(configured: Iterable[str]) -> Parser:
    """Return a parser that knows all subcommands, and of those that are to be configured their arguments."""
    parser = Parser(
        prog="nflowlevel",
        description="Netfilter packet logs and accounting.",
        epilog=status.listed(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"nflowlevel {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        if name in configured:
            _module(name).configure(command)
    return parser


def _status_of(error: Exception) -> int:
    if isinstance(error, ConfigError):
        # One without a file is about words of the command line.
        return status.WRONG_FILE if error.file else status.WRONG_ARGUMENTS
    of_kind: dict[type[Exception], int] = {
        status.WrongArgument: status.WRONG_ARGUMENTS,
        status.NotAvailable: status.UNAVAILABLE,
    }
    return of_kind.get(type(error), status.FAILED)


def _told(error: Exception) -> list[str]:
    """Return an error as messages. What it quotes is of others: no line of theirs begins like one of ours."""
    if isinstance(error, ConfigErrors):
        return [line for each in error.errors for line in _told(each)]
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, NflowError):
        # Without a name it is standard output: whoever opens something else says what that is.
        text = f"{error.filename or 'write to standard output'}: {error.strerror or error}"
    first, *more = printable(text, None, keep="\n").split("\n")
    return ["\n".join([first, *(line if line.startswith(" ") else f"    {line}" for line in more)])]


def _say(name: str, error: Exception) -> None:
    print(*(wrapped(f"{name}: {line}", sys.stderr) for line in _told(error)), sep="\n", file=sys.stderr)


def _give_up_output() -> None:
    """Let what is still to be written go nowhere: Python flushes once more at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _module(command: str) -> Any:
    """Import the module of a subcommand: only the one that is used."""
    name = command.replace("-", "_")
    return importlib.import_module(f"nflowlevel.cli.{name}_" if keyword.iskeyword(name) else f"nflowlevel.cli.{name}")
