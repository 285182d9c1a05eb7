# SPDX-License-Identifier: GPL-2.0-or-later
"""A piece of SQL together with its parameters, so that both stay in the same order when pieces are joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

Parameter: TypeAlias = int | str | bytes


class Fragment(NamedTuple):
    """SQL in which each NUL character is the place of a parameter."""

    text: str
    parameters: tuple[Parameter, ...] = ()

    def within(self, form: str) -> Fragment:
        """Return it in the place of `{}` in `form`."""
        return Fragment(form.format(self.text), self.parameters)

    def bracketed(self) -> Fragment:
        """Return it between parentheses."""
        return self.within("({})")


def joined(separator: str, fragments: Iterable[Fragment]) -> Fragment:
    """Return fragments as one, with `separator` between them."""
    pieces = list(fragments)
    return Fragment(
        separator.join(piece.text for piece in pieces),
        tuple(parameter for piece in pieces for parameter in piece.parameters),
    )
