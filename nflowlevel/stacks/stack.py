# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks: inputs, filters and outputs wired as the configuration says, keys resolved once. Stacks may share inputs and
outputs: one section is one input, or one output.

`build` turns a configuration into stacks without touching kernel or disk, so a check can do it too; every mistake is a
ConfigError with file and line. `Stack.open` starts one. A stack that fails to start, or whose target is away, takes no
other stack with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from nflowlevel import filters
from nflowlevel.errors import ConfigError, NflowError, nearest, printable
from nflowlevel.logs import Limited, log
from nflowlevel.options import ConfigErrors
from nflowlevel.plugin.contract import ANY_KEYS, AnyPlugin, Filter, Input, Member, Output
from nflowlevel.records.keys import Key, published_by
from nflowlevel.records.names import Names
from nflowlevel.records.packet import PACKET
from nflowlevel.records.types import RecordType
from nflowlevel.stacks.destination import Destination, Share
from nflowlevel.stacks.registry import find_plugin
from nflowlevel.stacks.removed import instead, loaded

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch
    from nflowlevel.stacks.config import Config, StackItem, StackLine


#: So many errors are enough to mend at a time; each costs a search for what may have been meant.
_MOST_ERRORS = 100


def told(error: Exception) -> str:
    """Return an error as part of a message: ours and the system's speak for themselves, the others need their type."""
    return str(error) if isinstance(error, NflowError | OSError) else f"{type(error).__name__}: {error}"


class Source:
    """An input and the stacks it feeds: each batch goes to the newest stack first, to the oldest last, as in ulogd2."""

    def __init__(self, input_: Input[Any]) -> None:
        self.input = input_
        self.stacks: list[Stack] = []
        self.is_open = False
        #: When it was opened last (time.time()).
        self.opened_at = 0.0

    def open(self) -> None:
        """Open the input once, for all its stacks."""
        if not self.is_open:
            self.input.open()
            self.is_open = True
            self.opened_at = time.time()

    @property
    def must_wait(self) -> bool:
        """Whether not to receive now: what was recorded waits until all stacks run and hold nothing that is pending."""
        return self.input.recorded and any(
            not stack.is_open or stack.destination.holds(stack.share) for stack in self.stacks
        )

    def receive(self) -> int:
        """Take in one batch and deliver it; the number of its records."""
        batch = self.input.receive()
        if batch:
            self._deliver(batch)
        return len(batch)

    def drain(self) -> None:
        """Stop the input and deliver all that it still holds."""
        for batch in self.input.drain():
            self._deliver(batch)

    def leave(self) -> None:
        """The namespace of the input was deleted: deliver what it still holds, and let go of all that is open there."""
        try:
            for batch in self.input.leave():
                self._deliver(batch)
        finally:
            for stack in self.stacks:
                if stack.is_open:
                    stack.leave()
            self.close()

    def follow(self) -> None:
        """Open the input in the new namespace, and what the stacks had open there; all or nothing."""
        try:
            self.open()
            for stack in self.stacks:
                if stack.is_open:
                    stack.follow()
        except BaseException:
            for stack in self.stacks:
                if stack.is_open:
                    stack.leave()
            self.close()
            raise

    def _deliver(self, batch: Batch) -> None:
        for stack in reversed(self.stacks):
            if stack.is_open:
                stack.deliver(batch)

    def close(self) -> None:
        """Close the input; may be called again."""
        self.is_open = False
        self.input.close()


