# SPDX-License-Identifier: GPL-2.0-or-later
"""Packet: one packet of a batch, every key an attribute; and PACKET, how packets lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from nflowlevel.binding._lib import ffi
from nflowlevel.records.keys import BY_NAME, CATALOGUE, CIM, PACKET_KEYS, PacketCondition
from nflowlevel.records.types import RecordType


class Columns(Protocol):
    """What a packet looks into: the batch that it is a row of."""

    _cache: dict[str, list[Any]]

    def values(self, key: str) -> list[Any]:
        """Return one key of each row."""

    def select(self, rows: Sequence[int]) -> Columns:
        """Return some of the rows."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the keys that hold, of each row."""


def _of_key(name: str) -> Any:
    def get(packet: Packet) -> Any:
        try:
            return packet._batch._cache[name][packet._row]
        except KeyError:
            return packet._batch.values(name)[packet._row]

    what = f"{' or '.join(CIM[name])}" if name in CIM else f"{BY_NAME[name].meaning} (`{name}`)"
    return property(get, doc=f"{what}; None where it does not hold.")


class Packet(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One packet of a batch. Every key is an attribute, with `_` for `.`: `packet.tcp_dport`, `packet.oob_prefix`.

    Beside them stand Netfilter's and the protocols' own terms: `payload`, `prefix`, `mark`, `hook`, `family`, `indev`,
    `outdev`, `physindev`, `physoutdev`, `uid`, `gid`, `label`, `seq_local`, `seq_global`, `caplen`, `totlen`,
    `timestamp`, `saddr`, `daddr`, `protocol`, `sport`, `dport`. What does not hold for the packet is None.
    """

    _batch: Columns
    _row: int

    payload = _of_key("raw.pkt")
    caplen = _of_key("raw.pktlen")
    prefix = _of_key("oob.prefix")
    mark = _of_key("oob.mark")
    hook = _of_key("oob.hook")
    family = _of_key("oob.family")
    hw_protocol = _of_key("oob.protocol")
    indev = _of_key("oob.ifindex_in")
    outdev = _of_key("oob.ifindex_out")
    physindev = _of_key("oob.physindev")
    physoutdev = _of_key("oob.physoutdev")
    indev_name = _of_key("oob.in")
    outdev_name = _of_key("oob.out")
    uid = _of_key("oob.uid")
    gid = _of_key("oob.gid")
    label = _of_key("raw.label")
    seq_local = _of_key("oob.seq.local")
    seq_global = _of_key("oob.seq.global")
    saddr = _of_key("ip.saddr")
    daddr = _of_key("ip.daddr")
    protocol = _of_key("ip.protocol")
    sport = _of_key("src_port")
    dport = _of_key("dest_port")

    @property
    def timestamp(self) -> float:
        """Seconds since 1970, with the microseconds as fraction: the kernel's stamp, else the time of reception."""
        return float(self.get("oob.time.sec") + self.get("oob.time.usec") / 1e6)

    @property
    def totlen(self) -> int | None:
        """Length of the IP packet as its header states it (IPv6: payload length and 40)."""
        length: int | None = self.get("ip.totlen")
        payload: int | None = self.get("ip6.payloadlen")
        return length if payload is None else payload + 40

    def get(self, key: str) -> Any:
        """Return a key by its name; None where it does not hold, KeyError where there is none of that name."""
        return self._batch.values(key)[self._row]

    def to_dict(self) -> dict[str, Any]:
        """Return all keys that hold for this packet, by name."""
        return self._batch.select([self._row]).to_dicts()[0]

    def __repr__(self) -> str:
        ends = [f"{address}{'' if port is None else f':{port}'}" for address, port in
                ((self.saddr, self.sport), (self.daddr, self.dport)) if address]  # fmt: skip
        return (
            f"<Packet {' > '.join(ends) or 'family ' + str(self.family)} caplen {self.caplen} prefix {self.prefix!r}>"
        )


for _name in PACKET_KEYS:
    setattr(Packet, _name.replace(".", "_"), _of_key(_name))

#: Packets, as nfnetlink_log gives them.
PACKET = RecordType(
    "packet",
    struct=ffi.typeof("struct nfl_record"),
    keys=[key for key in CATALOGUE if isinstance(key.valid, PacketCondition)],
    row=Packet,
    six=PacketCondition.IP6,
    time=("oob_time_sec", "oob_time_usec"),
)
