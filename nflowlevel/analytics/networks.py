# SPDX-License-Identifier: GPL-2.0-or-later
"""Names for addresses, from somebody's own list of networks: a CSV file with `network,name` a line.

    network,name
    10.0.0.0/8,office
    10.1.2.0/24,"guests, second floor"
    2001:db8::/32,office

Of several networks that hold an address, the longest prefix wins. The first line may be the heading; empty lines and
those that begin with `#` are skipped. A file with an error is refused, with all errors and their lines.
"""

from __future__ import annotations

import csv
import os
import socket
import stat
from collections.abc import Iterable
from io import TextIOWrapper

from nflowlevel.analytics.wholelines import opened
from nflowlevel.errors import ConfigError, printable
from nflowlevel.options import ConfigErrors
from nflowlevel.records.networks import BITS, Network, networks

_HEADING = ["network", "name"]
_MOST_ERRORS, _MOST_ERROR_CHARACTERS = 20, 300


class NamedNetworks:
    """Networks with names."""

    def __init__(self, named: Iterable[tuple[Network, str]]) -> None:
        tables: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}
        for network, name in named:
            tables[network.version].setdefault(network.length, {})[network.address] = name
        # The longest prefix first.
        self._tables = {version: sorted(found.items(), reverse=True) for version, found in tables.items()}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> NamedNetworks:
        """Read a file; OSError, or ConfigError with the lines of all its errors."""
        name = os.fspath(path)
        found: dict[Network, tuple[str, int]] = {}
        errors: list[ConfigError] = []
        more = 0
        if not stat.S_ISREG(os.stat(name).st_mode):  # it is read more than once, and a FIFO would be waited for
            raise ConfigError("it is no regular file; name a CSV file with network,name a line", file=name)
        with TextIOWrapper(opened(name), encoding="utf-8-sig", errors="strict", newline="") as file:
            try:
                for number, words in _rows(file):
                    try:
                        network, label = _entry(words)
                        if network in found:
                            raise ValueError(f"{words[0].strip()} has a name in line {found[network][1]} already")
                        found[network] = label, number
                    except ValueError as error:
                        if len(errors) < _MOST_ERRORS:
                            text = printable(str(error), _MOST_ERROR_CHARACTERS)
                            errors.append(ConfigError(text, file=name, line=number))
                        else:
                            more += 1
            except UnicodeDecodeError as error:
                errors.append(
                    ConfigError(f"it is not UTF-8: it has a byte {error.object[error.start]:#04x}", file=name)
                )
            except csv.Error as error:
                errors.append(ConfigError(f"it is no CSV: {error}", file=name))
        if errors:
            raise ConfigErrors([*errors, ConfigError(f"{more} more errors", file=name)] if more else errors)
        return cls((network, label) for network, (label, _) in found.items())

    def name(self, address: str) -> str | None:
        """Return the name of the network that an address is in; None where there is none, or it is no address."""
        version, family = (6, socket.AF_INET6) if ":" in address else (4, socket.AF_INET)
        try:
            number = int.from_bytes(socket.inet_pton(family, address), "big")
        except (OSError, ValueError):
            return None
        for length, names in self._tables[version]:
            kept = number >> BITS[version] - length << BITS[version] - length
            if (name := names.get(kept)) is not None:
                return name
        return None

    def __len__(self) -> int:
        return sum(len(names) for tables in self._tables.values() for _, names in tables)


def _rows(file: Iterable[str]) -> Iterable[tuple[int, list[str]]]:
    reader = csv.reader(file, strict=True, skipinitialspace=True)
    is_first = True
    for words in reader:
        if not words or words[0].startswith("#") or not any(word.strip() for word in words):
            continue
        if is_first and [word.strip().lower() for word in words] == _HEADING:
            is_first = False
            continue
        is_first = False
        yield reader.line_num, words


def _entry(words: list[str]) -> tuple[Network, str]:
    if len(words) != len(_HEADING):
        raise ValueError(f"must be network,name, not {len(words)} values; a name with a comma needs quotes")
    text, name = (word.strip() for word in words)
    if not name:
        raise ValueError("the name is empty")
    found = networks(text, "network")
    if len(found) != 1:
        raise ValueError(f"network: {text!r} is not one network")
    return found[0], name
