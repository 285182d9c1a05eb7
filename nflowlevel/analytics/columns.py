# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of columns of packets and of answers: what makes a SYN, and which columns are times."""

from __future__ import annotations

#: The condition of a packet that opens a connection.
SYN = "tcp_syn = 1 AND tcp_ack = 0 AND tcp_rst = 0"

_SECONDS = ("sec", "time", "day", "hour", "minute")
_MICROSECONDS = ("us", "first", "last", "scan_first", "opened")
#: Columns that are times since 1970, of relations, findings and other answers, with how many make a second.
TIMES = dict.fromkeys(_SECONDS, 1) | dict.fromkeys(_MICROSECONDS, 10**6)
#: Days of the month, hours of the day and minutes of the hour have such names, too: a smaller number is none of a log.
FIRST_SECOND = 86_400


def per_second(name: str, value: object) -> int | None:
    """Return how many of a column's units make a second, where this value of it is a time; else None."""
    units = TIMES.get(name)
    if units is None or not isinstance(value, int) or isinstance(value, bool):
        return None
    return None if units == 1 and 0 <= value < FIRST_SECOND else units
