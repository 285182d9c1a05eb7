# SPDX-License-Identifier: GPL-2.0-or-later
"""Packet: one packet of a batch, every key an attribute.

It has a module of its own because who never looks at single packets, such as the daemon, starts without it.
"""

from __future__ import annotations

from nflowlevel.records.attributes import PacketAttributes


class Packet(PacketAttributes, frozen=True, gc=False, eq=False):
    """One packet of a batch. Every key is an attribute, with `_` for `.`: `packet.tcp_dport`, `packet.oob_prefix`.

    Beside them stand Netfilter's and the protocols' own terms: `payload`, `prefix`, `mark`, `hook`, `family`, `indev`,
    `outdev`, `physindev`, `physoutdev`, `uid`, `gid`, `label`, `seq_local`, `seq_global`, `caplen`, `totlen`,
    `timestamp`, `saddr`, `daddr`, `protocol`, `sport`, `dport`. What does not hold for the packet is None.

    A packet looks into its batch and holds the receive buffer. `copy.copy` and `pickle` make one that holds its values
    instead.
    """

    @property
    def timestamp(self) -> float:
        """Seconds since 1970, with the microseconds as fraction: the kernel's stamp, else the time of reception."""
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
