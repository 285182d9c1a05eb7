# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the accounting inputs of a configuration have anything to read: objects, and rules that count into them."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import Any

from nflowlevel.accounting.objects import Accounting
from nflowlevel.binding.nftables import NamedObjects
from nflowlevel.errors import KernelError, NflowError, printable
from nflowlevel.inputs.nfacct import NFACCT
from nflowlevel.inputs.nftcounter import NFTCOUNTER
from nflowlevel.plugin.contract import Finding, Input

_ADD_OBJECT = (
    "make one and a rule that counts, such as: nflowlevel acct add http; "
    "iptables -I INPUT -p tcp --dport 80 -m nfacct --nfacct-name http"
)
_ADD_COUNTER = "make one, such as: nft add counter inet filter http; then write `counter name http` in a rule"


def check(inputs: Iterable[Input[Any]], netns: str | None) -> Iterator[Finding]:
    """Yield what is found for each input that reads counters, in its namespace or `netns`."""
    for each in dict.fromkeys(inputs):
        if not isinstance(each, NFACCT | NFTCOUNTER):
            continue
        where = each.netns or netns
        place = f" in {printable(where)}" if where else ""
        try:
            found = _objects(where, place) if isinstance(each, NFACCT) else _counters(where, place)
        except KernelError as error:
            denied = error.errno in (errno.EPERM, errno.EACCES)
            found = Finding("hint" if denied else "problem", str(error), "run as root" if denied else "")
        except NflowError as error:
            found = Finding("problem", str(error))
        yield found._replace(text=f"[{each.instance}] {found.text}")


def _objects(netns: str | None, place: str) -> Finding:
    with Accounting(netns) as accounting:
        table = accounting.dump()
    unused = [name for name, uses in zip(table.names, table.uses, strict=True) if uses < 2]
    if not table:
        return Finding("problem", f"there are no accounting objects{place}, so nothing is logged", _ADD_OBJECT)
    if len(unused) == len(table):
        text = f"{len(table)} accounting objects{place}, but no rule counts into one of them"
        return Finding("problem", text, _ADD_OBJECT.partition("; ")[2])
    if unused:
        return Finding("hint", f"no rule counts into {len(unused)} of {len(table)} accounting objects{place}")
    return Finding("ok", f"{len(table)} accounting objects{place}, with rules")


def _counters(netns: str | None, place: str) -> Finding:
    objects = NamedObjects(netns)
    try:
        count = len(objects.read())
    finally:
        objects.close()
    if not count:
        return Finding("problem", f"nftables has no named counters{place}, so nothing is logged", _ADD_COUNTER)
    return Finding("ok", f"{count} named counters and quotas of nftables{place}")
