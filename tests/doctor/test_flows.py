# SPDX-License-Identifier: GPL-2.0-or-later
"""What the doctor says of flows: of settings, of a table that is nearly full, and of other listeners."""

from __future__ import annotations

import dataclasses
import os
import socket

import pytest

from nflowlevel.doctor import flows
from nflowlevel.doctor.flows import check, check_inputs
from nflowlevel.errors import KernelError
from nflowlevel.firewall.conntrack import DESTROY, NEW, Conntrack, settings
from nflowlevel.inputs.nfct import NFCT, NFCTOptions
from nflowlevel.plugin.contract import Finding
from tests.firewall.test_conntrack import listening
from tests.fix_netns import Netns, netns

__all__ = ["netns"]

_GOOD = Conntrack(acct=True, timestamp=True, events=1, count=10, most=100)


def _found(place: str | None, *, events: int = DESTROY, reliable: bool = False) -> dict[str, Finding]:
    return {finding.text: finding for finding in check(place, events=events, reliable=reliable)}


def _set(place: Netns, **values: int) -> None:
    for name, value in values.items():
        place.sysctl(f"net.netfilter.nf_conntrack_{name}", value)


def test_the_defaults_of_the_kernel(netns: Netns) -> None:
    _set(netns, acct=0, timestamp=0, events=2)
    said = [
        (finding.status, finding.text.partition(": ")[2]) for finding in check(netns.path, events=4, reliable=False)
    ]
    assert said[:3] == [
        ("hint", "nf_conntrack_events is 2"),
        ("problem", "nf_conntrack_acct is 0"),
        ("hint", "nf_conntrack_timestamp is 0"),
    ]


def test_no_events_are_a_problem(netns: Netns) -> None:
    _set(netns, acct=1, timestamp=1, events=0)
    first, *_ = check(netns.path, events=4, reliable=False)
    assert first.status == "problem"
    assert first.remedy == "sysctl -w net.netfilter.nf_conntrack_events=1"


def test_all_is_well(netns: Netns) -> None:
    _set(netns, acct=1, timestamp=1, events=1)
    netns.nft("table inet t { chain c { type filter hook output priority 0; ct state new; }; }")
    with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))
    found = check(netns.path, events=4, reliable=False)
    assert {finding.status for finding in found} == {"ok"}


@pytest.mark.parametrize(("count", "status"), [(89, "ok"), (90, "problem"), (0, "hint")])
def test_the_table(monkeypatch: pytest.MonkeyPatch, count: int, status: str) -> None:
    monkeypatch.setattr(flows, "settings", lambda _: dataclasses.replace(_GOOD, count=count))
    (_, table) = check(None, events=4, reliable=False)
    assert table.status == status


def test_other_listeners(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.procfs, "is_ours", lambda _: False)
    with listening(netns, NEW, reliable=True):
        said = " ".join(_found(netns.path))
        assert "listens to flows" in said
        assert "reliably" in said
        assert "listens to new flows" in said
        assert "listens to new flows" not in " ".join(_found(netns.path, events=NEW | DESTROY))
    assert "listens" not in " ".join(_found(netns.path))


def test_one_of_ours_is_not_told(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.procfs, "is_ours", lambda pid: pid == os.getpid())
    with listening(netns, NEW, reliable=True):
        found = settings(netns.path)
        assert found
        assert found.listeners
        assert "listens" not in " ".join(_found(netns.path))


def test_what_new_and_reliable_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "settings", lambda _: _GOOD)
    assert len(_found(None)) == 2
    hints = [finding for finding in _found(None, events=5, reliable=True).values() if finding.status == "hint"]
    assert len(hints) == 2
    assert "event_mask=4" in hints[0].remedy


def test_no_conntrack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "settings", lambda _: None)
    (found,) = check("/run/netns/x", events=4, reliable=False)
    assert found.status == "problem"
    assert "tracks no connections in /run/netns/x" in found.text


@pytest.mark.parametrize(("number", "status"), [(1, "hint"), (2, "problem")])
def test_who_may_not_look_has_seen_no_problem(monkeypatch: pytest.MonkeyPatch, number: int, status: str) -> None:
    def refused(_: str | None) -> None:
        raise KernelError("enter network namespace x", number)

    monkeypatch.setattr(flows, "settings", refused)
    (found,) = check("x", events=4, reliable=False)
    assert found.status == status


def test_each_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "settings", lambda _: _GOOD)
    one, other = (NFCT(name, NFCTOptions(event_mask=4)) for name in ("ct1", "ct2"))
    found = [finding.text.partition(" ")[0] for finding in check_inputs([one, other, one], None)]
    assert found == ["[ct1]", "[ct1]", "[ct2]", "[ct2]"]
