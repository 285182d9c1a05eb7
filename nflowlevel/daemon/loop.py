# SPDX-License-Identifier: GPL-2.0-or-later
"""The receive loop: one thread, epoll over all sources, signals and deadlines.

Nothing in it waits for a target: the kernel cannot wait. A source whose traffic is dense is read at intervals rather
than at each datagram (its socket buffer holds what comes), so that a wake-up costs little per packet; the others are
not held up by that, as its descriptor just keeps silent meanwhile. What was recorded earlier, such as a file, can wait:
it is read no faster than it is delivered. What a plugin raises is reported and harms no other.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from nflowlevel.binding.netns import leads_to
from nflowlevel.daemon.follow import Follower
from nflowlevel.daemon.lastread import BEAT_SECS, LastRead
from nflowlevel.daemon.notify import Notifier
from nflowlevel.daemon.start import let_go
from nflowlevel.logs import NOTICE, Limited, log
from nflowlevel.plugin.contract import Plugin
from nflowlevel.stacks.stack import Source, Stack, told

#: A stack that could not start is tried again this often, and at SIGHUP.
RESTART_SECS = 10.0

#: At stop, outputs have this long for what still waits; the process is to be gone within two seconds.
CLOSE_SECS = 1.0

#: STATUS for the service manager.
_NOTIFY_SECS = 5.0

#: Batches taken from one source before the others and the signals have their turn.
_ROUNDS = 8

#: A source that fails is not asked again at once, or it would take the whole processor.
_FAULT_PAUSE_SECS = 0.5

#: After so long the loop looks round, though nothing is due.
_LONGEST_SLEEP_SECS = 86400.0

#: While something waits for outputs they are looked at this often.
_LOOK_SECS = 0.01

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


class _Reader:
    """A source in the loop."""

    __slots__ = ("masked", "quiet_until", "resume_at", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        #: While traffic is dense: when to read again; else None, and the descriptor wakes the loop. At first at once:
        #: packets that came while the source was opened may wait behind a descriptor that keeps silent.
        self.resume_at: float | None = time.monotonic()
        #: Whether epoll leaves its descriptor alone meanwhile.
        self.masked = False
        #: After a fault, and while outputs are not ready: not before this, whatever deadline the input still has.
        self.quiet_until = 0.0

    @property
    def due(self) -> float | None:
        """When to read though the descriptor may be silent, or None."""
        times = [at for at in (self.resume_at, self.source.input.deadline) if at is not None]
        return max(min(times), self.quiet_until) if times else None


class Loop:
    """Runs the stacks until SIGTERM or SIGINT. `reopen_log` is called at SIGHUP; `also` gives more lines of status."""

    def __init__(
        self,
        stacks: list[Stack],
        *,
        notifier: Notifier,
        status_secs: float,
        reopen_log: Callable[[], None] = lambda: None,
        also: Callable[[], Iterable[str]] = tuple,
        last_read: LastRead | None = None,
    ) -> None:
        self.stacks = stacks
        self._destinations = list(dict.fromkeys(stack.destination for stack in stacks))
        self._notifier = notifier
        self._reopen_log = reopen_log
        self._also = also
        self._limited = Limited()
        self._epoll = select.epoll()
        self._readers: dict[int, _Reader] = {}
        self._stop = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        self._timers: list[tuple[float, Callable[[], None]]] = []
        if notifier:
            self._timers.append((_NOTIFY_SECS, self._notify_status))
        if status_secs:
            self._timers.append((status_secs, self._log_status))
        if notifier.watchdog_secs:
            self._timers.append((notifier.watchdog_secs, lambda: notifier(WATCHDOG=1)))
        self._last_read = last_read
        if last_read:
            self._timers.append((BEAT_SECS, self._note_reading))
        now = time.monotonic()
        self._due = [now + secs for secs, _ in self._timers]
        self._restart_at: dict[Stack, float] = {}
        #: What inputs said that were opened before their stacks.
        self._refused: dict[Source, Exception] = {}
        #: Whose namespace was deleted, and when.
        self._left: dict[Source, float] = {}
        self._numbers = itertools.count(1)
        self._follower = Follower(dict.fromkeys(stack.source for stack in stacks))
        self._watched = -1

    # -- stacks --------------------------------------------------------------------------------------------------

    def open_inputs(self) -> None:
        """Open the inputs for which root sees more, before the daemon becomes another user; `start` says what failed.

        What they receive waits in the kernel until the stacks run.
        """
        for source in {stack.source: None for stack in self.stacks if stack.source.input.for_root}:
            try:
                source.open()
            except Exception as error:
                self._refused[source] = error

    def start(self) -> int:
        """Start all stacks; return how many run. One that fails is reported and tried again later."""
        for stack in self.stacks:
            self._start(stack)
        self._refused.clear()
        for source in {stack.source: None for stack in self.stacks}:
            if source.is_open and not any(stack.is_open for stack in source.stacks):
                self._call(source.input, source.close)
        running = sum(stack.is_open for stack in self.stacks)
        others = f"; retrying the others every {RESTART_SECS:g} s and at SIGHUP" if self._restart_at else ""
        if running:
            log.log(NOTICE, "%d of %d stacks run%s", running, len(self.stacks), others)
        return running

    def _start(self, stack: Stack) -> None:
        if stack.source in self._left:  # it waits for a namespace
            self._restart_at[stack] = time.monotonic() + RESTART_SECS
            return
        try:
            if stack.source in self._refused:
                raise self._refused[stack.source]
            stack.open()
        except Exception as error:
            self._restart_at[stack] = time.monotonic() + RESTART_SECS
            self._limited(logging.ERROR, stack.text, f"stack={stack.text} cannot start: {told(error)}")
            log.debug("full traceback", exc_info=True)
            return
        self._restart_at.pop(stack, None)
        log.info("stack=%s runs", stack.text)
        source = stack.source
        if all(reader.source is not source for reader in self._readers.values()):
            self._register(source)
            self._tell_unread(source)

    def _register(self, source: Source) -> None:
        fd = source.input.fileno()
        if fd >= 0:
            self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd if fd >= 0 else -next(self._numbers)] = _Reader(source)

    def _tell_unread(self, source: Source) -> None:
        """Say for how long nobody has read what this input reads."""
        what = source.input.claims
        known = self._last_read.since(what, source.opened_at) if self._last_read and what else None
        if known:
            milliseconds, exact = known
            source.input.unread(milliseconds)
            log.log(
                NOTICE, "%s: nobody read %s for %s%.3f s; what was logged meanwhile is in no counter",
                source.input, what, "" if exact else "up to ", milliseconds / 1000,
            )  # fmt: skip

    def _note_reading(self, state: str = "reading") -> None:
        if self._last_read:
            self._last_read.note([s.input.claims for s in self._sources() if s.is_open and s.input.claims], state)

    # -- namespaces ----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Leave namespaces that were deleted, and follow those that came."""
        places = dict(self._follower.look())
        for source in [source for source in places if source.is_open]:
            self._leave(source)
        for source in [*self._left]:
            self._follow(source)
        for stack in [stack for stack in self._restart_at if places.get(stack.source)]:
            self._start(stack)

    def _leave(self, source: Source) -> None:
        input_ = source.input
        numbers = [number for number, reader in self._readers.items() if reader.source is source]
        for number in numbers:
            del self._readers[number]
            if number >= 0:
                self._epoll.unregister(number)
        self._call(input_, source.leave)
        self._left[source] = time.monotonic()
        if self._last_read and input_.claims:
            self._last_read.note([input_.claims], "stopped")
        gone = f"network namespace {input_.netns} was deleted, or another has its name"
        log.log(NOTICE, "%s: %s; what it held is delivered: %s", input_, gone, input_.stats)

    def _follow(self, source: Source) -> None:
        input_ = source.input
        try:
            if leads_to(input_.netns or "") is None:
                return
            source.follow()
        except Exception as error:
            self._failed(input_, error)
            return
        input_.unread(int((time.monotonic() - self._left.pop(source)) * 1000))
        self._register(source)
        log.log(NOTICE, "%s: follows the new network namespace %s", input_, input_.netns)
        for stack in [stack for stack in self._restart_at if stack.source is source]:
            self._start(stack)

    # -- running -------------------------------------------------------------------------------------------------

    def install_signals(self) -> None:
        """Make signals wake the loop; only the main thread may do this."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _noted)
        let_go()

    def run(self) -> None:
        """Receive and deliver until told to stop, then bring everything to an orderly end: nothing received is lost."""
        self._notifier(READY=1, STATUS=self._summary())
        self._note_reading()
        while not self._stop:
            if self._follower.fileno() != self._watched:
                self._watched = self._follower.fileno()
                self._epoll.register(self._watched, select.EPOLLIN)
            for fd, _ in self._epoll.poll(self._patience()):
                if fd == self._wake_read:
                    self._on_signals()
                elif fd == self._watched:
                    self._follower.told()
                elif fd in self._readers:  # else it was closed just now
                    self._read(self._readers[fd])
            self._on_deadlines(time.monotonic())
            if self._inputs_ended() and not any(each.output.stats.pending for each in self._destinations):
                log.log(NOTICE, "all inputs have ended: stopping")
                break
        self._finish()

    def _inputs_ended(self) -> bool:
        """Whether nothing will ever come again, to any stack."""
        return (
            bool(self._readers)
            and not (self._restart_at or self._left)
            and all(source.input.ended for source in self._sources())
        )

    def _read(self, reader: _Reader) -> None:
        source = reader.source
        input_ = source.input
        try:
            for _ in range(_ROUNDS):
                if source.must_wait or not source.receive() or not input_.more:
                    break
            pause, again = input_.pause, input_.more
            if source.must_wait and not input_.ended:
                pause = _LOOK_SECS
                reader.quiet_until = time.monotonic() + pause
        except Exception as error:
            self._failed(input_, error)
            pause, again = _FAULT_PAUSE_SECS, True
            reader.quiet_until = time.monotonic() + pause
        # What an input holds back itself does not show on its descriptor.
        reader.resume_at = time.monotonic() + pause if pause or again else None
        mask = reader.resume_at is not None
        if mask != reader.masked and input_.fileno() >= 0:
            self._epoll.modify(input_.fileno(), 0 if mask else select.EPOLLIN)
            reader.masked = mask

    def _patience(self) -> float | None:
        """Return how many seconds the loop may sleep; None: until something happens."""
        deadlines = [*self._due, *self._restart_at.values()]
        deadlines += [at for each in self._destinations if each.is_open and (at := each.output.deadline) is not None]
        deadlines += [at for reader in self._readers.values() if (at := reader.due) is not None]
        if (at := self._follower.deadline) is not None:
            deadlines.append(at)
        if self._inputs_ended():
            deadlines.append(time.monotonic() + _LOOK_SECS)
        # epoll takes no more than 24 days, and who configures more than that is not to stop the daemon.
        return max(0.0, min(_LONGEST_SLEEP_SECS, min(deadlines) - time.monotonic())) if deadlines else None

    def _on_deadlines(self, now: float) -> None:
        if (at := self._follower.deadline) is not None and at <= now:
            self._look()
        for reader in self._readers.values():
            if (due := reader.due) is not None and due <= now:
                self._read(reader)
        for output in (each.output for each in self._destinations if each.is_open):
            if (deadline := output.deadline) is not None and deadline <= now:
                self._call(output, output.retry)
        for number, (secs, action) in enumerate(self._timers):
            if self._due[number] <= now:
                self._due[number] = now + secs
                action()
        for stack in [stack for stack, at in self._restart_at.items() if at <= now]:
            self._start(stack)

    def _call(self, plugin: Plugin[Any], method: Callable[[], object], lost: str = "") -> None:
        """Call a method of a plugin; what it raises is reported and harms nobody else."""
        try:
            method()
        except Exception as error:
            self._failed(plugin, error, lost)

    def _failed(self, plugin: Plugin[Any], error: Exception, lost: str = "") -> None:
        self._limited(logging.ERROR, repr(plugin), f"{plugin}: {told(error)}{lost}")
        log.debug("full traceback", exc_info=True)

    # -- signals -------------------------------------------------------------------------------------------------

    def _on_signals(self) -> None:
        for number in os.read(self._wake_read, 4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                log.log(NOTICE, "%s: stopping", signal.Signals(number).name)
                self._stop = True
            elif number == signal.SIGHUP:
                self._reopen()
            elif number == signal.SIGUSR1:
                self._log_status()
            elif number == signal.SIGUSR2:
                for source in self._sources():
                    self._call(source.input, source.input.poll_now)

    def _reopen(self) -> None:
        self._notifier(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        self._reopen_log()
        log.log(NOTICE, "SIGHUP: reopening files")
        self._look()
        for source in self._sources():
            self._call(source.input, source.input.reopen)
        for plugin in (plugin for stack in self.stacks if stack.is_open for plugin in stack.filters):
            self._call(plugin, plugin.reopen)
        for output in (each.output for each in self._destinations if each.is_open):
            self._call(output, output.reopen)
        for stack in list(self._restart_at):
            self._start(stack)
        self._notifier(READY=1, STATUS=self._summary())

    def _finish(self) -> None:
        self._notifier(STOPPING=1, STATUS="stopping")
        for source in self._sources():
            if source.is_open:
                self._call(source.input, source.drain, "; packets the kernel still held may be lost")
        self._note_reading("stopped")
        until = time.monotonic() + CLOSE_SECS
        # The outputs with nothing left to do first: they need no time.
        for stack in sorted(self.stacks, key=lambda stack: stack.output.stats.pending):
            stack.close(max(0.0, until - time.monotonic()))
        self._log_status()
        for source in self._sources():
            self._call(source.input, source.close)

    # -- telling -------------------------------------------------------------------------------------------------

    def _sources(self) -> Iterable[Source]:
        return [*(reader.source for reader in self._readers.values()), *self._left]

    def _summary(self) -> str:
        running = sum(stack.is_open for stack in self.stacks)
        parts = [f"{running} of {len(self.stacks)} stacks run"]
        parts += [f"{source.input.instance}: {source.input.stats}" for source in self._sources()]
        parts += [f"{source.input.instance} waits for network namespace {source.input.netns}" for source in self._left]
        parts += self._also()
        for output in (each.output for each in self._destinations):
            if output.stats.pending:
                parts.append(f"{output.instance}: {output.state}")
        for stack in self.stacks:
            if stack.dropped:
                parts.append(f"{stack.output.instance}: {stack.dropped} lost because a plugin failed")
        return "; ".join(parts)

    def _notify_status(self) -> None:
        self._notifier(STATUS=self._summary())

    def _log_status(self) -> None:
        for line in self._also():
            log.log(NOTICE, "%s", line)
        for source in self._sources():
            waits = f"; waits for network namespace {source.input.netns}" if source in self._left else ""
            log.log(NOTICE, "%s: %s%s", source.input, source.input.stats, waits)
        for stack in self.stacks:
            lost = f", lost because a plugin failed {stack.dropped}" if stack.dropped else ""
            shared = stack.destination.is_shared
            counted = stack.share.counted if shared else stack.output.stats
            state = "" if shared else f"; {stack.output.state}"
            if stack in self._restart_at:
                state = "; the stack does not run"
            log.log(NOTICE, "%s of stack %s: %s%s%s", stack.output, stack.text, counted, lost, state)
        for each in self._destinations:
            if each.is_shared:
                output = each.output
                log.log(NOTICE, "%s of %d stacks: %s; %s", output, len(each.shares), output.stats, output.state)

    def close(self) -> None:
        """Give the loop's own descriptors back."""
        self._follower.close()
        self._epoll.close()
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
        os.close(self._wake_read)
        os.close(self._wake_write)


def _noted(number: int, frame: FrameType | None) -> None:
    """The wake-up pipe has the signal's number; the loop acts on it."""
