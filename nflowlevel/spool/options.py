# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of every output whose rows wait in a ring and a spool, whatever they are brought to."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from nflowlevel.options import CLAMPED, MOST_SECS, Options

#: What to do with a row for which the ring has no room.
WhenFull: TypeAlias = Literal["spool", "drop_newest", "drop_oldest"]

#: ulogd2's values that mean a default of ours, where there is no queue at all in ulogd2.
DEFAULT_RING_SIZE = 100_000
#: Rows of one write while the backlog is replayed, for who has no option for that.
_BACKLOG_ROWS = 10_000


class SpoolOptions(Options, frozen=True, kw_only=True):
    """Options of all outputs with a spool; names as in ulogd.conf where ulogd2 has them."""

    reconnect: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_SECS,
            extra=CLAMPED,
            description="Longest pause between attempts to connect, in seconds; 0: retry only after SIGHUP.",
        ),
    ] = 2
    connect_timeout: Annotated[
        int,
        Meta(
            ge=0, le=MOST_SECS, extra=CLAMPED, description="Most seconds that an attempt to connect may take; 0: ten."
        ),
    ] = 0
    timeout: Annotated[
        int,
        Meta(
            ge=1,
            le=MOST_SECS,
            extra=CLAMPED,
            description="Most seconds that a transaction may take; after that the connection counts as hung.",
        ),
    ] = 60
    ring_buffer_size: Annotated[
        int, Meta(ge=0, description="Most events kept in memory for the output's thread; 0: 100000.")
    ] = 0
    backlog_memcap: Annotated[
        int, Meta(ge=0, description="Bytes of events kept in memory beyond the ring while the target is unavailable.")
    ] = 0
    when_full: Annotated[
        WhenFull,
        Meta(description="What to do with events when memory is full: spool them to disk, or drop and count them."),
    ] = "spool"
    spool_directory: Annotated[
        str, Meta(min_length=1, description="Directory for spools; each instance has a subdirectory with its name.")
    ] = "/var/lib/nflowlevel/spool"
    spool_max_bytes: Annotated[int, Meta(ge=1, description="Most bytes that the spool may take on disk.")] = 4 << 30
    dead_letter_file: Annotated[
        str,
        Meta(
            description="File for rows that the target refuses, in a directory that the daemon's user can write; "
            "empty: refused.jsonl in the spool's directory."
        ),
    ] = ""

    @property
    def backlog_rows(self) -> int:
        """How many rows are written at once while the backlog is replayed."""
        return _BACKLOG_ROWS
