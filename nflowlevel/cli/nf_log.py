# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel nf-log`: who takes the packets that the kernel logs unasked; see nflowlevel/firewall/nf_log.py."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from nflowlevel.binding.numbers import FAMILIES
from nflowlevel.cli.arguments import add_action, add_netns
from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import KernelError, printable
from nflowlevel.firewall import nf_log

#: Families without packets of their own are shown only when somebody set them.
_WITHOUT_PACKETS = ("unspec", "inet")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    _add_common(parser, netns=None, as_json=False)
    commands = parser.add_subparsers(dest="action", metavar="ACTION")
    _add(commands, "list", _list, "show families, back ends and switches (the default)")
    setting = _add(commands, "set", _set, "choose the back end of a family")
    setting.add_argument("family", help=f"{', '.join(FAMILIES)}, or a number")
    setting.add_argument("backend", help="nfnetlink_log (group 0), nf_log_ipv4 and similar (kernel log), or NONE")
    invalid = _add(commands, "invalid", _invalid, "show or set the protocols whose invalid packets conntrack logs")
    invalid.add_argument("protocol", nargs="?", help=f"off, all, {', '.join(nf_log.PROTOCOLS)}, or a number")
    everywhere = _add(commands, "all-netns", _all_netns, "show or set which namespaces write to the kernel's log")
    everywhere.add_argument(
        "allowed",
        nargs="?",
        choices=("on", "off"),
        help="on: rules of every namespace; off: only rules of the initial one",
    )
    parser.set_defaults(act=_list)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], None],
    purpose: str,
) -> argparse.ArgumentParser:
    parser = add_action(commands, name, act, purpose)
    # Common options may stand before or behind the action; only the outer parser knows their defaults.
    _add_common(parser, netns=argparse.SUPPRESS, as_json=argparse.SUPPRESS)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, netns: str | None, as_json: bool | str) -> None:
    add_netns(parser, netns)
    parser.add_argument("-j", "--json", action="store_true", default=as_json, help="JSON instead of text")


def run(options: argparse.Namespace) -> int:
    """Show or set."""
    try:
        options.act(options)
    except ValueError as error:
        raise WrongArgument(str(error)) from None
    return 0


def _list(options: argparse.Namespace) -> None:
    families = nf_log.families(options.netns)
    invalid, everywhere = _log_invalid(options.netns), nf_log.all_netns()
    if options.json:
        rows = {
            family.name: {"number": family.number, "active": family.active, "available": family.available}
            for family in families.values()
        }
        print(json.dumps({"families": rows, "conntrack_log_invalid": invalid, "all_netns": everywhere}))
        return
    print(f"{'family':<12}{'active':<16}available")
    for family in filter(_is_worth_showing, families.values()):
        name, active = f"{family.name} ({family.number})", family.active or nf_log.NONE
        print(printable(f"{name:<12}{active:<16}{', '.join(family.available)}", None))
    print(f"\ninvalid packets logged by conntrack: {invalid or 'unknown, nf_conntrack is not loaded'}")
    print(f"kernel log of namespaces other than the initial one: {_on_off(everywhere)}")


def _is_worth_showing(family: nf_log.Family) -> bool:
    named = not family.name.isdecimal() and family.name not in _WITHOUT_PACKETS
    return named or family.active is not None


def _log_invalid(netns: str | None) -> str | None:
    try:
        return nf_log.log_invalid(netns)
    except KernelError:
        return None


def _on_off(switch: bool | None) -> str:
    return "unknown" if switch is None else "on" if switch else "off"


def _set(options: argparse.Namespace) -> None:
    nf_log.select(options.family, options.backend, netns=options.netns)


def _invalid(options: argparse.Namespace) -> None:
    if options.protocol is not None:
        nf_log.set_log_invalid(options.protocol, netns=options.netns)
    else:
        shown = nf_log.log_invalid(options.netns)
        print(json.dumps(shown) if options.json else shown)


def _all_netns(options: argparse.Namespace) -> None:
    if options.allowed is not None:
        nf_log.set_all_netns(options.allowed == "on")
    else:
        shown = nf_log.all_netns()
        print(json.dumps(shown) if options.json else _on_off(shown))
