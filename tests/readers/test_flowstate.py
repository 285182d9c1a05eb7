# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that a run leaves for the next one: nothing is reported twice, nothing that others put there is believed."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.binding.flowtable import KEPT_BYTES
from nflowlevel.errors import KernelError
from nflowlevel.readers.flows import open_flows
from nflowlevel.readers.flowstate import StateFile
from tests.fix_netns import Netns
from tests.fix_watched import Watched, known, read, records, reported, summed

PORTS = range(20000, 20040)
HEAD = b"nflowlevel: flows that go on, 1, %d\n" % KEPT_BYTES


def left(watched: Watched, path: Path) -> int:
    """Let a run report flows and leave its file; the packets that it reported."""
    with open_flows(netns=watched.fw.path, track=True, state_file=str(path)) as reader:
        watched.udp_flows(PORTS, packets=2)
        batches = reported(reader)
        reader.stop()
        batches += [*reader.batches()]
    assert path.stat().st_size == len(HEAD) + len(PORTS) * KEPT_BYTES
    return summed(batches).packets


def rest(watched: Watched, path: Path) -> int:
    """Have all flows end; the packets that another run reports."""
    with open_flows(netns=watched.fw.path, track=True, state_file=str(path)) as reader:
        known(reader)
        watched.flush()
        return summed(read(reader)).packets


def test_a_reader_that_has_received_nothing_leaves_it_to_the_next(watched: Watched, tmp_path: Path) -> None:
    """As where an output cannot be opened: the daemon closes the input again, and tries later."""
    told = left(watched, tmp_path / "state")
    for _ in range(2):
        open_flows(netns=watched.fw.path, track=True, state_file=str(tmp_path / "state")).close()
    assert told + rest(watched, tmp_path / "state") == watched.seen().packets


