# SPDX-License-Identifier: GPL-2.0-or-later
"""What a plugin is: an input, a filter or an output, with typed options and the keys it reads and publishes.

A plugin is one class in one file. Its docstring is its page in docs/plugins.md, its `Options` the only place where its
options exist. Built-in plugins are listed in inputs/, filters/ and outputs/; others come by entry point
(`nflowlevel.plugins`). examples/plugin/ has one of ten lines.

    class BIGTCP(Filter[NoOptions]):
        '''BIGTCP: adds `tcp.big`, 1 for TCP packets of more than 1000 bytes.'''
        name = "BIGTCP"
        consumes = ("raw.pktlen", "tcp.dport")
        adds = ("tcp.big",)

        def process(self, batch: Batch) -> Batch:
            rows = batch.rows(*self.consumes)
            batch.add("tcp.big", [None if port is None else int(length > 1000) for length, port in rows])
            return batch
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from nflowlevel import filters, inputs, outputs
from nflowlevel.errors import NflowError, nearest
from nflowlevel.keys import Key, published_by
from nflowlevel.options import Options

if TYPE_CHECKING:
    from nflowlevel.batch import Batch
    from nflowlevel.stack import Stack
    from nflowlevel.stats import Counters, OutputStats
    from nflowlevel.tally import PrefilterCounters

#: What flows from plugin to plugin: raw packets, decoded packets, flows, sums.
DataType = Literal["raw", "packet", "flow", "sum"]

#: A key as an output sees it: one of the catalogue, or the name of a column that a filter adds.
Member: TypeAlias = "tuple[str, Key | str]"

#: `consumes` of an output that takes whatever the plugins before it publish.
ANY_KEYS = ("*",)


class NoOptions(Options, frozen=True, kw_only=True):
    """For plugins without options: they need no section."""

    section_optional: ClassVar[bool] = True


SomeOptions = TypeVar("SomeOptions", bound=Options)


class Plugin(ABC, Generic[SomeOptions]):
    """Base of all plugins. An instance is one place in one stack; `instance` is its id there."""

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = NoOptions
    #: Keys it cannot do without. One in square brackets is read where it is there.
    consumes: ClassVar[tuple[str, ...]] = ()
    #: Names of columns it adds to a batch, beside the keys that keys.py lists under its name.
    adds: ClassVar[tuple[str, ...]] = ()

    def __init__(self, instance: str, options: SomeOptions) -> None:
        self.instance = instance
        self.options = options
        #: The network namespace the stack's packets come from; None is the daemon's own.
        self.netns: str | None = None
        #: The input at the head of its stack, and all stacks of the daemon. A plugin that is used alone has neither.
        self.input: Input[Any] | None = None
        self.stacks: Sequence[Stack] = ()
        #: What the daemon's BPF prefilters have counted, by name.
        self.prefilters: Callable[[], Mapping[str, PrefilterCounters]] = dict

    def published(self) -> tuple[Key, ...]:
        """Return the keys it publishes with its options, in the order of a record's members."""
        return published_by(self.name)

    @abstractmethod
    def open(self) -> None:
        """Start; an NflowError stops this stack and is reported."""

    def reopen(self) -> None:
        """SIGHUP: open files again, reconnect."""

    def close(self, timeout: float = 1.0) -> None:
        """Finish what is pending within `timeout` seconds and give everything back; may be called again.

        `open` may follow: a stack whose source cannot be opened is closed, and tried again later.
        """

    def __repr__(self) -> str:
        return f"{self.instance}:{self.name}"


