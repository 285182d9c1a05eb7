# SPDX-License-Identifier: GPL-2.0-or-later
"""The built-in inputs, one file per plugin, with its name in lower case.

An input that polls derives from `PollingInput` (`plugin/polling.py`).
"""

NAMES = ("NFLOG", "NFCT", "NFACCT", "NFTCOUNTER", "PCAPFILE", "UNIXSOCK")
