# SPDX-License-Identifier: GPL-2.0-or-later
"""Values and names in the text of a query that DuckDB and Spark read alike, whoever chose them.

Spark takes a backslash in a literal for the beginning of an escape, and `${…}` for a variable; DuckDB takes both as
they are. So such characters, and all that nobody could read, stand outside of the quotes: `concat('a', chr(92), 'b')`.
"""

from __future__ import annotations

import math
import re

from nflowlevel.errors import printable

#: What is the same between quotes in all engines.
_PLAIN = re.compile(r"[^'\\$\x00-\x1f\x7f]+")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,62}")
_MOST = 1 << 63
#: How every engine reads a NaN or an infinity.
_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def literal(value: object) -> str:
    """Return a value as an expression: None, bool (1 or 0), int, float or str.

    ValueError: a whole number above 64 bits, or a text that is not Unicode. TypeError: any other value.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "1" if value else "0"
        case int() if -_MOST < value < _MOST:
            return str(int(value)) if value >= 0 else f"({int(value)})"
        case int():
            raise ValueError(f"{value} has more than 64 bits")
        case float():
            text = repr(value) if math.isfinite(value) else f"'{_NO_NUMBERS[repr(value)]}'"
            return f"CAST({text} AS DOUBLE)"
        case str():
            return text_literal(value)
    raise TypeError(f"cannot ask for a value of type {type(value).__name__}; allowed: numbers, texts and None")


def text_literal(text: str) -> str:
    """Return a text as an expression; ValueError where it holds half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"'{printable(text)}' is not Unicode text") from None
    parts: list[str] = []
    at = 0
    while at < len(text):
        plain = _PLAIN.match(text, at)
        parts.append(f"'{plain[0]}'" if plain else f"chr({ord(text[at])})")
        at = plain.end() if plain else at + 1
    if len(parts) < 2:
        return parts[0] if parts else "''"
    return f"concat({', '.join(parts)})"


def identifier(name: str) -> str:
    """Return a name that needs no quotes as it is; ValueError for any other."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{printable(name)}' is not a name of letters, digits and _")
    return name
