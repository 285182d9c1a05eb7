# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel doctor`: why no packets arrive. One line per check; exit status 0 when nothing is wrong, otherwise 1.

It looks and changes nothing. Without a group it looks at all that rules log to or somebody reads; with a configuration
at the groups that its stacks read, in their namespaces, and at where they write. Prefilters that are pinned or that the
configuration wants are looked at in any case.
"""

from __future__ import annotations

import argparse

from nflowlevel.cli.arguments import add_netns, group
from nflowlevel.daemon.prefilters import wanted
from nflowlevel.doctor.examine import examine
from nflowlevel.stacks.config import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("-g", "--group", type=group, metavar="N", help="only this group")
    parser.add_argument("-c", "--config", metavar="FILE", help="check what this configuration reads and writes")
    add_netns(parser)


def run(options: argparse.Namespace) -> int:
    """Print what is found, as it is found."""
    wrong = False
    for finding in examine(options.group, options.config, options.netns, _pins):
        wrong |= finding.status == "problem"
        print(f"{finding.status:<9}{finding.text}{f' — {finding.remedy}' if finding.remedy else ''}", flush=True)
    return int(wrong)


def _pins(config: Config) -> list[str]:
    return [name for name, options in wanted(config) if options.pin]
