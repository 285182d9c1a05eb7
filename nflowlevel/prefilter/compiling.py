# SPDX-License-Identifier: GPL-2.0-or-later
"""A predicate to a program, by bcc in a child process, so that nothing of bcc stays here.

The child only compiles; maps are numbers in its program, and the program is loaded here as the shipped one is. So it
needs no privilege and leaves nothing behind, and what the verifier says is told in the same way.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nflowlevel.binding.elf import INSTRUCTION, Code, Reference
from nflowlevel.errors import NflowError, NotSupported
from nflowlevel.prefilter.predicate import Piece, PredicateError, translate

#: Seconds for a compilation that takes half a one.
TIMEOUT_SECS = 30.0

_FEATURE = "compiling a predicate"
_HERE = Path(__file__).parent
#: The sources of the shipped program, and what stands around a predicate.
_SOURCES = _HERE.parent / "bpf"
_FRAME = _SOURCES / "predicate.bcc.c"
_PLACE = "PREDICATE"
_CHILD = _HERE / "bcc_child.py"
#: The distribution's Python has the distribution's bcc, which an environment may not see.
_PYTHONS = (sys.executable, "/usr/bin/python3")
#: Maps in the order of the enum in bpf/predicate.bcc.c, and its first number.
_MAPS = ("state", "slots", "counters")
_FIRST_MAP = 0x6E666C00
_LOAD_IMMEDIATE, _PSEUDO_MAP = 0x18, 1
_DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
#: How bcc calls the source in what the compiler says.
_MAIN = "/virtual/main.c:"


def compile_predicate(text: str, timeout_secs: float = TIMEOUT_SECS) -> Code:
    """Return a predicate as instructions.

    PredicateError where it is wrong, NotSupported where bcc or kernel headers are missing, NflowError where bcc fails.
    """
    pieces = translate(text)
    head, _, tail = _frame().partition(f"\n{_PLACE}\n")
    first_line = head.count("\n") + 2
    source = "\n".join([head, *(piece.code for piece in pieces), tail.lstrip("\n")])
    answer, log = _ask(source, timeout_secs)
    if "error" in answer:
        raise _failed(answer["error"], log, text, pieces, first_line)
    return code_of(bytes.fromhex(answer["code"]))


def code_of(instructions: bytes) -> Code:
    """Return instructions of bpf/predicate.bcc.c with their references to maps by name."""
    return Code(instructions, tuple(_references(instructions)))


def _references(instructions: bytes) -> Iterator[Reference]:
    number = 0
    while number * INSTRUCTION < len(instructions):
        opcode, registers, _, value = struct.unpack_from("=BBhi", instructions, number * INSTRUCTION)
        if opcode == _LOAD_IMMEDIATE and registers >> 4 == _PSEUDO_MAP:
            yield Reference(number, _MAPS[value - _FIRST_MAP], 0)
        number += 2 if opcode == _LOAD_IMMEDIATE else 1


def _frame() -> str:
    try:
        return _FRAME.read_text()
    except FileNotFoundError:
        raise NotSupported(
            _FEATURE, found=f"an installation without {_FRAME}", needed="nflowlevel installed with its BPF sources"
        ) from None


# -- the child --------------------------------------------------------------------------------------------------------


def _ask(source: str, timeout_secs: float) -> tuple[dict[str, str], str]:
    """Return the answer of the first Python that has bcc, and what the compiler said."""
    found: dict[str, str] = {}
    for python in dict.fromkeys(_PYTHONS):
        answer, log = _run(python, source, timeout_secs)
        if answer.get("missing") != "bcc":
            if answer.get("missing") == "headers":
                raise _no_headers(answer["found"])
            return answer, log
        found[python] = answer["found"]
    raise NotSupported(
        _FEATURE,
        found=", ".join(f"{python}: {why}" for python, why in found.items()),
        needed="the distribution's bcc for Python (Debian's package: python3-bpfcc)",
    )


def _run(python: str, source: str, timeout_secs: float) -> tuple[dict[str, str], str]:
    with tempfile.TemporaryDirectory(prefix="nflowlevel-bcc-") as scratch:
        request = {"source": source, "include": str(_SOURCES.resolve()), "scratch": scratch}
        # -I: no module of ours, nor of the working directory, in the place of one of the library's.
        command = [python, "-I", str(_CHILD)]
        try:
            done = subprocess.run(
                command, input=json.dumps(request), capture_output=True, text=True, timeout=timeout_secs
            )
        except FileNotFoundError:
            return {"missing": "bcc", "found": "not installed"}, ""
        except subprocess.TimeoutExpired:
            raise NflowError(
                f"compile a predicate: bcc was stopped after {timeout_secs:g} s without an answer"
            ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NflowError(f"compile a predicate: bcc ended with status {done.returncode}: {said[-1] if said else ''}")
    answer: dict[str, str] = json.loads(done.stdout)
    return answer, done.stderr


# -- errors -----------------------------------------------------------------------------------------------------------


def _failed(error: str, log: str, text: str, pieces: list[Piece], first_line: int) -> NflowError:
    """Return what went wrong: the first error that the compiler tells, at its place in the predicate."""
    for line in log.splitlines():
        where, sign, reason = line.partition(" error: ")
        if not sign:
            continue
        if "file not found" in reason:
            return _no_headers(f"headers that lack one: {reason}")
        if where.startswith(_MAIN):
            number = int(where.removeprefix(_MAIN).partition(":")[0]) - first_line
            if number >= 0:
                return PredicateError(reason, text, pieces[min(number, len(pieces) - 1)].at)
        return NflowError(f"compile a predicate: {line}")
    return NflowError(f"compile a predicate: {error}{': ' + log.strip() if log.strip() else ''}")


def _no_headers(found: str) -> NotSupported:
    release = os.uname().release
    package = f"linux-headers-{_DEBIAN.get(os.uname().machine, os.uname().machine)}"
    return NotSupported(
        _FEATURE,
        found=found,
        needed=f"headers of any kernel (Debian's packages: linux-headers-{release} or {package}), or "
        "BCC_KERNEL_SOURCE=DIRECTORY with headers elsewhere",
    )
