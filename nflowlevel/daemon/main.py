# SPDX-License-Identifier: GPL-2.0-or-later
"""nflowlevel-daemon: in ulogd's place. Same options, same configuration, same signals.

Exit status: 0 orderly end; 1 bad option, unknown user, pid file taken, no stack could start; 2 the log file cannot be
opened; 78 (EX_CONFIG of sysexits.h) the configuration is wrong. With `-d` the status is that of the start, not of the
fork.

Signals: TERM and INT end in order, HUP opens files anew, reconnects and tries stacks again that could not start (the
configuration is not read again), USR1 logs the statistics, USR2 makes polling inputs poll now. During the start these
three wait.
"""

from __future__ import annotations

from nflowlevel.daemon.hold import hold

if __name__ == "__main__":
    hold()

# isort: split
from nflowlevel.binding import standard  # before all others: what is closed of descriptors 0 to 2 is opened

# isort: split
import argparse
import contextlib
import errno
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nflowlevel import __version__
from nflowlevel.binding.netlink import BUSES, NetlinkDoor
from nflowlevel.binding.netns import NamespaceDoor
from nflowlevel.binding.opener import Opener, use
from nflowlevel.binding.privileges import AT_START, FOR_GOOD, acting_as, confine, drop_to, keep
from nflowlevel.binding.rootpath import DocumentDoor, LogDoor, give_directory, open_to_append, whose
from nflowlevel.daemon.background import Started, go_to_background
from nflowlevel.daemon.lastread import LastRead, path_for
from nflowlevel.daemon.lines import wrapped
from nflowlevel.daemon.loop import Loop
from nflowlevel.daemon.notify import Notifier
from nflowlevel.daemon.parser import Parser
from nflowlevel.daemon.pidfile import PidFile
from nflowlevel.delivery.appendfile import REMEDY
from nflowlevel.errors import ConfigError, NflowError, printable
from nflowlevel.logs import NOTICE, Messages, level_of, log
from nflowlevel.options import ConfigErrors
from nflowlevel.plugin.contract import Finding, Plugin
from nflowlevel.stacks.config import Config, Remark, parse_all
from nflowlevel.stacks.stack import Stack, build

if TYPE_CHECKING:
    from nflowlevel.binding.opener import Door
    from nflowlevel.daemon.prefilters import Prefilters
    from nflowlevel.plugin.contract import Output, Plugin
    from nflowlevel.prefilter.counters import PrefilterCounters

DEFAULT_CONFIG = "/etc/ulogd.conf"

EXIT_FAILURE = 1
EXIT_LOGFILE = 2
EXIT_CONFIG = 78


class _Parser(Parser):
    wrong = EXIT_FAILURE


def _parser() -> Parser:
    parser = _Parser(prog="nflowlevel-daemon", description="Netfilter logging daemon; replaces ulogd2.")
    parser.add_argument(
        "-c", "--configfile", metavar="FILE", default=DEFAULT_CONFIG, help="configuration (default %(default)s)"
    )
    # Absolute at once: with -d the working directory changes.
    parser.add_argument(
        "-p", "--pidfile", metavar="FILE", type=os.path.abspath, help="create and lock this file, with the process id"
    )
    parser.add_argument("-d", "--daemon", action="store_true", help="go to the background once everything has started")
    parser.add_argument("-v", "--verbose", action="store_true", help="copy messages to standard error; not with -d")
    parser.add_argument(
        "-l", "--loglevel", metavar="N", type=_number, default=0, help="1 debug, 3 info, 5 notice, 7 error, 8 fatal"
    )
    parser.add_argument("-u", "--uid", metavar="USER", type=_user, help="become this user when everything has started")
    parser.add_argument("-i", "--info", metavar="PLUGIN", help="describe a plugin (by name, or ulogd's file) and exit")
    parser.add_argument("--check-config", action="store_true", help="check the configuration for errors and exit")
    parser.add_argument("-V", "--version", action="version", version=f"nflowlevel-daemon {__version__}")
    # ulogd ignores what follows its options.
    parser.add_argument("ignored", nargs="*", help=argparse.SUPPRESS)
    return parser


