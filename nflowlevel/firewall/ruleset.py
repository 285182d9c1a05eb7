# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rules of this network namespace log: asks nft, and the iptables programs where nft cannot see.

That is the tables of iptables-legacy, and the details of some rules of iptables-nft. What could not be looked at (a
program is not installed, or not allowed) is said in `Ruleset.unseen`, never passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nflowlevel.firewall.rules import LogRule, complete, input_chain, parse_nft, parse_save


class Unseen(NamedTuple):
    """What could not be looked at and why, and what would help."""

    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The rules of a namespace that log, and what could not be looked at."""

    rules: tuple[LogRule, ...]
    unseen: tuple[Unseen, ...] = ()
    input_chain: str = ""
    """A chain of nft that takes a rule about incoming packets, as `inet filter input`; "" if none was seen."""

    def of_group(self, group: int | None) -> tuple[LogRule, ...]:
        """Return the rules that log to a group; None: to the kernel's log."""
        return tuple(rule for rule in self.rules if rule.group == group)

    @property
    def groups(self) -> set[int]:
        """The groups that rules log to."""
        return {rule.group for rule in self.rules if rule.group is not None}


class Kind(NamedTuple):
    """One of the iptables family: nft's word for its packets, and the list of its legacy tables under /proc/net."""

    command: str
    family: str
    legacy_tables: str


KINDS = (
    Kind("iptables", "ip", "ip_tables_names"),
    Kind("ip6tables", "ip6", "ip6_tables_names"),
    Kind("ebtables", "bridge", ""),
)

_NET = Path("/proc/thread-self/net")
_TIMEOUT_SECS = 60
#: What nft says, on standard error, of a table that iptables-nft has made: nft cannot load what it prints of its rules.
_OF_IPTABLES = re.compile(r"^# Warning: table (\S+) (.+) is managed by iptables-nft, do not touch!$", re.MULTILINE)
#: Ordinary users do not have these in their PATH.
_ADMIN_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


class _Failed(Exception):
    """A program is not there, or failed; `unseen` is what that hides."""

    def __init__(self, what: str, remedy: str = "") -> None:
        self.unseen = Unseen(what, remedy)


def read_rules() -> Ruleset:
    """Return the rules that log in the namespace the calling thread is in."""
    rules: list[LogRule] = []
    unseen: list[Unseen] = []
    chain = ""
    with noted(unseen):
        listed = _nft(unseen)
        chain = input_chain(listed)
        rules, opaque = parse_nft(listed)
        for kind in KINDS:
            if any(place[0] == kind.family for place in opaque):
                with noted(unseen):
                    rules += complete(opaque, parse_save(save(kind, "nft"), kind.family, kind.command))
    if unseen and _path_of("nft") is None:
        rules += _without_nft()
    for kind in KINDS:
        with noted(unseen):
            if has_legacy_tables(kind):
                rules += parse_save(save(kind, "legacy"), kind.family, f"{kind.command}-legacy").values()
    return Ruleset(tuple(rules), tuple(unseen), chain)


class Listing(NamedTuple):
    """Rules as a program prints them, which it or its sister can load again."""

    program: str
    """nft, or iptables-save and its kin with the variant in its name."""
    text: str
    """Bytes that are not UTF-8 are Python's surrogates."""


def read_listings() -> tuple[list[Listing], list[Unseen]]:
    """Return the rules of the namespace the calling thread is in as text, each rule once, and what was not seen.

    Tables of iptables-nft are in the listing of its own program, since nft could not load what it prints of them.
    """
    listings: list[Listing] = []
    unseen: list[Unseen] = []
    families = {kind.family for kind in KINDS} if _path_of("nft") is None else set()
    with noted(unseen):
        foreign = {(family, name) for family, name in _OF_IPTABLES.findall(_run_nft("ruleset").stderr)}
        families = {family for family, _ in foreign}
        tables = [words for line in _run_nft("tables").stdout.split("\n") if (words := tuple(line.split(" ")[1:]))]
        texts = [_run_nft("table", *table).stdout for table in tables if table not in foreign]
        listings.append(Listing("nft", "".join(texts)))
    for kind in KINDS:
        with noted(unseen):
            if kind.family in families:
                listings.append(Listing(f"{kind.command}-nft-save", save(kind, "nft", "surrogateescape")))
        with noted(unseen):
            if has_legacy_tables(kind):
                listings.append(Listing(f"{kind.command}-legacy-save", save(kind, "legacy", "surrogateescape")))
    return listings, unseen


