# SPDX-License-Identifier: GPL-2.0-or-later
"""nflowlevel: Netfilter packet logs, flows and accounting for Python; `import nflowlevel as nfl`."""

from typing import TYPE_CHECKING

from nflowlevel.errors import CaptureError, ConfigError, KernelError, NflowError, NotSupported, OutputError, StackError

if TYPE_CHECKING:
    from nflowlevel.accounting.events import QuotaEvents
    from nflowlevel.accounting.objects import Accounting
    from nflowlevel.accounting.table import Counter, CounterTable
    from nflowlevel.analytics.answer import Answer
    from nflowlevel.analytics.log import Log
    from nflowlevel.analytics.reading import read
    from nflowlevel.binding.acceptance import Accept
    from nflowlevel.prefilter.attach import Attachment
    from nflowlevel.prefilter.counters import Count, PrefilterCounters, Top
    from nflowlevel.prefilter.prefilter import LayoutError, Prefilter, mount_bpffs
    from nflowlevel.prefilter.rules import Rules
    from nflowlevel.readers.files import Capture, read_pcap
    from nflowlevel.readers.flows import Flows, flows, open_flows
    from nflowlevel.readers.group import Group, open_group
    from nflowlevel.records.batch import Batch
    from nflowlevel.records.filters import FilterError
    from nflowlevel.records.flowrow import Flow
    from nflowlevel.records.packetrow import Packet
    from nflowlevel.records.sums import Sum
    from nflowlevel.stats import CaptureStats, FlowStats, GroupStats

__version__ = "0.1.0"

__all__ = [
    "Accept",
    "Accounting",
    "Answer",
    "Attachment",
    "Batch",
    "Capture",
    "CaptureError",
    "CaptureStats",
    "ConfigError",
    "Count",
    "Counter",
    "CounterTable",
    "FilterError",
    "Flow",
    "FlowStats",
    "Flows",
    "Group",
    "GroupStats",
    "KernelError",
    "LayoutError",
    "Log",
    "NflowError",
    "NotSupported",
    "OutputError",
    "Packet",
    "Prefilter",
    "PrefilterCounters",
    "QuotaEvents",
    "Rules",
    "StackError",
    "Sum",
    "Top",
    "flows",
    "mount_bpffs",
    "open_flows",
    "open_group",
    "read",
    "read_pcap",
]


#: Where the names are. Each is imported when it is asked for: the daemon starts without what its stacks do not need.
_LATE = {
    "Accept": "binding.acceptance",
    "Accounting": "accounting.objects",
    "Answer": "analytics.answer",
    "Attachment": "prefilter.attach",
    "Batch": "records.batch",
    "Capture": "readers.files",
    "CaptureStats": "stats",
    "Count": "prefilter.counters",
    "Counter": "accounting.table",
    "CounterTable": "accounting.table",
    "FilterError": "records.filters",
    "Flow": "records.flowrow",
    "FlowStats": "stats",
    "Flows": "readers.flows",
    "Group": "readers.group",
    "GroupStats": "stats",
    "LayoutError": "prefilter.prefilter",
    "Log": "analytics.log",
    "Packet": "records.packetrow",
    "Prefilter": "prefilter.prefilter",
    "PrefilterCounters": "prefilter.counters",
    "QuotaEvents": "accounting.events",
    "Rules": "prefilter.rules",
    "Sum": "records.sums",
    "Top": "prefilter.counters",
    "flows": "readers.flows",
    "mount_bpffs": "prefilter.prefilter",
    "open_flows": "readers.flows",
    "open_group": "readers.group",
    "read": "analytics.reading",
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
    """Name all that is public, for completion: also what was not imported yet, and nothing of the inside."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
