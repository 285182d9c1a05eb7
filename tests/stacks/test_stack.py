# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks: what a configuration is built into, what is refused and how it is said, and how batches go through."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nflowlevel.errors import StackError
from nflowlevel.inputs.nflog import NFLOG
from nflowlevel.logs import log
from nflowlevel.options import ConfigErrors
from nflowlevel.outputs.json import JSON
from nflowlevel.plugin.contract import Input, NoOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import Key, added_key
from nflowlevel.stacks import registry
from nflowlevel.stacks.config import parse_all, parse_text
from nflowlevel.stacks.registry import find_plugin
from nflowlevel.stacks.stack import Source, build, told
from nflowlevel.stats import Counters
from tests.fix_plugins import Feed, Memory, Through, batch_of, stack_of, stacks_of
from tests.fix_records import WIDE, wide_batch

_USUAL = "b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR"
_MINE = added_key("my.key", "uint8", "A test's own.")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.DEBUG, "nflowlevel")
    return caplog


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Plugins that other packages bring: name and class."""
    known: dict[str, Any] = {"FEED": Feed, "MEMORY": Memory}

    def points() -> dict[str, Any]:
        return {name: SimpleNamespace(value=name, load=lambda found=found: found) for name, found in known.items()}

    monkeypatch.setattr(registry, "_entry_points", points)
    return known


def refused(text: str) -> list[str]:
    """Return what is said about a configuration that is wrong."""
    with pytest.raises(ConfigErrors) as info:
        build(parse_text(text, "/etc/my.conf"))
    return str(info.value).split("\n")


# -- building ---------------------------------------------------------------------------------------------------------


def test_a_source_is_shared_by_its_id() -> None:
    one, two, other = stacks_of(
        f"[global]\nstack=g:NFLOG,{_USUAL},j:JSON\nstack=g:NFLOG,{_USUAL},k:JSON\nstack=f:NFLOG,{_USUAL},j:JSON\n"
        "[g]\ngroup=1\n[f]\ngroup=2\n[j]\n[k]\n"
    )
    assert one.source is two.source
    assert one.source.stacks == [one, two]
    assert other.source is not one.source
    # Outputs are shared likewise (test_destination.py), filters never: not under the same id either.
    assert one.output is other.output
    assert not {id(each) for each in one.filters} & {id(each) for each in two.filters}


def test_an_output_may_have_the_id_of_a_source() -> None:
    """D-C22: ulogd2 then never starts the source."""
    one, two = stacks_of(
        "[global]\nstack=a:NFLOG,b:BASE,x:JSON\nstack=x:NFLOG,b:BASE,j:JSON\n[a]\ngroup=5\n[x]\n[j]\n",
    )
    assert isinstance(one.output, JSON)
    assert isinstance(two.source.input, NFLOG)
    assert two.source is not one.source


def test_members_come_in_the_order_of_the_stack_the_nearest_publisher_wins(third_party: dict[str, Any]) -> None:
    (stack,) = stacks_of("[global]\nstack=g:NFLOG,b:BASE,h:HWHDR,m:MEMORY\n[g]\n")
    assert isinstance(stack.output, Memory)
    members = dict(stack.output.members)
    names = list(members)
    assert names.index("oob.family") < names.index("oob.protocol") < names.index("ip.saddr") < names.index("mac.str")
    assert isinstance(members["oob.protocol"], Key)
    assert {members[name].plugin for name in ("oob.protocol", "raw.type")} == {"HWHDR"}  # type: ignore[union-attr]
    assert members["tcp.sport"].plugin == "BASE"  # type: ignore[union-attr]
    assert "oob.seq.local" not in members
    assert "ip.saddr.str" not in members


def test_members_of_an_output_that_asks_for_some(third_party: dict[str, Any]) -> None:
    class Few(Memory):
        name = "FEW"
        consumes = ("tcp.dport", "[oob.seq.local]", "[oob.prefix]")

    third_party["FEW"] = Few
    (stack,) = stacks_of("[global]\nstack=g:NFLOG,b:BASE,f:FEW\n[g]\n")
    assert isinstance(stack.output, Few)
    assert [name for name, _ in stack.output.members] == ["tcp.dport", "oob.prefix"]


def test_an_output_may_use_any_name_of_a_key(third_party: dict[str, Any]) -> None:
    """As batch.rows() does; a JSON name that several keys share stands for all of them."""

    class Few(Memory):
        name = "FEW"
        consumes = ("saddr", "dest_port", "tcp_syn", "[prefix]", "[oob.seq.local]", "tcp.dport", "[my_key]")

    class Adder(Through):
        name = "ADDER"
        adds = (_MINE,)

        def __init__(self, instance: str, options: object) -> None:
            super().__init__(lambda batch: batch, instance, adds=(_MINE,))

    third_party.update(FEW=Few, ADDER=Adder)
    (stack,) = stacks_of("[global]\nstack=g:NFLOG,b:BASE,a:ADDER,f:FEW\n[g]\n")
    assert isinstance(stack.output, Few)
    ports = ["tcp.dport", "udp.dport", "sctp.dport"]
    assert [name for name, _ in stack.output.members] == ["ip.saddr", *ports, "tcp.syn", "oob.prefix", "my.key"]


def test_names_are_those_of_the_records_of_the_input(third_party: dict[str, Any]) -> None:
    """A term of sums, or of a record type from elsewhere, is none of packets."""

    class Few(Memory):
        name = "FEW"
        accepts = frozenset(("sum", "packet"))
        consumes = ("name", "packets", "[bytes]")

    class Wide(Input[NoOptions]):
        name = "WIDE"
        provides = "packet"
        records = WIDE

        def published(self) -> tuple[Key, ...]:
            return tuple(WIDE.by_name.values())

        def open(self) -> None: ...
        def fileno(self) -> int:
            return -1

        def receive(self) -> Batch:
            return wide_batch([])

        def drain(self) -> Iterator[Batch]:
            return iter(())

        @property
        def stats(self) -> Counters:
            return Counters()

    class Firsts(Few):
        name = "FIRSTS"
        consumes = ("mark", "first")

    third_party.update(FEW=Few, WIDE=Wide, FIRSTS=Firsts)
    (stack,) = stacks_of("[global]\nstack=a:NFACCT,f:FEW\n[a]\npollinterval=1\n")
    assert isinstance(stack.output, Few)
    assert [name for name, _ in stack.output.members] == ["sum.name", "sum.pkts", "sum.bytes"]
    (stack,) = stacks_of("[global]\nstack=w:WIDE,f:FIRSTS\n")
    assert isinstance(stack.output, Few)
    assert stack.output.members == (("oob.mark", WIDE.by_name["oob.mark"]), ("n.1", WIDE.by_name["n.1"]))
    message, _ = refused("[global]\nstack=g:NFLOG,b:BASE,f:FEW\n[g]\n")
    assert "f:FEW needs the key name, which no plugin before it publishes" in message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("src_ip", ""),  # it is IP2STR that publishes it
        ("daddrr", " — did you mean 'daddr'?"),
        ("dest_prt", " — did you mean 'dest_port'?"),
        ("tcp_sny", " — did you mean 'tcp_syn'?"),
    ],
)
def test_a_missing_key_by_another_name(third_party: dict[str, Any], name: str, hint: str) -> None:
    class Needs(Memory):
        consumes = (name,)

    Needs.name = "NEEDS"
    third_party["NEEDS"] = Needs
    (message,) = refused("[global]\nstack=g:NFLOG,b:BASE,n:NEEDS\n[g]\n")
    said = f"n:NEEDS needs the key {name}, which no plugin before it publishes"
    assert message.partition("n:NEEDS: ")[2].startswith(said + hint)


def test_a_namespace_reaches_all_plugins_of_a_stack() -> None:
    (stack,) = stacks_of(f"[global]\nstack=g:NFLOG,{_USUAL},j:JSON\n[g]\nnetwork_namespace_path=blue\n[j]\n")
    assert {plugin.netns for plugin in (*stack.filters, stack.output)} == {"blue"}


def test_an_added_column_is_a_member(third_party: dict[str, Any]) -> None:
    class Adder(Through):
        name = "ADDER"
        adds = (_MINE,)

        def __init__(self, instance: str, options: object) -> None:
            super().__init__(lambda batch: batch, instance, adds=(_MINE,))

    third_party["ADDER"] = Adder
    (stack,) = stacks_of("[global]\nstack=g:NFLOG,b:BASE,a:ADDER,m:MEMORY\n[g]\n")
    assert isinstance(stack.output, Memory)
    assert stack.output.members[-1] == ("my.key", _MINE)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("g:NFLOG,b:BASE,j:JSOM", "unknown plugin 'JSOM' — did you mean 'JSON'?"),
        ("g:NFLOG,b:base,j:JSON", "unknown plugin 'base' — did you mean 'BASE'?"),
        ("b:BASE,j:JSON", "a stack begins with an input, but b:BASE is not one"),
        ("g:NFLOG,b:BASE", "a stack ends with an output, but b:BASE is not one"),
        ("g:NFLOG,b:BASE,j:JSON,k:JSON", "only filters may stand between input and output, but j:JSON is not one"),
        ("g:NFLOG,j:JSON", "j:JSON takes flow or packet or sum but gets raw; put a BASE between"),
        ("g:NFLOG,h:HWHDR,j:JSON", "h:HWHDR takes packet but gets raw; put a BASE between"),
        ("g:NFLOG,b:BASE,c:BASE,j:JSON", "c:BASE takes raw but gets packet"),
    ],
)
def test_structure(stack: str, said: str) -> None:
    messages = refused(f"[global]\nstack={stack}\n[g]\n[j]\n[k]\n")
    assert f"/etc/my.conf:2: stack={stack}: {said}" in [message.split("; available: ")[0] for message in messages]


def test_a_missing_key_is_named(third_party: dict[str, Any]) -> None:
    class Needs(Memory):
        name = "NEEDS"
        consumes = ("tcp.dport", "ip.saddr.st", "[what.ever]")

    third_party["NEEDS"] = Needs
    assert refused("[global]\nstack=g:NFLOG,b:BASE,n:NEEDS\n[g]\n") == [
        "/etc/my.conf:2: stack=g:NFLOG,b:BASE,n:NEEDS: n:NEEDS needs the key ip.saddr.st, "
        "which no plugin before it publishes — did you mean 'ip.saddr'?"
    ]


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        (
            "g:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,e:LOGEMU",
            "e:LOGEMU needs the key print, which no plugin before it publishes; put PRINTPKT before it",
        ),
        (
            "g:NFLOG,b:BASE,i:IFINDEX,p:PRINTPKT,s:IP2STR,e:LOGEMU",
            "p:PRINTPKT needs the keys ip.saddr.str, ip.daddr.str, arp.saddr.str, arp.daddr.str, which no plugin "
            "before it publishes; put IP2STR before it",
        ),
    ],
)
def test_the_filter_that_publishes_a_missing_key_is_named(stack: str, said: str) -> None:
    assert refused(f"[global]\nstack={stack}\n[g]\n[e]\n") == [f"/etc/my.conf:2: stack={stack}: {said}"]


def test_errors_of_every_kind_come_together(tmp_path: Path) -> None:
    """Of the grammar, of [global], of names, of options, of the order, of types of data, and of keys."""
    file = tmp_path / "my.conf"
    file.write_text(
        "[global]\nlogevel=3\nstack=nonsense\nstack=g:NFLOG,x:NOPE,k:JSON\nstack=b:BASE,j:JSON\nstack=g:NFLOG,j:JSON\n"
        "stack=f:NFLOG,b:BASE,n:NFACCT\nstack=f:NFLOG,b:BASE,i:IP2BIN,s:IP2STR,a:HWHDR,d:PGSQL\n[g]\ngroup=\n[f]\n"
        "gruop=1\n[j]\nmode=pigeon\n[k]\nsync\n[d]\ntabel=x\n[two words]\n"
    )
    with pytest.raises(ConfigErrors) as info:
        build(parse_all(file))
    found = sorted((error.line, error.message) for error in info.value.errors)
    assert len(found) == len(set(found))
    assert [line for line, _ in found] == [2, 3, 4, 5, 6, 7, 10, 12, 14, 16, 17, 18, 19]


def test_a_key_that_is_missing_is_told_though_the_section_is_wrong_too(third_party: dict[str, Any]) -> None:
    class Needs(Memory):
        name = "NEEDS"
        Options = find_plugin("NFLOG").Options
        consumes = ("no.such",)

    third_party["NEEDS"] = Needs
    messages = refused("[global]\nstack=g:NFLOG,b:BASE,n:NEEDS\n[g]\n[n]\ngroup=x\n")
    assert len(messages) == 2
    assert "n:NEEDS needs the key no.such" in messages[1]
    # What a plugin publishes that could not be made is not known.
    assert len(refused("[global]\nstack=g:NFLOG,b:BASE,n:NEEDS\n[g]\ngroup=x\n[n]\n")) == 1


def test_all_that_is_wrong_is_said_at_once_and_nothing_twice() -> None:
    messages = refused(
        "[global]\nstack=g:NFLOG,b:BASE,j:JSON\nstack=g:NFLOG,b:BASE,k:JSON\nstack=g:NFLOG,x:NOPE,j:JSON\n"
        "[g]\ngruop=1\n[j]\nmode=carrier-pigeon\n[k]\n"
    )
    assert messages[0] == "/etc/my.conf:6: [g] NFLOG: unknown option 'gruop' — did you mean 'group'?"
    assert messages[1].startswith("/etc/my.conf:8: [j] JSON: mode=carrier-pigeon: must be file, tcp, udp or unix")
    assert messages[2].startswith("/etc/my.conf:4: stack=g:NFLOG,x:NOPE,j:JSON: unknown plugin 'NOPE'")
    assert len(messages) == 3


def test_a_missing_section_is_an_error_only_where_it_matters() -> None:
    assert refused("[global]\nstack=g:NFLOG,b:BASE,m:MARK,j:JSON\n[gg]\n[j]\n") == [
        "/etc/my.conf:2: [g] NFLOG: no such section; add it, even without options — did you mean 'gg'?"
    ]


# -- opening ----------------------------------------------------------------------------------------------------------


def test_a_stack_that_fails_gives_back_what_it_had() -> None:
    feed, memory, through = Feed(), Memory(), Through(lambda batch: batch)
    source = Source(feed)
    stack = stack_of(source, through, memory)

    def busy() -> None:
        raise StackError("the group is taken")

    feed.open = busy  # type: ignore[method-assign]
    with pytest.raises(StackError, match="taken"):
        stack.open()
    assert not stack.is_open
    assert not source.is_open
    assert memory.calls == ["open", "close"]
    assert through.calls == ["close"]


def test_a_json_stack_writes_after_a_failed_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group is taken at first: the output is opened, closed, and opened again."""
    (stack,) = stacks_of(f"[global]\nstack=g:NFLOG,b:BASE,j:JSON\n[g]\n[j]\nfile={tmp_path}/out\n")
    monkeypatch.setattr(stack.source.input, "open", lambda: _raise(StackError("taken")))
    for _ in range(2):
        with pytest.raises(StackError):
            stack.open()
    monkeypatch.setattr(stack.source.input, "open", lambda: None)
    stack.open()
    stack.deliver(batch_of(count=3))
    stack.close()
    assert (tmp_path / "out").read_bytes().count(b"\n") == 3
    assert str(stack.output.stats).startswith("records 3, written 3, pending 0")


