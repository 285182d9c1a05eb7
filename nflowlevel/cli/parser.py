# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line as argparse reads it, but its refusals say what is allowed, and what may have been meant."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Never

from nflowlevel.cli.status import WRONG_ARGUMENTS
from nflowlevel.cli.terminal import wrapped
from nflowlevel.errors import choice, nearest, printable


class Parser(argparse.ArgumentParser):
    """A parser of the command or of a subcommand; parsers of its subcommands are of this class too."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the words. A subcommand that lacks its own subcommand shows its help; what is not known is refused."""
        words: Sequence[str] = sys.argv[1:] if args is None else args
        if not words and any(action.required for action in self._subcommands()):
            self.print_help(sys.stderr)
            self.exit(WRONG_ARGUMENTS)
        # Each parser for itself: the outermost does not know the options of the others. A misspelt option comes before
        # what is missing, which may be what was meant.
        names = [name for action in self._subcommands() for name in action.choices]
        own = itertools.takewhile(lambda word: word not in names, words)
        self._refuse_unknown([word for word in own if word.startswith("--") and not self._is_known(word)])
        found, unknown = super().parse_known_args(words, namespace)
        self._refuse_unknown(unknown)
        return found, unknown

    def _subcommands(self) -> Iterator[argparse._SubParsersAction[argparse.ArgumentParser]]:
        return (action for action in self._actions if isinstance(action, argparse._SubParsersAction))

    def _is_known(self, word: str) -> bool:
        """Tell whether a word is an option, the beginning of one, or none at all: nothing with a blank in it is."""
        option = word.partition("=")[0]
        return " " in word or any(known.startswith(option) for known in self._option_string_actions)

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        for word in words:
            option = word.partition("=")[0]
            if option.startswith("-") and option != "-":
                self.error(f"unknown option '{printable(option)}'{nearest(option, self._option_string_actions)}")
        if words:
            self.error(f"unexpected argument '{printable(words[0])}'")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known, word = [*map(str, action.choices)], printable(str(value))
        if isinstance(action, argparse._SubParsersAction):
            what = str(action.metavar or "command").lower()
            # Its name says no more than this.
            self.error(f"unknown {what} '{word}'{choice(str(value), known)}")
        raise argparse.ArgumentError(
            action, f"must be one of {', '.join(known)}, not '{word}'{nearest(str(value), known)}"
        )

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            if isinstance(error.__context__, argparse.ArgumentTypeError):
                raise
            # argparse would name the function that did not understand it.
            raise argparse.ArgumentError(action, f"'{printable(arg_string)}' is not understood") from None

    def error(self, message: str) -> Never:
        """Say what is wrong, after the usage, and end."""
        self.print_usage(sys.stderr)
        self.exit(WRONG_ARGUMENTS, wrapped(f"{self.prog}: error: {printable(message, None)}", sys.stderr) + "\n")
