# SPDX-License-Identifier: GPL-2.0-or-later
"""A BPF program of a few instructions, for the tests of rules that hold one: it matches UDP to one port.

bpf(2) is called by hand, so that nothing of nflowlevel's loader can make the rules look right, or wrong.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_netns import missing

_SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
_PROG_LOAD, _OBJ_PIN = 5, 6
_SOCKET_FILTER = 1
_libc = ctypes.CDLL(None, use_errno=True)

_MOV_REG, _MOV, _JUMP, _JUMP_EQ, _JUMP_NE, _EXIT = 0xBF, 0xB7, 0x05, 0x15, 0x55, 0x95
_LOAD_BYTE, _LOAD_HALF, _AND, _SHIFT_RIGHT = 0x30, 0x28, 0x57, 0x77
_UDP = 17


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = _libc.syscall(_SYS_BPF, command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command}): {os.strerror(ctypes.get_errno())}")
    return int(result)


def load(port: int) -> int:
    """Return the descriptor of a program that matches UDP to `port`, over IPv4 without options and IPv6."""
    instructions = (
        (_MOV_REG, 6, 1, 0, 0),  # the loads below want the packet in r6
        (_LOAD_BYTE, 0, 0, 0, 0),
        (_SHIFT_RIGHT, 0, 0, 0, 4),
        (_JUMP_EQ, 0, 0, 3, 6),
        (_LOAD_BYTE, 0, 0, 0, 9),
        (_JUMP_NE, 0, 0, 7, _UDP),
        (_JUMP, 0, 0, 4, 0),
        (_LOAD_BYTE, 0, 0, 0, 6),
        (_JUMP_NE, 0, 0, 4, _UDP),
        (_LOAD_HALF, 0, 0, 0, 42),
        (_JUMP, 0, 0, 1, 0),
        (_LOAD_HALF, 0, 0, 0, 22),
        (_JUMP_EQ, 0, 0, 2, port),
        (_MOV, 0, 0, 0, 0),
        (_EXIT, 0, 0, 0, 0),
        (_MOV, 0, 0, 0, 1),
        (_EXIT, 0, 0, 0, 0),
    )
    code = b"".join(
        struct.pack("=BBhi", op, dst | src << 4, offset, value) for op, dst, src, offset, value in instructions
    )
    text, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    pointers = ctypes.addressof(text), ctypes.addressof(licence)
    return _bpf(_PROG_LOAD, struct.pack("=IIQQ", _SOCKET_FILTER, len(instructions), *pointers))


def pin(program: int, path: Path) -> None:
    """Give a program a name in a bpffs."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    _bpf(_OBJ_PIN, struct.pack("=QI", ctypes.addressof(name), program))


@pytest.fixture
def port9() -> Iterator[int]:
    """A program that matches UDP to port 9."""
    if missing():
        pytest.skip(missing())
    program = load(9)
    try:
        yield program
    finally:
        os.close(program)


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A bpffs of the test's own."""
    if missing():
        pytest.skip(missing())
    subprocess.run(["mount", "-t", "bpf", "bpf", str(tmp_path)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
