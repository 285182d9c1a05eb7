# SPDX-License-Identifier: GPL-2.0-or-later
"""The built-in inputs. The file of one has its name in lower case."""

NAMES = ("NFLOG", "NFACCT", "NFTCOUNTER", "PCAPFILE")
