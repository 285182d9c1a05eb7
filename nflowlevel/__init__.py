# SPDX-License-Identifier: GPL-2.0-or-later
"""nflowlevel: Netfilter packet logs and accounting for Python; `import nflowlevel as nfl`."""

from typing import TYPE_CHECKING

from nflowlevel.accounting.objects import Accounting
from nflowlevel.accounting.table import Counter
from nflowlevel.errors import CaptureError, ConfigError, KernelError, NflowError, NotSupported, OutputError, StackError
from nflowlevel.readers.group import Group, open_group
from nflowlevel.records.batch import Batch
from nflowlevel.records.packet import Packet

if TYPE_CHECKING:
    from nflowlevel.prefilter.prefilter import LayoutError, Prefilter, mount_bpffs
    from nflowlevel.readers.files import Capture, read_pcap

__version__ = "0.1.0"

__all__ = [
    "Accounting",
    "Batch",
    "Capture",
    "CaptureError",
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
    "read_pcap",
]


def __getattr__(name: str) -> object:
    """Import the prefilter and the reader of files when they are asked for: the daemon starts without them."""
    if name in ("Capture", "read_pcap"):
        from nflowlevel.readers import files

        return getattr(files, name)
    if name not in ("LayoutError", "Prefilter", "mount_bpffs"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nflowlevel.prefilter import prefilter

    return getattr(prefilter, name)


def __dir__() -> list[str]:
    """Name all that can be had, for completion: also what was not imported yet."""
    return sorted({*globals(), *__all__})
