# SPDX-License-Identifier: GPL-2.0-or-later
"""What a plugin is, and the bases that most are made from."""

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
    "check_plugin",
]
