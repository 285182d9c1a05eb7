# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel migrate`: from the kernel's LOG target to groups; prints rules and a configuration, and changes nothing.

What is printed can be loaded: rules as they were, with groups in place of the kernel's log, below a comment with the
configuration. What cannot be carried over is said on standard error.
"""

from __future__ import annotations

import argparse
import array
import fcntl
import io
import json
import os
import stat
import sys
import termios

from nflowlevel.binding import procfs
from nflowlevel.binding.netns import entered
from nflowlevel.cli import status
from nflowlevel.cli.arguments import add_netns, whole
from nflowlevel.cli.status import WrongArgument
from nflowlevel.cli.terminal import wrapped
from nflowlevel.errors import ConfigError, NflowError, printable
from nflowlevel.firewall.logstatements import SNAPLEN
from nflowlevel.firewall.migration import FILE, Document, Migration, configuration, document, migration
from nflowlevel.firewall.ruleset import read_listings

_NAME = "nflowlevel migrate"
_EXAMPLES = f"""examples:
  iptables-save | nflowlevel migrate -                    show what would be loaded, and the configuration for it
  nflowlevel migrate --rules /etc/iptables/rules.v4 > new.v4
  nflowlevel migrate --conf /etc/iptables/rules.v4 > ulogd.conf
  nflowlevel migrate --output new rules.v4 rules.v6       the files new/rules.v4, new/rules.v6 and new/ulogd.conf
  nflowlevel migrate --by-level --output new              of the running firewall, a group for each level