class Input(Plugin[SomeOptions]):
    """Beginning of a stack: a source of batches with a descriptor that says when there is one.

    An input may stand at the head of several stacks; each batch goes to all of them.
    """

    provides: ClassVar[DataType]

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that is readable when `receive` has something; -1 where there is only a `deadline`."""

    @property
    def deadline(self) -> float | None:
        """When `receive` wants to be called though no descriptor is readable (time.monotonic), or None."""
        return None

    @abstractmethod
    def receive(self) -> Batch:
        """Return what is there without waiting; an empty batch when there is nothing."""

    @abstractmethod
    def drain(self) -> Iterator[Batch]:
        """Stop the source and yield all that it still holds."""

    @property
    def claims(self) -> str:
        """What only one input can have, such as a group; empty: nothing."""
        return ""

    @property
    def more(self) -> bool:
        """Whether `receive` should be called again at once."""
        return False

    @property
    def pause(self) -> float:
        """Seconds to wait before the next `receive` so that dense traffic comes in larger batches."""
        return 0.0

    def poll_now(self) -> None:
        """SIGUSR2: read what is otherwise read at intervals."""

    @property
    @abstractmethod
    def stats(self) -> Counters:
        """What was received and lost."""


class Filter(Plugin[SomeOptions]):
    """Middle of a stack: adds columns to a batch, or lets only some rows pass."""

    accepts: ClassVar[frozenset[DataType]] = frozenset(("packet", "flow"))
    #: What comes out; None: what went in.
    provides: ClassVar[DataType | None] = None

    def open(self) -> None:
        """Nothing to start by default."""

    @abstractmethod
    def process(self, batch: Batch) -> Batch:
        """Return the batch, with columns added, or a selection of it."""


class Output(Plugin[SomeOptions]):
    """End of a stack. It takes whole batches, and nothing that its target does may raise or block in `write`."""

    accepts: ClassVar[frozenset[DataType]] = frozenset(("packet", "flow"))

    @abstractmethod
    def bind(self, members: tuple[Member, ...]) -> None:
        """Learn, once, what records will carry: the keys of `consumes`, or all before it for ANY_KEYS."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Deliver a batch, or keep it and deliver it later; what is dropped is counted with its reason."""

    @property
    def deadline(self) -> float | None:
        """When `retry` wants to be called (time.monotonic), or None."""
        return None

    def retry(self) -> None:
        """Called by the loop when `deadline` has passed."""

    def hand_over(self, uid: int, gid: int) -> None:
        """The daemon becomes another user: give it the files that were made at `open` and are gone on with later."""

    @property
    @abstractmethod
    def stats(self) -> OutputStats:
        """Records in, written, pending, dropped by reason."""

    @property
    def state(self) -> str:
        """One line for people: connected to, waiting for, writing to."""
        return ""


AnyPlugin: TypeAlias = "Input[Options] | Filter[Options] | Output[Options]"

_ROOMS = (inputs, filters, outputs)
_ENTRY_POINTS = "nflowlevel.plugins"

#: The plugins of ulogd2 2.0.8.
ULOGD2_NAMES = (
    *("NFLOG", "NFCT", "NFACCT", "UNIXSOCK", "ULOG"),
    *("BASE", "IFINDEX", "IP2STR", "IP2BIN", "IP2HBIN", "HWHDR", "MARK", "PRINTPKT", "PRINTFLOW", "PWSNIFF"),
    *("JSON", "LOGEMU", "SYSLOG", "OPRINT", "GPRINT", "NACCT", "XML", "PCAP", "GRAPHITE", "IPFIX"),
    *("SQLITE3", "PGSQL", "MYSQL", "DBI"),
)


def builtin_names() -> tuple[str, ...]:
    """Return the names of the plugins that come with nflowlevel."""
    return tuple(name for room in _ROOMS for name in room.NAMES)


def find_plugin(name: str) -> type[AnyPlugin]:
    """Return the plugin class of that name; NflowError with the nearest known name, or with what is wrong with it."""
    for room in _ROOMS:
        if name in room.NAMES:
            # File = name in lower case: the list of a room is all there is to register.
            module = importlib.import_module(f"{room.__name__}.{name.lower()}")
            return getattr(module, name)  # type: ignore[no-any-return]
    others = _entry_points()
    if name not in others:
        known = (*builtin_names(), *others)
        if name in ULOGD2_NAMES:
            raise NflowError(f"the plugin '{name}' of ulogd2 is not here; comment this stack out (docs/from-ulogd2.md)")
        raise NflowError(f"no plugin '{name}'{nearest(name, known)}; there are {', '.join(sorted(known))}")
    try:
        found = others[name].load()
    except Exception as error:
        raise NflowError(f"load plugin '{name}' from entry point {others[name].value}: {error!r}") from error
    check_plugin(found)
    return found  # type: ignore[no-any-return]


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    # Late: it reads the metadata of every installed package, and only plugins of third parties need it.
    import importlib.metadata

    return {point.name: point for point in importlib.metadata.entry_points(group=_ENTRY_POINTS)}


def check_plugin(plugin: object) -> None:
    """Refuse a class that would fail, or do nothing, only when packets come; NflowError says what to mend."""
    base = next((b for b in (Input, Filter, Output) if isinstance(plugin, type) and issubclass(plugin, b)), None)
    if base is None or not isinstance(plugin, type):
        raise NflowError(f"{plugin!r} is no plugin: it must be a class derived from Input, Filter or Output")
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    own = [name for name in vars(plugin) if not name.startswith("_") and not hasattr(base, name)]
    for name in own:
        hook = nearest(name, (*missing, *(n for n in dir(base) if not n.startswith("_"))))
        if hook and callable(vars(plugin)[name]):
            raise NflowError(f"plugin {plugin.__name__}: method '{name}' is never called{hook}")
    if missing:
        raise NflowError(f"plugin {plugin.__name__} lacks {', '.join(missing)}")
    if not isinstance(getattr(plugin, "name", None), str):
        raise NflowError(f"plugin {plugin.__name__} lacks a name")
