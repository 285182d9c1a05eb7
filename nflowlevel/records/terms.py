# SPDX-License-Identifier: GPL-2.0-or-later
"""Netfilter's and the protocols' own terms for the keys of a packet: each an attribute, and a name wherever a key is
asked for.
"""

from __future__ import annotations

#: Term → key, or the JSON name that several keys share.
TERMS: dict[str, str] = {
    "payload": "raw.pkt",
    "caplen": "raw.pktlen",
    "prefix": "oob.prefix",
    "mark": "oob.mark",
    "hook": "oob.hook",
    "family": "oob.family",
    "hw_protocol": "oob.protocol",
    "indev": "oob.ifindex_in",
    "outdev": "oob.ifindex_out",
    "physindev": "oob.physindev",
    "physoutdev": "oob.physoutdev",
    "indev_name": "oob.in",
    "outdev_name": "oob.out",
    "uid": "oob.uid",
    "gid": "oob.gid",
    "label": "raw.label",
    "seq_local": "oob.seq.local",
    "seq_global": "oob.seq.global",
    "saddr": "ip.saddr",
    "daddr": "ip.daddr",
    "protocol": "ip.protocol",
    "sport": "src_port",
    "dport": "dest_port",
}
