# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of BPF objects, on the one that is shipped and on what is no such object."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from nflowlevel.binding import elf
from nflowlevel.binding._lib import ffi, lib

ROOT = Path(__file__).parent.parent.parent
OBJECT = ROOT / "nflowlevel/prefilter/prefilter.bpf.o"

pytestmark = pytest.mark.skipif(not OBJECT.exists(), reason="nflowlevel was built without clang")


@pytest.fixture(scope="module")
def shipped() -> elf.Object:
    return elf.read(OBJECT.read_bytes())


def test_programs_and_maps(shipped: elf.Object) -> None:
    assert set(shipped.programs) == {"filter", "dispatch", "parse"}
    assert shipped.license == "GPL"
    assert set(shipped.maps) == {
        "networks4",
        "networks6",
        "slots",
        "counters",
        "state",
        "port_sets",
        "sources",
        "flows",
        "ports_seen",
        "global",
        "parsed",
    }
    assert shipped.maps["slots"] == elf.MapDefinition(3, 4, 4, lib.NFL_PREFILTER_SLOTS, 0)


def test_both_sides_have_the_same_structs(shipped: elf.Object) -> None:
    sizes = {name: (definition.key_size, definition.value_size) for name, definition in shipped.maps.items()}
    assert sizes["counters"] == (4, ffi.sizeof("struct nfl_cell"))
    assert sizes["state"] == (4, ffi.sizeof("struct nfl_state"))
    assert sizes["sources"] == (16, ffi.sizeof("struct nfl_source"))
    assert sizes["flows"] == (ffi.sizeof("struct nfl_flow_key"), 8)
    assert sizes["networks4"] == (ffi.sizeof("struct nfl_network4"), 4)
    assert sizes["networks6"] == (ffi.sizeof("struct nfl_network6"), 4)
    assert sizes["parsed"] == (4, ffi.sizeof("struct nfl_packet"))
    assert len(shipped.constants) >= ffi.sizeof("struct nfl_rules")


def test_references(shipped: elf.Object) -> None:
    (only,) = shipped.programs["dispatch"].references
    assert (only.map, only.offset) == ("slots", 0)
    used = {reference.map for reference in shipped.programs["filter"].references}
    assert used == set(shipped.maps) - {"slots", "parsed"} | {""}
    for code in shipped.programs.values():
        for reference in code.references:
            assert code.instructions[reference.instruction * elf.INSTRUCTION] == 0x18, "no ld_imm64"


def test_constants_are_found_by_their_offset(tmp_path: Path) -> None:
    source = """
        typedef unsigned int u32;
        const volatile u32 a __attribute__((section(".rodata"))) = 1, b __attribute__((section(".rodata"))) = 0x77;
        __attribute__((section("socket/x"), used)) int x(void *c) { return b; }
    """
    code = compiled(tmp_path, source)
    (reference,) = code.programs["x"].references
    assert reference.map == ""
    assert struct.unpack_from("=I", code.constants, reference.offset) == (0x77,)


def test_a_reference_to_something_else_is_refused(tmp_path: Path) -> None:
    source = """
        int elsewhere;
        __attribute__((section("socket/x"), used)) int x(void *c) { return elsewhere; }
    """
    with pytest.raises(ValueError, match="'elsewhere', which is neither a map nor a constant"):
        compiled(tmp_path, source)


def test_a_call_to_another_section_is_refused(tmp_path: Path) -> None:
    source = """
        __attribute__((noinline)) int other(void *c) { return *(int *)c; }
        __attribute__((section("socket/x"), used)) int x(void *c) { return other(c); }
    """
    with pytest.raises(ValueError, match="a relocation of kind 10"):
        compiled(tmp_path, source)


def compiled(directory: Path, source: str) -> elf.Object:
    if shutil.which("clang") is None:
        pytest.skip("no clang")
    (directory / "x.c").write_text(source)
    command = ["clang", "-O2", "-target", "bpf", "-c", directory / "x.c", "-o", directory / "x.o"]
    subprocess.run(command, check=True)
    return elf.read((directory / "x.o").read_bytes())


@pytest.mark.parametrize("data", [b"", b"\x7fELF", bytes(64), b"#!/bin/sh\n" * 20])
def test_what_is_no_object(data: bytes) -> None:
    with pytest.raises(ValueError, match="BPF object"):
        elf.read(data)


def test_an_object_for_another_machine() -> None:
    with pytest.raises(ValueError, match="not a BPF object"):
        elf.read(Path("/proc/self/exe").read_bytes())


def test_a_cut_object() -> None:
    data = OBJECT.read_bytes()
    for length in (*range(200), *range(200, len(data), 997), len(data) - 1):
        with pytest.raises(ValueError, match="BPF object"):
            elf.read(data[:length])


def test_a_broken_object_is_refused_or_read_but_nothing_else() -> None:
    rng, data = random.Random(5), OBJECT.read_bytes()
    refused = 0
    for _ in range(2000):
        broken = bytearray(data)
        # Most of it is code and zeros: where the headers are, faults matter.
        broken[rng.choice((rng.randrange(64), rng.randrange(len(data) - 2000, len(data))))] = rng.randrange(256)
        try:
            elf.read(bytes(broken))
        except ValueError:
            refused += 1
    assert refused > 50, "the faults were without consequence: they test nothing"
