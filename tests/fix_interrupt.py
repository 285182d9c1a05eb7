# SPDX-License-Identifier: GPL-2.0-or-later
"""A KeyboardInterrupt at every place where Python can be interrupted, one after the other.

Python looks for signals after it has called something, when a function begins, and when a loop goes round. A trace
function raises at just these places, so a test meets each of them, also those that a signal meets once in a thousand.
"""

from __future__ import annotations

import dis
import functools
import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import nflowlevel

_PACKAGE = str(Path(nflowlevel.__file__).parent)
_LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD")


@functools.cache
def _places(code: CodeType) -> frozenset[int]:
    """Return the instructions before which Python has looked for signals."""
    instructions = list(dis.get_instructions(code))
    return frozenset(
        after.offset for before, after in itertools.pairwise(instructions) if before.opname.startswith(_LOOKS)
    )


class _Interrupter:
    """Interrupts at the place with this number; `left` is above 0 where there were not so many."""

    def __init__(self, number: int) -> None:
        self.left = number

    def begin(self, frame: FrameType, event: str, _argument: object) -> Any:
        """Follow functions of the package, and of contextlib."""
        file = frame.f_code.co_filename
        if self.left and (file.startswith(_PACKAGE) or file.endswith("contextlib.py")):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self.step
        return None

    def step(self, frame: FrameType, event: str, _argument: object) -> Any:
        """Count the places, and interrupt at one."""
        if self.left and event == "opcode" and frame.f_lasti in _places(frame.f_code):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return self.step


def _interrupted(number: int, action: Callable[[], object]) -> bool:
    """Run the action; whether it was interrupted at the place with that number."""
    interrupter = _Interrupter(number)
    before = sys.gettrace()
    sys.settrace(interrupter.begin)
    try:
        action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return not interrupter.left


def state() -> tuple[list[str], int]:
    """Return what an interrupted action must leave as it was: open descriptors, and where the thread is."""
    return sorted(os.listdir("/proc/self/fd")), os.stat("/proc/thread-self/ns/net").st_ino


def interrupt_everywhere(
    action: Callable[[], object],
    *,
    least: int,
    check: Callable[[], object] = state,
    step: int = 1,
    circles: bool = False,
) -> int:
    """Interrupt the action at each place; `check` must answer the same after each. Return how many places there were.

    `least` makes sure that it does something. With a `step` only every so many places are met. `circles`: some of what
    an exception holds, as one that has passed a contextlib.ExitStack does, is free only when Python looks for circles.
    """
    action()  # what is imported or cached the first time
    assert threading.current_thread() is threading.main_thread()
    expected = check()
    number = 1
    while _interrupted(number, action):
        if circles and check() != expected:
            gc.collect()
        assert check() == expected, f"interrupted at place {number}"
        number += step
    assert check() == expected
    assert number > least
    return number
