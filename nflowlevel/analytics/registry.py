# SPDX-License-Identifier: GPL-2.0-or-later
"""Which detectors there are: those whose files stand in `detectors/`, and no other list."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from nflowlevel.analytics import detectors
from nflowlevel.analytics.detector import Detector
from nflowlevel.errors import choice, printable


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of all detectors, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(detectors.__path__)))


def find_detector(name: str) -> Detector:
    """Return a detector by its name; ValueError, with the nearest name, where there is none."""
    if name not in names():
        raise ValueError(f"unknown detector '{printable(name)}'{choice(name, names())}")
    found: Detector = importlib.import_module(f"{detectors.__name__}.{name}").DETECTOR
    return found


def all_detectors() -> list[Detector]:
    """Return all detectors, in the order of their names."""
    return [find_detector(name) for name in names()]
