# SPDX-License-Identifier: GPL-2.0-or-later
"""Why no flows arrive, or without counts and times: the settings of conntrack, its table, and who else listens."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import Any

from nflowlevel.binding import procfs
from nflowlevel.errors import KernelError, printable
from nflowlevel.firewall.conntrack import NEW, Conntrack, settings
from nflowlevel.inputs.nfct import NFCT
from nflowlevel.plugin.contract import Finding, Input

#: Of the table; the kernel drops new packets when it is full.
_NEARLY_FULL = 0.9


def check_inputs(inputs: Iterable[Input[Any]], netns: str | None) -> Iterator[Finding]:
    """Yield what is found for each input that reads flows, in its namespace or `netns`."""
    for each in dict.fromkeys(inputs):
        if isinstance(each, NFCT):
            options = each.options
            for found in check(each.netns or netns, events=options.event_mask, reliable=options.reliable):
                yield found._replace(text=f"[{each.instance}] {found.text}")


def check(netns: str | None, *, events: int, reliable: bool) -> Iterator[Finding]:
    """Yield what is found for a listener that wants `events` (1 new, 2 update, 4 destroy) in a namespace."""
    place = f" in {printable(netns)}" if netns else ""
    try:
        found = settings(netns)
    except KernelError as error:
        denied = error.errno in (errno.EPERM, errno.EACCES)
        yield Finding("hint" if denied else "problem", str(error), "run as root" if denied else "")
        return
    if found is None:
        remedy = "modprobe nf_conntrack, and use it in a rule, such as: nft add rule inet filter input ct state new"
        yield Finding("problem", f"the kernel tracks no connections{place}, so there are no flows", remedy)
        return
    yield from _switches(found, place)
    yield from _table(found, place)
    yield from _others(found, place, events=events, reliable=reliable)


def _switches(found: Conntrack, place: str) -> Iterator[Finding]:
    sysctl = "sysctl -w net.netfilter.nf_conntrack_"
    if not found.events:
        text = f"the kernel reports no flows{place}: nf_conntrack_events is 0"
        yield Finding("problem", text, f"{sysctl}events=1")
    elif found.events > 1:
        text = f"flows{place} that are older than their first listener end without a report: nf_conntrack_events is 2"
        yield Finding("hint", text, f"{sysctl}events=1")
    if not found.acct:
        text = f"flows{place} have no packets and bytes: nf_conntrack_acct is 0"
        yield Finding("problem", text, f"{sysctl}acct=1; it holds for flows that begin afterwards")
    if not found.timestamp:
        text = f"flows{place} begin and end when they are read: nf_conntrack_timestamp is 0"
        yield Finding("hint", text, f"{sysctl}timestamp=1; events of new flows are then not needed")
    if found.events and found.acct and found.timestamp:
        yield Finding("ok", f"conntrack{place} counts flows and reports them with their times")


def _table(found: Conntrack, place: str) -> Iterator[Finding]:
    text = f"the table of flows has {found.count} of at most {found.most} entries"
    if found.count >= found.most * _NEARLY_FULL:
        remedy = "sysctl -w net.netfilter.nf_conntrack_max=N, or shorter timeouts (nf_conntrack_*_timeout)"
        yield Finding("problem", f"{text}: beyond that the kernel drops packets", remedy)
    elif not found.count:
        remedy = "packets are tracked where a rule asks for it, such as: nft add rule inet filter input ct state new"
        yield Finding("hint", f"there are no flows{place} at the moment", remedy)
    else:
        yield Finding("ok", text)


def _others(found: Conntrack, place: str, *, events: int, reliable: bool) -> Iterator[Finding]:
    for each in found.listeners:
        holder = each.holder
        if holder.pid and procfs.is_ours(holder.pid):
            continue
        if each.reliable:
            text = f"{holder} listens to flows{place} reliably: what it does not read is reported to all again"
            yield Finding("hint", text, "records of one flow that come twice are left out; see docs/flows.md")
        if each.events & NEW and not events & NEW:
            text = f"{holder} listens to new flows{place}: that costs the firewall 3 to 6 µs for each"
            yield Finding("hint", text)
    if events & NEW and found.timestamp:
        text = f"new flows are listened to{place}: that costs the firewall 3 to 6 µs for each"
        yield Finding("hint", text, "event_mask=4 is enough for records of whole flows, as the kernel stamps them")
    if reliable:
        text = f"reliable=1{place}: while nobody reads, flows that ended stay in the table"
        yield Finding("hint", text, "near nf_conntrack_max the daemon gives that up; see docs/flows.md")
