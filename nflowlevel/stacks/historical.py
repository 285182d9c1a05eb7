# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that real configurations have and that do nothing: ulogd2 passes over them, so here they are warnings.

They come from ulogd 1, from plugins that are gone, and from sections where they do not belong. All other names that a
plugin does not know are errors. The table in docs/from-ulogd2.md is made from this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_SOCKET_BUFFER = "netlink_socket_buffer_size= in the section of NFLOG"

#: Name of the option: what to do about it. It holds in each section whose plugin has no option of that name.
HISTORICAL: Mapping[str, str] = MappingProxyType(
    {
        "rmem": f"use {_SOCKET_BUFFER}",
        "bufsize": "remove it: receive buffers always hold the largest message of the kernel",
        "buffer": f"remove it from an output; for an input use {_SOCKET_BUFFER}",
        "buffer_size": f"remove it from an output; for an input use {_SOCKET_BUFFER}",
        "nlbufsiz": "use nlbufsiz= in the section of NFLOG",
        "snaplen": "use copy_range= in the section of NFLOG",
        "nlgroup": "use group= in the section of NFLOG",
        "user": "use -u USER on the command line, or User= in the systemd unit",
        "plugin": "remove it: plugins are found by their names",
        "stack": "move it into [global]: in another section it is not read",
    }
)
