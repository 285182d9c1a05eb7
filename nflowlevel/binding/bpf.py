# SPDX-License-Identifier: GPL-2.0-or-later
"""bpf(2): maps and programs as objects that own a descriptor, and what the kernel tells about them.

No libbpf: the one object shipped needs neither type information nor the kernel's structures, so that a small reader
(elf.py) and a system call per map load it in a millisecond. Loading needs CAP_BPF (or CAP_SYS_ADMIN); since Linux 5.19
whoever holds a descriptor may read and write a map without.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nflowlevel.binding import procfs
from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.descriptor import Descriptor
from nflowlevel.binding.elf import INSTRUCTION, Code, MapDefinition
from nflowlevel.errors import KernelError, NotSupported

CAP_BPF: int = lib.CAP_BPF
CAP_PERFMON: int = lib.CAP_PERFMON
CAP_SYS_ADMIN: int = lib.CAP_SYS_ADMIN

#: Room for what the verifier says; beyond that it stops.
_LOG_BYTES = 1 << 20
_NAME_BYTES = 15
_SOCKET_FILTER: int = lib.BPF_PROG_TYPE_SOCKET_FILTER
#: What a verifier says of a helper it does not know, or does not know for this type of program.
_NO_HELPER = re.compile(
    r"(?:unknown|invalid) func (?:unknown#|(?P<name>\w+)#)?(?P<number>\d+)"
    r"|program of this type cannot use helper (?P<helper>\w+)"
)
#: What it adds at the end, which is no reason.
_STATISTICS = re.compile(r"processed \d+ insns|verification time|stack depth|insns_processed|^\s*$")


class VerifierError(KernelError):
    """The verifier refused a program: `reason` is its last word, `log` all that it said."""

    def __init__(self, tried: str, error: int, log: str) -> None:
        self.log = log
        self.reason = next((line for line in reversed(log.splitlines()) if not _STATISTICS.search(line)), "")
        super().__init__(tried, error, f"the verifier says: {self.reason or 'nothing'}")


class _Owner:
    """Holds a descriptor until `close()`, which may be called again."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    @property
    def fd(self) -> int:
        """The descriptor; ValueError once closed."""
        fd = self._descriptor.fd
        if fd < 0:
            raise ValueError(f"the {type(self).__name__.lower()} is closed")
        return fd

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.fd

    def pin(self, path: Path) -> None:
        """Give it a name in a BPF file system, where it stays until the name is removed."""
        _check(lib.nfl_bpf_pin(self.fd, os.fsencode(path)), f"pin {path}")

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        self._descriptor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel knows of a map."""

    id: int
    name: str
    definition: MapDefinition


class BPFMap(_Owner):
    """A map; keys and values are bytes. In a map per CPU, a value holds those of all CPUs, one after the other."""

    def __init__(self, descriptor: Descriptor) -> None:
        super().__init__(descriptor)
        self.info = self._info()
        definition = self.info.definition
        size = definition.value_size
        per_cpu = definition.type == lib.BPF_MAP_TYPE_PERCPU_ARRAY
        self.value_bytes = (size + 7) // 8 * 8 * possible_cpus() if per_cpu else size

    @classmethod
    def create(cls, name: str, definition: MapDefinition) -> Self:
        """Make a map; NotSupported where the kernel does not know its type."""
        made = Descriptor()
        result = lib.nfl_bpf_map_create(made.into, *definition, name[:_NAME_BYTES].encode())
        if result == -errno.EINVAL:
            raise NotSupported(
                f"BPF map {name!r}",
                found=f"Linux {os.uname().release}, which refuses type {definition.type}",
                needed="Linux 5.12 or newer",
            )
        _check(result, f"make the BPF map {name!r}")
        return cls(made)

    @classmethod
    def pinned(cls, path: Path) -> Self:
        """Open a map by its name in a BPF file system."""
        return cls(_open(path))

    @classmethod
    def by_id(cls, number: int) -> Self:
        """Open a map by its number, which takes CAP_SYS_ADMIN."""
        found = Descriptor()
        _check(lib.nfl_bpf_map_by_id(found.into, number), f"open the BPF map {number}", CAP_SYS_ADMIN)
        return cls(found)

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        value = ffi.new("uint8_t[]", self.value_bytes)
        result = lib.nfl_bpf_map_lookup(self.fd, ffi.from_buffer(self._key(key)), value)
        if result == -errno.ENOENT:
            return None
        _check(result, f"look into the BPF map {self.info.name!r}")
        return bytes(ffi.buffer(value))

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of `key`."""
        if len(value) != self.value_bytes:
            raise ValueError(f"{self.info.name}: a value has {self.value_bytes} bytes, not {len(value)}")
        result = lib.nfl_bpf_map_update(self.fd, ffi.from_buffer(self._key(key)), ffi.from_buffer(value), 0)
        _check(result, f"write to the BPF map {self.info.name!r}")

    def delete(self, key: bytes) -> bool:
        """Remove `key`; False where it was not there."""
        result = lib.nfl_bpf_map_delete(self.fd, ffi.from_buffer(self._key(key)))
        if result == -errno.ENOENT:
            return False
        _check(result, f"remove from the BPF map {self.info.name!r}")
        return True

    def fill(self, keys: bytes, values: bytes) -> None:
        """Set many values: keys and values, each without gaps, in the same order."""
        definition = self.info.definition
        count = len(keys) // definition.key_size
        if (len(keys), len(values)) != (count * definition.key_size, count * self.value_bytes):
            raise ValueError(
                f"{self.info.name}: {len(keys)} bytes of keys and {len(values)} bytes of values do not fit"
            )
        result = lib.nfl_bpf_map_fill(
            self.fd, ffi.from_buffer(keys), definition.key_size, ffi.from_buffer(values), self.value_bytes, count
        )
        _check(result, f"fill the BPF map {self.info.name!r} with {count} entries")

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values; of a map that changes meanwhile perhaps not all, and some twice."""
        definition = self.info.definition
        room, key_size, value_size = definition.max_entries, definition.key_size, self.value_bytes
        # One key more: the one that leads on from the last entry is written before it is known to be too many.
        keys, values = ffi.new("uint8_t[]", (room + 1) * key_size), ffi.new("uint8_t[]", room * value_size)
        result = lib.nfl_bpf_map_dump(self.fd, keys, key_size, values, value_size, room)
        count = _check(result, f"read the BPF map {self.info.name!r}")
        all_keys, all_values = memoryview(ffi.buffer(keys)), memoryview(ffi.buffer(values))
        for number in range(count):
            key = all_keys[number * key_size : (number + 1) * key_size]
            yield bytes(key), bytes(all_values[number * value_size : (number + 1) * value_size])

    def memory(self) -> mmap.mmap:
        """Map the values of an array that was made for it (BPF_F_MMAPABLE), to be read without system calls."""
        definition = self.info.definition
        size = definition.max_entries * ((self.value_bytes + 7) & ~7)
        return mmap.mmap(self.fd, size, prot=mmap.PROT_READ)

    def freeze(self) -> None:
        """Let nobody change it any more from outside of programs."""
        _check(lib.nfl_bpf_map_freeze(self.fd), f"freeze the BPF map {self.info.name!r}")

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.info.definition.key_size:
            raise ValueError(f"{self.info.name}: a key has {self.info.definition.key_size} bytes, not {len(key)}")
        return key

    def _info(self) -> MapInfo:
        info = ffi.new("struct nfl_bpf_map_info *")
        _check(lib.nfl_bpf_map_info(self.fd, info), "ask about a BPF map")
        definition = MapDefinition(info.type, info.key_size, info.value_size, info.max_entries, info.flags)
        return MapInfo(info.id, ffi.string(info.name).decode(), definition)


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the kernel knows of a program. `runs` and `run_ns` count while statistics are on."""

    id: int
    name: str
    jited_bytes: int
    """Of machine code; 0 where it is interpreted."""
    map_ids: tuple[int, ...]
    runs: int
    run_ns: int


