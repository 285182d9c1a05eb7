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
    from nflowlevel.records.filters import FilterError

__version__ = "0.1.0"

__all__ = [
    "Accounting",
    "Batch",
    "Capture",
    "CaptureError",
    "ConfigError",
    "Counter",
    "FilterError",
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


#: Where the names are that few programs need: the daemon starts without them.
_LATE = {
    "Capture": "readers.files",
    "FilterError": "records.filters",
    "LayoutError": "prefilter.prefilter",
    "Prefilter": "prefilter.prefilter",
    "mount_bpffs": "prefilter.prefilter",
    "read_pcap": "readers.files",
}


def __getattr__(name: str) -> object:
    """Import what is not needed at every start when it is asked for."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)


def __dir__() -> list[str]:
    """Name all that is public, for completion: also what was not imported yet, and nothing of the inside."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
