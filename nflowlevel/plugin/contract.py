# SPDX-License-Identifier: GPL-2.0-or-later
"""What a plugin is: an input, a filter or an output, with typed options and the keys it reads and publishes.

A plugin is one class in one file. Its docstring is its page in docs/plugins.md, its `Options` the only place where its
options exist. Built-in plugins are listed in inputs/, filters/ and outputs/; others come by entry point
(`nflowlevel.plugins`). examples/plugin/ has one of ten lines.

    class BIGTCP(Filter[NoOptions]):
        '''BIGTCP: adds `tcp.big`, 1 for TCP packets of more than 1000 bytes.'''
        name = "BIGTCP"
        consumes = ("raw.pktlen", "tcp.dport")
        adds = (added_key("tcp.big", "uint8", "1 for TCP packets of more than 1000 bytes."),)

        def process(self, batch: Batch) -> Batch:
            rows = batch.rows(*self.consumes)
            batch.add("tcp.big", [None if port is None else int(length > 1000) for length, port in rows])
            return batch
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from nflowlevel.binding.rootpath import DocumentDoor, LogDoor
from nflowlevel.errors import NflowError, nearest
from nflowlevel.options import Options
from nflowlevel.records.keys import Key, published_by
from nflowlevel.records.packet import PACKET
from nflowlevel.records.types import RecordType

if TYPE_CHECKING:
    from nflowlevel.binding.netns import Identity
    from nflowlevel.prefilter.counters import PrefilterCounters
    from nflowlevel.records.batch import Batch
    from nflowlevel.stats import Counters, Giver, OutputStats

#: What flows from plugin to plugin: raw packets, decoded packets, flows, sums.
DataType = Literal["raw", "packet", "flow", "sum"]

#: A key as an output sees it, with the name it has in the stack.
Member: TypeAlias = tuple[str, Key]

#: `consumes` of an output that takes whatever the plugins before it publish.
ANY_KEYS = ("*",)


class Finding(NamedTuple):
    """One line of a diagnosis: what was found, and what to do about it.

    A `problem` can be the reason that records are missing, a `hint` may be worth knowing.
    """

    status: Literal["ok", "problem", "hint"]
    text: str
    remedy: str = ""


class NoOptions(Options, frozen=True, kw_only=True):
    """For plugins without options: they need no section."""

    section_optional: ClassVar[bool] = True


SomeOptions = TypeVar("SomeOptions", bound=Options)


class Plugin(ABC, Generic[SomeOptions]):
    """Base of all plugins. An instance is one place in one stack; `instance` is its id there.

    Threads that it starts are `Worker`s of binding/privileges.py: they keep no capability of the daemon's.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = NoOptions
    #: Keys it cannot do without. One in square brackets is read where it is there.
    consumes: ClassVar[tuple[str, ...]] = ()
    #: Columns it adds to a batch, each made by `added_key`, beside the keys that keys.py lists under its name.
    adds: ClassVar[tuple[Key, ...]] = ()

    def __init__(self, instance: str, options: SomeOptions) -> None:
        self.instance = instance
        self.options = options
        #: The network namespace the stack's packets come from; None is the daemon's own. An input says it, and the
        #: other plugins of its stack are told.
        self.netns: str | None = None
        #: The input at the head of its stack. A plugin that is used alone has none.
        self.input: Input[Any] | None = None

    def published(self) -> tuple[Key, ...]:
        """Return the keys it publishes with its options, in the order of a record's members."""
        return published_by(self.name)

    def load(self) -> None:
        """Import and read, of the program's own files, what else is imported and read later.

        Called before `open`, and only where the daemon is to become another user, who might not be allowed to. What it
        raises is no news: `open` meets the same.
        """

    def needs(self) -> Iterator[Finding]:
        """Yield what keeps it from starting on this machine: a Python package, a directory, an address of its own.

        For `--check-config`: nothing is opened, and no peer is asked. plugin/reach.py has what most need.
        """
        yield from ()

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
    #: What its batches have as records: in its stacks a name in `consumes` means what it means there.
    records: ClassVar[RecordType] = PACKET
    #: It reads what was recorded earlier. That can wait: it is read only while its stacks run and their outputs have
    #: delivered what they had. And its batches bring the names of their interfaces with them.
    recorded: ClassVar[bool] = False

    #: The namespace that it reads, set by `open` where `netns` names one. When the name leads to another one, or to
    #: none, the daemon takes what `leave` yields, closes the input, and opens it again once there is a namespace.
    place: Identity | None = None

    @property
    def for_root(self) -> bool:
        """Whether root sees more when it is opened, such as which process has the group, or may do more.

        A daemon that is to become another user opens it before; and once more as that user, if its stack has to be
        started again.
        """
        return False

    def examine(self) -> Iterator[Finding]:
        """Look whether anything can arrive, before `open` and changing nothing, for `nflowlevel doctor`.

        Groups and the rules that log to them are looked at in any case.
        """
        yield from ()

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

    def leave(self) -> Iterator[Batch]:
        """The namespace has been deleted: yield what the input holds, and what nobody can read any more later."""
        return self.drain()

    def unread(self, milliseconds: int) -> None:
        """Nobody read what it reads for so long, before this `open`: its statistics may say so."""

    @property
    def deltas(self) -> bool:
        """Whether a record's counts are those since the record before, not totals."""
        return False

    @property
    def claims(self) -> str:
        """What only one input can have, such as a group; empty: nothing."""
        return ""

    @property
    def more(self) -> bool:
        """Whether `receive` should be called again at once."""
        return False

    @property
    def ended(self) -> bool:
        """Whether nothing will ever come again. The daemon ends when this is so of all inputs."""
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

    def leave(self) -> None:
        """The namespace `netns` of its packets has been deleted: let go of what is open there."""

    def follow(self) -> None:
        """There is a new namespace `netns`: open there what `leave` has let go of."""

    @abstractmethod
    def process(self, batch: Batch) -> Batch:
        """Return the batch, with columns added, or a selection of it."""