class Stack:
    """One line of the configuration: a source, filters, and a share of a destination."""

    def __init__(
        self, text: str, source: Source, filters: list[Filter[Any]], destination: Destination, share: Share
    ) -> None:
        self.text = text
        self.source = source
        self.filters = filters
        self.destination = destination
        self.share = share
        self.is_open = False
        #: Records that a fault of a plugin of this stack cost.
        self.dropped = 0
        self._adds = any(plugin.adds for plugin in filters)
        self._limited = Limited()

    @property
    def output(self) -> Output[Any]:
        """Its end; other stacks may end there too."""
        return self.destination.output

    def open(self) -> None:
        """Start output, filters, then the source: nothing is received before it can be delivered.

        What one of them raises is raised here when all is closed again; it may then be called once more.
        """
        try:
            self.destination.open(self.share)
            for plugin in self.filters:
                plugin.open()
            self.is_open = True
            self.source.open()
        except BaseException:
            # Nothing was received, so there is nothing to wait for.
            self.close(0.0)
            raise

    def deliver(self, batch: Batch) -> None:
        """Send a batch through filters and output.

        A plugin that fails loses this batch, for this stack only: counted, and logged.
        """
        plugin: AnyPlugin = self.output
        try:
            if self._adds:
                batch = batch.copy()
            for plugin in self.filters:
                chosen = plugin.process(batch)
                if chosen is None:  # a plugin in Python that forgot its `return` would lose everything in silence
                    raise TypeError("process() returned None instead of a batch")
                batch = chosen
                if not batch:
                    return
            plugin = self.output
            self.destination.write(self.share, batch)
        except Exception as error:
            # What filters had let pass when it happened.
            self.dropped += len(batch)
            lost = f"{self.dropped} records of stack {self.text} lost so far"
            self._limited(logging.ERROR, plugin.instance, f"{plugin}: {told(error)}; {lost}")
            log.debug("full traceback", exc_info=True)

    def leave(self) -> None:
        """The namespace of its packets was deleted: let its filters go."""
        for plugin in self.filters:
            plugin.leave()

    def follow(self) -> None:
        """There is a new namespace: let its filters follow."""
        for plugin in self.filters:
            plugin.follow()

    def close(self, timeout: float = 1.0) -> None:
        """Close filters, and the output if no other stack needs it; the source belongs to all its stacks.

        May be called again.
        """
        self.is_open = False
        for plugin in (*self.filters, self.output):
            try:
                if plugin is self.output:
                    self.destination.close(self.share, timeout)
                else:
                    plugin.close(timeout)
            except Exception as error:
                log.error("close %s of stack %s: %s", plugin, self.text, told(error))


def build(config: Config) -> list[Stack]:
    """Build all stacks of a configuration; ConfigErrors with everything that is wrong in it."""
    # What a section has wrong is wrong for each of its stacks, and said once.
    errors = {str(error): error for error in config.errors}
    made = _Made()
    stacks: list[Stack] = []
    for line in config.stacks:
        try:
            stacks.append(_build_stack(config, line, made))
        except ConfigErrors as several:
            for error in several.errors:
                errors.setdefault(str(error), error)
        if len(errors) >= _MOST_ERRORS:
            rest = ConfigError(f"{len(errors)} errors: no more stacks are checked", file=config.file, line=line.line)
            raise ConfigErrors((*errors.values(), rest))
    claimed = tuple(_claimed_twice(config, made.sources.values()))
    if errors or claimed:
        raise ConfigErrors((*errors.values(), *claimed))
    config.look_for_unused()
    for loads in config.plugins:
        if why := loaded(loads.name):
            config.warn(f"plugin='{printable(loads.path, None)}': {why}", loads.line)
    for destination in made.destinations.values():
        destination.bind()
    return stacks


class _Made:
    """What stacks share: classes by their names; inputs and outputs by the names of their sections."""

    def __init__(self) -> None:
        #: To find a third party's plugin takes milliseconds.
        self.plugin = cache(find_plugin)
        self.sources: dict[str, Source] = {}
        #: The kind of records counts only for outputs that hold one.
        self.destinations: dict[tuple[str, type[AnyPlugin], str], Destination] = {}

    def find(self, instance: str, plugin: type[AnyPlugin], head: AnyPlugin | None) -> AnyPlugin | None:
        """Return the plugin of that section, where an earlier stack has it and a stack with this head may share it."""
        source = self.sources.get(instance)
        if source and type(source.input) is plugin:
            return source.input
        destination = self.destinations.get((instance, plugin, _kind(plugin, head)))
        return destination.output if destination else None