def _raise(error: Exception) -> None:
    raise error


# -- delivering -------------------------------------------------------------------------------------------------------


def open_stack(*plugins: Through | Memory, source: Source | None = None) -> Any:
    stack = stack_of(source or Source(Feed()), *plugins)
    stack.open()
    return stack


def test_the_newest_stack_is_served_first() -> None:
    order: list[str] = []
    source = Source(Feed())
    for name in ("first", "second", "third"):
        memory = Memory(name)
        memory.then = lambda name=name: order.append(name)  # type: ignore[misc]
        open_stack(memory, source=source)
    source._deliver(batch_of(count=1))
    assert order == ["third", "second", "first"]


def test_a_filter_that_stops_stops_its_own_stack() -> None:
    source = Source(Feed())
    none, all_, some = Memory("none"), Memory("all"), Memory("some")
    open_stack(Through(lambda batch: batch.select([])), none, source=source)
    open_stack(all_, source=source)
    open_stack(Through(lambda batch: batch.select([0, 2])), some, source=source)
    source._deliver(batch_of(count=3))
    assert (none.got, all_.got, some.got) == ([], [0, 1, 2], [0, 2])
    assert "write" not in none.calls


def test_what_a_filter_adds_stays_in_its_stack() -> None:
    def add(batch: Any) -> Any:
        batch.add("my.key", [1] * len(batch))
        return batch

    source = Source(Feed())
    without, with_ = Memory("without"), Memory("with")
    open_stack(without, source=source)
    open_stack(Through(add, adds=(_MINE,)), with_, source=source)
    source._deliver(batch_of(count=2))
    assert with_.batches[0].values("my.key") == [1, 1]
    assert "my.key" not in without.batches[0].added


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda batch: 1 // 0, "f:THROUGH: ZeroDivisionError: integer division or modulo by zero"),
        (lambda batch: None, "f:THROUGH: TypeError: process() returned None instead of a batch"),
        (lambda batch: batch.values("no.key"), "f:THROUGH: KeyError: \"unknown key 'no.key'"),
    ],
)
def test_a_faulty_filter_costs_its_stack_this_batch(does: Any, said: str, logged: pytest.LogCaptureFixture) -> None:
    source = Source(Feed())
    lost, good = Memory("lost"), Memory("good")
    faulty = Through(does, "f")
    bad = open_stack(faulty, lost, source=source)
    open_stack(good, source=source)
    source._deliver(batch_of(count=3))
    faulty.does = lambda batch: batch
    source._deliver(batch_of(count=2))
    assert good.got == [0, 1, 2, 0, 1]
    assert lost.got == [0, 1]
    assert bad.dropped == 3
    assert said in logged.text
    assert "3 records of stack stack-of-lost lost so far" in logged.text


