# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules that log packets, read from what `nft -j list ruleset` and `iptables-save -c` print; `ruleset.py` runs these.

iptables-nft keeps some rules in its own form, of which nft shows only `{"xt": {"type": "target", "name": "LOG"}}`. Such
rules are opaque: iptables-nft-save knows the rest, and the place in the chain tells which is which.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nflowlevel.binding.nftmatch import TABLE_PREFIX

#: A rule's place: nft's family, table, chain, and the number in the chain from 1.
Place = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class LogRule:
    """A rule that logs: to a group, or with `group` None to the kernel's log."""

    family: str
    """nft's word: ip, ip6, inet, arp, bridge, netdev."""
    table: str
    chain: str
    where: str
    """How its own program calls it."""
    group: int | None = None
    prefix: str = ""
    packets: int | None = None
    """How many it has logged; None: no counter tells."""
    snaplen: int | None = None
    queue_threshold: int | None = None
    idle: str = ""
    """Why no packet can come to it; "" where one can."""


# -- nft -------------------------------------------------------------------------------------------------------------

#: Statements that let every packet through: a counter beyond one of them still counts what is logged.
_PASSING = frozenset(("counter", "mangle", "notrack", "log"))
_XT_LOGS = frozenset(("LOG", "NFLOG", "log", "nflog"))
#: nft 1.0.6 prints the block of `jump { … }` as text.
_TEXT_LOG = re.compile(
    r"(?:counter packets (?P<packets>\d+) bytes \d+ )?\blog\b"
    r'(?: prefix "(?P<prefix>[^"]*)")?(?: group (?P<group>\d+))?'
    r"(?: snaplen (?P<snaplen>\d+))?(?: queue-threshold (?P<threshold>\d+))?"
)

_Object = dict[str, Any]

#: Families whose input hook sees IP packets, the most general first.
_INPUT_FAMILIES = ("inet", "ip", "ip6")


def parse_nft(text: str) -> tuple[list[LogRule], dict[Place, LogRule]]:
    """Read `nft -j list ruleset`: the rules that log, and the opaque ones of iptables-nft, which may log."""
    objects: list[_Object] = json.loads(text)["nftables"]
    rules = [item["rule"] for item in objects if "rule" in item]
    counters, idle = _named_counters(objects, rules), _idle_chains(objects, rules)
    found: list[LogRule] = []
    opaque: dict[Place, LogRule] = {}
    positions: Counter[tuple[str, str, str]] = Counter()
    for rule in rules:
        chain = rule["family"], rule["table"], rule["chain"]
        positions[chain] += 1
        where = f"nft {' '.join(chain)} handle {rule['handle']}"
        base = LogRule(*chain, where, idle=idle.get(chain, ""))
        found += _logs_of(base, rule["expr"], counters.get(chain[:2], {}))
        if any(_is_opaque(statement) for statement in rule["expr"]):
            opaque[*chain, positions[chain]] = base
    return found, opaque


def input_chain(text: str) -> str:
    """Return a chain of `nft -j list ruleset` to which a rule about incoming packets can be added; "" if there is none.

    As nft writes it: `inet filter input`. Chains of iptables-nft are not offered, because iptables refuses a table to
    which nft has added a rule, nor those of prefilters, nor tables with flags: dormant, or owned by a process.
    """
    objects: list[_Object] = json.loads(text)["nftables"]
    tables = (item["table"] for item in objects if "table" in item)
    is_open = {(table["family"], table["name"]): not table.get("flags") for table in tables}
    found = [
        (_INPUT_FAMILIES.index(chain["family"]), f"{chain['family']} {chain['table']} {chain['name']}")
        for chain in (item["chain"] for item in objects if "chain" in item)
        if (chain.get("type"), chain.get("hook")) == ("filter", "input")
        and chain["family"] in _INPUT_FAMILIES
        and chain["name"] != "INPUT"
        and not chain["table"].startswith(TABLE_PREFIX)
        and is_open.get((chain["family"], chain["table"]), False)
    ]
    return min(found, default=(0, ""))[1]


def rule_command(rule: str, *, hook: str = "input", chain: str = "") -> str:
    """Return the command that adds `rule` to `chain`; without one, to a table of its own, created if it is missing."""
    if chain:
        return f"nft add rule {chain} {rule}"
    place = f"inet logging {hook}"
    hooked = f"{{ type filter hook {hook} priority filter - 1; }}"
    return "nft " + shlex.quote(f"add table inet logging; add chain {place} {hooked}; add rule {place} {rule}")


