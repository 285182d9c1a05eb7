# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of every output whose rows wait in a ring and a spool, whatever they are brought to."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from nflowlevel.options import Options

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
            description="Longest pause between attempts to connect, in seconds; 0: after a failure SIGHUP only.",
        ),
    ] = 2
    connect_timeout: Annotated[int, Meta(ge=0, description="Seconds an attempt to connect may take; 0: ten.")] = 0
    timeout: Annotated[
        int, Meta(ge=1, description="Seconds a transaction may take before the connection is given up as hung.")
    ] = 60
    ring_buffer_size: Annotated[
        int, Meta(ge=0, description="Events held in memory for the output's thread; 0: 100000.")
    ] = 0
    backlog_memcap: Annotated[
        int, Meta(ge=0, description="Bytes of events held in memory beyond the ring while the target is away.")
    ] = 0
    when_full: Annotated[
        WhenFull,
        Meta(description="What becomes of events that memory has no room for: to disk, or dropped and counted."),
    ] = "spool"
    spool_directory: Annotated[
        str, Meta(min_length=1, description="Where the spool is: a directory in it, named after the instance.")
    ] = "/var/spool/nflowlevel"
    spool_max_bytes: Annotated[int, Meta(ge=1, description="Most disk space that the spool takes.")] = 4 << 30
    dead_letter_file: Annotated[
        str, Meta(description="File for rows that are refused for ever; empty: refused.jsonl in the spool's directory.")
    ] = ""

    @property
    def backlog_rows(self) -> int:
        """How many rows are written at once while the backlog is replayed."""
        return _BACKLOG_ROWS