def _claimed_twice(config: Config, sources: Iterable[Source]) -> Iterator[ConfigError]:
    """Yield an error for each input that wants what another has: it could never start."""
    holders: dict[str, str] = {}
    for source in sources:
        instance, claims = source.input.instance, source.input.claims
        holder = holders.setdefault(claims, instance)
        if claims and holder != instance:
            line = config.sections[instance].line if instance in config.sections else 0
            message = f"[{instance}] {claims} is already read by [{holder}]; begin both stacks with {holder}"
            yield ConfigError(message, file=config.file, line=line)


def _build_stack(config: Config, line: StackLine, made: _Made) -> Stack:
    plugins = _plugins(config, line, made)
    members = _members(plugins)
    first, *filters, output = plugins
    assert isinstance(first, Input)
    assert isinstance(output, Output)
    key = output.instance, type(output), _kind(output, first)
    destination = made.destinations.setdefault(key, Destination(output))
    share, objection = destination.join(members, first)
    if objection:
        raise _errors(config, line, [objection])
    source = made.sources.setdefault(first.instance, Source(first))
    stack = Stack(line.text, source, filters, destination, share)  # type: ignore[arg-type]
    for plugin in filters:
        plugin.netns = first.netns
        plugin.input = first
    source.stacks.append(stack)
    return stack


def _plugins(config: Config, line: StackLine, made: _Made) -> list[AnyPlugin]:
    """Make the instances of a stack; an input or output that an earlier stack has is taken from there.

    Raise ConfigErrors with all that is wrong in their names, their sections, their order and their keys.
    """
    found: list[_Found] = []
    plugins: list[AnyPlugin] = []
    errors: list[ConfigError] = []
    unmet: list[str] = []
    # What is published before an item; None behind one that could not be made.
    keys: dict[str, Key] | None = {}
    records: RecordType | None = None
    for item in line.items:
        instance = plugin = None
        try:
            if gone := instead(config, line, item):
                raise NflowError(gone)
            plugin = made.plugin(item.plugin)
            instance = _plugin(config, line, item, plugin, made, plugins[0] if plugins else None)
            plugins.append(instance)
        except ConfigErrors as several:
            errors += several.errors
        except NflowError as error:
            errors += _errors(config, line, [str(error)]).errors
        found.append((item, plugin))
        if plugin and issubclass(plugin, Input):
            records = plugin.records
        if plugin and keys is not None:
            unmet += _unmet(item, plugin, keys, (records or PACKET).names)
        keys = keys | _published(instance, records) if instance and keys is not None else None
    wrong = [*_misplaced(found), *_mismatches(found)] or unmet
    if wrong:
        errors += _errors(config, line, wrong).errors
    if errors:
        raise ConfigErrors(errors)
    return plugins


def _kind(output: AnyPlugin | type[AnyPlugin], head: AnyPlugin | None) -> str:
    """Return which of the outputs of a section is meant: that for records of this kind, or the only one."""
    return head.provides if isinstance(head, Input) and getattr(output, "one_kind", False) else ""


def _plugin(
    config: Config,
    line: StackLine,
    item: StackItem,
    plugin: type[AnyPlugin],
    made: _Made,
    head: AnyPlugin | None,
) -> AnyPlugin:
    if known := made.find(item.instance, plugin, head):
        return known
    options: Any = config.options(line, item, plugin.Options)
    return plugin(item.instance, options)


#: An item of a stack, and the class of its plugin; None where there is no such plugin.
_Found: TypeAlias = "tuple[StackItem, type[AnyPlugin] | None]"


def _misplaced(found: list[_Found]) -> Iterator[str]:
    """Yield what is wrong with the order of a stack: input, filters, output."""
    (first, head), (last, tail) = found[0], found[-1]
    if head and not issubclass(head, Input):
        yield f"a stack begins with an input, but {_called(first)} is not one"
    if tail and not issubclass(tail, Output):
        yield f"a stack ends with an output, but {_called(last)} is not one"
    for item, plugin in found[1:-1]:
        if plugin and not issubclass(plugin, Filter):
            yield f"only filters may stand between input and output, but {_called(item)} is not one"


