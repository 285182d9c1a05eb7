# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of keys: whichever way somebody writes one, it means the same key.

A key answers to its name (`ip.saddr`), to the attribute of a packet (`ip_saddr`, or a term such as `saddr`), and to
the name that JSON gives it (`src_ip`). A JSON name that several keys share, such as `src_port`, stands for whichever of
them holds. Every kind of record has a table of its own, so that a name never leads to another kind's field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nflowlevel.errors import nearest
from nflowlevel.records.keys import Key


class Names:
    """The names of one table of keys. `aliases` are further names, each for a key or for a name that keys share.

    `shared` says of names that keys share in JSON which keys they stand for, where these are not all that have them.
    """

    def __init__(
        self, keys: Mapping[str, Key], aliases: Mapping[str, str], shared: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self.keys = keys
        #: The names that keys share in JSON, each with its keys.
        self.joined: dict[str, tuple[str, ...]] = {}
        for name, key in keys.items():
            if key.cim:
                self.joined[key.cim] = (*self.joined.get(key.cim, ()), name)
        self.joined.update(shared or {})
        self._meant = {name.replace(".", "_"): name for name in keys}
        self._meant.update((name, name) for name in (*self.joined, *keys))
        self._meant.update((alias, self._meant[name]) for alias, name in aliases.items())
        self._lists: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._meant

    def __iter__(self) -> Iterator[str]:
        return iter(self._meant)

    def find(self, name: str, added: Iterable[str] = ()) -> str:
        """Return the key that a name means, or the JSON name that several share.

        `added` are columns beside the keys: they come first. KeyError with the nearest known name.
        """
        if name in added:
            return name
        try:
            return self._meant[name]
        except KeyError:
            pass
        for column in added:
            if column.replace(".", "_") == name:
                return column
        raise KeyError(f"unknown key '{name}'{self.nearest(name, added) or '; docs/keys.md lists them'}") from None

    def find_all(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return what each name means, as `find`; a list asked for before costs one look."""
        try:
            return self._lists[names]
        except KeyError:
            found = self._lists[names] = tuple(map(self.find, names))
            return found

    def keys_of(self, name: str) -> tuple[str, ...]:
        """Return the keys that a name stands for, more than one where they share it; KeyError as `find`."""
        found = self.find(name)
        return self.joined.get(found, (found,)) if found not in self.keys else (found,)

    def nearest(self, name: str, added: Iterable[str] = ()) -> str:
        """Return ` — did you mean 'x'?` for the nearest of all names, or an empty string."""
        return nearest(name, (*added, *self._meant))
