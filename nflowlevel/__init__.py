# SPDX-License-Identifier: GPL-2.0-or-later
"""nflowlevel: Netfilter packet logs and accounting for Python; `import nflowlevel as nfl`."""

from nflowlevel.accounting import Accounting, Counter
from nflowlevel.batch import Batch
from nflowlevel.errors import ConfigError, KernelError, NflowError, NotSupported, OutputError, StackError
from nflowlevel.group import Group, open_group
from nflowlevel.packet import Packet

__version__ = "0.1.0"

__all__ = [
    "Accounting",
    "Batch",
    "ConfigError",
    "Counter",
    "Group",
    "KernelError",
    "NflowError",
    "NotSupported",
    "OutputError",
    "Packet",
    "StackError",
    "open_group",
]
