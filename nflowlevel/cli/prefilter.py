# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel prefilter`: prefilters in the kernel, pinned by name, for administrators; see docs/prefilter.md.

A prefilter outlives the command that loads it only with on_exit=keep, which is the default here.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from nflowlevel.binding import bpffs
from nflowlevel.binding.bpf import VerifierError
from nflowlevel.binding.nftmatch import HOOKS
from nflowlevel.cli import arguments, prefilter_counters, prefilter_try, status
from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import KernelError, NflowError, printable
from nflowlevel.options import OptionDoc, Value, as_text, convert, describe
from nflowlevel.prefilter import attach, pins, users
from nflowlevel.prefilter.conditions import FIXED, PrefilterOptions
from nflowlevel.prefilter.paste import rules_text
from nflowlevel.prefilter.prefilter import Prefilter

EXIT_USED = status.IN_USE

_EXAMPLES = """examples:
  nflowlevel prefilter load ssh --dports 22 --tcp-flags syn --rate 100 \\
      --attach input --group 1
  nflowlevel prefilter counters ssh --watch
  nflowlevel prefilter update ssh --sample 10"""
#: A bit of the mark for rules to paste, where the user has named none.
_MARK = 0x100


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"{_EXAMPLES}\n\n{status.listed()}"
    _add_common(parser, default=bpffs.MOUNT_POINT)
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    load = _add(commands, "load", _load, "load a prefilter and pin it under a name")
    _add_rules(load, changes=False)
    _add_attaching(load)
    update = _add(commands, "update", _update, "change rules of a prefilter, all at once; counters are kept")
    _add_rules(update, changes=True)
    _add_attaching(update)
    show = _add(commands, "show", _show, "show rules, state and users of one prefilter, or of all", named="?")
    show.add_argument("-j", "--json", action="store_true", help="JSON, one object per line")
    counters = _add(commands, "counters", prefilter_counters.run, "show what happened to the packets", named="")
    prefilter_counters.configure(counters)
    remove = _add(commands, "remove", _remove, "remove a prefilter, and nflowlevel's own table that uses it")
    remove.add_argument("--force", action="store_true", help="remove it even if a rule uses it")
    rule = _add(commands, "rule", _rule, "print rules for iptables and nft that use a prefilter, ready to paste")
    rule.add_argument(
        "--group", metavar="N", type=arguments.group, required=True, help="group that receives matching packets"
    )
    rule.add_argument("--hook", metavar="HOOKS", type=arguments.words, default=["input"], help="hooks (default: input)")
    rule.add_argument("--prefix", default="", help="prefix of what is logged")
    rule.add_argument(
        "--mark", metavar="BITS", type=arguments.mark, default=_MARK, help=f"for nft (default {_MARK:#x})"
    )
    _add(commands, "mount", _mount, "mount the BPF file system, unless it is mounted", named="")
    trial = _add(commands, "try", prefilter_try.run, "compile a condition and watch which packets match it", named="")
    prefilter_try.configure(trial)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int],
    purpose: str,
    named: str | None = None,
) -> argparse.ArgumentParser:
    parser = arguments.add_action(commands, name, act, purpose, allow_abbrev=False)
    if named != "":
        parser.add_argument("name", nargs=named, help="name of the prefilter")
    # It may stand before or behind the action; only the outer parser knows its default.
    _add_common(parser, default=argparse.SUPPRESS)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, default: object) -> None:
    parser.add_argument(
        "--bpffs", metavar="DIR", type=Path, default=default, help=f"BPF file system (default {bpffs.MOUNT_POINT})"
    )


def _add_rules(parser: argparse.ArgumentParser, *, changes: bool) -> None:
    group = parser.add_argument_group(
        "rules", "Lists are separated by commas; @FILE reads a list from a file, one entry per line."
    )
    for doc in describe(PrefilterOptions):
        if not changes or doc.name not in FIXED:
            _add_rule(group, doc, changes=changes)
    parser.add_argument(
        "--verifier-log", action="store_true", help="if the kernel refuses it, print its whole explanation"
    )


def _add_rule(group: argparse._ArgumentGroup, doc: OptionDoc, *, changes: bool) -> None:
    default = as_text(getattr(_LOADED, doc.name))
    told = f"{doc.description} Default: {default}." if default and not changes else doc.description
    switch = {"nargs": "?", "const": "yes"} if doc.type == "bool" else {}
    group.add_argument(
        f"--{doc.name.replace('_', '-')}",
        dest=doc.name,
        metavar=doc.allowed.replace(" or ", "|") if doc.name == "on_exit" else doc.type.upper(),
        default=argparse.SUPPRESS,
        help=told.replace("%", "%%"),
        **switch,  # type: ignore[arg-type]
    )


