# SPDX-License-Identifier: GPL-2.0-or-later
"""What every plugin promises, asked of every plugin that is registered: the built-in ones and those of other packages.

A new plugin is tested here without a line being added, but for an output whose target is neither a file nor a TCP peer:
`targets` then has to say how it is made, and made to fail.
"""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.errors import OutputError
from nflowlevel.options import Options, Value, convert, describe
from nflowlevel.plugin.contract import ANY_KEYS, Filter, Input, Member, Output, check_plugin
from nflowlevel.plugin.spooled import SpooledOutput
from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.records.batch import Batch
from nflowlevel.records.flow import FLOW
from nflowlevel.records.keys import CATALOGUE, Key, published_by
from nflowlevel.sql.database import schema
from nflowlevel.stacks.describe import page
from nflowlevel.stacks.registry import builtin_names, find_plugin
from nflowlevel.stats import Counters
from tests import flows as fixtures
from tests import oracle
from tests.captures import RAW, pcap
from tests.corpus import by_name
from tests.fix_lines import check
from tests.fix_mariadb import mariadb, mariadb_db
from tests.fix_netns import Netns
from tests.fix_plugins import batch_of
from tests.fix_postgres import postgres, postgres_db
from tests.fix_receiver import Receiver
from tests.fix_server import Database
from tests.messages import FULL, message_of

__all__ = ["mariadb", "mariadb_db", "postgres", "postgres_db"]

_NAMES = (*builtin_names(), *(point.name for point in importlib.metadata.entry_points(group="nflowlevel.plugins")))
_PLUGINS = {name: find_plugin(name) for name in dict.fromkeys(_NAMES)}
_INPUTS = [plugin for plugin in _PLUGINS.values() if issubclass(plugin, Input)]
_FILTERS = [plugin for plugin in _PLUGINS.values() if issubclass(plugin, Filter)]
_OUTPUTS = [plugin for plugin in _PLUGINS.values() if issubclass(plugin, Output)]

_KNOWN_KEYS = {key.name for key in CATALOGUE}
#: What filters of third parties add may be read by other plugins.
_ADDED = {key.name for plugin in _PLUGINS.values() for key in plugin.adds}

#: Outputs that are read at their `host` and `port`, rather than connecting there.
_LISTENING = {"PROMETHEUS"}

#: Seconds that a target may take on a busy machine.
_PATIENCE = 60.0

#: For options that have no default.
_SAMPLES = {"int": "1", "float": "1", "string": "x", "bool": "1"}
#: For those of these that not every text is good for.
_CHOSEN = {"dbtype": "pgsql"}


def each(plugins: Sequence[Any]) -> pytest.MarkDecorator:
    """Run a test for each plugin."""
    return pytest.mark.parametrize("plugin", plugins, ids=lambda plugin: plugin.name)


def made(plugin: Any, **given: str) -> Any:
    """Return an instance with these options, as a configuration gives them."""
    values = {
        option.name: _CHOSEN.get(option.name, _SAMPLES[option.type])
        for option in describe(plugin.Options)
        if option.mandatory
    }
    known = {option.name for option in describe(plugin.Options)}
    values.update((name, text) for name, text in given.items() if name in known)
    options = convert(
        plugin.Options, {name: Value(text, 1) for name, text in values.items()}, plugin=plugin.name, instance="x"
    )
    return plugin("x", options)


def packets() -> dict[str, Batch]:
    """Return batches of packets, of all kinds."""
    full = [message_of(by_name(name), **FULL) for name in ("udp4", "tcp6-syn", "icmp-echo-request", "arp-request")]
    nothing = oracle.build_message(protocol=None)
    return {
        "empty": Batch(None, 0),
        "nothing valid": batch_of(nothing, nothing),
        "everything valid": batch_of(*full),
        "mixed": batch_of(nothing, *full, nothing),
        "selected": batch_of(nothing, *full).select([1, 3]),
        "nothing selected": batch_of(*full).select([]),
    }


def sums() -> dict[str, Batch]:
    """Return batches of counters."""

    def batch(count: int) -> Batch:
        columns = {key.name: ["a.b"] * count if key.type == "string" else [7] * count for key in _members("sum")}
        return Batch.of_columns(columns, time=(1_795_460_084, None))

    return {"empty": Batch(None, 0), "nothing": batch(0), "one": batch(1), "many": batch(1000)}


