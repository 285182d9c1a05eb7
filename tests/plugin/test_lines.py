# SPDX-License-Identifier: GPL-2.0-or-later
"""The bases of outputs that write lines: all of an output but its options and its rendering."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar

import pytest

from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.errors import OutputError
from nflowlevel.options import describe
from nflowlevel.outputs.json import JSONOptions
from nflowlevel.plugin.contract import Member, check_plugin
from nflowlevel.plugin.lines import File, LineOptions, LineOutput, TargetOutput
from nflowlevel.records.batch import Batch
from nflowlevel.stats import OutputStats
from tests.fix_lines import check, no_descriptor_left, small_disk, wait_for
from tests.fix_plugins import batch_of
from tests.fix_receiver import Receiver


class ShortOptions(LineOptions, frozen=True, kw_only=True):
    file: File = "-"


class ShortStats(OutputStats):
    reasons: ClassVar[Mapping[str, str]] = {**OutputStats.reasons, "boring": "It was."}


class Short(LineOutput[ShortOptions]):
    """SHORT: a line for each packet, in two pieces a batch."""

    name = "SHORT"
    Options = ShortOptions
    consumes = ("oob.prefix",)
    Stats = ShortStats

    def bind(self, members: tuple[Member, ...]) -> None:
        """There is nothing to prepare."""

    def render(self, batch: Batch) -> Iterator[tuple[bytes, int]]:
        assert len(batch), "an empty batch is not rendered"
        lines = [f"{prefix}\n".encode() for prefix in batch.values("oob.prefix")]
        yield lines[0], 1
        yield b"".join(lines[1:]), len(lines) - 1


Make = Callable[..., Short]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Short] = []

    def make(**options: Any) -> Short:
        made.append(Short("s", ShortOptions(**options)))
        made[-1].open()
        return made[-1]

    with no_descriptor_left():
        yield make
        for output in made:
            output.close(0.0)
            check(output.stats)


def test_a_subclass_is_a_plugin_with_two_methods_of_its_own() -> None:
    check_plugin(Short)
    assert {name for name in vars(Short) if isinstance(vars(Short)[name], FunctionType)} == {"bind", "render"}
    assert TargetOutput.__abstractmethods__ == {"bind", "make_target", "write"}
    assert LineOutput.__abstractmethods__ == {"bind", "render"}


def test_options_for_delivery_are_declared_once() -> None:
    shared = {option.name for option in describe(LineOptions)}
    assert shared == {"mode", "file", "host", "port", "sync", "max_pending_bytes"}
    assert shared & set(JSONOptions.__annotations__) == {"file"}
    assert {option.name: option.mandatory for option in describe(LineOptions)}["file"]
    by_name = {option.name: option for option in describe(ShortOptions)}
    assert by_name["file"].default == "-"
    assert by_name["file"].description.startswith("File or FIFO")


def test_lines_in_a_file(make: Make, tmp_path: Path) -> None:
    output = make(file=f"{tmp_path}/out")
    output.write(batch_of(count=3))
    output.write(Batch(None, 0))
    assert (tmp_path / "out").read_text() == "p\n" * 3
    assert isinstance(output.stats, ShortStats)
    assert (output.stats.records, output.stats.written, output.deadline) == (3, 3, None)
    assert output.state == f"writing to {tmp_path}/out"


def test_a_file_that_was_rotated(make: Make, tmp_path: Path) -> None:
    output = make(file=f"{tmp_path}/out")
    output.write(batch_of(count=1))
    (tmp_path / "out").rename(tmp_path / "old")
    output.write(batch_of(count=2))
    output.reopen()
    output.write(batch_of(count=3))
    assert (tmp_path / "old").read_text() == "p\n" * 3
    assert (tmp_path / "out").read_text() == "p\n" * 3


def test_open_again_after_close(make: Make, tmp_path: Path) -> None:
    output = make(file=f"{tmp_path}/out")
    output.close()
    output.write(batch_of(count=2))
    assert output.stats.dropped["stop"] == 2
    output.open()
    output.write(batch_of(count=3))
    assert (tmp_path / "out").read_text() == "p\n" * 3
    assert (output.stats.records, output.stats.written) == (5, 3)


def test_what_waits_is_bounded_and_tried_again(make: Make, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4k") as disk:
        (disk / "filler").write_bytes(b"x" * 4096)
        output = make(file=f"{disk}/out", max_pending_bytes=4)
        output.write(batch_of(count=2))
        assert (output.stats.pending, output.stats.written) == (2, 0)
        assert output.deadline is not None
        output.write(batch_of(count=2))
        assert output.stats.dropped["full"] == 2
        (disk / "filler").unlink()
        output.retry()
        assert (disk / "out").read_text() == "p\n" * 2
        assert output.deadline is None
        output.close()


def test_a_target_that_cannot_be_opened(tmp_path: Path) -> None:
    output = Short("s", ShortOptions(file=f"{tmp_path}/gone/out"))
    with pytest.raises(OutputError, match="create the directory"):
        output.open()
    output.close()


@pytest.mark.parametrize("sync", [False, True])
def test_sync_is_for_files(make: Make, tmp_path: Path, sync: bool) -> None:
    output = make(file=f"{tmp_path}/out", sync=sync)
    assert isinstance(output._target, AppendFile)
    output.write(batch_of(count=2))
    wait_for(lambda: output.stats.written == 2, [output.stats])
    output.close()
    assert (tmp_path / "out").read_text() == "p\n" * 2


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix"])
def test_lines_to_a_peer(make: Make, tmp_path: Path, kind: str) -> None:
    receiver = Receiver(kind, tmp_path)
    try:
        where = {"file": receiver.address} if kind == "unix" else {"port": str(receiver.address[1])}
        output = make(mode=kind, **where)
        output.write(batch_of(count=3))
        wait_for(lambda: receiver.data.count(b"\n") == 3, [output.stats])
        output.close()
        assert receiver.data == b"p\n" * 3
        assert output.stats.written == 3
    finally:
        receiver.stop()


def test_what_the_doctor_looks_at_follows_the_mode(tmp_path: Path) -> None:
    file, gone = f"{tmp_path}/out", f"{tmp_path}/gone"
    examined = {
        mode: [(found.status, found.text) for found in Short("s", ShortOptions(mode=mode, **options)).examine()]  # type: ignore[arg-type]
        for mode, options in (
            ("file", {"file": file}),
            ("unix", {"file": gone}),
            ("tcp", {"host": "localhost", "port": "no-such"}),
            ("udp", {"host": "127.0.0.1", "port": "9"}),
        )
    }
    assert examined["file"] == [("ok", f"file={file} does not exist and can be created")]
    assert examined["unix"] == [("problem", f"unix socket {gone}: {os.strerror(2)}")]
    assert examined["tcp"][0][1].startswith("tcp peer localhost port no-such: ")
    assert examined["udp"][0][1].startswith("udp peer 127.0.0.1 port 9 is 127.0.0.1")


def test_a_daemon_that_becomes_another_user_learns_the_file(make: Make) -> None:
    assert list(make(file="/var/log/short").files()) == ["/var/log/short"]
    for options in ({"file": "-"}, {"file": "/dev/stdout"}, {"mode": "tcp"}, {"mode": "unix", "file": "/run/socket"}):
        assert list(make(**options).files()) == []