class Program(_Owner):
    """A socket filter, loaded."""

    @classmethod
    def load(cls, name: str, code: Code, maps: Mapping[str, BPFMap], license: str) -> Self:
        """Load a program whose references are to `maps`; the constants are the map "".

        VerifierError where the verifier refuses it, NotSupported where the kernel lacks what it is made of.
        """
        instructions = _relocated(code, maps)
        arguments = (_SOCKET_FILTER, instructions, len(instructions) // INSTRUCTION, license.encode(), name.encode())
        loaded = Descriptor()
        result = lib.nfl_bpf_program_load(loaded.into, *arguments, ffi.NULL, 0)
        if result < 0:
            raise _refused(arguments, name, -result)
        return cls(loaded)

    @classmethod
    def pinned(cls, path: Path) -> Self:
        """Open a program by its name in a BPF file system."""
        return cls(_open(path))

    @property
    def info(self) -> ProgramInfo:
        """What the kernel knows of it now."""
        info = ffi.new("struct nfl_bpf_program_info *")
        _check(lib.nfl_bpf_program_info(self.fd, info), "ask about a BPF program")
        ids = tuple(info.map_ids[0 : min(info.maps, len(info.map_ids))])
        return ProgramInfo(info.id, ffi.string(info.name).decode(), info.jited_bytes, ids, info.runs, info.run_ns)

    def test_run(self, frame: bytes, repeat: int = 1) -> int:
        """Run it over an Ethernet frame (BPF_PROG_TEST_RUN), as a socket would; what it returned last."""
        data = ffi.from_buffer(frame)
        run = ffi.new("struct nfl_bpf_run *", {"data": data, "size": len(frame), "repeat": repeat})
        _check(lib.nfl_bpf_program_run(self.fd, run), f"run a BPF program over {len(frame)} bytes")
        return int(run.result)


class Statistics(_Owner):
    """While it is open the kernel counts runs and nanoseconds of all programs (BPF_ENABLE_STATS)."""

    def __init__(self) -> None:
        super().__init__(Descriptor())
        result = lib.nfl_bpf_enable_statistics(self._descriptor.into)
        _check(result, "switch on the statistics of BPF", CAP_SYS_ADMIN)


# -- the machine -------------------------------------------------------------------------------------------------------


@functools.cache
def possible_cpus() -> int:
    """Return how many CPUs a value per CPU is for."""
    return _last_of(Path("/sys/devices/system/cpu/possible").read_text()) + 1


def _last_of(ranges: str) -> int:
    """Return the largest number of a list such as `0-3,8`."""
    return int(re.split("[-,]", ranges.strip())[-1])


def jit_is_on() -> bool | None:
    """Tell whether programs are compiled to machine code; None where it cannot be seen. Interpreted, all is slower."""
    try:
        return Path("/proc/sys/net/core/bpf_jit_enable").read_text().strip() != "0"
    except OSError:
        return None


def obstacle() -> str:
    """Return what keeps this thread from loading programs, "" where nothing does that can be seen."""
    if procfs.has_capability(CAP_SYS_ADMIN) or procfs.has_capability(CAP_BPF):
        where = procfs.user_namespace()
        return "" if where == "the initial user namespace" else f"capabilities count in {where} only"
    return "CAP_BPF is missing"


def slowness() -> str:
    """Return what makes programs slower that this thread loads, "" where nothing does that can be seen."""
    if not any(map(procfs.has_capability, (CAP_PERFMON, CAP_SYS_ADMIN))):
        return "CAP_PERFMON is missing, and without it the kernel adds barriers against Spectre to each program"
    return "the JIT is off (net.core.bpf_jit_enable), so programs are interpreted" if jit_is_on() is False else ""


# -- errors ------------------------------------------------------------------------------------------------------------


def _check(result: int, tried: str, capability: int = CAP_BPF) -> int:
    if result >= 0:
        return result
    if result == -errno.ENOSYS:
        raise NotSupported("BPF", found=f"Linux {os.uname().release} without bpf(2)", needed="CONFIG_BPF_SYSCALL")
    hint = ""
    if result == -errno.EPERM:
        hint = _permission_hint(capability)
    elif result == -errno.EACCES:
        hint = "what is pinned belongs to the user that pinned it; run as that user"
    raise KernelError(tried, -result, hint)


def _permission_hint(capability: int) -> str:
    remedy = "run as root; a service gets it by AmbientCapabilities="
    if capability == CAP_SYS_ADMIN:
        return "" if procfs.has_capability(CAP_SYS_ADMIN) else f"CAP_SYS_ADMIN is missing; {remedy}CAP_SYS_ADMIN"
    missing = obstacle()
    return f"{missing}; {remedy}CAP_BPF" if missing else "is the kernel locked down (/sys/kernel/security/lockdown)?"


def _open(path: Path) -> Descriptor:
    found = Descriptor()
    _check(lib.nfl_bpf_pinned(found.into, os.fsencode(path)), f"open what is pinned at {path}")
    return found


def _refused(arguments: tuple[object, ...], name: str, error: int) -> Exception:
    """Load it once more for the log, and say why it was refused."""
    tried = f"load the BPF program {name!r}"
    if error == errno.EPERM:
        return KernelError(tried, error, _permission_hint(CAP_BPF))
    log: CData = ffi.new("char[]", _LOG_BYTES)
    with Descriptor() as again:  # another moment, another answer
        lib.nfl_bpf_program_load(again.into, *arguments, log, _LOG_BYTES)
    text = ffi.string(log).decode("utf-8", "replace")
    release = f"Linux {os.uname().release}"
    if match := _NO_HELPER.search(text):
        helper = match["name"] or match["helper"] or match["number"]
        return NotSupported(f"the BPF helper {helper}", found=release, needed="Linux 5.12 or newer")
    if error == errno.EINVAL and not text.strip():
        return NotSupported(
            "BPF programs of type socket filter", found=release, needed="Linux 5.12 or newer, CONFIG_NET"
        )
    return VerifierError(tried, error, text)


def _relocated(code: Code, maps: Mapping[str, BPFMap]) -> bytes:
    """Return the instructions with descriptors of the maps where they refer to them (BPF_PSEUDO_MAP_FD, …_VALUE)."""
    instructions = bytearray(code.instructions)
    for reference in code.references:
        at = reference.instruction * INSTRUCTION
        kind = lib.BPF_PSEUDO_MAP_FD if reference.map else lib.BPF_PSEUDO_MAP_VALUE
        # The second byte: destination register in the lower half, the kind of the immediate in the upper one.
        instructions[at + 1] = instructions[at + 1] & 0x0F | kind << 4
        struct.pack_into("=i", instructions, at + 4, maps[reference.map].fd)
        struct.pack_into("=i", instructions, at + 12, reference.offset)
    return bytes(instructions)
