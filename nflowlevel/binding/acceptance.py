# SPDX-License-Identifier: GPL-2.0-or-later
"""Which flows are wanted: networks of the original source and destination, and protocols, for C and for the kernel.

    Accept(sources=["10.0.0.0/8", "fd00::/8"], protocols=["tcp", 17])

An empty list wants all. A list with networks of one family wants no flow of the other family. C looks at each flow;
what the kernel can do before that only saves work: a program in classic BPF for events (`program`), and attributes
for dumps (`asks`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from nflowlevel.binding import messages
from nflowlevel.binding._lib import CData, ffi, lib
from nflowlevel.binding.numbers import PROTOCOLS

# linux/filter.h, linux/bpf_common.h
_LD_ABS, _LD_BYTE, _LD_WORD_IND, _LD_BYTE_IND, _LD_IMM, _LDX_IMM = 0x20, 0x30, 0x40, 0x50, 0x00, 0x01
_JEQ, _JA, _AND, _TAX, _RET = 0x15, 0x05, 0x54, 0x07, 0x06
_AD_NLATTR, _AD_NLATTR_NEST = 0xFFFFF000 + 12, 0xFFFFF000 + 16
_MOST_INSTRUCTIONS = 4096
_WANTED, _UNWANTED = "wanted", "unwanted"

# linux/netfilter/nfnetlink_conntrack.h
_TUPLE_ORIG, _TUPLE_IP, _TUPLE_PROTO, _PROTO_NUM = 1, 1, 2, 1
_FILTER, _ORIG_FLAGS = 25, 1
_IP_SRC, _IP_DST, _ZONE, _PROTO = 1 << 0, 1 << 1, 1 << 2, 1 << 3
#: Where the family stands in a message, and where its attributes begin.
_FAMILY_AT, _ATTRIBUTES_AT = 16, 20
#: Attributes of an address: by family, of source and target.
_ADDRESS: dict[int, tuple[int, int]] = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}

Network = IPv4Network | IPv6Network


def network(text: str) -> Network:
    """Return a network from its text; ValueError says what is wrong. Bits behind the prefix are ignored."""
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError as error:
        shown = text if len(text) < 60 else f"{text[:57]}…"
        raise ValueError(
            f"'{shown}' is no network such as 10.0.0.0/8 or fd00::/8: {error if len(text) < 60 else 'too long'}"
        ) from None


def protocol(value: str | int) -> int:
    """Return a protocol's number from a name or a number; ValueError where there is none."""
    if isinstance(value, str):
        name = value.strip().lower()
        if name.isascii() and name.isdigit() and len(name) < 5:
            value = int(name)
        elif name in PROTOCOLS:
            return PROTOCOLS[name]
        else:
            try:
                return socket.getprotobyname(name[:64])
            except OSError:
                raise ValueError(
                    f"unknown protocol '{name[:60]}': give a number, 0 to 255, or a name of /etc/protocols"
                ) from None
    if not 0 <= value <= 255:
        raise ValueError(f"protocol {value}: must be 0 to 255")
    return value


def _family(net: Network) -> int:
    return socket.AF_INET if net.version == 4 else socket.AF_INET6


class Accept:
    """Which flows are wanted. Networks and protocols are given as texts or numbers; ValueError says which is wrong."""

    def __init__(
        self, sources: Iterable[str] = (), targets: Iterable[str] = (), protocols: Iterable[str | int] = ()
    ) -> None:
        self.sources = tuple(map(network, sources))
        self.targets = tuple(map(network, targets))
        self.protocols = tuple(dict.fromkeys(map(protocol, protocols)))
        wanted = bytearray(256)
        for number in self.protocols:
            wanted[number] = 1
        self._lists = [_networks(self.sources), _networks(self.targets)]
        self.data: CData = ffi.new(
            "struct nfl_flow_accept *",
            {
                "sources": self._lists[0],
                "source_count": len(self.sources),
                "targets": self._lists[1],
                "target_count": len(self.targets),
                "any_protocol": not self.protocols,
                "protocols": bytes(wanted),
            },
        )

    def __bool__(self) -> bool:
        """Whether there is a condition."""
        return bool(self.sources or self.targets or self.protocols)

    def __repr__(self) -> str:
        parts = (("sources", self.sources), ("targets", self.targets), ("protocols", self.protocols))
        return f"Accept({', '.join(f'{name}={[*map(str, values)]}' for name, values in parts if values)})"

    def select(self, records: CData, count: int) -> int:
        """Move the wanted ones of `count` flows to the front; return their number."""
        return int(lib.nfl_flows_accept(self.data, records, count)) if self and count else count

    # -- for the kernel ------------------------------------------------------------------------------------------

    @property
    def family(self) -> int:
        """The family to ask a dump for: AF_UNSPEC where both may be wanted."""
        families = {_family(net) for net in (self.sources or self.targets)}
        return families.pop() if len(families) == 1 else socket.AF_UNSPEC

    def asks(self) -> bytes:
        """Return attributes by which the kernel leaves unwanted flows out of a dump; b"" where it has none for them."""
        family = self.family
        single = [nets[0] for nets in (self.sources, self.targets) if len(nets) == 1]
        flags, parts = 0, b""
        addresses = b""
        for nets, flag, which in ((self.sources, _IP_SRC, 0), (self.targets, _IP_DST, 1)):
            if len(nets) == 1 and nets[0].prefixlen == nets[0].max_prefixlen and _family(nets[0]) == family:
                flags |= flag
                addresses += messages.attribute(_ADDRESS[family][which], nets[0].network_address.packed)
        if len({net.version for net in single}) > 1:
            return b""
        if addresses:
            parts += messages.nested(_TUPLE_IP, addresses)
        # Without a family the kernel does not read tuples.
        if len(self.protocols) == 1 and family:
            flags |= _PROTO
            parts += messages.nested(_TUPLE_PROTO, messages.attribute(_PROTO_NUM, bytes(self.protocols)))
        if not flags:
            return b""
        asked = messages.attribute(_ORIG_FLAGS, struct.pack("=I", flags))
        return messages.nested(_TUPLE_ORIG, parts) + messages.nested(_FILTER, asked)

    def program(self) -> bytes:
        """Return a program in classic BPF that lets no unwanted event pass; b"" where all is wanted or it is too long.

        What it cannot read it lets pass: C decides.
        """
        if not self:
            return b""
        code = _Code()
        if self.protocols:
            code.attribute(_TUPLE_ORIG, _TUPLE_PROTO, _PROTO_NUM)
            code.add(_LD_BYTE_IND, 4)
            for number in self.protocols:
                code.equal(number, "protocol")
            code.jump(_UNWANTED)
            code.label("protocol")
        for which, nets in enumerate((self.sources, self.targets)):
            if nets:
                code.networks(nets, which)
        code.jump(_WANTED)
        return code.assembled()


