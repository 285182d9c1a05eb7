# SPDX-License-Identifier: GPL-2.0-or-later
"""nflowlevel: Netfilter packet logs and accounting for Python; `import nflowlevel as nfl`."""

from typing import TYPE_CHECKING

from nflowlevel.errors import CaptureError, ConfigError, KernelError, NflowError, NotSupported, OutputError, StackError

if TYPE_CHECKING:
    from nflowlevel.accounting.objects import Accounting
    from nflowlevel.accounting.table import Counter
    from nflowlevel.prefilter.prefilter import LayoutError, Prefilter, mount_bpffs
    from nflowlevel.readers.files import Capture, read_pcap
    from nflowlevel.readers.group import Group, open_group
    from nflowlevel.records.batch import Batch
    from nflowlevel.records.filters import FilterError
    from nflowlevel.records.packetrow import Packet

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


#: Where the names are. Each is imported when it is asked for: the daemon starts without what its stacks do not need.
_LATE = {
    "Accounting": "accounting.objects",
    "Batch": "records.batch",
    "Capture": "readers.files",
    "Counter": "accounting.table",
    "FilterError": "records.filters",
    "Group": "readers.group",
    "LayoutError": "prefilter.prefilter",
    "Packet": "records.packetrow",
    "Prefilter": "prefilter.prefilter",
    "mount_bpffs": "prefilter.prefilter",
    "open_group": "readers.group",
    "read_pcap": "readers.files",
}


if not TYPE_CHECKING:  # a type checker would take any name for one that exists

    def __getattr__(name: str) -> object:
        """Import a name when it is asked for."""
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
        return value


def __dir__() -> list[str]:
    """Name all that can be had, for completion: also what was not imported yet."""
    return sorted({*globals(), *__all__})
