# SPDX-License-Identifier: GPL-2.0-or-later
"""Why nothing arrives: what the facts about a network namespace mean for a group.

Nothing is looked up here, so every judgement works on made-up facts too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from nflowlevel.binding.netns import OWN
from nflowlevel.binding.nftmatch import TABLE_PREFIX
from nflowlevel.doctor.facts import Facts, Reader
from nflowlevel.errors import printable
from nflowlevel.firewall.rules import LogRule, rule_command
from nflowlevel.plugin.contract import Finding

_NFNETLINK_LOG = "nfnetlink_log"
#: NFULNL_COPY_* of linux/netfilter/nfnetlink_log.h. `none` still sends what `meta` does.
_COPY_MODES = {0: "none", 1: "meta", 2: "packet", 3: "disabled"}
#: IPv6 and TCP without options.
_HEADER_BYTES = 60
#: A rule that sends after fewer packets than this costs the reader a wake-up for each few of them.
_SMALL_THRESHOLD = 32
#: Of a rule that is proposed: whoever follows the advice is not to be flooded.
_AT_MOST = "limit rate 10/second"
#: More lines about one group are of no use.
_MOST_RULES = 8
#: Nor the names of more namespaces.
_MOST_NAMESPACES = 3
#: A reader that keeps up never has so much unread, nor one that reads in pieces on purpose.
_MUCH_UNREAD_BYTES = 8 << 20


def check_kernel(facts: Facts) -> Iterator[Finding]:
    """Judge what all groups need."""
    if facts.knows_groups:
        yield Finding("ok", "the kernel has nfnetlink_log")
    else:
        remedy = "load it with: modprobe nfnetlink_log (kernel option CONFIG_NETFILTER_NETLINK_LOG)"
        yield Finding("problem", "the kernel has no nfnetlink_log", remedy)
    if facts.obstacle:
        # It keeps whoever asks from reading a group, which says nothing of a daemon that others have started.
        remedy = "run as root, or in a new namespace: unshare -Urn"
        yield Finding("hint", f"{facts.obstacle} (here: {facts.user_namespace})", remedy)
    else:
        yield Finding("ok", f"CAP_NET_ADMIN is held in {facts.user_namespace}")


def check_rules(
    facts: Facts, group: int, *, beside: Collection[int] = (), configured: bool = False
) -> Iterator[Finding]:
    """Judge the rules that log to a group, which a configuration reads beside other groups that have rules."""
    rules = facts.ruleset.of_group(group)
    if not rules:
        yield _no_rule(facts, group, beside, configured=configured)
        return
    reached = any(not rule.idle for rule in rules)
    for rule in rules[:_MOST_RULES]:
        yield _rule(rule, reached=reached)
        yield from _rule_limits(rule)
    if len(rules) > _MOST_RULES:
        yield Finding("ok", f"{len(rules) - _MOST_RULES} more rules log to group {group}")


def _rule(rule: LogRule, *, reached: bool) -> Finding:
    """Judge one rule. That it was never hit is no problem: perhaps there was no such packet. That none can come to it
    is one, unless another rule of the group can be reached."""
    told = f"{rule.where}{f' ({rule.prefix!r})' if rule.prefix else ''}"
    if rule.packets:
        return Finding("ok", f"{told} has logged {rule.packets} packets to group {rule.group}")
    if rule.idle:
        worry: Literal["problem", "hint"] = "hint" if reached else "problem"
        remedy = (
            "wake the table" if "dormant" in rule.idle else "give the chain a hook, or jump to it from one that has"
        )
        return Finding(worry, f"{told} logs to group {rule.group}, but {rule.idle}", remedy)
    if rule.packets is None:
        text = f"{told} logs to group {rule.group}; it has no counter, so whether it ever matched is unknown"
        return Finding("hint", text, "write `counter` before `log`")
    text = f"{told} logs to group {rule.group}, but never matched (its counter is 0)"
    if rule.family == "inet" and rule.table.startswith(TABLE_PREFIX):
        name = rule.table.removeprefix(TABLE_PREFIX)
        return Finding("hint", text, f"see what its prefilter does with them: nflowlevel prefilter counters {name}")
    remedy = "if such packets have come, an earlier rule handles them; see: nft monitor trace"
    return Finding("hint", text, remedy)


def _rule_limits(rule: LogRule) -> Iterator[Finding]:
    if rule.snaplen is not None and rule.snaplen < _HEADER_BYTES:
        text = f"{rule.where} cuts packets to {rule.snaplen} bytes (snaplen): headers are missing"
        yield Finding("hint", text, f"remove snaplen, or set it to at least {_HEADER_BYTES}")
    elif rule.snaplen is not None:
        yield Finding("hint", f"{rule.where} cuts packets to {rule.snaplen} bytes (snaplen)")
    if rule.queue_threshold and rule.queue_threshold < _SMALL_THRESHOLD:
        text = (
            f"{rule.where} sends after {rule.queue_threshold} packets (queue-threshold), "
            "regardless of what the reader asks for"
        )
        yield Finding("hint", text, "remove queue-threshold: it costs CPU and, in a flood, packets")


def _no_rule(facts: Facts, group: int, beside: Collection[int], *, configured: bool) -> Finding:
    others = sorted(facts.ruleset.groups)
    elsewhere = f"; rules log to {_groups(others)}" if others else ""
    blind = ", as far as is visible" if facts.ruleset.unseen else ""
    if group == 0 and _sends_own_messages(facts):
        return Finding("ok", f"no rule logs to group 0{blind}, but the kernel's own messages go there")
    text = f"no rule logs to group {group}{blind}{elsewhere}"
    if configured and not blind and group == 0:
        text += ": only the kernel's own messages come, once the daemon reads it"
        return Finding("hint", text, _add_one(facts, 0))
    if configured and not blind and beside:
        return Finding("hint", f"{text}: its stacks stay idle", f"remove them, or {_add_one(facts, group)}")
    return Finding("hint", text) if blind else Finding("problem", text, _add_one(facts, group))


def _add_one(facts: Facts, group: int) -> str:
    return "add one, such as: " + rule_command(f"{_AT_MOST} counter log group {group}", chain=facts.ruleset.input_chain)


def check_other_rules(facts: Facts, groups: Collection[int]) -> Iterator[Finding]:
    """Where a group has no rule: tell of rules that log without a group, and of what could not be looked at."""
    is_missing = not groups or any(not facts.ruleset.of_group(group) for group in groups)
    if is_missing or 0 in groups:
        yield from _kernel_log(facts)
    if is_missing:
        yield from (Finding("hint", f"cannot see {what}", remedy) for what, remedy in facts.ruleset.unseen)


def _kernel_log(facts: Facts) -> Iterator[Finding]:
    """Judge the rules that log without a group: many expect their packets in group 0."""
    rules = facts.ruleset.of_group(None)
    for rule in rules[:_MOST_RULES]:
        lost = ", which logs nothing from this namespace (nf_log_all_netns is 0)" if facts.kernel_log is False else ""
        text = f"{rule.where} logs without a group: to the kernel's log{lost}, never to a reader"
        iptables = not rule.where.startswith("nft ")
        yield Finding("hint", text, "use -j NFLOG --nflog-group N" if iptables else "write `log group N`")
    if len(rules) > _MOST_RULES:
        yield Finding("hint", f"{len(rules) - _MOST_RULES} more rules log without a group")


def _sends_own_messages(facts: Facts) -> bool:
    to_group_0 = any(family.active == _NFNETLINK_LOG for family in (facts.families or {}).values())
    return to_group_0 and facts.log_invalid not in (None, "off")


def check_own_messages(facts: Facts) -> Iterator[Finding]:
    """Judge whether what the kernel logs unasked (conntrack's invalid packets) comes to group 0."""
    families = [family for name in ("ipv4", "ipv6") if (family := (facts.families or {}).get(name))]
    for family in families:
        if family.active == _NFNETLINK_LOG:
            yield Finding("ok", f"the kernel's own messages about {family.name} go to group 0 (nf_log)")
        else:
            taker = family.active or "nobody"
            text = f"the kernel's own messages about {family.name} go to {taker}, not to group 0 (nf_log)"
            remedy = (
                f"nflowlevel nf-log set {family.name} {_NFNETLINK_LOG} (the daemon does this when it reads group 0)"
            )
            yield Finding("hint", text, remedy)
    if facts.log_invalid == "off":
        yield Finding("hint", "conntrack does not log invalid packets", "nflowlevel nf-log invalid all")
    elif facts.log_invalid:
        yield Finding("ok", f"conntrack logs invalid packets: {facts.log_invalid}")


def check_reader(facts: Facts, group: int) -> Iterator[Finding]:
    """Judge who reads a group, and how."""
    if facts.readers is None:
        yield _suspects(facts, group)
        return
    reader = facts.readers.get(group)
    if reader is None:
        lost = " and what rules log to it is lost" if facts.ruleset.of_group(group) else ""
        remedy = f"start nflowlevel-daemon, or watch the group with: nflowlevel tail --group {group}"
        yield Finding("problem", f"no process reads group {group}{lost}", remedy)
        return
    waiting = f"{reader.bound.queued} packets wait in the kernel, for {reader.bound.flush_centisecs / 100:g} s at most"
    yield Finding("ok", f"group {group} is read by {reader}; {waiting}")
    yield from _copy_mode(reader, group)
    yield from _pace(reader, group)


def _suspects(facts: Facts, group: int) -> Finding:
    if not facts.suspects:
        return Finding(
            "problem", f"no process reads group {group}: no process in this namespace has a Netfilter socket"
        )
    text = (
        f"the reader of group {group} is not visible here; Netfilter sockets are {', '.join(map(str, facts.suspects))}"
    )
    return Finding("hint", text, "/proc/net/netfilter/nfnetlink_log belongs to the host's root: run as that user")


def _copy_mode(reader: Reader, group: int) -> Iterator[Finding]:
    mode = _COPY_MODES.get(reader.bound.copy_mode, str(reader.bound.copy_mode))
    if mode == "disabled":
        yield Finding(
            "problem", f"the reader of group {group} has turned copying off (copy_mode {mode})", "copy_mode=packet"
        )
    elif mode != "packet":
        text = f"the reader of group {group} asks for no packet data (copy_mode {mode}): no addresses, no ports"
        yield Finding("hint", text, "copy_mode=packet")
    elif reader.bound.copy_range < _HEADER_BYTES:
        text = (
            f"the reader of group {group} asks for {reader.bound.copy_range} bytes of each packet: headers are missing"
        )
        yield Finding("hint", text, f"copy_range=0 (all), or at least {_HEADER_BYTES}")


def _pace(reader: Reader, group: int) -> Iterator[Finding]:
    if reader.stopped:
        yield Finding("problem", f"{reader} is stopped", f"continue it with: kill -CONT {reader.holder.pid}")
    port = reader.port
    if port and port.drops:
        text = f"the reader of group {group} was too slow: {port.drops} datagrams did not fit into its socket buffer"
        yield Finding("problem", text, "enlarge netlink_socket_buffer_size, netlink_qthreshold and nlbufsiz")
    if port and port.queued_bytes > _MUCH_UNREAD_BYTES:
        yield Finding(
            "hint",
            f"{port.queued_bytes} bytes wait in the socket of group {group}'s reader: the reader is slow or hangs",
        )


def check_elsewhere(facts: Facts, others: Mapping[str, Facts], group: int) -> Iterator[Finding]:
    """Look for rules and readers of a group in other namespaces, whose groups have nothing to do with ours.

    Of many namespaces there is one line for all.
    """
    rules = {name: found[0] for name, other in others.items() if (found := other.ruleset.of_group(group))}
    readers = {name: reader for name, other in others.items() if (reader := (other.readers or {}).get(group))}
    if facts.ruleset.of_group(group):
        rules = {}
    if facts.readers is None or group in facts.readers:
        readers = {}
    if len(rules) > _MOST_NAMESPACES:
        text = f"{_called_all(rules)} have rules that log to group {group}: each namespace has its own groups"
        first = next(iter(rules))
        yield Finding("hint", text, f"check there, such as: nflowlevel doctor --group {group}{_netns_option(first)}")
    else:
        for name, rule in rules.items():
            text = f"in {_called(name)} {rule.where} logs to group {group}: each namespace has its own groups"
            yield Finding("hint", text, f"check there: nflowlevel doctor --group {group}{_netns_option(name)}")
    if len(readers) > _MOST_NAMESPACES:
        yield Finding("hint", f"{_called_all(readers)} have a reader of group {group}, but this namespace has none")
    else:
        for name, reader in readers.items():
            yield Finding("hint", f"in {_called(name)} group {group} is read by {reader}, but not in this namespace")


def _called_all(names: Collection[str]) -> str:
    return f"{len(names)} other network namespaces ({few(names)})"


def few(names: Collection[str]) -> str:
    """Return some names of namespaces, and how many more there are."""
    shown = [printable(name) for name in names][:_MOST_NAMESPACES]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def _called(name: str) -> str:
    return "this namespace" if name == OWN else f"network namespace {name}"


def _netns_option(name: str) -> str:
    return "" if name == OWN else f" --netns {name}"


def _groups(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MOST_RULES])) + (" …" if len(numbers) > _MOST_RULES else "")
    return f"group{'s' if len(numbers) > 1 else ''} {shown}"


def check_no_group(facts: Facts) -> Finding:
    """Say that no group is in use at all."""
    blind = ", as far as is visible" if facts.ruleset.unseen else ""
    read = "and no process reads one" if facts.readers is not None else "and who reads one is not visible"
    blind_to = blind or facts.readers is None
    text = f"no rule logs to any group{blind}, {read}"
    # Where rules or readers cannot be seen, there may be some; what keeps them from sight has a line of its own.
    return Finding("hint", text) if blind_to else Finding("problem", text, _add_one(facts, 1))
