# SPDX-License-Identifier: GPL-2.0-or-later
"""A reader of the relocatable ELF objects that clang makes for BPF: programs, maps, constants, and what refers to what.

It knows what bpf/ uses and refuses the rest: maps as plain structs in the section `maps`, constants in `.rodata`, each
program in a section `socket/NAME`, no calls between sections; all in the machine's own byte order. elf(5).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_MAGIC = b"\x7fELF\x02" + (b"\x01" if sys.byteorder == "little" else b"\x02")
_RELOCATABLE, _MACHINE_BPF = 1, 247
_SYMBOL_TABLE, _RELOCATIONS = 2, 9
#: R_BPF_64_64: the address of a symbol into an instruction of 16 bytes.
_LOAD_ADDRESS = 1

_HEADER = struct.Struct("=16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("=IIQQQQIIQQ")
_SYMBOL = struct.Struct("=IBBHQQ")
_RELOCATION = struct.Struct("=QQ")
_MAP = struct.Struct("=5I")

_PROGRAM_PREFIX = "socket/"
#: Bytes of an instruction; of `ld_imm64` (its first byte) two.
INSTRUCTION = 8
_LOAD_IMMEDIATE = 0x18


class MapDefinition(NamedTuple):
    """A map as the object declares it: struct map_definition of bpf/kernel.h."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


class Reference(NamedTuple):
    """An instruction that loads the address of a map, or of a byte of the constants (`map` is "")."""

    instruction: int
    map: str
    offset: int


@dataclass(frozen=True, slots=True)
class Code:
    """The instructions of a program, and where they refer to maps."""

    instructions: bytes
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Object:
    """What is in an object file."""

    programs: dict[str, Code]
    maps: dict[str, MapDefinition]
    constants: bytes
    license: str


class _Section(NamedTuple):
    name: str
    type: int
    data: bytes
    link: int
    info: int


class _Symbol(NamedTuple):
    name: str
    section: int
    value: int


def read(data: bytes) -> Object:
    """Return what is in an object file; ValueError where it is not one, or has something that is not known here."""
    try:
        return _read(data)
    except (struct.error, LookupError, OverflowError) as error:
        raise ValueError(f"the BPF object is cut or broken: {error}") from None


def _read(data: bytes) -> Object:
    sections = _sections(data)
    symbols = [
        symbol for section in sections if section.type == _SYMBOL_TABLE for symbol in _symbols(sections, section)
    ]
    by_name = {section.name: section.data for section in sections}
    places = {name: number for number, name in enumerate(section.name for section in sections)}
    maps = {
        symbol.name: MapDefinition(*_MAP.unpack_from(by_name["maps"], symbol.value))
        for symbol in symbols
        if symbol.name and symbol.section == places.get("maps")
    }
    programs = {
        section.name.removeprefix(_PROGRAM_PREFIX): Code(
            section.data, tuple(_references(sections, number, symbols, places))
        )
        for number, section in enumerate(sections)
        if section.name.startswith(_PROGRAM_PREFIX)
    }
    return Object(programs, maps, by_name.get(".rodata", b""), _text(by_name.get("license", b"")))


def _sections(data: bytes) -> list[_Section]:
    ident, kind, machine, _, _, _, start, _, _, _, _, size, count, names = _HEADER.unpack_from(data)
    if ident[:6] != _MAGIC or (kind, machine) != (_RELOCATABLE, _MACHINE_BPF) or size != _SECTION.size:
        raise ValueError("not a BPF object of this machine's byte order")
    rows = [_SECTION.unpack_from(data, start + number * size) for number in range(count)]
    _, _, _, _, names_at, names_size, *_ = rows[names]
    texts = data[names_at : names_at + names_size]
    sections = []
    for name, section_type, _, _, at, length, link, info, _, _ in rows:
        if at + length > len(data):
            raise ValueError("a section of the BPF object is cut")
        sections.append(_Section(_text(texts[name:]), section_type, data[at : at + length], link, info))
    return sections


def _symbols(sections: list[_Section], table: _Section) -> Iterator[_Symbol]:
    texts = sections[table.link].data
    for name, _, _, section, value, _ in _SYMBOL.iter_unpack(table.data):
        yield _Symbol(_text(texts[name:]), section, value)


def _references(
    sections: list[_Section], program: int, symbols: list[_Symbol], places: dict[str, int]
) -> Iterator[Reference]:
    code = sections[program].data
    for table in sections:
        if table.type != _RELOCATIONS or table.info != program:
            continue
        for at, info in _RELOCATION.iter_unpack(table.data):
            kind, symbol = info & 0xFFFFFFFF, symbols[info >> 32]
            if kind != _LOAD_ADDRESS or at % INSTRUCTION or code[at] != _LOAD_IMMEDIATE:
                raise ValueError(f"{sections[program].name}: a relocation of kind {kind} for {symbol.name!r}")
            if symbol.section == places.get("maps"):
                yield Reference(at // INSTRUCTION, symbol.name, 0)
            elif symbol.section == places.get(".rodata"):
                (addend,) = struct.unpack_from("=i", code, at + 4)
                yield Reference(at // INSTRUCTION, "", symbol.value + addend)
            else:
                raise ValueError(
                    f"{sections[program].name} refers to {symbol.name!r}, which is neither a map nor a constant"
                )


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode()
