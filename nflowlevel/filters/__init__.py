# SPDX-License-Identifier: GPL-2.0-or-later
"""The built-in filters, one file per plugin, with its name in lower case."""

NAMES = (
    "BASE",
    "IFINDEX",
    "IP2STR",
    "IP2BIN",
    "IP2HBIN",
    "HWHDR",
    "MARK",
    "PRINTPKT",
    "PRINTFLOW",
    "NAT",
    "COMMUNITYID",
    "PWSNIFF",
)
