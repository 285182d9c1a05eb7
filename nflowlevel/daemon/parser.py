# SPDX-License-Identifier: GPL-2.0-or-later
"""A command line as argparse reads it, but its refusals say what is allowed, and what may have been meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Never

from nflowlevel.daemon.lines import wrapped
from nflowlevel.errors import choice, nearest, printable


class Parser(argparse.ArgumentParser):
    """A parser whose program ends with the status `wrong` where the words are."""

    wrong: ClassVar[int]

    def is_known(self, word: str) -> bool:
        """Tell whether a word is an option, the beginning of one, or none at all: nothing with a blank in it is."""
        option = word.partition("=")[0]
        return " " in word or any(known.startswith(option) for known in self._option_string_actions)

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """Refuse words that are left over, an option with the nearest one."""
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
        self.exit(self.wrong, wrapped(f"{self.prog}: error: {printable(message, None)}", sys.stderr) + "\n")
