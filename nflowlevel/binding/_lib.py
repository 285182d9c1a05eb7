# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiled module, imported here and nowhere else."""

from __future__ import annotations

from typing import Any

from nflowlevel._clib import ffi as _ffi
from nflowlevel._clib import lib as _lib

ffi: Any = _ffi
lib: Any = _lib

#: What cffi hands out; it has no types of its own.
CData = Any