def _add_attaching(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "attaching", "nflowlevel's own nftables table uses it, and is kept: on_exit=keep."
    )
    group.add_argument("--attach", metavar="HOOKS", type=arguments.words, help=f"hooks: {', '.join(HOOKS)}")
    then = group.add_mutually_exclusive_group()
    then.add_argument("--group", metavar="N", type=arguments.group, help="log matching packets to this group")
    then.add_argument(
        "--mark", metavar="BITS", type=arguments.mark, help="set these bits of the packet's mark instead, such as 0x100"
    )
    group.add_argument("--prefix", default="", help="with --group: prefix of what is logged")
    group.add_argument(
        "--priority", metavar="N", type=arguments.whole(-(2**31), 2**31 - 1), help="priority of the chains; see nft(8)"
    )
    arguments.add_netns(group, what=" of the table")


#: Rules where none is given: what a command loads has to outlive it.
_LOADED = PrefilterOptions(on_exit="keep")


def run(options: argparse.Namespace) -> int:
    """Do what is asked."""
    try:
        if options.action not in ("mount", "rule", "try"):
            bpffs.require(options.bpffs)
        return int(options.act(options))
    except NflowError:
        raise
    except ValueError as error:
        raise WrongArgument(str(error)) from None
    except PermissionError as error:
        raise NflowError(f"{error.filename}: {error.strerror} — pinned objects belong to root: run as root") from None


# -- rules ------------------------------------------------------------------------------------------------------------


def _rules(options: argparse.Namespace, base: PrefilterOptions) -> PrefilterOptions:
    """Return the rules of the command line, where none is given those of `base`."""
    values = {name: as_text(getattr(base, name)) for name in PrefilterOptions.__struct_fields__}
    values |= _given(options)
    texts = {name: Value(text, 0) for name, text in values.items()}
    return convert(PrefilterOptions, texts, plugin="prefilter", instance=options.name)


def _given(options: argparse.Namespace) -> dict[str, str]:
    given = {name: getattr(options, name) for name in PrefilterOptions.__struct_fields__ if hasattr(options, name)}
    return {name: _from_file(text) if text.startswith("@") else text for name, text in given.items()}


def _from_file(text: str) -> str:
    """Return the list that is in a file, an entry a line; what follows a # is for people."""
    try:
        lines = Path(text[1:]).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NflowError(f"read {text[1:]}: {getattr(error, 'strerror', None) or error}") from None
    return ",".join(filter(None, (line.partition("#")[0].strip() for line in lines)))


def _changed(rules: PrefilterOptions) -> dict[str, object]:
    """Return the rules that say something, by name."""
    default = PrefilterOptions()
    return {
        name: value
        for name, value in msgspec.structs.asdict(rules).items()
        if value != getattr(default, name) or name == "on_exit"
    }


def _told(rules: PrefilterOptions) -> str:
    return " ".join(f"{name}={printable(as_text(value))}" for name, value in _changed(rules).items())


# -- load, update, remove ---------------------------------------------------------------------------------------------


def _load(options: argparse.Namespace) -> int:
    rules = _rules(options, _LOADED)
    _check_attaching(options, rules)
    pre = Prefilter(options.name, bpffs=options.bpffs, **msgspec.structs.asdict(rules))
    if pre.directory.exists():
        Prefilter.open(options.name, bpffs=options.bpffs).close()  # says so where it is of another layout
        hint = (
            f"nflowlevel prefilter update {pre.name} changes its rules, nflowlevel prefilter remove {pre.name} ends it"
        )
        raise KernelError(f"load prefilter {pre.name!r}", errno.EEXIST, hint)
    with _verifier_log(options), pre:
        pre.pin()
        try:
            _attach(pre, options)
        except BaseException:
            pre.remove()
            raise
    print(f"prefilter {pre.name} is pinned at {pre.path}")
    if rules.on_exit == "no-match":
        print("it is empty and matches no packet until a process that keeps running opens it (on_exit=no-match)")
    if not options.attach:
        print(f"print rules that use it: nflowlevel prefilter rule {pre.name} --group N")
    return 0


def _update(options: argparse.Namespace) -> int:
    with _verifier_log(options), Prefilter.open(options.name, bpffs=options.bpffs) as pre:
        _check_attaching(options, pre.rules)
        if pre.rules.on_exit == "no-match" and not pre.active:
            raise NflowError(
                f"prefilter {pre.name!r} is empty: the process that held it has ended (on_exit=no-match), and so will "
                f"this one — start the daemon that loads it, or remove it and load it with --on-exit keep"
            )
        rules = _rules(options, pre.rules)
        pre.update(**{name: getattr(rules, name) for name in _given(options)})
        _attach(pre, options)
        print(f"prefilter {pre.name} has the rules {_told(pre.rules)}")
    return 0


@contextlib.contextmanager
def _verifier_log(options: argparse.Namespace) -> Iterator[None]:
    """Show all that the verifier says where it refuses a program, if wanted."""
    try:
        yield
    except VerifierError as error:
        if options.verifier_log:
            sys.stderr.write(error.log)
        raise


