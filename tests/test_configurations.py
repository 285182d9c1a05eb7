# SPDX-License-Identifier: GPL-2.0-or-later
"""Configurations as they stand on firewalls, each run beside the real ulogd2 on the same packets.

tests/configurations holds them: of our own writing, in the forms and with the stacks of real ones. Each passes the
check, and what it writes is compared with what ulogd2 2.0.8 writes, record by record. A difference has to be on a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nflowlevel.daemon import main as daemon
from tests.beside import ALL_DIFFERENCES, OF_OUTPUTS, Comparison
from tests.fix_configurations import CONFIGURATIONS, QUICK, Configuration
from tests.fix_mariadb import MariaDB
from tests.fix_netns import Pair
from tests.fix_netns import missing as no_namespaces
from tests.fix_postgres import Postgres
from tests.fix_server import shared
from tests.fix_tables import Servers
from tests.fix_world import NFLOWLEVEL, ULOGD2, Plan, World, plan
from tests.ulogd2 import missing as no_ulogd2


@dataclass
class Beside:
    """Both worlds, and what has been compared in them by now."""

    worlds: tuple[World, World]
    comparison: Comparison = field(default_factory=Comparison)
    ran: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def beside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    if no_namespaces() or no_ulogd2():
        pytest.skip(no_namespaces() or no_ulogd2())
    servers = Servers(lambda: shared(request.config, Postgres), lambda: shared(request.config, MariaDB))
    pair = Pair()
    try:
        directory = tmp_path_factory.mktemp("w")
        yield Beside((World(pair, directory, servers), World(pair, directory, servers)))
    finally:
        pair.close()


@pytest.mark.kernel
@pytest.mark.parametrize(
    "configuration",
    [pytest.param(each, marks=() if each.name in QUICK else pytest.mark.slow, id=each.name) for each in CONFIGURATIONS],
)
def test_it_writes_what_ulogd2_writes(configuration: Configuration, beside: Beside) -> None:
    needs = plan(configuration.text)
    theirs = beside.worlds[0].run(configuration.for_ulogd2, needs, ULOGD2, configuration.timezone)
    ours = beside.worlds[1].run(configuration.text, needs, NFLOWLEVEL, configuration.timezone)
    assert needs.sinks
    if not needs.stored:
        # Debian's pgsql3: flows are reported when they end, and then there is no row to complete.
        assert [*theirs.written.values()] == [*ours.written.values()] == [[]]
        # The statements were run all the same: nothing waits in the spool, and nothing was refused.
        spool = {Path(file).name for file in ours.files if "/spool/" in file}
        assert spool == {"id", "lock", "numbers", "position", "runs"}
    for sink in needs.sinks if needs.stored else ():
        count = beside.comparison.compare(sink, ours, theirs)
        print(f"{configuration.name}: [{sink.instance}] {sink.plugin}: {count} records are the same")
    beside.ran.add(configuration.name)


@pytest.mark.kernel
@pytest.mark.slow
def test_enough_was_compared(beside: Beside, capsys: pytest.CaptureFixture[str]) -> None:
    """Comes last: how much was compared, and that no difference of outputs is on the list for nothing."""
    comparison = beside.comparison
    with capsys.disabled():
        print(
            f"\nbeside ulogd2: {len(beside.ran)} configurations, {comparison.sinks} outputs, "
            f"{comparison.records} records compared; differences: "
            + (", ".join(sorted({entry.id for entry in comparison.met})) or "none")
        )
    assert comparison.records
    if beside.ran == {each.name for each in CONFIGURATIONS}:
        idle = [entry.id for entry in OF_OUTPUTS if entry not in comparison.met]
        assert not idle, f"on the list, but not met: {idle}"
        assert comparison.met <= set(ALL_DIFFERENCES)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda each: each.name)
def test_it_passes_the_check(configuration: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ulogd.conf"
    file.write_bytes(configuration.text)
    status = daemon.main(["--check-config", "-c", str(file)])
    assert status == 0, capsys.readouterr().err


def test_they_are_many_and_differ() -> None:
    assert len(CONFIGURATIONS) >= 60
    assert set(QUICK) - {"debian: as installed"} <= {each.name for each in CONFIGURATIONS}
    assert len({_shape(plan(each.text)) for each in CONFIGURATIONS}) >= 25


def _shape(needs: Plan) -> tuple[tuple[str, ...], ...]:
    """Return what makes the stacks of a configuration: the plugins of each, and which of them are shared."""
    seen: dict[str, int] = {}
    return tuple(
        tuple(f"{item.plugin}{seen.setdefault(item.instance, len(seen))}" for item in stack.items)
        for stack in needs.config.stacks
    )
