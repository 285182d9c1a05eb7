# SPDX-License-Identifier: GPL-2.0-or-later
"""Notice that the network namespace of an input is deleted, or that another one has its name.

A socket keeps its namespace alive, so nothing that is read there ever says that the name is gone. What a name leads to
is looked up every second, and at once when a name comes or goes. It is compared with the namespace that the input's own
socket is in, which no other can be taken for as long as the socket is open.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from nflowlevel.binding.netns import Identity, Watch, leads_to
from nflowlevel.stacks.stack import Source

#: `/proc/PID/ns/net` has no event, and a namespace that a name was given may be mounted in another way.
_LOOK_SECS = 1.0
#: A name comes before its namespace is mounted there: after an event there is more to see soon.
_SOON_SECS, _EAGER_SECS = 0.01, 0.5


class Follower:
    """Looks where the namespaces of these inputs are."""

    def __init__(self, sources: Iterable[Source]) -> None:
        #: Where the names led when they were looked up last.
        self._seen: dict[Source, Identity | None] = {source: None for source in sources if source.input.netns}
        self._watch = Watch() if self._seen else None
        self._eager_until = 0.0
        self._due = time.monotonic() + _LOOK_SECS

    @property
    def deadline(self) -> float | None:
        """When to look; None: never."""
        return self._due if self._seen else None

    def fileno(self) -> int:
        """Return the descriptor that is readable when names have changed; -1: there is none."""
        return self._watch.fileno() if self._watch else -1

    def told(self) -> None:
        """Names have changed: be ready to look."""
        if self._watch:
            self._watch.read()
        self._eager_until = time.monotonic() + _EAGER_SECS
        self._due = 0.0

    def look(self) -> Iterator[tuple[Source, Identity | None]]:
        """Yield the inputs whose name leads elsewhere than before, or than to what they read, and where it leads."""
        if self._watch and self._watch.fileno() < 0:
            self._watch.begin()
        for source, before in self._seen.items():
            try:
                now = leads_to(source.input.netns or "")
            except OSError:  # nothing is known: it stays as it is
                continue
            self._seen[source] = now
            if now != (source.input.place if source.is_open and source.input.place else before):
                yield source, now
        now_ = time.monotonic()
        self._due = now_ + (_SOON_SECS if now_ < self._eager_until else _LOOK_SECS)

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        if self._watch:
            self._watch.close()