def _check_attaching(options: argparse.Namespace, rules: PrefilterOptions) -> None:
    """Refuse, before anything is done, what cannot be attached, or would not stay."""
    if not options.attach:
        if options.group is not None or options.mark is not None:
            raise WrongArgument("--group and --mark need an attached prefilter: add --attach HOOKS")
    elif rules.on_exit != "keep":
        raise WrongArgument("the rules of --attach end with this command unless on_exit is keep: add --on-exit keep")


def _attach(pre: Prefilter, options: argparse.Namespace) -> None:
    if not options.attach:
        return
    attachment = pre.attach(
        hooks=options.attach,
        group=options.group,
        prefix=options.prefix,
        mark=options.mark,
        priority=options.priority,
        netns=options.netns,
    )
    print(f"nftables table {attachment.table} asks it at {', '.join(attachment.hooks)}")


def _remove(options: argparse.Namespace) -> int:
    pre = Prefilter(options.name, bpffs=options.bpffs)
    pins.require(pre.directory)
    found = users.users(pre.name, options.bpffs)
    held = [netns for netns in found.with_tables() if users.owned(pre.name, netns)]
    if not options.force and (held or any(found.rules())):
        _say_used(pre.name, found)
        return EXIT_USED
    for what, remedy in found.unseen:
        print(f"not checked: {printable(what, None)}{f' — {remedy}' if remedy else ''}", file=sys.stderr)
    for netns in found.with_tables():
        if netns not in held:
            attach.detach(pre.name, netns=netns)
    pre.remove()
    return 0


def _say_used(name: str, found: users.Users) -> None:
    print(f"nflowlevel prefilter: prefilter {name!r} is used by", file=sys.stderr)
    for user in found:
        print(f"  {printable(user, None)}", file=sys.stderr)
    print(
        "delete these rules and end these processes first. --force removes it at once; but then a legacy table whose "
        "rule\nnames it can be neither changed nor restored until you delete that rule by its number",
        file=sys.stderr,
    )


# -- showing ----------------------------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    names = [options.name] if options.name else Prefilter.pinned(bpffs=options.bpffs)
    for name in names:
        found, used = users.standing(name, options.bpffs), users.users(name, options.bpffs)
        if options.json:
            print(json.dumps(_members(found, used)))
        else:
            # Users are rules and processes of others.
            print(*(printable(line, None) for line in _lines(found, used)), sep="\n")
    if not names and not options.json:
        print(f"no prefilter is pinned at {options.bpffs}", file=sys.stderr)
    return 0


def _members(found: users.Standing, used: users.Users) -> dict[str, object]:
    rules = None if found.rules is None else msgspec.structs.asdict(found.rules)
    return {
        "name": found.name,
        "state": found.state,
        "path": found.path,
        "layout": found.layout,
        "rules": rules,
        "used_by": list(used),
        "not_seen": [what for what, _ in used.unseen],
    }


def _lines(found: users.Standing, used: users.Users) -> Iterator[str]:
    states = {"empty": "empty: matches no packet until its daemon runs (on_exit=no-match)", "other layout": found.told}
    yield f"{found.name}: {states.get(found.state, found.state)}"
    if found.rules is not None:
        yield f"  rules     {_told(found.rules)}"
    yield f"  pinned    {found.path} (layout {found.layout})"
    for user in used:
        yield f"  used by   {user}"
    for what, remedy in used.unseen:
        yield f"  not seen  {what}{f' — {remedy}' if remedy else ''}"


def _rule(options: argparse.Namespace) -> int:
    pre = Prefilter(options.name, bpffs=options.bpffs)
    print(
        rules_text(
            pre.name, pre.path, group=options.group, mark=options.mark, hooks=options.hook, prefix=options.prefix
        ),
        end="",
    )
    sys.stdout.flush()
    if netns := bpffs.hiding_netns(options.bpffs):
        print(f"whether {pre.name} is pinned cannot be seen: `ip netns exec {netns}` hides it", file=sys.stderr)
    elif not bpffs.is_mounted(options.bpffs) or pre.name not in Prefilter.pinned(bpffs=options.bpffs):
        print(f"{pre.name} is not pinned yet: nflowlevel prefilter load {pre.name}", file=sys.stderr)
    return 0


def _mount(options: argparse.Namespace) -> int:
    if netns := bpffs.hiding_netns(options.bpffs):
        raise NflowError(
            f"mount the BPF file system at {options.bpffs}: `ip netns exec {netns}` would take it along when it ends — "
            f"do this outside of it; other commands have --netns {netns}"
        )
    there = bpffs.is_mounted(options.bpffs)
    bpffs.mount_bpffs(options.bpffs)
    print(f"the BPF file system is mounted at {options.bpffs}{' already' if there else ''}")
    return 0
