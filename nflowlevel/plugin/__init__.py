# SPDX-License-Identifier: GPL-2.0-or-later
"""What a plugin is, and the bases of most plugins.

`contract.py` has the three kinds: `Input`, `Filter`, `Output`. The bases are `LineOutput` (`lines.py`), `SpooledOutput`
(`spooled.py`), `SQLOutput` (`tables.py`) and `PollingInput` (`polling.py`).
"""

from nflowlevel.plugin.contract import (
    ANY_KEYS,
    AnyPlugin,
    DaemonView,
    DataType,
    Filter,
    Finding,
    Input,
    Member,
    NoOptions,
    Output,
    Plugin,
    check_plugin,
)
from nflowlevel.records.keys import added_key

__all__ = [
    "ANY_KEYS",
    "AnyPlugin",
    "DaemonView",
    "DataType",
    "Filter",
    "Finding",
    "Input",
    "Member",
    "NoOptions",
    "Output",
    "Plugin",
    "added_key",
    "check_plugin",
]