class Output(Plugin[SomeOptions]):
    """End of a stack. It takes whole batches, and nothing that its target does may raise or block in `write`.

    An output may stand at the end of several stacks: it is one object, opened once, and takes the batches of all of
    them in the order of arrival. Before a batch of another stack than the last one, it is bound to what that carries,
    and `input` and `netns` are those of that stack.
    """

    accepts: ClassVar[frozenset[DataType]] = frozenset(("packet", "flow"))
    #: With ANY_KEYS: a name that several plugins publish is a member as often as they do, each time with the value of
    #: the nearest. Else it is a member once, where it came first.
    repeats: ClassVar[bool] = False

    #: Whether what it makes holds one kind of records: its section is then an output for each kind of input.
    one_kind: ClassVar[bool] = False

    @abstractmethod
    def bind(self, members: tuple[Member, ...]) -> None:
        """Learn what records will carry: the keys of `consumes`, or all before it for ANY_KEYS.

        It is called before `open`, where several stacks end here with all that any of them brings; and then before each
        `write` that brings other members than the last one. The same members are then the same object.
        """

    def agrees(self, one: Key, other: Key) -> bool:
        """Tell whether two stacks may end here with one name for these two keys.

        Say no where the target gives a name one meaning for all records, such as a column.
        """
        return True

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Deliver a batch, or keep it and deliver it later; what is dropped is counted with its reason."""

    @property
    def deadline(self) -> float | None:
        """When `retry` wants to be called (time.monotonic), or None."""
        return None

    def retry(self) -> None:
        """Called by the loop when `deadline` has passed."""

    def watch(self, daemon: DaemonView) -> None:
        """Learn, before `open`, what the daemon can tell of itself; for outputs that report on it."""

    def examine(self) -> Iterator[Finding]:
        """Look whether its target can be reached, before `open` and changing nothing, for `nflowlevel doctor`.

        plugin/reach.py has what most ask. An output without a target has nothing to look at.
        """
        yield from ()

    def files(self) -> Iterator[str]:
        """Yield the files that it appends to by OpenFile or AppendFile.

        A daemon that is to become another user does so before it calls `open`. Where only root can change what is at
        one of these paths, as in /var/log, root opens it all the same.
        """
        yield from ()

    def doors(self, uid: int) -> Iterator[LogDoor | DocumentDoor]:
        """Yield what root opens for the user `uid`, where only root can change what is there."""
        for path in self.files():
            yield LogDoor(path, uid)

    def directories(self) -> Iterator[str]:
        """Yield the directories that are the plugin's own.

        A daemon that is to become another user makes those that are missing, and gives them to that user, where only
        root can.
        """
        yield from ()

    @property
    @abstractmethod
    def stats(self) -> OutputStats:
        """Records in, written, pending, dropped by reason."""

    @property
    def state(self) -> str:
        """One line for people: connected to, waiting for, writing to."""
        return ""


class SourceView(Protocol):
    """The input at the head of a stack, as an output may look at it."""

    @property
    def input(self) -> Input[Any]:
        """The input; stacks may share it."""

    @property
    def is_open(self) -> bool:
        """Whether it receives."""


class ShareView(Protocol):
    """A stack's part of an output in which several stacks end."""

    @property
    def counted(self) -> Giver:
        """What the stack gave, and what was dropped of it; nothing is counted where no other stack ends there."""


