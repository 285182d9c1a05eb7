# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of the command: subcommands, and each of them refuses for itself what it does not know."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nflowlevel.cli.status import WRONG_ARGUMENTS
from nflowlevel.daemon import parser
from nflowlevel.errors import printable


class Parser(parser.Parser):
    """A parser of the command or of a subcommand; parsers of its subcommands are of this class too."""

    wrong = WRONG_ARGUMENTS
    #: The list that also takes words behind an option: before 3.12.7 argparse ends an optional list there.
    late: str | None = None
    #: Says what an option that there is not was meant to be, of that word and all words; empty: it does not know.
    meant: Callable[[str, Sequence[str]], str] | None = None

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
        self._refuse([word for word in own if word.startswith("--") and not self.is_known(word)], words)
        found, unknown = super().parse_known_args(words, namespace)
        if self.late:
            getattr(found, self.late).extend(word for word in unknown if not word.startswith("-"))
            unknown = [word for word in unknown if word.startswith("-")]
        self._refuse(unknown, words)
        return found, unknown

    def _refuse(self, unknown: Sequence[str], words: Sequence[str]) -> None:
        for word in unknown:
            if self.meant and word.startswith("-") and (text := self.meant(word, words)):
                self.error(f"unknown option '{printable(word.partition('=')[0])}'{text}")
        self.refuse_unknown(unknown)

    def _subcommands(self) -> Iterator[argparse._SubParsersAction[argparse.ArgumentParser]]:
        return (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
