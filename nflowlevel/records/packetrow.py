# SPDX-License-Identifier: GPL-2.0-or-later
"""Packet: one packet of a batch, every key an attribute.

It is not in packet.py because the daemon never looks at single packets and starts without it.
"""

from __future__ import annotations

from nflowlevel.records.attributes import PacketAttributes


class Packet(PacketAttributes, frozen=True, gc=False, eq=False):
    """One packet of a batch. Every key is an attribute, with `_` for `.`: `packet.tcp_dport`, `packet.oob_prefix`.

    There are also names from Netfilter and the protocols: `payload`, `prefix`, `mark`, `hook`, `family`, `indev`,
    `outdev`, `physindev`, `physoutdev`, `uid`, `gid`, `label`, `seq_local`, `seq_global`, `caplen`, `totlen`,
    `timestamp`, `saddr`, `daddr`, `protocol`, `sport`, `dport`. Attributes that the packet lacks are None.

    A packet refers to its batch and keeps the receive buffer. `copy.copy` and `pickle` make a packet that holds its own
    values instead.
    """

    @property
    def timestamp(self) -> float:
        """Seconds since 1970, with microseconds as the fraction: the kernel's time stamp, or the time of reception."""
        return float(self.oob_time_sec + self.oob_time_usec / 1e6)

    @property
    def totlen(self) -> int | None:
        """Length of the IP packet as its header states it (IPv6: payload length and 40)."""
        payload = self.ip6_payloadlen
        return self.ip_totlen if payload is None else payload + 40

    def __repr__(self) -> str:
        ends = [f"{address}{'' if port is None else f':{port}'}" for address, port in
                ((self.saddr, self.sport), (self.daddr, self.dport)) if address]  # fmt: skip
        return (
            f"<Packet {' > '.join(ends) or 'family ' + str(self.family)} caplen {self.caplen} prefix {self.prefix!r}>"
        )