def flows() -> dict[str, Batch]:
    """Return batches of flows that have ended: of those that begin, some outputs write nothing."""
    ended = [flow for flow in fixtures.ALL if flow.event != fixtures.NEW]
    return {
        "empty": Batch(None, 0, type=FLOW),
        "all": fixtures.flow_batch(*ended),
        "selected": fixtures.flow_batch(*ended).select([1, 3]),
        "nothing selected": fixtures.flow_batch(*ended).select([]),
    }


_PLUGINS_BEFORE = {
    "packet": ("NFLOG", "BASE", "IFINDEX", "IP2STR", "HWHDR"),
    "sum": ("NFACCT",),
    "flow": ("NFCT", "IP2STR"),
}
_BATCHES = {"packet": packets, "sum": sums, "flow": flows}


def _members(data: str) -> list[Key]:
    """Return what a stack of such data publishes, in its order."""
    keys = (key for name in _PLUGINS_BEFORE[data] for key in made(_PLUGINS[name]).published())
    of_flows = (key for key in keys if key in FLOW) if data == "flow" else keys
    return list({key.name: key for key in of_flows}.values())


# -- all --------------------------------------------------------------------------------------------------------------


@each(list(_PLUGINS.values()))
def test_it_is_described(plugin: Any) -> None:
    check_plugin(plugin)
    text = page(plugin)
    assert text.startswith(f"{plugin.name}: ")
    assert text.split("\n\n")[0].rstrip().endswith(".")


@each(list(_PLUGINS.values()))
def test_its_options_are_described(plugin: Any) -> None:
    assert issubclass(plugin.Options, Options)
    for option in describe(plugin.Options):
        assert option.description.endswith("."), option.name
        assert option.type, option.name
        assert option.mandatory == (option.default is None), option.name
        assert option.name == option.name.lower(), option.name


@each(list(_PLUGINS.values()))
def test_its_options_can_be_given_as_they_are_documented(plugin: Any) -> None:
    """The default that the documentation shows is a value that the configuration takes, and means the same."""
    given = {option.name: option.default for option in describe(plugin.Options) if option.default is not None}
    assert made(plugin, **given).options == made(plugin).options


@each(list(_PLUGINS.values()))
def test_its_keys_are_known(plugin: Any) -> None:
    if plugin.consumes != ANY_KEYS:
        assert {name.strip("[]") for name in plugin.consumes} <= _KNOWN_KEYS | _ADDED
        assert all(name.startswith("[") == name.endswith("]") for name in plugin.consumes)
    assert set(made(plugin).published()) <= set(published_by(plugin.name))
    assert not {key.name for key in plugin.adds} & _KNOWN_KEYS
    assert all(key.kind == "column" and key.meaning for key in plugin.adds)


