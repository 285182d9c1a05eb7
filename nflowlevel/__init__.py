# SPDX-License-Identifier: GPL-2.0-or-later
"""nflowlevel: Netfilter packet logs and accounting for Python; `import nflowlevel as nfl`."""

from typing import TYPE_CHECKING

from nflowlevel.accounting.objects import Accounting
from nflowlevel.accounting.table import Counter
from nflowlevel.errors import ConfigError, KernelError, NflowError, NotSupported, OutputError, StackError
from nflowlevel.readers.group import Group, open_group
from nflowlevel.records.batch import Batch
from nflowlevel.records.packet import Packet

if TYPE_CHECKING:
    from nflowlevel.prefilter.prefilter import LayoutError, Prefilter, mount_bpffs

__version__ = "0.1.0"

__all__ = [
    "Accounting",
    "Batch",
    "ConfigError",
    "Counter",
    "Group",
    "KernelError",
    "LayoutError",
    "NflowError",
    "NotSupported",
    "OutputError",
    "Packet",
    "Prefilter",
    "StackError",
    "mount_bpffs",
    "open_group",
]


def __getattr__(name: str) -> object:
    """Import the prefilter when it is asked for: the daemon usually has none, and starts without it."""
    if name not in ("LayoutError", "Prefilter", "mount_bpffs"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nflowlevel.prefilter import prefilter

    return getattr(prefilter, name)