def _logs_of(base: LogRule, statements: list[Any], named: dict[str, int | None]) -> Iterator[LogRule]:
    """Yield a rule once for each of its `log` statements."""
    for at, statement in enumerate(statements):
        if isinstance(statement, str):
            yield from (_from_text(base, match) for match in _TEXT_LOG.finditer(statement))
        elif "log" in statement:
            log = statement["log"] or {}
            if log.get("level") != "audit":
                yield replace(
                    base,
                    group=log.get("group"),
                    prefix=log.get("prefix", ""),
                    packets=_logged(statements, at, named),
                    snaplen=log.get("snaplen"),
                    queue_threshold=log.get("queue-threshold"),
                )


def _from_text(base: LogRule, match: re.Match[str]) -> LogRule:
    group, packets, snaplen, threshold = (
        None if match[name] is None else int(match[name]) for name in ("group", "packets", "snaplen", "threshold")
    )
    return replace(
        base, group=group, prefix=match["prefix"] or "", packets=packets, snaplen=snaplen, queue_threshold=threshold
    )


def _logged(statements: list[Any], at: int, named: dict[str, int | None]) -> int | None:
    """Return how many packets the `log` statement at this place has seen, as far as the counters beside it tell."""
    exact = True
    for statement in reversed(statements[:at]):
        if "counter" in statement:
            packets = _count(statement["counter"], named)
            # Beyond a match or a limit a counter has seen more packets than were logged, but 0 is 0.
            return packets if exact or packets == 0 else None
        exact = exact and not _PASSING.isdisjoint(statement)
    for statement in statements[at + 1 :]:
        if _PASSING.isdisjoint(statement):
            break
        if "counter" in statement:
            return _count(statement["counter"], named)
    return None


def _count(counter: Any, named: dict[str, int | None]) -> int | None:
    return named.get(counter) if isinstance(counter, str) else int(counter["packets"])


def _named_counters(objects: list[_Object], rules: list[_Object]) -> dict[tuple[str, str], dict[str, int | None]]:
    """Return the packets of each table's named counters; None for one that several rules share, unless it is 0."""
    uses = Counter(
        (rule["family"], rule["table"], statement["counter"])
        for rule in rules
        for statement in rule["expr"]
        if isinstance(statement, dict) and isinstance(statement.get("counter"), str)
    )
    values: dict[tuple[str, str], dict[str, int | None]] = {}
    for counter in (item["counter"] for item in objects if "counter" in item):
        family, table, name, packets = (counter[word] for word in ("family", "table", "name", "packets"))
        shared = uses[family, table, name] > 1 and packets
        values.setdefault((family, table), {})[name] = None if shared else int(packets)
    return values


def _idle_chains(objects: list[_Object], rules: list[_Object]) -> dict[tuple[str, str, str], str]:
    """Return the chains that no packet comes to, and why: no hook leads there, or their table sleeps."""
    chains = {(c["family"], c["table"], c["name"]): "hook" in c for item in objects if (c := item.get("chain"))}
    dormant = {(t["family"], t["name"]) for item in objects if (t := item.get("table")) and _is_dormant(t.get("flags"))}
    jumps: dict[tuple[str, str, str], set[str]] = {}
    for rule in rules:
        jumps.setdefault((rule["family"], rule["table"], rule["chain"]), set()).update(_targets(rule["expr"]))
    # Which rule looks up a verdict map does not matter: what a map of the table leads to counts as reached.
    maps = (item["map"] for item in objects if "map" in item)
    reached = {(map_["family"], map_["table"], to) for map_ in maps for to in _targets(map_.get("elem"))}
    reached |= {chain for chain, has_hook in chains.items() if has_hook}
    new = reached
    while new:
        new = {(*chain[:2], to) for chain in new for to in jumps.get(chain, ())} - reached
        reached |= new
    return {
        chain: "its table is dormant" if chain[:2] in dormant else "no hook and no other rule leads to its chain"
        for chain in chains
        if chain not in reached or chain[:2] in dormant
    }


def _is_dormant(flags: object) -> bool:
    """nft 1.0.6 prints only the first letter of the only flag."""
    return flags in ("dormant", "d") or (isinstance(flags, list) and "dormant" in flags)


def _targets(value: object) -> Iterator[str]:
    """Yield the chains that statements, or elements of a map, jump or go to."""
    if isinstance(value, list):
        for item in value:
            yield from _targets(item)
    elif isinstance(value, dict):
        for word, inner in value.items():
            if word in ("jump", "goto") and isinstance(inner, dict):
                yield inner["target"]
            else:
                yield from _targets(inner)


