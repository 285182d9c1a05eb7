# SPDX-License-Identifier: GPL-2.0-or-later
"""What the doctor says of stacks that read counters: nothing to read is the reason that nothing is logged."""

from __future__ import annotations

from nflowlevel.accounting.objects import Accounting
from nflowlevel.doctor.counters import check
from nflowlevel.inputs.nfacct import NFACCT, NFACCTOptions
from nflowlevel.inputs.nftcounter import NFTCOUNTER, NFTCOUNTEROptions
from nflowlevel.plugin.contract import Finding
from tests.fix_netns import Netns, netns
from tests.fix_nobody import run_as_nobody

__all__ = ["netns"]


def _found(place: Netns) -> list[Finding]:
    inputs = [NFACCT("a", NFACCTOptions(pollinterval=1)), NFTCOUNTER("c", NFTCOUNTEROptions(pollinterval=1))]
    return list(check(inputs, place.path))


def test_nothing_to_read(netns: Netns) -> None:
    objects, counters = _found(netns)
    assert (objects.status, counters.status) == ("problem", "problem")
    assert objects.text == f"[a] there are no accounting objects in {netns.path}, so nothing is logged"
    assert "nflowlevel acct add http; iptables" in objects.remedy
    assert counters.text == f"[c] nftables has no named counters in {netns.path}, so nothing is logged"


def test_objects_without_and_with_rules(netns: Netns) -> None:
    netns.nft("table inet t { counter http { }; }")
    with Accounting(netns.path) as accounting:
        accounting.create("http")
        accounting.create("dns")
    objects, counters = _found(netns)
    assert objects[:2] == ("problem", f"[a] 2 accounting objects in {netns.path}, but no rule counts into one of them")
    assert objects.remedy.startswith("iptables ")
    assert counters[:2] == ("ok", f"[c] 1 named counters and quotas of nftables in {netns.path}")
    rule = ("iptables", "-A", "INPUT", "-m", "nfacct", "--nfacct-name")
    netns.run(*rule, "http")
    assert _found(netns)[0][:2] == ("hint", f"[a] no rule counts into 1 of 2 accounting objects in {netns.path}")
    netns.run(*rule, "dns")
    assert _found(netns)[0][:2] == ("ok", f"[a] 2 accounting objects in {netns.path}, with rules")


def test_who_may_not_look_has_seen_no_problem() -> None:
    def look() -> int:
        return sum(found.status == "problem" for found in check([NFACCT("a", NFACCTOptions(pollinterval=1))], None))

    assert run_as_nobody(look) == (0, "")


def test_a_namespace_that_is_not_there() -> None:
    (found,) = check([NFACCT("a", NFACCTOptions(pollinterval=1))], "/run/netns/not-there")
    assert found.status == "problem"
    assert "not-there" in found.text