class StackView(Protocol):
    """A stack of the daemon, as an output may look at it."""

    @property
    def text(self) -> str:
        """As it stands in the configuration."""

    @property
    def source(self) -> SourceView:
        """Its head."""

    @property
    def output(self) -> Output[Any]:
        """Its end; stacks may share it."""

    @property
    def share(self) -> ShareView:
        """What became of its records there."""

    @property
    def is_open(self) -> bool:
        """Whether it runs."""

    @property
    def dropped(self) -> int:
        """Records that a fault of a plugin of this stack cost."""


class DaemonView(Protocol):
    """What an output may report on: the daemon's stacks and prefilters."""

    @property
    def stacks(self) -> Sequence[StackView]:
        """All stacks, in the order of the configuration."""

    @property
    def prefilters(self) -> Callable[[], Mapping[str, PrefilterCounters]]:
        """What the BPF prefilters have counted, by name."""


AnyPlugin: TypeAlias = "Input[Options] | Filter[Options] | Output[Options]"


def check_plugin(plugin: object) -> None:
    """Refuse a class that would fail, or do nothing, only when packets come; NflowError says what to mend."""
    base = next((b for b in (Input, Filter, Output) if isinstance(plugin, type) and issubclass(plugin, b)), None)
    if base is None or not isinstance(plugin, type):
        raise NflowError(f"{plugin!r} is not a plugin: it must be a class derived from Input, Filter or Output")
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    # What a base between offers, or declares and leaves to the plugin, is called by that.
    inherited = {name for parent in plugin.__mro__[1:] for name in (*vars(parent), *get_annotations(parent))}
    own = [name for name in vars(plugin) if not name.startswith("_") and name not in inherited]
    for name in own:
        hook = nearest(name, (*missing, *(n for n in dir(base) if not n.startswith("_"))))
        if hook and callable(vars(plugin)[name]):
            raise NflowError(f"plugin {plugin.__name__}: method '{name}' is never called{hook}")
    if missing:
        raise NflowError(f"plugin {plugin.__name__} lacks {', '.join(missing)}")
    if not isinstance(getattr(plugin, "name", None), str):
        raise NflowError(f"plugin {plugin.__name__} lacks a name")
    adds: Any = getattr(plugin, "adds", ())
    bare = [adds] if isinstance(adds, str | Key) else [key for key in adds if not isinstance(key, Key)]
    if bare:
        raise NflowError(
            f"plugin {plugin.__name__}: adds {bare[0]!r} — `adds` must be a tuple of keys with type and meaning; write "
            "adds = (added_key(NAME, TYPE, MEANING),)"
        )
