# SPDX-License-Identifier: GPL-2.0-or-later
"""The built-in inputs, one file per plugin, with its name in lower case."""

NAMES = ("NFLOG", "NFACCT", "NFTCOUNTER", "PCAPFILE")
