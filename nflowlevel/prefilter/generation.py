# SPDX-License-Identifier: GPL-2.0-or-later
"""What a prefilter is made of in the kernel: the shipped object, maps of all generations, and one generation's program.

A generation is a set of rules: frozen constants, networks and port sets, and the program `filter` verified with them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from nflowlevel.binding._lib import lib
from nflowlevel.binding.bpf import BPFMap, Program
from nflowlevel.binding.elf import MapDefinition, Object, read
from nflowlevel.errors import NotSupported
from nflowlevel.prefilter.conditions import PrefilterOptions
from nflowlevel.prefilter.memory import Entries, compile_networks, compile_ports, compile_rules, hashed_lengths

#: What setup.py makes of bpf/prefilter.bpf.c.
OBJECT = Path(__file__).with_name("prefilter.bpf.o")

#: Maps of all generations, and the option that sets the size of each where there is one; and the dispatcher's slots.
SHARED: Mapping[str, str] = {
    "counters": "",
    "state": "",
    "sources": "sources",
    "flows": "flows",
    "ports_seen": "",
    "global": "",
}
SLOTS = "slots"


def shipped() -> Object:
    """Return what is in the object; NotSupported where nflowlevel was built without clang."""
    try:
        return _read(OBJECT)
    except FileNotFoundError:
        raise NotSupported(
            "the BPF prefilter",
            found=f"an installation made without clang (no {OBJECT.name} beside the modules)",
            needed="clang (Debian's package: clang), then: pip install --force-reinstall --no-binary :all: nflowlevel, "
            "in a checkout: python setup.py build_ext --inplace",
        ) from None


@functools.cache
def _read(path: Path) -> Object:
    return read(path.read_bytes())


def shared_maps(rules: PrefilterOptions) -> dict[str, BPFMap]:
    """Make the maps of all generations, and the slots."""
    definitions = shipped().maps
    made: dict[str, BPFMap] = {}
    with contextlib.ExitStack() as undo:
        for name, option in {**SHARED, SLOTS: ""}.items():
            size = getattr(rules, option) if option else definitions[name].max_entries
            made[name] = undo.enter_context(BPFMap.create(name, definitions[name]._replace(max_entries=size)))
        undo.pop_all()
    return made


def dispatcher(maps: Mapping[str, BPFMap]) -> Program:
    """Load the program that rules hold."""
    return Program.load("nfl_dispatch", shipped().programs["dispatch"], maps, shipped().license)


@contextlib.contextmanager
def generation(rules: PrefilterOptions, maps: Mapping[str, BPFMap]) -> Iterator[Program]:
    """Load a generation; a slot that has its program by the end of the block keeps alive what it is made of."""
    with contextlib.ExitStack() as made:
        own = {
            "": made.enter_context(_constants(compile_rules(rules))),
            "port_sets": made.enter_context(_filled("port_sets", compile_ports(rules))),
        }
        for version, entries in zip((4, 6), compile_networks(rules), strict=True):
            name = f"networks{version}"
            own[name] = made.enter_context(_filled(name, entries, hashed=bool(hashed_lengths(rules, version))))
        code = shipped().programs["filter"]
        yield made.enter_context(Program.load("nfl_filter", code, {**maps, **own}, shipped().license))


def _constants(rules: bytes) -> BPFMap:
    """Return the map of a program's constants, frozen so that the verifier may believe them."""
    all_bytes = rules + shipped().constants[len(rules) :]
    definition = MapDefinition(lib.BPF_MAP_TYPE_ARRAY, 4, len(all_bytes), 1, lib.BPF_F_RDONLY_PROG)
    constants = BPFMap.create("rules", definition)
    constants.update(bytes(4), all_bytes)
    constants.freeze()
    return constants


def _filled(name: str, entries: Entries, *, hashed: bool = False) -> BPFMap:
    """Return a map with these entries, perhaps as a hash; one of networks has room for no more."""
    definition = shipped().maps[name]
    if hashed:
        definition = definition._replace(type=lib.BPF_MAP_TYPE_HASH, flags=0)
    size = len(entries.keys) // definition.key_size
    made = BPFMap.create(name, definition._replace(max_entries=max(size, definition.max_entries)))
    made.fill(entries.keys, entries.values)
    return made