def test_a_reader_that_cannot_be_opened_leaves_it_to_the_next(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = left(watched, tmp_path / "state")

    def refuse(*_: object, **__: object) -> None:
        raise KernelError("listen for flows", 1)

    with monkeypatch.context() as patched:
        patched.setattr("nflowlevel.readers.flows.EventSocket.listen", refuse)
        with pytest.raises(KernelError):
            open_flows(netns=watched.fw.path, track=True, state_file=str(tmp_path / "state"))
    assert told + rest(watched, tmp_path / "state") == watched.seen().packets


def test_it_is_good_for_one_run(watched: Watched, tmp_path: Path) -> None:
    """Who is killed has reported more than the file says."""
    state = tmp_path / "state"
    left(watched, state)
    with open_flows(netns=watched.fw.path, track=True, state_file=str(state)) as reader:
        reader.receive()
        assert not state.exists()


def test_one_that_may_not_be_removed_is_emptied(netns: Netns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the user of -u, in a directory of root's."""
    state = tmp_path / "state"
    state.write_bytes(HEAD + bytes(3 * KEPT_BYTES))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("nflowlevel.readers.flowstate.unlink_open", refuse)
    with open_flows(netns=netns.path, track=True, state_file=str(state)) as reader:
        reader.receive()
    assert state.read_bytes() == HEAD


def test_the_file_of_somebody_else_stays(netns: Netns, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "passwd"
    state.write_text("root:x:0:0\n")
    with open_flows(netns=netns.path, track=True, state_file=str(state)) as reader:
        reader.stop()
        assert not [*reader.batches()]
    assert state.read_text() == "root:x:0:0\n"
    assert "stays as it is, and nothing is kept for the next run: use another path" in caplog.text


def test_a_second_name_of_another_file_is_not_written_to(tmp_path: Path) -> None:
    """Put there while the daemon runs."""
    secret, state = tmp_path / "secret", tmp_path / "state"
    secret.write_text("precious")
    os.link(secret, state)
    StateFile(str(state)).write([b"x" * KEPT_BYTES])
    assert secret.read_text() == "precious"
    assert state.read_bytes() == HEAD + b"x" * KEPT_BYTES


def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "state"
    os.mkfifo(state)
    assert not [*StateFile(str(state)).read(9)]
    state.unlink()
    os.symlink("/dev/zero", state)
    assert not [*StateFile(str(state)).read(9)]
    assert caplog.text.count("are reported once more") == 2


def test_a_huge_one_is_not_read(netns: Netns, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "state"
    state.write_bytes(HEAD)
    os.truncate(state, len(HEAD) + (KEPT_BYTES << 32))
    with open_flows(netns=netns.path, track=True, max_flows=1000, state_file=str(state)) as reader:
        known(reader)
        assert reader.stats.tracked == 0
    assert "is not a file of this version" in caplog.text


def test_what_no_run_can_have_left_is_not_believed(watched: Watched, tmp_path: Path) -> None:
    state = tmp_path / "state"
    left(watched, state)
    kept = state.read_bytes()[len(HEAD) :]
    entries = [bytearray(kept[at : at + KEPT_BYTES]) for at in range(0, len(kept), KEPT_BYTES)]
    # More was reported than was counted; no family; nothing was reported; nothing is known of it.
    struct.pack_into("=Q", entries[0], KEPT_BYTES - 32, 10**6)
    struct.pack_into("=Q", entries[1], KEPT_BYTES - 8, 1)
    struct.pack_into("=Q", entries[2], 0, 1)
    entries[3] = bytearray(KEPT_BYTES)
    state.write_bytes(HEAD + b"".join(entries))
    with open_flows(netns=watched.fw.path, track=True, state_file=str(state)) as reader:
        assert reader.stats.tracked == len(PORTS) - 4
        known(reader)
        watched.flush()
        found = sorted(records(read(reader), "packets", "flow.number"))
    assert found == [(0, 2)] * (len(PORTS) - 4) + [(2, 1)] * 4


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "state"
    state.write_bytes(HEAD)

    def kept() -> Iterator[bytes]:
        yield b"x" * KEPT_BYTES
        raise OSError(28, "No space left on device")

    StateFile(str(state)).write(kept())
    assert state.read_bytes() == HEAD
    assert os.listdir(tmp_path) == ["state"]
    assert "No space left on device; the next run reports flows once more" in caplog.text


def test_only_one_reader_at_a_time_has_it(watched: Watched, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a second one has reported is not in the outputs of the first."""
    state = tmp_path / "state"
    with open_flows(netns=watched.fw.path, track=True, state_file=str(state)) as first:
        watched.udp_flows(PORTS, packets=2)
        told = summed(reported(first)).packets
        with open_flows(netns=watched.fw.path, track=True, state_file=str(state)) as second:
            assert f"{state}: another reader of flows has it" in caplog.text
            watched.udp_flows(PORTS, packets=3)
            reported(second)
            second.stop()
            assert summed(second.batches()).packets == 0
        assert not state.exists()
        first.stop()
        told += summed(first.batches()).packets
    assert [*tmp_path.iterdir()] == [state]
    assert told + rest(watched, state) == watched.seen().packets


def test_it_is_written_when_outputs_have_what_was_reported(watched: Watched, tmp_path: Path) -> None:
    """A daemon closes its inputs after its outputs: who is killed in between may have lost what they still held."""
    state = tmp_path / "state"
    with open_flows(netns=watched.fw.path, track=True, state_file=str(state)) as reader:
        watched.udp_flows(PORTS, packets=2)
        assert summed(reported(reader)).packets
        reader.stop()
        assert summed(reader.batches()).packets == 0
        assert not state.exists()
    assert state.exists()


def test_a_lock_that_a_killed_reader_left_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = tmp_path / "state.lock"
    lock.touch()
    file = StateFile(str(tmp_path / "state"))
    assert [*file.read(10)] == []
    file.write([])
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert not caplog.text


def test_a_lock_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    """Links are not followed; without a lock all is as it was."""
    target = tmp_path / "target"
    target.write_text("theirs")
    (tmp_path / "state.lock").symlink_to(target)
    file = StateFile(str(tmp_path / "state"))
    assert [*file.read(10)] == []
    file.write([])
    file.close()
    assert (target.read_text(), (tmp_path / "state.lock").is_symlink()) == ("theirs", True)
    assert (tmp_path / "state").read_bytes() == HEAD
