# SPDX-License-Identifier: GPL-2.0-or-later
"""Diagnosis: what is made of facts, also of those that no test can bring about on a healthy kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from nflowlevel.binding.netns import OWN
from nflowlevel.binding.procfs import BoundGroup, Holder, PortState
from nflowlevel.doctor import groups as diagnosis
from nflowlevel.doctor.facts import Facts, Reader
from nflowlevel.firewall.nf_log import Family
from nflowlevel.firewall.rules import LogRule
from nflowlevel.firewall.ruleset import Ruleset, Unseen
from nflowlevel.plugin.contract import Finding

_RULE = LogRule("inet", "t", "c", "nft inet t c handle 4", 2, packets=0)
_READER = Reader(
    BoundGroup(2, 77, 0, 2, 65531, 5), Holder(77, 42, "ulogd"), "/usr/sbin/ulogd -d", port=PortState(77, 0, 0, 1)
)


def _facts(*rules: LogRule, reader: Reader | None = None, **more: object) -> Facts:
    readers = {} if reader is None else {reader.bound.group: reader}
    return replace(Facts(Ruleset(rules), readers=readers), **more)  # type: ignore[arg-type]


def _statuses(findings: Iterable[Finding]) -> list[str]:
    return [finding.status for finding in findings]


def _one(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_healthy_kernel() -> None:
    assert _statuses(diagnosis.check_kernel(_facts())) == ["ok", "ok"]


def test_kernel_without_nfnetlink_log() -> None:
    finding = next(diagnosis.check_kernel(_facts(knows_groups=False)))
    assert finding.status == "problem"
    assert "modprobe nfnetlink_log" in finding.remedy


def test_missing_capability() -> None:
    facts = _facts(obstacle="CAP_NET_ADMIN is missing", user_namespace="the user namespace")
    finding = list(diagnosis.check_kernel(facts))[1]
    assert finding[:2] == ("hint", "CAP_NET_ADMIN is missing (here: the user namespace)")


# -- rules -----------------------------------------------------------------------------------------------------------


def test_hit_rule() -> None:
    finding = _one(diagnosis.check_rules(_facts(replace(_RULE, packets=23, prefix="SSH ")), 2))
    assert finding == ("ok", "nft inet t c handle 4 ('SSH ') has logged 23 packets to group 2", "")


def test_no_rule_names_the_groups_that_have_one() -> None:
    finding = _one(diagnosis.check_rules(_facts(replace(_RULE, group=3), replace(_RULE, group=1)), 2))
    assert finding.status == "problem"
    assert finding.text == "no rule logs to group 2; rules log to groups 1, 3"
    assert "log group 2" in finding.remedy


def test_a_proposed_rule_has_a_limit() -> None:
    facts = _facts()
    for finding in (_one(diagnosis.check_rules(facts, 2)), diagnosis.check_no_group(facts)):
        assert "limit rate 10/second counter log group" in finding.remedy


def test_an_idle_stack_beside_one_with_rules_is_no_problem() -> None:
    facts = _facts(replace(_RULE, group=1))
    idle = _one(diagnosis.check_rules(facts, 2, beside={1}, configured=True))
    assert idle[:2] == ("hint", "no rule logs to group 2; rules log to group 1: its stacks stay idle")
    assert idle.remedy.startswith("remove them, or add one, such as: nft ")
    assert _one(diagnosis.check_rules(facts, 2, configured=True)).status == "problem"
    assert _one(diagnosis.check_rules(facts, 2)).status == "problem"


def test_group_0_of_a_configuration_is_never_without_a_source() -> None:
    found = _one(diagnosis.check_rules(_facts(), 0, configured=True))
    assert found[:2] == (
        "hint",
        "no rule logs to group 0: only the kernel's own messages come, once the daemon reads it",
    )
    assert _one(diagnosis.check_rules(_facts(), 0)).status == "problem"


def test_a_rule_that_was_never_hit_is_no_problem() -> None:
    """Perhaps there was no such packet."""
    hit, untold = replace(_RULE, packets=1), replace(_RULE, packets=None)
    assert _statuses(diagnosis.check_rules(_facts(_RULE, _RULE), 2)) == ["hint", "hint"]
    assert _statuses(diagnosis.check_rules(_facts(_RULE, hit), 2)) == ["hint", "ok"]
    assert _statuses(diagnosis.check_rules(_facts(_RULE, untold), 2)) == ["hint", "hint"]


def test_rule_without_counter() -> None:
    finding = _one(diagnosis.check_rules(_facts(replace(_RULE, packets=None)), 2))
    assert finding.status == "hint"
    assert finding.remedy == "write `counter` before `log`"


@pytest.mark.parametrize(
    ("idle", "remedy"),
    [("its table is dormant", "wake the table"), ("no hook leads to its chain", "give the chain a hook")],
)
def test_rule_no_packet_comes_to(idle: str, remedy: str) -> None:
    finding = _one(diagnosis.check_rules(_facts(replace(_RULE, packets=None, idle=idle)), 2))
    assert finding.status == "problem"
    assert finding.text.endswith(f"but {idle}")
    reached = replace(_RULE, packets=None)
    assert _statuses(diagnosis.check_rules(_facts(replace(reached, idle=idle), reached), 2)) == ["hint", "hint"]
    assert finding.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("limits", "says"),
    [({"snaplen": 20}, "headers are missing"), ({"snaplen": 128}, "cuts packets to 128 bytes"),
     ({"queue_threshold": 1}, "sends after 1 packets"), ({"queue_threshold": 100}, ""), ({}, "")],
)  # fmt: skip
def test_limits_of_a_rule(limits: dict[str, int], says: str) -> None:
    rule = replace(_RULE, packets=1, **limits)  # type: ignore[arg-type]
    findings = list(diagnosis.check_rules(_facts(rule), 2))[1:]
    assert _statuses(findings) == (["hint"] if says else [])
    assert not says or says in findings[0].text


def test_many_rules_are_not_all_listed() -> None:
    findings = list(diagnosis.check_rules(_facts(*[replace(_RULE, packets=1)] * 20), 2))
    assert len(findings) == 9
    assert findings[-1].text == "12 more rules log to group 2"


@pytest.mark.parametrize(
    ("kernel_log", "says"),
    [(True, "kernel's log, never"), (False, "nf_log_all_netns is 0"), (None, "kernel's log, never")],
)
def test_rule_without_group(kernel_log: bool | None, says: str) -> None:
    nft, iptables = replace(_RULE, group=None), replace(_RULE, group=None, where="iptables -t filter INPUT rule 1")
    facts = _facts(nft, iptables, kernel_log=kernel_log)
    findings = list(diagnosis.check_other_rules(facts, {2}))
    assert _statuses(findings) == ["hint", "hint"]
    assert all(says in finding.text for finding in findings)
    assert [finding.remedy for finding in findings] == ["write `log group N`", "use -j NFLOG --nflog-group N"]


def test_a_rule_of_a_prefilter_that_was_never_hit() -> None:
    rule = replace(_RULE, table="nflowlevel-ssh", where="nft inet nflowlevel-ssh input handle 2")
    (found,) = diagnosis.check_rules(_facts(rule), 2)
    assert found.status == "hint"
    assert found.remedy.endswith("nflowlevel prefilter counters ssh")


def test_other_rules_matter_where_a_group_has_none() -> None:
    unseen = Unseen("rules of nft: nft is not installed", "install it")
    facts = Facts(Ruleset((_RULE, replace(_RULE, group=None), replace(_RULE, group=0)), (unseen,)), readers={})
    assert not list(diagnosis.check_other_rules(facts, {2}))
    assert [finding.text for finding in diagnosis.check_other_rules(facts, {2, 3})][1:] == [f"cannot see {unseen.what}"]
    # Many take `log` for `log group 0`.
    assert len(list(diagnosis.check_other_rules(facts, {0}))) == 1
    none = diagnosis.check_no_group(facts)
    assert none.status == "hint"
    assert none.text.startswith("no rule logs to any group, as far as is visible")


def test_what_cannot_be_seen_is_no_problem() -> None:
    blind = Facts(Ruleset((), (Unseen("rules of nft: Operation not permitted", "run as root"),)), readers=None)
    assert _one(diagnosis.check_rules(blind, 2)) == ("hint", "no rule logs to group 2, as far as is visible", "")
    assert diagnosis.check_no_group(blind) == (
        "hint",
        "no rule logs to any group, as far as is visible, and who reads one is not visible",
        "",
    )
    assert diagnosis.check_no_group(_facts()).status == "problem"
    assert diagnosis.check_no_group(_facts(readers=None)).status == "hint"


# -- group 0 ---------------------------------------------------------------------------------------------------------


def _families(active: str | None) -> dict[str, Family]:
    return {name: Family(name, number, active, ("nfnetlink_log",)) for name, number in (("ipv4", 2), ("ipv6", 10))}


def test_own_messages_come() -> None:
    facts = _facts(families=_families("nfnetlink_log"), log_invalid="tcp")
    assert _statuses(diagnosis.check_own_messages(facts)) == ["ok", "ok", "ok"]
    assert _one(diagnosis.check_rules(facts, 0)).status == "ok"
    assert _one(diagnosis.check_rules(facts, 1)).status == "problem"


@pytest.mark.parametrize(("active", "log_invalid"), [("nfnetlink_log", "off"), ("nf_log_ipv4", "all"), (None, "all")])
def test_own_messages_do_not_come(active: str | None, log_invalid: str) -> None:
    facts = _facts(families=_families(active), log_invalid=log_invalid)
    remedies = " ".join(finding.remedy for finding in diagnosis.check_own_messages(facts))
    assert ("nf-log invalid all" in remedies) == (log_invalid == "off")
    assert ("nf-log set ipv6 nfnetlink_log" in remedies) == (active != "nfnetlink_log")
    assert _one(diagnosis.check_rules(facts, 0)).status == "problem"


# -- readers ---------------------------------------------------------------------------------------------------------


def test_nobody_reads() -> None:
    assert _one(diagnosis.check_reader(_facts(), 2)).text == "no process reads group 2"
    finding = _one(diagnosis.check_reader(_facts(_RULE), 2))
    assert finding.status == "problem"
    assert finding.text == "no process reads group 2 and what rules log to it is lost"


def test_reader() -> None:
    finding = _one(diagnosis.check_reader(_facts(reader=_READER), 2))
    assert finding.status == "ok"
    assert finding.text == (
        "group 2 is read by process 42 (/usr/sbin/ulogd -d), netlink port 77; "
        "0 packets wait in the kernel, for 0.05 s at most"
    )


def test_reader_whose_process_is_not_found() -> None:
    finding = _one(diagnosis.check_reader(_facts(reader=replace(_READER, holder=Holder(77))), 2))
    assert finding.text.startswith("group 2 is read by netlink port 77; ")


@pytest.mark.parametrize(
    ("reader", "status", "says"),
    [
        (replace(_READER, bound=BoundGroup(2, 77, 0, 0, 0, 5)), "hint", "copy_mode none"),
        (replace(_READER, bound=BoundGroup(2, 77, 0, 1, 0, 5)), "hint", "copy_mode meta"),
        (replace(_READER, bound=BoundGroup(2, 77, 0, 3, 0, 5)), "problem", "copy_mode disabled"),
        (replace(_READER, bound=BoundGroup(2, 77, 0, 2, 40, 5)), "hint", "40 bytes of each packet"),
        (replace(_READER, stopped=True), "problem", "is stopped"),
        (replace(_READER, port=PortState(77, 0, 17, 1)), "problem", "17 datagrams did not fit"),
        (replace(_READER, port=PortState(77, 64 << 20, 0, 1)), "hint", "67108864 bytes wait"),
        (replace(_READER, port=None), "", ""),
    ],
)
def test_state_of_the_reader(reader: Reader, status: str, says: str) -> None:
    findings = list(diagnosis.check_reader(_facts(reader=reader), 2))[1:]
    assert _statuses(findings) == ([status] if status else [])
    assert not says or says in findings[0].text


def test_readers_that_may_not_be_seen() -> None:
    assert _one(diagnosis.check_reader(_facts(readers=None), 2)).status == "problem"
    finding = _one(diagnosis.check_reader(_facts(readers=None, suspects=(Holder(77, 42, "ulogd"),)), 2))
    assert finding.status == "hint"
    assert "netlink port 77 (process 42, ulogd)" in finding.text


# -- other namespaces ------------------------------------------------------------------------------------------------


def test_rule_in_another_namespace() -> None:
    others = {"dmz": _facts(_RULE), OWN: _facts(_RULE), "lan": _facts(replace(_RULE, group=3))}
    findings = list(diagnosis.check_elsewhere(_facts(), others, 2))
    assert [finding.remedy for finding in findings] == [
        "check there: nflowlevel doctor --group 2 --netns dmz", "check there: nflowlevel doctor --group 2"]  # fmt: skip
    assert "in network namespace dmz nft inet t c handle 4 logs to group 2" in findings[0].text
    assert not list(diagnosis.check_elsewhere(_facts(_RULE), others, 2))


def test_reader_in_another_namespace() -> None:
    others = {"dmz": _facts(reader=_READER)}
    assert (
        "in network namespace dmz group 2 is read by" in _one(diagnosis.check_elsewhere(_facts(_RULE), others, 2)).text
    )
    assert not list(diagnosis.check_elsewhere(_facts(_RULE, reader=_READER), others, 2))
    assert not list(diagnosis.check_elsewhere(_facts(_RULE), others, 3))


@pytest.mark.parametrize("count", [3, 4, 100])
def test_many_namespaces_are_one_line(count: int) -> None:
    others = {f"pod-{number}": _facts(_RULE, reader=_READER) for number in range(count)}
    findings = list(diagnosis.check_elsewhere(_facts(), others, 2))
    assert len(findings) == (6 if count == 3 else 2)
    if count > 3:
        named = f"(pod-0, pod-1, pod-2 and {count - 3} more)"
        assert findings[0].text.startswith(f"{count} other network namespaces {named} have rules that log to group 2")
        assert findings[0].remedy.endswith("nflowlevel doctor --group 2 --netns pod-0")
        assert "have a reader of group 2, but this namespace has none" in findings[1].text


def test_names_of_others_are_printable() -> None:
    forged = "x\nok       group 2 is read by process 7 (nflowlevel-daemon)"
    reader = replace(_READER, command=forged)
    assert str(reader).isprintable()
    assert str(replace(reader, command="", holder=Holder(77, 42, "a\nb"))).isprintable()
    assert str(Holder(77, 42, "a\nb")).isprintable()
    assert diagnosis.few(["a\nb"]) == r"a\nb"
