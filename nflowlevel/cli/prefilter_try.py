# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel prefilter try EXPRESSION`: a condition of your own at a hook, for as long as you watch its counters.

Without a group nothing is logged and no packet is changed; in the end nothing is left.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nflowlevel.binding.bpf import VerifierError
from nflowlevel.binding.netns import identity_of_own, name_of_own
from nflowlevel.binding.nftmatch import HOOKS, Mark, MatchTable
from nflowlevel.cli.arguments import add_netns, group, seconds
from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import printable
from nflowlevel.firewall import nf_log
from nflowlevel.prefilter.attach import table_name
from nflowlevel.prefilter.prefilter import Prefilter

_ENDS = frozenset({signal.SIGINT, signal.SIGTERM})
_EVERY_SECS = 1.0
_LONGEST_SECS = 365 * 86_400
#: Nobody is to find it there the next day.
_USUAL_SECS = 60
#: Where a group's packets are logged, too: right before the filter.
_PRIORITY = -1
#: Sets no bit of the packet's mark.
_UNTOUCHED = Mark(0, 0)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("expression", help="a filter such as 'tcp.dport == 22 && ip.ttl < 40' (docs/filters.md)")
    parser.add_argument(
        "--group", metavar="N", type=group, help="log matching packets to this group; without it, only count"
    )
    parser.add_argument("--prefix", default="", help="with --group: prefix of what is logged")
    parser.add_argument("--hook", choices=tuple(HOOKS), default="input", help="hook to watch (default: input)")
    duration = seconds(0, _LONGEST_SECS)
    parser.add_argument(
        "--for",
        dest="seconds",
        metavar="SECS",
        type=duration,
        default=_USUAL_SECS,
        help="stop after SECS seconds (default %(default)s), or at Ctrl-C",
    )
    # As it was called before.
    parser.add_argument("--seconds", type=duration, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add_netns(parser)
    parser.add_argument(
        "--verifier-log", action="store_true", help="if the kernel refuses it, print its whole explanation"
    )


def run(options: argparse.Namespace) -> int:
    """Compile, attach, show counters until the end."""
    try:
        with Prefilter.from_source(options.expression, name=f"try-{os.getpid()}") as pre, _attached(pre, options):
            to = "" if options.group is None else f", to group {options.group}"
            where = f"at {options.hook} in {_called(options.netns)}{to}"
            print(f"watching {where}, for {options.seconds:g} s; stop with Ctrl-C", file=sys.stderr, flush=True)
            _watch(pre, options.seconds)
    except VerifierError as error:
        if options.verifier_log:
            sys.stderr.write(error.log)
        raise
    except ValueError as error:
        raise WrongArgument(str(error)) from None
    return 0


def _called(netns: str | None) -> str:
    """Return what to call the network namespace whose packets are watched."""
    if name := netns or name_of_own():
        return f"network namespace {printable(name, None)}"
    return "the initial network namespace" if nf_log.is_initial_netns() else f"network namespace {identity_of_own()}"


@contextmanager
def _attached(pre: Prefilter, options: argparse.Namespace) -> Iterator[None]:
    """Put it into rules of its own for the block."""
    if options.group is not None:
        with pre.attach(hooks=[options.hook], group=options.group, prefix=options.prefix, netns=options.netns):
            yield
        return
    table = MatchTable(
        table_name(pre.name),
        pre.name,
        pre.prog_fd,
        (options.hook,),
        _UNTOUCHED,
        priority=_PRIORITY,
        keep=False,
        netns=options.netns,
    )
    try:
        yield
    finally:
        table.remove()
        table.close()


def _watch(pre: Prefilter, seconds: float) -> None:
    """Print a line whenever something was counted, and all at the end."""
    end = time.monotonic() + seconds
    seen = agreed = 0
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        while (left := end - time.monotonic()) > 0 and not signal.sigtimedwait(_ENDS, min(left, _EVERY_SECS)):
            counters = pre.counters()
            if counters.seen > seen:
                now = time.strftime("%H:%M:%S")
                grown = f"+{counters.seen - seen}, +{counters.logged - agreed}"
                print(f"{now} packets {counters.seen}, matching {counters.logged} ({grown})", flush=True)
            seen, agreed = counters.seen, counters.logged
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    print(f"in all: {pre.counters()}", flush=True)