def _mismatches(found: list[_Found]) -> Iterator[str]:
    """Yield where a plugin gets data of a type it cannot take."""
    data: str | None = None
    for item, plugin in found:
        if plugin is None:
            data = None  # nobody knows what it would provide
            continue
        if data and not issubclass(plugin, Input) and data not in plugin.accepts:
            remedy = "; put a BASE between" if data == "raw" else ""
            yield f"{_called(item)} takes {' or '.join(sorted(plugin.accepts))} but gets {data}{remedy}"
        if not issubclass(plugin, Output) and plugin.provides:
            data = plugin.provides


def _called(item: StackItem) -> str:
    return f"{item.instance}:{item.plugin}"


def _unmet(item: StackItem, plugin: type[AnyPlugin], keys: dict[str, Key], names: Names) -> Iterator[str]:
    """Yield which keys a plugin needs that none before it publishes, and which filter would."""
    if plugin.consumes == ANY_KEYS:
        return
    missing: dict[str, list[str]] = {}
    for name in plugin.consumes:
        if name.startswith("[") or _meant(name, keys, names):
            continue
        if filter_ := _publisher(name):
            missing.setdefault(filter_, []).append(name)
        else:
            hint = nearest(name, [*keys, *(other for other in names if _meant(other, keys, names))])
            yield f"{_called(item)} needs the key {name}, which no plugin before it publishes{hint}"
    for filter_, wanted in missing.items():
        those = f"key{'s' if len(wanted) > 1 else ''} {', '.join(wanted)}"
        yield f"{_called(item)} needs the {those}, which no plugin before it publishes; put {filter_} before it"


def _publisher(name: str) -> str | None:
    """Return the filter of nflowlevel that publishes a key, the first if there are several."""
    return next((each for each in filters.NAMES if any(key.name == name for key in published_by(each))), None)


def _all_published(plugin: AnyPlugin, records: RecordType | None) -> tuple[Key, ...]:
    """Return what a plugin publishes: of what it makes of records, only what those of the stack have."""
    keys = (key for key in plugin.published() if records is None or key.kind == "column" or key in records)
    return (*keys, *plugin.adds)


def _published(plugin: AnyPlugin, records: RecordType | None) -> dict[str, Key]:
    return {key.name: key for key in _all_published(plugin, records)}


def _members(plugins: list[AnyPlugin]) -> tuple[Member, ...]:
    """Bind each key that is read to its nearest publisher; return what the output gets, in the order of members."""
    nearest_key: dict[str, Key] = {}
    first = plugins[0]
    assert isinstance(first, Input)
    names = first.records.names
    for plugin in plugins:
        # A name published again keeps its first place and takes the newer value.
        nearest_key.update(_published(plugin, first.records))
    wanted = plugins[-1].consumes
    if wanted == ANY_KEYS:
        last = plugins[-1]
        if isinstance(last, Output) and last.repeats:
            return tuple(
                (key.name, nearest_key[key.name]) for plugin in plugins for key in _all_published(plugin, first.records)
            )
        return tuple(nearest_key.items())
    found = dict.fromkeys(key for name in wanted for key in _meant(name.strip("[]"), nearest_key, names))
    return tuple((name, nearest_key[name]) for name in found)


def _meant(name: str, published: Collection[str], names: Names) -> list[str]:
    """Return which of the published keys a name in `consumes` means: several share a JSON name such as `src_port`."""
    try:
        found = names.find(name, published)
    except KeyError:
        return []
    return [key for key in names.joined.get(found, (found,)) if key in published]


def _errors(config: Config, line: StackLine, messages: list[str]) -> ConfigErrors:
    return ConfigErrors(
        ConfigError(f"stack={line.text}: {message}", file=config.file, line=line.line) for message in messages
    )