def _run_nft(*what: str) -> subprocess.CompletedProcess[str]:
    return _done("rules of nft", "nft", "list", *what, package="nftables", errors="surrogateescape")


@contextmanager
def noted(unseen: list[Unseen]) -> Iterator[None]:
    """Add to `unseen` what a program that is missing, or fails, hides."""
    try:
        yield
    except _Failed as failed:
        unseen.append(failed.unseen)


def _nft(unseen: list[Unseen]) -> str:
    """Return all that nft knows as JSON, put together from its parts where nft breaks off in the midst.

    nft 1.0.6 reads freed memory for the flag of a table that has just one, as those of an attached prefilter have. The
    parts have no tables, so nothing tells then which are dormant.
    """
    text = _list("ruleset")
    if _objects(text) is not None:
        return text
    chains = _objects(_list("chains")) or []
    found = [*chains, *(_objects(_list("counters")) or []), *(_objects(_list("maps")) or [])]
    for chain in (item["chain"] for item in chains if "chain" in item):
        with noted(unseen):
            of_chain = _objects(_list("chain", chain["family"], chain["table"], chain["name"])) or []
            found += [item for item in of_chain if "rule" in item]
    return json.dumps({"nftables": found})


def _list(*what: str) -> str:
    return _run("rules of nft", "nft", "-j", "list", *what, package="nftables")


def _objects(text: str) -> list[dict[str, Any]] | None:
    """Return what is in nft's JSON, None where it is none."""
    try:
        objects: list[dict[str, Any]] = json.loads(text)["nftables"]
    except ValueError:
        return None
    return objects


def _without_nft() -> list[LogRule]:
    """Return what iptables-nft can tell where nft is not installed."""
    rules: list[LogRule] = []
    for kind in KINDS:
        with noted([]):
            rules += parse_save(save(kind, "nft"), kind.family, kind.command).values()
    return rules


def has_legacy_tables(kind: Kind) -> bool:
    """Tell whether the legacy variant has anything to print; to run it without need would load its kernel modules."""
    try:
        return bool(kind.legacy_tables and (_NET / kind.legacy_tables).read_text().strip())
    except FileNotFoundError:
        return False
    except OSError as error:
        what = f"rules of {kind.command}-legacy, if there are any: /proc/net/{kind.legacy_tables}: {error.strerror}"
        raise _Failed(what, "run as root") from None


def save(kind: Kind, variant: str, errors: str = "replace") -> str:
    """Return what `-save` of the variant prints. It may be installed without it in its name: the first line tells.

    `errors` says what becomes of bytes that are not UTF-8, as for open().
    """
    what, name = f"rules of {kind.command}-{variant}", f"{kind.command}-{variant}-save"
    if _path_of(name):
        return _run(what, name, "-c", package="iptables", errors=errors)
    text = _run(what, f"{kind.command}-save", "-c", package="iptables", errors=errors)
    if text and ("nf_tables" in text.partition("\n")[0]) != (variant == "nft"):
        raise _Failed(f"{what}: {name} is not installed", "install the package iptables")
    return text


def _path_of(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_ADMIN_PATH}")


def _run(what: str, program: str, *arguments: str, package: str, errors: str = "replace") -> str:
    """Return what a program prints; _Failed says what stays unseen where it cannot."""
    return _done(what, program, *arguments, package=package, errors=errors).stdout


def _done(what: str, program: str, *arguments: str, package: str, errors: str) -> subprocess.CompletedProcess[str]:
    """Return a program that has ended well, with what it has printed, on standard error too."""
    path = _path_of(program)
    if path is None:
        raise _Failed(f"{what}: {program} is not installed", f"install the package {package}")
    try:
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Failed(f"{what}: {error}") from None
    # As text subprocess would make a newline of each CR, and a comment may hold one.
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode:
        reason = next(filter(None, said.splitlines()), f"exit status {done.returncode}")
        refused = any(word in said for word in ("not permitted", "denied"))
        raise _Failed(f"{what}: {program}: {reason}", "run as root" if refused else "")
    return subprocess.CompletedProcess(done.args, 0, done.stdout.decode("utf-8", errors), said)