def _is_opaque(statement: Any) -> bool:
    """Tell whether a statement is iptables-nft's and may log; nft before 1.0.6 says nothing but `null`."""
    if not isinstance(statement, dict) or "xt" not in statement:
        return False
    xt = statement["xt"]
    return xt is None or xt.get("name") in _XT_LOGS


def complete(opaque: dict[Place, LogRule], saved: dict[Place, LogRule]) -> list[LogRule]:
    """Return the rules that nft could not show, as iptables-nft-save does; what is not in there does not log."""
    return [replace(saved[place], idle=rule.idle) for place, rule in opaque.items() if place in saved]


# -- iptables-save ---------------------------------------------------------------------------------------------------

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_RULE = re.compile(r"(?:\[(?P<packets>\d+):\d+\] )?-A (?P<chain>\S+) ?(?P<rest>.*)")
_CHAIN = re.compile(r":(?P<name>\S+) (?P<policy>\S+)")


def parse_save(text: str, family: str, command: str) -> dict[Place, LogRule]:
    """Read what `iptables-save -c` prints: the rules that log, by their place."""
    found: dict[Place, LogRule] = {}
    for table, lines in _tables(text):
        positions: Counter[str] = Counter()
        reached = _reached_chains(lines)
        for match in filter(None, map(_RULE.fullmatch, lines)):
            chain = match["chain"]
            positions[chain] += 1
            where = f"{command} -t {table} {chain} rule {positions[chain]}"
            idle = "" if chain in reached else "no hook and no other rule leads to its chain"
            packets = None if match["packets"] is None else int(match["packets"])
            rule = _logging(LogRule(family, table, chain, where, packets=packets, idle=idle), _words(match["rest"]))
            if rule:
                found[family, table, chain, positions[chain]] = rule
    return found


def _tables(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each table's name and lines."""
    name = ""
    lines: list[str] = []
    for line in text.split("\n"):  # a comment may hold other characters that end lines for Python
        if line.startswith("*"):
            if name:
                yield name, lines
            name, lines = line[1:], []
        elif not line.startswith("#"):
            lines.append(line)
    if name:
        yield name, lines


def _words(text: str) -> list[str]:
    """Split as iptables quotes: in double quotes, with a backslash before `"`, `\\` and `'`."""
    return [word[2] if word[1] is None else re.sub(r"\\(.)", r"\1", word[1]) for word in _WORD.finditer(text)]


def _option(words: Sequence[str], name: str) -> str | None:
    return next((value for word, value in itertools.pairwise(words) if word == name), None)


def _logging(base: LogRule, words: list[str]) -> LogRule | None:
    """Return the rule with what it logs, or None. A target's options stand behind it: no comment is taken for one."""
    if base.family == "bridge":
        # ebtables logs by watchers, which are among the matches.
        target = "NFLOG" if "--nflog-group" in words else "LOG" if "--log-level" in words else ""
    else:
        words = [word for before, word in itertools.pairwise(["", *words]) if before != "--comment"]
        words = words[words.index("-j") + 1 :] if "-j" in words else []
        target = words[0] if words else ""
    if target == "LOG":
        return replace(base, prefix=_option(words, "--log-prefix") or "")
    if target != "NFLOG":
        return None
    size, threshold = _option(words, "--nflog-size"), _option(words, "--nflog-threshold")
    return replace(
        base,
        group=int(_option(words, "--nflog-group") or 0),
        prefix=_option(words, "--nflog-prefix") or "",
        snaplen=int(size) if size else None,
        queue_threshold=int(threshold) if threshold else None,
    )


def _reached_chains(lines: list[str]) -> set[str]:
    """Return the chains with a policy, which the kernel itself calls, and those that rules lead to from there."""
    chains = {match["name"]: match["policy"] for match in filter(None, map(_CHAIN.match, lines))}
    jumps: dict[str, set[str]] = {}
    for match in filter(None, map(_RULE.fullmatch, lines)):
        words = _words(match["rest"])
        targets = {_option(words, "-j"), _option(words, "-g")} & chains.keys()
        jumps.setdefault(match["chain"], set()).update(filter(None, targets))
    reached = new = {name for name, policy in chains.items() if policy != "-"}
    while new:
        new = {to for chain in new for to in jumps.get(chain, ())} - reached
        reached = reached | new
    return reached