def test_a_faulty_output_costs_what_filters_let_pass(logged: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    memory.faulty, memory.fault = "write", StackError("full")
    stack = open_stack(Through(lambda batch: batch.select([1, 2])), memory)
    stack.deliver(batch_of(count=7))
    assert stack.dropped == 2
    assert "memory:MEMORY: full; 2 records of stack stack-of-memory lost so far" in logged.text


def test_faults_are_logged_once_in_a_while(logged: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    memory.faulty = "write"
    stack = open_stack(memory)
    for _ in range(1000):
        stack.deliver(batch_of(count=1))
    assert stack.dropped == 1000
    assert sum(record.levelno >= logging.ERROR for record in logged.records) == 1


def test_a_stack_that_does_not_run_gets_nothing() -> None:
    source = Source(Feed())
    memory = Memory()
    open_stack(memory, source=source).close()
    source._deliver(batch_of(count=1))
    assert memory.got == []


def test_closing_goes_on_after_a_fault(logged: pytest.LogCaptureFixture) -> None:
    memory, through = Memory(), Through(lambda batch: batch)
    memory.faulty = "close"
    stack = open_stack(through, memory)
    stack.close()
    stack.close()
    assert through.calls == ["close", "close"]
    assert memory.calls == ["open", "close", "close"]
    assert "close memory:MEMORY of stack stack-of-memory: ValueError: a fault of the test's" in logged.text


def test_errors_are_told_with_their_type_where_it_is_not_known() -> None:
    assert told(StackError("no room")) == "no room"
    assert told(OSError(2, "No such file")) == "[Errno 2] No such file"
    assert told(ValueError("no number")) == "ValueError: no number"


def test_a_group_has_one_input() -> None:
    """It could never start: ulogd2 finds out by the kernel's refusal, and names itself as the other reader."""
    with pytest.raises(ConfigErrors) as caught:
        stacks_of(
            "[global]\nstack=a:NFLOG,b:BASE,j:JSON\nstack=c:NFLOG,b:BASE,j:JSON\n[a]\ngroup=3\n[c]\ngroup=3\n[j]\n"
        )
    (error,) = caught.value.errors
    assert (error.line, error.message) == (
        6,
        "[c] group 3 is already read by [a]; begin both stacks with a",
    )
    stacks_of(
        "[global]\nstack=a:NFLOG,b:BASE,j:JSON\nstack=c:NFLOG,b:BASE,j:JSON\n"
        "[a]\ngroup=3\n[c]\ngroup=3\nnetwork_namespace_path=other\n[j]\n"
    )


# -- very many ----------------------------------------------------------------------------------------------------

#: Enough for any of these on a slow machine, and far too little for work that grows with the square.
_CPU_SECS = 40


def _hostile(kind: str) -> str:
    """Return a configuration that nobody has."""
    used = "stack=g:NFLOG,b:BASE,j:JSON\n[g]\n[j]\n"
    many = "".join(f"stack=g{n}:NFLOG,b{n}:BASE,j{n}:JSON\n" for n in range(5000))
    sections = "".join(f"[{{0}}{n}]\ngroup={n}\n[{{1}}{n}]\n" for n in range(5000))
    return (
        "[global]\n"
        + {
            "sections": used + "".join(f"[g{n}]\n" for n in range(100_000)),
            "bad sections": used + "".join(f"[prefilter{n}]\nx\n" for n in range(50_000)),
            "stacks": many + sections.format("g", "j"),
            "stacks of one section each": "stack=g:NFLOG,b:BASE,j:JSON\n" * 5000 + "[g]\n[j]\n",
            "stacks without sections": many,
            "stacks with misspelt sections": many + sections.format("G", "k"),
            "stacks with unknown plugins": "".join(f"stack=g:NFLOG,b:BASE{n},j:JSON\n" for n in range(5000))
            + "[g]\n[j]\n",
            "items": f"stack=g:NFLOG,b:BASE,{'i:IFINDEX,' * 130_000}j:JSON\n[g]\n[j]\n",
            "bad items": f"stack=g:NFLOG,{''.join(f'm{n}:MARK,' for n in range(130_000))}j:JSON\n[g]\n[j]\n",
            "options": used + "".join(f"o{n}=1\n" for n in range(130_000)),
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("sections", "no errors; 1 stack"),
        ("bad sections", ":6: [prefilter0]: 'x' has no value"),
        ("stacks", "no errors; 5000 stacks"),
        ("stacks of one section each", "no errors; 5000 stacks"),
        ("stacks without sections", ":51: 100 errors: no more stacks are checked"),
        ("stacks with misspelt sections", ":51: 100 errors: no more stacks are checked"),
        ("stacks with unknown plugins", ":101: 100 errors: no more stacks are checked"),
        ("items", ":2: stack: it has 130003 plugins; the most is 1000"),
        ("bad items", ":2: stack: it has 130002 plugins; the most is 1000"),
        ("options", ":1005: [j]: more than 1000 options; the rest is not read"),
    ],
)
def test_a_hostile_configuration_is_read_or_refused_soon(tmp_path: Path, kind: str, said: str) -> None:
    file = tmp_path / "my.conf"
    file.write_text(_hostile(kind))
    done = subprocess.run(
        ["prlimit", f"--cpu={_CPU_SECS}", sys.executable, "-m", "nflowlevel.daemon", "--check-config", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 78)
    assert said in done.stdout + done.stderr
    assert len(done.stderr) < 10_000_000


def test_the_most_plugins_and_options_are_taken() -> None:
    filters = ",".join(["i:IFINDEX"] * 997)
    (stack,) = stacks_of(f"[global]\nstack=g:NFLOG,b:BASE,{filters},j:JSON\n[g]\n[j]\n")
    assert len(stack.filters) == 998
    (message,) = refused(f"[global]\nstack=g:NFLOG,b:BASE,{filters},i:IFINDEX,j:JSON\n[g]\n[j]\n")
    assert message.endswith(":2: stack: it has 1001 plugins; the most is 1000")
    options = "".join(f"o{n}=1\n" for n in range(1000))
    config = parse_text(f"[global]\nstack=g:NFLOG,b:BASE,j:JSON\n[g]\n[j]\n[x]\n{options}")
    assert (len(config.sections["x"].values), config.warnings) == (1000, ())


def test_a_third_partys_plugin_is_looked_for_once(third_party: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding it reads what is known of every installed package."""
    calls = []
    points = registry._entry_points
    monkeypatch.setattr(registry, "_entry_points", lambda: calls.append(1) or points())
    stacks = stacks_of("[global]\n" + "".join(f"stack=g:NFLOG,m{n}:MEMORY\n" for n in range(50)) + "[g]\n")
    assert len({stack.output for stack in stacks}) == 50
    assert len(calls) == 1


# -- namespaces that go and come ---------------------------------------------------------------------------------------


class _Follows(Through):
    """A filter that holds something in the namespace."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__(lambda batch: batch)
        self.fault = fault

    def leave(self) -> None:
        self.calls.append("leave")

    def follow(self) -> None:
        self.calls.append("follow")
        if self.fault:
            raise self.fault


def test_a_namespace_is_left_when_all_of_it_is_delivered() -> None:
    feed, memory, follows, idle = Feed(), Memory(), _Follows(), _Follows()
    source = Source(feed)
    stack_of(source, follows, memory).open()
    stack_of(source, idle, Memory())  # one that does not run
    feed.late = [batch_of(count=3)]
    source.leave()
    assert memory.got == [0, 1, 2]
    assert feed.calls[-2:] == ["drain", "close"]
    assert not source.is_open
    assert follows.calls == ["leave"]
    assert idle.calls == []
    source.follow()
    assert source.is_open
    assert feed.calls[-1] == "open"
    assert follows.calls == ["leave", "follow"]


def test_it_is_let_go_though_it_cannot_be_read_any_more() -> None:
    feed, memory, follows = Feed(), Memory(), _Follows()
    source = Source(feed)
    stack_of(source, follows, memory).open()
    feed.late = [OSError(5, "an error of the kernel")]
    with pytest.raises(OSError, match="of the kernel"):
        source.leave()
    assert not source.is_open
    assert follows.calls == ["leave"]


def test_a_namespace_is_followed_by_all_or_none() -> None:
    """A filter that cannot follow would lose what the input receives: it is tried again with the input."""
    feed, memory, first, second = Feed(), Memory(), _Follows(), _Follows(StackError("not yet"))
    source = Source(feed)
    stack_of(source, first, memory).open()
    stack_of(source, second, Memory()).open()
    source.leave()
    with pytest.raises(StackError, match="not yet"):
        source.follow()
    assert not source.is_open
    assert first.calls[-2:] == ["follow", "leave"]
    second.fault = None
    source.follow()
    assert source.is_open
