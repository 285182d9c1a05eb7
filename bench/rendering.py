# SPDX-License-Identifier: GPL-2.0-or-later
"""The worker of bench/records.py: `python bench/rendering.py CHECKOUT` renders with the code of that checkout.

A datagram a line on standard input, in hex, then an empty line; then `KIND FORM TIMES` a line, answered by the process
time in ns that a record took. KIND is packets or wide, FORM json or copy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

_RENDERERS = ("json", "copy")


def main(checkout: str) -> None:
    """Serve until standard input ends."""
    sys.path[0] = checkout
    datagrams = []
    for line in sys.stdin:
        if not line.strip():
            break
        datagrams.append(bytes.fromhex(line))
    kinds: dict[tuple[str, str], Callable[[], int]] = {}
    for line in sys.stdin:
        kind, form, rounds = line.split()
        if (kind, form) not in kinds:
            made = _packets(datagrams) if kind == "packets" else _wide(len(datagrams))
            for name, render in zip(_RENDERERS, made, strict=True):
                kinds[kind, name] = render
        render = kinds[kind, form]
        records = render()
        start = time.process_time_ns()
        for _ in range(int(rounds)):
            render()
        print((time.process_time_ns() - start) / int(rounds) / records, flush=True)


def _packets(datagrams: Iterable[bytes]) -> tuple[Callable[[], int], Callable[[], int]]:
    from nflowlevel.outputs.json import JSON, JSONOptions
    from tests.fix_decoder import decode

    try:
        from nflowlevel.records.keys import published_by
        from nflowlevel.records.render import CopyPlan
    except ImportError:  # a checkout from before the rooms
        from nflowlevel.binding.render import CopyPlan  # type: ignore[import-not-found,no-redef]
        from nflowlevel.keys import published_by  # type: ignore[import-not-found,no-redef]
    plugins = ("NFLOG", "BASE", "IFINDEX", "IP2STR", "HWHDR")
    members = {key.name: key for plugin in plugins for key in published_by(plugin)}
    batch = decode(datagrams).batch
    output = JSON("json1", JSONOptions())
    output.bind(tuple(members.items()))
    return _renderers(batch, output.render, CopyPlan([*members.items()]))


def _wide(count: int) -> tuple[Callable[[], int], Callable[[], int]]:
    from nflowlevel.outputs.json import JSON, JSONOptions
    from nflowlevel.records.render import CopyPlan
    from tests.fix_records import MEMBERS, some_records, wide_batch

    output = JSON("json1", JSONOptions())
    output.bind(MEMBERS)
    return _renderers(wide_batch(some_records(count)), output.render, CopyPlan(MEMBERS))


def _renderers(
    batch: Any, lines: Callable[[Any], Iterable[tuple[Any, int]]], plan: Any
) -> tuple[Callable[[], int], Callable[[], int]]:
    return (
        lambda: sum(count for _, count in lines(batch)),
        lambda: sum(count for _, count in plan.render(batch.raw, batch.added)),
    )


if __name__ == "__main__":
    main(sys.argv[1])