def _networks(nets: Sequence[Network]) -> CData:
    array = ffi.new("struct nfl_flow_network[]", max(len(nets), 1))
    for number, net in enumerate(nets):
        array[number].family = _family(net)
        for field, address in (("address", net.network_address), ("mask", net.netmask)):
            ffi.memmove(getattr(array[number], field), address.packed, len(address.packed))
    return array


class _Code:
    """Instructions with labels. Every jump far is unconditional: conditional ones reach only 255 instructions."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int | str]] = []
        self._labels: dict[str, int] = {}

    def add(self, operation: int, k: int, true: int = 0, false: int = 0) -> None:
        self._code.append((operation, true, false, k))

    def jump(self, label: str) -> None:
        self._code.append((_JA, 0, 0, label))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def equal(self, value: int, label: str) -> None:
        """Jump to the label if A is the value."""
        self.add(_JEQ, value, 0, 1)
        self.jump(label)

    def attribute(self, *path: int) -> None:
        """Let X be where the innermost of nested attributes is; what has none is wanted."""
        self.add(_LD_IMM, _ATTRIBUTES_AT)
        for depth, type_ in enumerate(path):
            self.add(_LDX_IMM, type_)
            self.add(_LD_ABS, _AD_NLATTR_NEST if depth else _AD_NLATTR)
            self.equal(0, _WANTED)
        self.add(_TAX, 0)

    def networks(self, nets: Sequence[Network], which: int) -> None:
        """Go on if the address, of source or target, is in one of the networks."""
        done = f"in {which}"
        self.add(_LD_BYTE, _FAMILY_AT)
        self.equal(socket.AF_INET6, f"six {which}")
        for family in (socket.AF_INET, socket.AF_INET6):
            if family == socket.AF_INET6:
                self.label(f"six {which}")
            mine = [net for net in nets if _family(net) == family]
            if mine:
                self.attribute(_TUPLE_ORIG, _TUPLE_IP, _ADDRESS[family][which])
            for number, net in enumerate(mine):
                self._network(net, done, f"not {which} {family} {number}")
            self.jump(_UNWANTED)
        self.label(done)

    def _network(self, net: Network, done: str, other: str) -> None:
        words = struct.Struct(f"!{net.max_prefixlen // 32}I")
        masks, values = words.unpack(net.netmask.packed), words.unpack(net.network_address.packed)
        for number, (mask, value) in enumerate(zip(masks, values, strict=True)):
            if mask:
                self.add(_LD_WORD_IND, 4 + 4 * number)
                self.add(_AND, mask)
                self.add(_JEQ, value, 1, 0)
                self.jump(other)
        self.jump(done)
        self.label(other)

    def assembled(self) -> bytes:
        """Return the program, b"" if it is too long for the kernel."""
        size = len(self._code)
        labels = {**self._labels, _WANTED: size, _UNWANTED: size + 1}
        lines = [
            (operation, true, false, labels[k] - at - 1 if isinstance(k, str) else k)
            for at, (operation, true, false, k) in enumerate(self._code)
        ]
        lines += [(_RET, 0, 0, 0xFFFFFFFF), (_RET, 0, 0, 0)]
        return b"".join(struct.pack("=HBBI", *line) for line in lines) if len(lines) <= _MOST_INSTRUCTIONS else b""