Status 0: every rule that logs to the kernel's log is converted. Status {status.FAILED}: some are left as they
are; standard error names them. Status {status.WRONG_FILE}: a file has no rules.
"""
_STDIN = "standard input"
_CONFIGURATION = "ulogd.conf"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="rules as iptables-save, ip6tables-save, ebtables-save, `nft list ruleset` or `nft -j list ruleset` print "
        "them; - is standard input (default: the running firewall)",
    )
    add_netns(parser, what=" of the running firewall")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rules", action="store_true", help="print only the rules")
    what.add_argument("--conf", action="store_true", help="print only the configuration")
    what.add_argument("-j", "--json", action="store_true", help="print JSON")
    what.add_argument("-o", "--output", metavar="DIRECTORY", help="write files there; none that exists is changed")
    parser.add_argument(
        "-g", "--group", metavar="N", type=whole(1, 0xFFFF), default=1, help="first group to use if it is free (1)"
    )
    parser.add_argument("--by-level", action="store_true", help="a group and a file for each level of the kernel's log")
    parser.add_argument(
        "--syslog", action="store_true", help="a configuration for syslog instead of files, with the level of each rule"
    )
    parser.add_argument(
        "--snaplen",
        metavar="BYTES",
        type=whole(0, 0xFFFF),
        default=SNAPLEN,
        help=f"copy so many bytes of a packet ({SNAPLEN}, enough for the text); 0: all",
    )
    parser.add_argument(
        "--trim-prefix",
        action="store_true",
        help="leave out a blank at the end of a prefix: PRINTPKT writes one, the kernel does not",
    )
    parser.add_argument("--file", default=FILE, help=f"file for the text of packets ({FILE})")


def run(options: argparse.Namespace) -> int:
    """Print or write."""
    if any(c in options.file for c in '"\n\r\0'):
        raise WrongArgument(f"--file '{printable(options.file)}': a configuration cannot hold a quote or a newline")
    if options.netns and options.files:
        raise WrongArgument("--netns is for the running firewall; the rules of a file are in no namespace")
    documents = [_read(name, options) for name in options.files]
    taken: frozenset[int] = frozenset()
    is_whole = True
    if not options.files:
        documents, taken, is_whole = _running(options)
    # A stack has one level in syslog.
    by_level = options.by_level or options.syslog
    found = migration(documents, taken=taken, first=options.group, by_level=by_level)
    if not found.groups.given:
        _say("no rule logs to the kernel's log: nothing to convert")
    conf = ""
    if found.groups.given:
        conf = configuration(found.groups, options.file, options.netns, syslog=options.syslog)
    if options.output is not None:
        _write(options.output, found, conf)
    elif options.json:
        print(json.dumps(_described(found, conf)))
    else:
        _print(_shown(options, found, conf))
    if not options.json:
        for each in documents:
            for remark in (*found.remarks(each), *found.left(each)):
                _say(f"{each.name}: {remark}")
    return 0 if is_whole and not any(each.found.left for each in documents) else status.FAILED


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(name: str, options: argparse.Namespace) -> Document:
    try:
        if name == "-":
            name = _STDIN
            content = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                content = file.read()
    except OSError as error:
        raise ConfigError(f"read: {error.strerror}", file=name) from None
    return _document(name, content.decode("utf-8", "surrogateescape"), options)


def _document(name: str, text: str, options: argparse.Namespace) -> Document:
    return document(name, text, options.snaplen, options.trim_prefix)


def _running(options: argparse.Namespace) -> tuple[list[Document], frozenset[int], bool]:
    """Return the rules of the running firewall that matter, the groups that are taken, and whether all was seen."""
    _refuse_input()
    with entered(options.netns):
        listings, unseen = read_listings()
        readers = frozenset(procfs.bound_groups())
    _refuse_input()
    for each in unseen:
        _say(f"not seen: {each.what}" + (f" — {each.remedy}" if each.remedy else ""))
    documents = [_document(listing.program, listing.text, options) for listing in listings if listing.text.strip()]
    taken = readers.union(*(each.found.taken for each in documents))
    return [each for each in documents if each.found.statements or each.found.left], taken, not unseen


def _refuse_input() -> None:
    """Refuse to pass over rules that somebody has piped in without naming them."""
    try:
        kind = os.fstat(0)
        waiting = array.array("i", [0])
        if stat.S_ISREG(kind.st_mode):
            waiting[0] = min(kind.st_size, 1)
        elif stat.S_ISFIFO(kind.st_mode) or stat.S_ISSOCK(kind.st_mode):
            fcntl.ioctl(0, termios.FIONREAD, waiting)
    except OSError:
        return
    if waiting[0]:
        raise WrongArgument(f"there is text on standard input: write `{_NAME} -` to read it, or `< /dev/null`")


# -- printing ---------------------------------------------------------------------------------------------------------


def _shown(options: argparse.Namespace, found: Migration, conf: str) -> str:
    if options.conf:
        return conf
    texts = [found.text(each) for each in found.documents]
    if options.rules:
        if len(texts) > 1:
            names = ", ".join(printable(each.name) for each in found.documents)
            raise NflowError(f"these are several lists ({names}): --output DIRECTORY writes a file for each")
        return "".join(texts)
    headings = ["" if len(texts) == 1 else f"# {printable(each.name, None)}:\n" for each in found.documents]
    # JSON has no comments.
    comment = "" if not conf or any(each.form == "json" for each in found.documents) else _comment(conf)
    # A list whose last line does not end would swallow the next one's heading.
    whole = [text if len(texts) == 1 or text.endswith("\n") else f"{text}\n" for text in texts]
    return comment + "".join(heading + text for heading, text in zip(headings, whole, strict=True))


def _comment(conf: str) -> str:
    lines = "".join(f"#     {line}".rstrip() + "\n" for line in conf.rstrip("\n").split("\n"))
    return f"# {_CONFIGURATION} for these rules; --conf prints it alone:\n{lines}\n"


def _print(text: str) -> None:
    """Print text whose bytes somebody else chose: as they are, and for a terminal without what that would obey."""
    if sys.stdout.isatty():
        text = printable(text, None, keep="\n\t")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    sys.stdout.write(text)


def _described(found: Migration, conf: str) -> dict[str, object]:
    """Return all that is to say for JSON."""
    return {
        "rules": [
            {
                "name": each.name,
                "form": each.form,
                "converted": len(each.found.statements),
                "text": found.text(each).encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
                "remarks": [*found.remarks(each)],
                "left": [*found.left(each)],
            }
            for each in found.documents
        ],
        "groups": {number: name or "all levels" for name, number in found.groups.given.items()},
        "configuration": conf,
    }


def _write(directory: str, found: Migration, conf: str) -> None:
    """Write each list, and the configuration, as a new file of the directory."""
    texts = [(_file_name(each), found.text(each)) for each in found.documents]
    texts += [(_CONFIGURATION, conf)] if conf else []
    names = [name for name, _ in texts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise WrongArgument(f"two files would be called {printable(twice)}: convert them one at a time")
    os.makedirs(directory, exist_ok=True)
    if there := [name for name in names if os.path.lexists(os.path.join(directory, name))]:
        raise NflowError(f"{directory} has a file {printable(there[0])} already: remove it, or name another directory")
    for name, text in texts:
        with open(os.path.join(directory, name), "xb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        _say(f"written: {os.path.join(directory, name)}")


def _file_name(each: Document) -> str:
    if each.name == _STDIN or (os.sep not in each.name and each.name.endswith("-save")):
        return {"save": f"{each.name.removesuffix('-save')}.rules".replace(" ", "-")}.get(each.form, "ruleset.nft")
    return "ruleset.nft" if each.name == "nft" else os.path.basename(each.name)


def _say(text: str) -> None:
    print(wrapped(f"{_NAME}: {printable(text, None)}", sys.stderr), file=sys.stderr)