def _number(text: str) -> int:
    """ulogd ignores a level that is no number."""
    return int(text) if text.isdecimal() else 0


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise argparse.ArgumentTypeError(f"no such user '{name}'") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; the result is the exit status."""
    parser = _parser()
    options, unknown = parser.parse_known_intermixed_args(arguments)
    parser.refuse_unknown(unknown)
    if options.info:
        return _describe(options.info)
    config = None
    try:
        config = parse_all(options.configfile)
        stacks, prefilters = _built(config)
    except ConfigError as error:
        _warn(config.remarks if config else ())
        print(wrapped(printable(str(error), None, keep="\n"), sys.stderr), file=sys.stderr)
        return EXIT_CONFIG
    _warn(config.remarks)
    if options.check_config:
        _warn(_needs(config, stacks, options.uid))
        print(f"{options.configfile}: no errors; {len(stacks)} {'stack' if len(stacks) == 1 else 'stacks'}")
        return 0
    if options.verbose and options.daemon:
        print("nflowlevel-daemon: -v is ignored: with -d there is no standard error to write to", file=sys.stderr)
    started = go_to_background(EXIT_FAILURE) if options.daemon else None
    try:
        status = _run(options, config, stacks, prefilters, started)
    except BaseException:
        log.critical("the daemon stops because of an internal error", exc_info=True)
        status = EXIT_FAILURE
    if started is not None:
        started.failed(status)
    return status


def _warn(remarks: Sequence[Remark]) -> None:
    for remark in remarks:
        print(wrapped(f"warning: {printable(str(remark), None)}", sys.stderr), file=sys.stderr)


def _needs(config: Config, stacks: Sequence[Stack], user: pwd.struct_passwd | None) -> list[Remark]:
    """Return what keeps stacks from starting on this machine, as it is now."""
    plugins: dict[str, Plugin[Any]] = {}
    for stack in stacks:
        for plugin in (stack.source.input, *stack.filters, stack.output):
            plugins[repr(plugin)] = plugin
    remarks = [
        Remark(
            f"{plugin} cannot start here: {each.text}" + (f"; {each.remedy}" if each.remedy else ""),
            config.file,
            config.sections[plugin.instance].line if plugin.instance in config.sections else config.stacks[0].line,
        )
        for plugin in plugins.values()
        for each in _problems(plugin, user)
    ]
    return sorted(remarks, key=lambda remark: remark.line)


def _problems(plugin: Plugin[Any], user: pwd.struct_passwd | None) -> list[Finding]:
    """Return what root sees; where the daemon becomes a user, what that user sees, too."""
    found = [each for each in plugin.needs() if each.status == "problem"]
    if not found or not user:
        return found
    with acting_as(user):
        theirs = {each.text for each in plugin.needs()}
    return [each for each in found if each.text in theirs]


def _describe(plugin: str) -> int:
    """ulogd's `-i`: also what cannot be described is no failure."""
    from nflowlevel.stacks.describe import describe_plugin

    try:
        print(describe_plugin(plugin))
    except NflowError as error:
        print(error, file=sys.stderr)
    return 0


def _built(config: Config) -> tuple[list[Stack], Prefilters | None]:
    """Return what a configuration asks for; ConfigErrors with everything that is wrong in it."""
    errors: list[ConfigError] = []
    stacks: list[Stack] = []
    prefilters = None
    try:
        stacks = build(config)
    except ConfigErrors as several:
        errors += several.errors
    try:
        prefilters = _prefilters(config)
    except ConfigErrors as several:
        errors += several.errors
    if errors:
        raise ConfigErrors(sorted(errors, key=lambda error: error.line))
    return stacks, prefilters


class _View(NamedTuple):
    """What outputs may report on; a `DaemonView`."""

    stacks: Sequence[Stack]
    prefilters: Callable[[], Mapping[str, PrefilterCounters]]


def _prefilters(config: Config) -> Prefilters | None:
    """Return the BPF prefilters of a configuration. Most have none, and import nothing of BPF."""
    if not config.prefilters:
        return None
    from nflowlevel.daemon.prefilters import Prefilters, wanted

    return Prefilters(wanted(config))


