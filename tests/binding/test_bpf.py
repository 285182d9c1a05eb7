# SPDX-License-Identifier: GPL-2.0-or-later
"""Maps and programs on the real kernel, and how refusals are told."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from nflowlevel.binding import bpf
from nflowlevel.binding.bpf import BPFMap, Program, Statistics, VerifierError
from nflowlevel.binding.elf import Code, MapDefinition, Reference
from nflowlevel.errors import KernelError, NotSupported
from tests.fix_interrupt import interrupt_everywhere
from tests.fix_nobody import run_as_nobody
from tests.fix_prefilter import bpffs, needs_bpf

__all__ = ["bpffs"]

pytestmark = [pytest.mark.kernel, needs_bpf]

_HASH, _ARRAY, _PERCPU_ARRAY, _LPM = 1, 2, 6, 11
_MMAPABLE = 1024

FRAME = bytes(12) + b"\x88\xb5" + bytes(46)


def instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, dst | src << 4, offset, value)


EXIT = instruction(0x95)


def returning(value: int) -> Code:
    return Code(instruction(0xB7, 0, value=value) + EXIT, ())


def loaded(code: Code, **maps: BPFMap) -> Program:
    return Program.load("test", code, maps, "GPL")


# -- maps -------------------------------------------------------------------------------------------------------------


def test_a_map() -> None:
    with BPFMap.create("a_test", MapDefinition(_HASH, 4, 8, 5, 0)) as made:
        assert made.info.name == "a_test"
        assert made.info.definition == MapDefinition(_HASH, 4, 8, 5, 0)
        assert made.lookup(b"key1") is None
        made.update(b"key1", b"value--1")
        assert made.lookup(b"key1") == b"value--1"
        assert list(made.items()) == [(b"key1", b"value--1")]
        assert made.delete(b"key1")
        assert not made.delete(b"key1")
        assert list(made.items()) == []


def test_fill_and_items() -> None:
    keys = [struct.pack("=I", n) for n in range(1009)]
    values = [struct.pack("=Q", n * n) for n in range(1009)]
    with BPFMap.create("full", MapDefinition(_HASH, 4, 8, 1009, 0)) as made:
        made.fill(b"".join(keys), b"".join(values))
        assert dict(made.items()) == dict(zip(keys, values, strict=True))
        with pytest.raises(KernelError, match="fill the BPF map 'full' with 1 entries: Argument list too long"):
            made.fill(b"more", bytes(8))
        made.fill(b"", b"")


def test_what_does_not_fit_is_refused_before_the_kernel_reads_it() -> None:
    with BPFMap.create("fits", MapDefinition(_HASH, 4, 8, 5, 0)) as made:
        for wrong in (
            lambda: made.lookup(b"key"),
            lambda: made.delete(b"longkey"),
            lambda: made.update(b"key1", b"value"),
            lambda: made.fill(b"key1key2", b"value--1"),
            lambda: made.fill(b"key1k", b"value--1"),
        ):
            with pytest.raises(ValueError, match="fits: "):
                wrong()


def test_a_value_of_all_cpus() -> None:
    with BPFMap.create("each", MapDefinition(_PERCPU_ARRAY, 4, 12, 2, 0)) as made:
        value = made.lookup(bytes(4))
        assert value == bytes(16 * bpf.possible_cpus())
        made.update(bytes(4), b"x" * len(value))
        assert (made.lookup(bytes(4)) or b"")[:12] == b"x" * 12


@pytest.mark.parametrize(("text", "cpus"), [("0", 1), ("0-3", 4), ("0-3,8-11", 12), ("0,2\n", 3)])
def test_possible_cpus(text: str, cpus: int) -> None:
    assert bpf._last_of(text) + 1 == cpus


def test_memory_of_an_array() -> None:
    with BPFMap.create("memory", MapDefinition(_ARRAY, 4, 8, 100, _MMAPABLE)) as made:
        made.update(struct.pack("=I", 3), b"12345678")
        with made.memory() as memory:
            assert memory[24:32] == b"12345678"
            assert len(memory) == 800


def test_a_frozen_map() -> None:
    with BPFMap.create("frozen", MapDefinition(_ARRAY, 4, 4, 1, 0)) as made:
        made.freeze()
        with pytest.raises(KernelError, match="write to the BPF map 'frozen': Operation not permitted"):
            made.update(bytes(4), b"1234")


def test_an_unknown_type_is_not_supported() -> None:
    with pytest.raises(
        NotSupported, match=r"BPF map 'strange' is not available: found Linux .*, which refuses type 9999"
    ):
        BPFMap.create("strange", MapDefinition(9999, 4, 4, 1, 0))


def test_what_is_closed() -> None:
    made = BPFMap.create("closed", MapDefinition(_ARRAY, 4, 4, 1, 0))
    fd = made.fd
    made.close()
    made.close()
    with pytest.raises(ValueError, match="the bpfmap is closed"):
        made.lookup(bytes(4))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_by_number() -> None:
    with BPFMap.create("number", MapDefinition(_ARRAY, 4, 4, 1, 0)) as made:
        with BPFMap.by_id(made.info.id) as again:
            assert again.info == made.info
        number = made.info.id
    with pytest.raises(KernelError, match=f"open the BPF map {number}: No such file"):
        BPFMap.by_id(number)


# -- programs ---------------------------------------------------------------------------------------------------------


def test_a_program_runs() -> None:
    with loaded(returning(23)) as program:
        assert program.test_run(FRAME) == 23
        assert program.info.name == "test"
        assert (program.info.jited_bytes > 0) == bool(bpf.jit_is_on())
        assert program.info.map_ids == ()


def test_references_to_a_map_and_to_constants() -> None:
    # r0 = *(u32 *)(constants + 4)
    load = instruction(0x18, 1) + instruction(0) + instruction(0x61, 0, 1) + EXIT
    definition = MapDefinition(_ARRAY, 4, 8, 1, 128)
    with BPFMap.create("constants", definition) as constants, BPFMap.create("other", definition) as other:
        constants.update(bytes(4), struct.pack("=II", 7, 77))
        constants.freeze()
        code = Code(load, (Reference(0, "", 4),))
        with Program.load("test", code, {"": constants, "other": other}, "GPL") as program:
            assert program.test_run(FRAME) == 77
            assert program.info.map_ids == (constants.info.id,)


def test_statistics_count_runs() -> None:
    with loaded(returning(1)) as program, Statistics():
        before = program.info
        program.test_run(FRAME, repeat=1009)
        assert program.info.runs - before.runs == 1009
        assert program.info.run_ns > before.run_ns


def test_a_frame_that_is_too_short() -> None:
    with loaded(returning(1)) as program, pytest.raises(KernelError, match="run a BPF program over 13 bytes: Invalid"):
        program.test_run(FRAME[:13])


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_the_verifier_refuses() -> None:
    unread = Code(instruction(0xBF, 0, 5) + EXIT, ())  # r0 = r5, which was never written
    with pytest.raises(VerifierError) as caught:
        loaded(unread)
    error = caught.value
    assert (error.errno, error.reason) == (13, "R5 !read_ok")
    assert str(error) == "load the BPF program 'test': Permission denied — the verifier says: R5 !read_ok"
    assert "0: (bf) r0 = r5" in error.log
    assert "processed" in error.log


def test_a_helper_that_is_missing() -> None:
    with pytest.raises(NotSupported, match="the BPF helper 9999 is not available: found Linux"):
        loaded(Code(instruction(0x85, value=9999) + EXIT, ()))


def test_a_helper_that_is_not_for_socket_filters() -> None:
    redirect = Code(instruction(0xB7, 1) + instruction(0xB7, 2) + instruction(0x85, value=23) + EXIT, ())
    with pytest.raises(NotSupported, match=r"the BPF helper (bpf_redirect|23) is not available"):
        loaded(redirect)


def test_without_capabilities() -> None:
    def use() -> int:
        for try_it in (
            lambda: BPFMap.create("x", MapDefinition(_ARRAY, 4, 4, 1, 0)),
            lambda: loaded(returning(1)),
            Statistics,
            lambda: BPFMap.by_id(1),
        ):
            try:
                try_it()
            except KernelError as error:
                print(error)
        return 0

    lines = run_as_nobody(use).output.splitlines()
    remedy = "missing; run as root; a service gets it by AmbientCapabilities="
    assert lines == [
        f"make the BPF map 'x': Operation not permitted — CAP_BPF is {remedy}CAP_BPF",
        f"load the BPF program 'test': Operation not permitted — CAP_BPF is {remedy}CAP_BPF",
        f"switch on the statistics of BPF: Operation not permitted — CAP_SYS_ADMIN is {remedy}CAP_SYS_ADMIN",
        f"open the BPF map 1: Operation not permitted — CAP_SYS_ADMIN is {remedy}CAP_SYS_ADMIN",
    ]


def test_pins_of_another_user(bpffs: Path) -> None:
    path = bpffs / "mine"
    with BPFMap.create("mine", MapDefinition(_ARRAY, 4, 4, 1, 0)) as made:
        made.pin(path)
    try:
        done = run_as_nobody(lambda: _open(path))
        assert f"open what is pinned at {path}: Permission denied — " in done.output
    finally:
        path.unlink()


def _open(path: Path) -> int:
    try:
        BPFMap.pinned(path)
    except KernelError as error:
        print(error)
    return 0


def test_pinned(bpffs: Path) -> None:
    with BPFMap.create("kept", MapDefinition(_ARRAY, 4, 4, 1, 0)) as made, loaded(returning(5)) as program:
        made.pin(bpffs / "kept")
        program.pin(bpffs / "run")
        with pytest.raises(KernelError, match="File exists"):
            made.pin(bpffs / "kept")
        number = made.info.id
    with BPFMap.pinned(bpffs / "kept") as made, Program.pinned(bpffs / "run") as program:
        assert made.info.id == number
        assert program.test_run(FRAME) == 5
    (bpffs / "kept").unlink()
    (bpffs / "run").unlink()
    with pytest.raises(KernelError, match="No such file"):
        BPFMap.pinned(bpffs / "kept")


# -- the machine ------------------------------------------------------------------------------------------------------


def test_states_of_the_machine() -> None:
    assert bpf.jit_is_on() in (True, False)
    assert bpf.obstacle() == ""
    assert bpf.slowness() == ""
    printed = run_as_nobody(lambda: print(bpf.obstacle(), "|", bpf.slowness()) or 0).output
    assert printed.startswith("CAP_BPF is missing | CAP_PERFMON is missing")


def test_interrupts(bpffs: Path) -> None:
    """A map and a program are owned from the moment that they are there."""

    def use() -> None:
        with BPFMap.create("a_test", MapDefinition(_HASH, 4, 8, 5, 0)) as made, loaded(returning(1)) as program:
            BPFMap.by_id(made.info.id).close()
            program.pin(bpffs / "program")
            Program.pinned(bpffs / "program").close()

    def again() -> None:
        (bpffs / "program").unlink(missing_ok=True)
        use()

    interrupt_everywhere(again, least=50)
