# SPDX-License-Identifier: GPL-2.0-or-later
"""`async for batch in group`, on the real kernel: nothing is lost, and nothing stays behind however it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import nflowlevel as nfl
from tests.fix_group import log_udp, packets_in, run_python
from tests.fix_netns import Pair


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test, in debug mode: what was never awaited is a warning, and that an error."""
    asyncio.run(asyncio.wait_for(main, 30), debug=True)


def watched() -> int:
    """Return how many descriptors the running loop watches beside its own."""
    return len(asyncio.get_running_loop()._selector.get_map()) - 1  # type: ignore[attr-defined]


def test_batches_come(pair: Pair) -> None:
    log_udp(pair)

    async def main() -> None:
        seen: list[nfl.Batch] = []
        with nfl.open_group(2, netns=pair.fw.path) as group:
            sender = asyncio.create_task(asyncio.to_thread(pair.send_udp, 500))
            async for batch in group:
                assert batch
                seen.append(batch)
                assert watched() == 0, "while a batch is worked on, the loop has nothing to do with the group"
                if packets_in(seen) == 500:
                    break
            await sender
            assert group.stats.received == 500
            assert group.stats.gap == 0
        assert seen[0][0].prefix == "pfx: "

    run(main())


def test_stop_gives_what_was_queued(pair: Pair) -> None:
    """Another task stops it while packets are still with the kernel."""
    log_udp(pair)

    async def main() -> None:
        # The kernel keeps up to 1000 packets for 10 s: without the end they would not have come.
        with nfl.open_group(2, netns=pair.fw.path, qthreshold=1000, qtimeout=1000) as group:

            async def stop() -> None:
                await asyncio.to_thread(pair.send_udp, 23)
                group.stop()

            stopping = asyncio.create_task(stop())
            assert sum([len(batch) async for batch in group]) == 23
            await stopping
            assert [batch async for batch in group] == []
            assert watched() == 0

    run(main())


def test_stop_from_a_thread(pair: Pair) -> None:
    async def main() -> None:
        with nfl.open_group(2, netns=pair.fw.path) as group:
            timer = threading.Timer(0.1, group.stop)
            timer.start()
            assert [batch async for batch in group] == []
            timer.join()

    run(main())


@pytest.mark.parametrize("how", ["task", "thread"])
def test_closing_ends_the_iteration(pair: Pair, how: str) -> None:
    async def main() -> None:
        group = nfl.open_group(2, netns=pair.fw.path)
        descriptor = group.fileno()
        waiting = asyncio.create_task(_collect(group))
        await asyncio.sleep(0.05)
        assert watched() == 2
        if how == "thread":
            await asyncio.to_thread(group.close)
        else:
            group.close()
            # Whoever gets the number next is not disturbed.
            end, other = os.pipe()
            assert end <= descriptor
            asyncio.get_running_loop().add_reader(end, os.read, end, 1)
        assert await waiting == 0
        if how == "task":
            assert watched() == 1
            asyncio.get_running_loop().remove_reader(end)
            os.close(end)
            os.close(other)
        assert watched() == 0
        assert [batch async for batch in group] == []

    run(main())


async def _collect(group: nfl.Group) -> int:
    return sum([len(batch) async for batch in group])


def test_closing_between_two_batches(pair: Pair) -> None:
    log_udp(pair)

    async def main() -> None:
        group = nfl.open_group(2, netns=pair.fw.path, profile="latency")
        await asyncio.to_thread(pair.send_udp, 50)
        count = 0
        async for batch in group:
            count += len(batch)
            group.close()
        assert 0 < count <= 50

    run(main())


def test_a_cancelled_task_leaves_nothing(pair: Pair) -> None:
    log_udp(pair)

    async def main() -> None:
        with nfl.open_group(2, netns=pair.fw.path) as group:
            waiting = asyncio.create_task(_collect(group))
            await asyncio.sleep(0.05)
            assert watched() == 2
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert watched() == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await _collect(group)
            assert watched() == 0
            # The group is as good as before.
            await asyncio.to_thread(pair.send_udp, 7)
            seen = 0
            async for batch in group:
                seen += len(batch)
                if seen == 7:
                    break
            assert group.stats.gap == 0

    run(main())


def test_other_tasks_run_under_a_flood(pair: Pair) -> None:
    """More packets are there than one receive takes: between two batches others have their turn."""
    log_udp(pair)

    async def main() -> None:
        with nfl.open_group(2, netns=pair.fw.path, profile="throughput") as group:
            await asyncio.to_thread(pair.send_udp, 6000)
            turns = count = batches = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(other())
            async for batch in group:
                batches += 1
                count += len(batch)
                if count == 6000:
                    break
            ticking.cancel()
            assert batches >= 3
            assert turns >= batches - 1

    run(main())


def test_a_group_has_one_reader(pair: Pair) -> None:
    async def main() -> None:
        with nfl.open_group(2, netns=pair.fw.path) as group:
            first = asyncio.create_task(_collect(group))
            await asyncio.sleep(0.05)
            with pytest.raises(RuntimeError, match=r"<Group 2 .*is read by another task; a group has one reader"):
                await _collect(group)
            group.stop()
            assert await first == 0

    run(main())


def test_an_error_of_the_kernel_reaches_the_reader(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with nfl.open_group(2, netns=pair.fw.path) as group:

            def fail() -> nfl.Batch:
                raise nfl.KernelError("receive from group 2", 5)

            monkeypatch.setattr(group, "receive", fail)
            log_udp(pair)
            await asyncio.to_thread(pair.send_udp, 1)
            with pytest.raises(nfl.KernelError):
                await _collect(group)
            assert watched() == 0

    run(main())


def test_descriptors_are_given_back(pair: Pair) -> None:
    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        with nfl.open_group(2, netns=pair.fw.path) as group:
            group.stop()
            await _collect(group)

    cases: list[Callable[[], None]] = [lambda: run(main())]
    cases[0]()
    before = count()
    for _ in range(3):
        cases[0]()
    assert count() == before


def test_only_who_uses_it_imports_asyncio() -> None:
    done = run_python("import sys, nflowlevel as nfl; nfl.open_group, nfl.Group; print('asyncio' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