def _run(
    options: argparse.Namespace,
    config: Config,
    stacks: list[Stack],
    prefilters: Prefilters | None,
    started: Started | None,
) -> int:
    settings = config.global_options
    pidfile = PidFile(options.pidfile, (options.uid.pw_uid,) if options.uid else ()) if options.pidfile else None
    level = level_of(options.loglevel or settings.loglevel)
    # In the background there is no standard error to read: what has no other place goes to syslog, as with ulogd.
    destination = settings.logfile or ("syslog" if started else "")
    try:
        messages = _messages(destination, level, options.verbose and not started, options.uid)
    except OSError as error:
        owner = whose(settings.logfile) if error.errno == errno.EACCES else ""
        remedy = f" — it {owner}; give it to the daemon's user" if owner else ""
        if error.errno in (errno.ELOOP, errno.EMLINK):
            remedy = f" — {REMEDY[error.errno]}"
        print(f"logfile={settings.logfile}: {error.strerror}{remedy}", file=sys.stderr)
        return EXIT_LOGFILE
    if standard.CLOSED:
        closed = ", ".join(standard.CLOSED)
        log.log(NOTICE, "closed at the start, so what is written there is lost: %s", closed)
    try:
        if pidfile:
            pidfile.create()
        if prefilters:
            prefilters.open()
        view = _View(stacks, prefilters.counters if prefilters else dict)
        for output in dict.fromkeys(stack.output for stack in stacks):
            output.watch(view)
        last_read = LastRead(path_for(options.pidfile), (options.uid.pw_uid,) if options.uid else ())
        with _another_user(options.uid, stacks, destination):
            return _serve(options, stacks, messages, settings.status_secs, started, prefilters, last_read)
    except NflowError as error:
        log.critical("%s", error)
        return EXIT_FAILURE
    finally:
        if prefilters:
            prefilters.close()
        if pidfile:
            pidfile.remove()


def _messages(destination: str, level: int, verbose: bool, user: pwd.struct_passwd | None) -> Messages:
    """Open the log; OSError. Where others can change what is at its path, this is done as the user."""
    if not user:
        return Messages(destination, level, verbose=verbose, opener=open_to_append)

    def opener(path: str, flags: int) -> int:
        if os.geteuid():  # at SIGHUP
            return open_to_append(path, flags)
        door = LogDoor(path, user.pw_uid)
        if door.is_roots:
            return door.open()
        with acting_as(user):
            return os.open(path, flags, 0o666)

    return Messages(destination, level, verbose=verbose, opener=opener)


@contextlib.contextmanager
def _another_user(user: pwd.struct_passwd | None, stacks: Sequence[Stack], logfile: str) -> Iterator[None]:
    """Let nothing that is executed or started from here on gain privileges, and start what will open things for us."""
    if not user:
        yield
        return
    confine(user)
    namespaces = {stack.source.input.netns: None for stack in stacks}
    files: dict[LogDoor | DocumentDoor, None] = {}
    if logfile not in ("", "stderr", "stdout", "syslog"):
        files[LogDoor(os.path.abspath(logfile), user.pw_uid)] = None
    files |= dict.fromkeys(door for stack in stacks for door in stack.output.doors(user.pw_uid))
    doors: list[Door] = [door for door in files if door.is_roots]
    for netns in filter(None, namespaces):
        doors += [NamespaceDoor(netns), *(NetlinkDoor(netns, bus) for bus in BUSES)]
    if not doors:
        yield
        return
    with Opener(doors) as opener:
        use(opener)
        try:
            yield
        finally:
            use(None)


def _load(plugin: Plugin[Any]) -> None:
    try:
        plugin.load()
    except Exception as error:
        log.debug("load %s: %s", plugin, error)


def _give_directories(output: Output[Any], user: pwd.struct_passwd) -> None:
    for path in output.directories():
        try:
            if give_directory(path, user):
                log.info("%s: directory %s is %s's", output, path, user.pw_name)
        except OSError as error:  # the stack meets it too, and says more
            log.debug("%s: give directory %s to %s: %s", output, path, user.pw_name, error)


def _serve(
    options: argparse.Namespace,
    stacks: list[Stack],
    messages: Messages,
    status_secs: int,
    started: Started | None,
    prefilters: Prefilters | None,
    last_read: LastRead,
) -> int:
    notifier = Notifier()
    loop = Loop(
        stacks,
        notifier=notifier,
        status_secs=status_secs,
        reopen_log=messages.reopen,
        also=lambda: (*(prefilters.status() if prefilters else ()), *messages.status()),
        last_read=last_read,
    )
    try:
        # Before anything is bound: from then on a signal must find its handler.
        loop.install_signals()
        if options.uid:
            loop.open_inputs()
            for plugin in dict.fromkeys(each for stack in stacks for each in (*stack.filters, stack.output)):
                _load(plugin)
            for output in dict.fromkeys(stack.output for stack in stacks):
                _give_directories(output, options.uid)
            drop_to(options.uid, AT_START)
        if not loop.start():
            raise NflowError("no stack could be started; the messages above say why")
        if options.uid:
            keep(FOR_GOOD)
        messages.started()
        if started:
            started.ok()
        loop.run()
    finally:
        loop.close()
        last_read.close()
        notifier.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
