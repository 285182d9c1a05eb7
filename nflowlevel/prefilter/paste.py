# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines to paste into one's own firewall, of iptables or nft, that ask a prefilter's program or log what it marked."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator

from nflowlevel.firewall.rules import rule_command
from nflowlevel.prefilter.attach import NFT_PREFIX_BYTES, check_prefix, checked_hooks, in_range, mark_of, table_name

#: libxt_NFLOG takes no longer prefix.
_IPTABLES_PREFIX_BYTES = 63


def iptables_rules(path: str, *, group: int, hooks: Collection[str] = ("input",), prefix: str = "") -> list[str]:
    """Return the commands whose rules ask the program pinned at `path`; iptables-legacy and iptables-nft take them."""
    in_range("group", group, 0, 0xFFFF)
    _check_pasted(prefix, _IPTABLES_PREFIX_BYTES)
    target = f"-j NFLOG --nflog-group {group}" + (f" --nflog-prefix {shlex.quote(prefix)}" if prefix else "")
    return [
        f"{command} -I {hook.upper()} -m bpf --object-pinned {shlex.quote(path)} {target}"
        for hook in checked_hooks(hooks)
        for command in ("iptables", "ip6tables")
    ]


def nft_rules(
    mark: int, mask: int | None = None, *, group: int, hooks: Collection[str] = ("input",), prefix: str = ""
) -> list[str]:
    """Return the commands whose rules, in a table of their own, log what an attached prefilter has marked."""
    in_range("group", group, 0, 0xFFFF)
    _check_pasted(prefix, NFT_PREFIX_BYTES)
    if '"' in prefix or "$" in prefix:
        raise ValueError(f"prefix {prefix!r}: nft cannot write a double quote, and reads $ as a variable")
    bits, mask = mark_of(mark, mask)
    log = f"counter log group {group}" + (f' prefix "{prefix}"' if prefix else "")
    rule = f"meta mark and {mask:#x} == {bits:#x} {log}"
    return [rule_command(rule, hook=hook) for hook in checked_hooks(hooks)]


def rules_text(
    name: str,
    path: str,
    *,
    group: int,
    mark: int,
    mask: int | None = None,
    hooks: Collection[str] = ("input",),
    prefix: str = "",
) -> str:
    """Return what `nflowlevel prefilter rule` prints: a script of comments and commands, to be pasted in part."""
    return "\n".join(
        _paragraphs(
            name,
            iptables_rules(path, group=group, hooks=hooks, prefix=prefix),
            nft_rules(mark, mask, group=group, hooks=hooks, prefix=prefix),
            f"{mark:#x}/{mark if mask is None else mask:#x}",
        )
    )


def _paragraphs(name: str, iptables: list[str], nft: list[str], mark: str) -> Iterator[str]:
    yield "# iptables, legacy or nft back end: the rule asks the pinned program. The pin must exist whenever rules are"
    yield "# loaded, also at boot. Without it, no rule of that table can be changed."
    yield from iptables
    yield ""
    yield "# nftables: nft cannot write a rule that asks a program. If you attach the prefilter with a group, the table"
    yield f"# inet {table_name(name)} of nflowlevel logs; paste nothing. If you attach it with mark {mark}, these rules"
    yield "# log; or put them into chains of your own:"
    yield from nft
    yield ""


def _check_pasted(prefix: str, most: int) -> None:
    check_prefix(prefix, most)
    if prefix and not prefix.isprintable():
        raise ValueError(f"prefix {prefix!r}: characters that a terminal cannot show cannot be pasted")
