# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel doctor`: why no packets or flows arrive. One line per check; exit status 0 when nothing is wrong, else 1.

It looks and changes nothing. Without a group it looks at all that rules log to or somebody reads; with a configuration
at the groups that its stacks read, in their namespaces, and at where they write. Prefilters that are pinned or that the
configuration wants are looked at in any case.
"""

from __future__ import annotations

import argparse

from nflowlevel.cli import terminal
from nflowlevel.cli.arguments import add_config, add_netns, group
from nflowlevel.daemon.prefilters import wanted
from nflowlevel.doctor.examine import examine
from nflowlevel.errors import printable
from nflowlevel.plugin.contract import Finding
from nflowlevel.stacks.config import Config

_COLOURS = {"ok": "green", "problem": "red", "hint": "yellow"}
#: Where the text begins, behind the status.
_INDENT = 9
#: Narrower terminals wrap for themselves.
_LEAST_COLUMNS = 40


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("-g", "--group", type=group, metavar="N", help="only this group, 0 to 65535")
    add_config(parser, default=None, what="check what this configuration reads and writes")
    add_netns(parser)


def run(options: argparse.Namespace) -> int:
    """Print what is found, as it is found."""
    terminal.tolerate()
    wrong = False
    for finding in examine(options.group, options.config, options.netns, _pins):
        wrong |= finding.status == "problem"
        print(_shown(finding), flush=True)
    return int(wrong)


def _shown(finding: Finding) -> str:
    """Return a finding as lines. What it quotes, such as arguments of a process, never begins one of them."""
    text, remedy = printable(finding.text, None), printable(finding.remedy, None)
    said = f"{text} — {remedy}" if remedy else text
    if (columns := terminal.width()) is not None:
        columns = max(columns, _LEAST_COLUMNS) - _INDENT
        if terminal.cells(said) > columns and remedy:
            said = f"{terminal.filled(text.split(' '), columns)}\n— {terminal.filled(remedy.split(' '), columns - 2)}"
        else:
            said = terminal.filled(said.split(" "), columns)
    status = f"{finding.status:<{_INDENT}}"
    if terminal.colours():
        status = terminal.styled(status, _COLOURS[finding.status])
    return status + said.replace("\n", "\n" + " " * _INDENT)


def _pins(config: Config) -> list[str]:
    return [name for name, options in wanted(config) if options.pin]