@each(list(_PLUGINS.values()))
def test_making_one_touches_nothing(plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of the configuration makes instances of all plugins."""
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    instance = made(plugin, file=str(tmp_path / "out"))
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before
    assert list(tmp_path.iterdir()) == []
    instance.close()


# -- inputs -----------------------------------------------------------------------------------------------------------


@each(_INPUTS)
def test_the_life_of_an_input(plugin: Any, netns: Netns, tmp_path: Path) -> None:
    file = tmp_path / "empty.pcap"
    file.write_bytes(pcap([], RAW))
    source = made(plugin, group="23", network_namespace_path=netns.path, pollinterval="1000", file=str(file),
                  socket_path=str(tmp_path / "reports"))  # fmt: skip
    for _ in range(2):
        source.open()
        assert source.fileno() >= 0 or source.deadline is not None
        assert len(source.receive()) == 0
        assert not source.more
        assert source.pause >= 0
        source.reopen()
        source.poll_now()
        assert isinstance(source.receive(), Batch)
        assert sum(len(batch) for batch in source.drain()) == 0
        source.close()
        source.close()
    assert isinstance(source.stats, Counters)
    _are_described(source.stats)


def _are_described(stats: Counters) -> None:
    for name, about in stats.declared.items():
        assert about.meaning.endswith((".", ").")), name
        assert about.unit, name
    assert set(stats.as_dict()) >= set(stats.declared)


# -- filters ----------------------------------------------------------------------------------------------------------


@each(_FILTERS)
@pytest.mark.parametrize("kind", packets())
def test_a_filter_takes_every_batch(plugin: Any, kind: str) -> None:
    batch = packets()[kind]
    count, before = len(batch), batch.to_dicts()
    instance = made(plugin)
    instance.open()
    passed = instance.process(batch.copy())
    assert isinstance(passed, Batch)
    assert len(passed) <= count
    for key in plugin.adds:
        assert len(passed.values(key.name)) == len(passed)
    assert batch.to_dicts() == before
    instance.close()


def _of_flows() -> list[Any]:
    """Return the filters that a stack of flows may have."""
    known = {key.name for key in _members("flow")}
    return [
        plugin
        for plugin in _FILTERS
        if "flow" in plugin.accepts and all(name[0] == "[" or name in known for name in plugin.consumes)
    ]


@each(_of_flows())
@pytest.mark.parametrize("kind", flows())
def test_a_filter_takes_every_batch_of_flows(plugin: Any, kind: str) -> None:
    batch = flows()[kind]
    before = batch.to_dicts()
    instance = made(plugin)
    instance.open()
    passed = instance.process(batch.copy())
    assert len(passed) <= len(before)
    names = [key.name for key in instance.published() if key.kind == "column" or key in FLOW]
    assert all(len(row) == len(names) for row in passed.rows(*names))
    assert batch.to_dicts() == before
    instance.close()


@each(_FILTERS)
def test_the_life_of_a_filter(plugin: Any) -> None:
    instance = made(plugin)
    for _ in range(2):
        instance.open()
        instance.process(packets()["mixed"])
        instance.reopen()
        instance.process(packets()["mixed"])
        instance.close()
        instance.close()


# -- outputs ----------------------------------------------------------------------------------------------------------


def _sql_targets(plugin: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Return the same for an SQL output: a server of the test's own with our schema."""
    spool = {"spool_directory": str(tmp_path / "spool")}
    # What has a spool keeps what it cannot store.
    dropping = {**spool, "when_full": "drop_newest"}
    if plugin.name in ("SQLITE3", "DBI"):
        good = {"dbtype": "sqlite3", "db": str(tmp_path / "log.sqlite"), "table": "packets", **spool}
        return good, {"no directory": {**good, "db": str(tmp_path / "no" / "log.sqlite"), **dropping}}
    kind = {"PGSQL": "postgres", "MYSQL": "mariadb"}[plugin.name]
    database: Database = request.getfixturevalue(f"{kind}_db")
    database.load(schema(f"{plugin.name.lower()}.sql"))
    good = {"db": database.name, "user": database.user, "host": database.host, "port": str(database.port)}
    good |= {"pass": database.password, "table": "packets"}
    bad = {
        "wrong password": {**good, **dropping, "pass": "x"},
        "no such table": {**good, **dropping, "table": "nosuch"},
    }
    return {**good, **spool}, bad


@pytest.fixture
def targets(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Returns the options for a target that works, and for targets that do not, by what is wrong with them."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers, and nobody else can take it
        nobody = {"host": "127.0.0.1", "port": str(closed.getsockname()[1])}
        (tmp_path / "full").symlink_to("/dev/full")
        receiver, log = Receiver("tcp", tmp_path), Receiver("syslog", tmp_path)

        def of(plugin: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
            if issubclass(plugin, SQLOutput):
                return _sql_targets(plugin, request, tmp_path)
            known = {option.name for option in describe(plugin.Options)}
            good: dict[str, str] = {}
            bad: dict[str, dict[str, str]] = {}
            if plugin.name in _LISTENING:
                good = {"port": "0"}
                bad["taken"] = nobody
            elif {"host", "port"} <= known:
                good = {"host": "127.0.0.1", "port": str(receiver.address[1])}
                bad["nobody there"] = {"mode": "tcp", **nobody}
                bad["unknown host"] = {"mode": "tcp", **nobody, "host": "nobody.invalid"}
            if "file" in known:
                good = {"file": str(tmp_path / "out")}
                bad["full"] = {"file": str(tmp_path / "full")}
                if "linktype" in known:
                    good["linktype"] = "nflog"  # it holds every packet
                if "mode" in known:
                    bad["nobody at the socket"] = {"mode": "unix", "file": str(tmp_path / "nobody")}
            if "directory" in known:
                good = {"directory": str(tmp_path)}
                bad["nowhere"] = {"directory": str(tmp_path / "nowhere")}
            if "socket_path" in known:
                good = {"socket_path": log.address}
                bad["nobody at the socket"] = {"socket_path": str(tmp_path / "nobody")}
            if issubclass(plugin, SpooledOutput):  # what has a spool keeps what it cannot deliver
                spool = {"spool_directory": str(tmp_path / "spool")}
                good |= spool
                bad = {what: {**options, **spool, "when_full": "drop_newest"} for what, options in bad.items()}
            assert bad, f"say here how a target of {plugin.name} is made, and how it is made to fail"
            return good, bad

        yield of
        receiver.stop()
        log.stop()


def _bound(plugin: Any, data: str, options: dict[str, str]) -> Any:
    """Return an output that knows what it gets."""
    members: dict[str, Member] = {key.name: (key.name, key) for key in _members(data)}
    wanted = members if plugin.consumes == ANY_KEYS else [name.strip("[]") for name in plugin.consumes]
    instance = made(plugin, **options)
    instance.bind(tuple(members[name] for name in wanted if name in members))
    return instance


def each_output() -> pytest.MarkDecorator:
    """Run a test for each output with each kind of data that it takes."""
    cases = [(plugin, data) for plugin in _OUTPUTS for data in _BATCHES if data in plugin.accepts]
    return pytest.mark.parametrize(("plugin", "data"), cases, ids=lambda each: getattr(each, "name", each))


@each_output()
def test_an_output_takes_every_batch(plugin: Any, data: str, targets: Any) -> None:
    good, _ = targets(plugin)
    for kind, batch in _BATCHES[data]().items():
        instance = _bound(plugin, data, good)
        instance.open()
        instance.write(batch)
        instance.close(_PATIENCE)
        assert instance.stats.records == len(batch), kind
        assert instance.stats.written == len(batch), kind
        check(instance.stats)


@each_output()
def test_the_life_of_an_output(plugin: Any, data: str, targets: Any) -> None:
    good, _ = targets(plugin)
    instance = _bound(plugin, data, good)
    count = 0
    assert isinstance(instance.state, str)
    for _ in range(2):
        instance.open()
        for batch in _BATCHES[data]().values():
            instance.write(batch)
            count += len(batch)
            instance.reopen()
        check(instance.stats)
        instance.close(_PATIENCE)
        instance.close()
        assert instance.stats.records == instance.stats.written == count
        assert instance.deadline is None
    for batch in _BATCHES[data]().values():
        instance.write(batch)  # too late, but no reason to fail
    check(instance.stats)
    assert isinstance(instance.state, str)
    _are_described(instance.stats)


@each_output()
def test_a_failing_target_costs_nobody_anything_but_is_counted(plugin: Any, data: str, targets: Any) -> None:
    _, bad = targets(plugin)
    for what, options in bad.items():
        instance = _bound(plugin, data, options)
        refused = ""
        try:
            instance.open()
        except OutputError as error:
            refused = str(error)
        if refused:  # what waiting cannot cure stops the stack, and says what to do
            assert " — " in refused, what
            instance.close()
            continue
        count = 0
        for batch in _BATCHES[data]().values():
            instance.write(batch)
            count += len(batch)
            check(instance.stats)
        if instance.deadline is not None:
            instance.retry()
        instance.reopen()
        for batch in _BATCHES[data]().values():
            instance.write(batch)
            count += len(batch)
        assert instance.stats.records == count, what
        assert instance.state, what
        instance.close(0.0)
        assert instance.stats.pending == 0, what
        assert sum(instance.stats.dropped.values()) == count, what
        check(instance.stats)


#: What cannot be seen without writing; databases have a command of their own.
_UNSEEN = {"full", "no directory", "wrong password", "no such table"}


@each(_OUTPUTS)
def test_the_doctor_sees_whether_a_target_can_be_reached(plugin: Any, targets: Any) -> None:
    good, bad = targets(plugin)
    found = list(made(plugin, **good).examine())
    assert found
    assert "problem" not in {finding.status for finding in found}
    for what, options in bad.items():
        if what not in _UNSEEN:
            found = list(made(plugin, **options).examine())
            assert [finding.status for finding in found] == ["problem"], what
            assert found[0].remedy, what
