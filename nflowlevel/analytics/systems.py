# SPDX-License-Identifier: GPL-2.0-or-later
"""Which system has sent a SYN: a guess by the layout of its options, mss, window, scale and time to live.

Three kinds of senders are told apart:

- `stack`: an operating system's own TCP. The guess names it where a signature fits. Signatures of systems of today are
  in systems.fp beside this module; p0f's own file is asked after them, where it is installed.
- `raw`: a program that writes its packets itself: a SYN without any option, of which no system of the last thirty years
  would ask; or with a mark that a tool is known for. An IP id of 54321 is ZMap's; an IP id that is the destination's
  address, port and sequence number put together is masscan's; a sequence number that is the destination's address is
  Mirai's; IP id 256 with 40 bytes and no DF is that of scanners with fixed source port; an mss alone with a window of
  1024 to 4096 is nmap's.
- `unknown`: no signature fits, or too little is known.

What is there to judge by. The options are in captures, in `raw.pkt` of the library, and in lines of the kernel's LOG
target with `--log-tcp-options`; both have the column `tcp_options`. JSON and tables have none. There `tcp_offset` says
how many bytes of options there are, and the length of a SYN says almost the same: enough to know raw tools without
options, not to name a system. `basis` says what a guess stands on. All of it is the sender's to forge; a proxy, a load
balancer or a NAT gateway that rewrites packets shows itself, not what is behind it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nflowlevel.errors import ConfigError, printable

OWN = Path(__file__).with_suffix(".fp")
P0F = "/etc/p0f/p0f.fp"

#: The values that systems begin with.
_TTLS = (64, 128, 255)
#: More routers than any path has: the packet began with a larger value.
_MOST_HOPS = 40
_OPTION_NAMES = {2: "mss", 3: "ws", 4: "sok", 5: "sack", 8: "ts"}
_END, _NOP = 0, 1
_MSS_BYTES, _SCALE_BYTES = 4, 3
_TCP_BYTES, _IPV4_BYTES = 20, 20
_MOST_16 = 0xFFFF
_SYN, _ACK, _RST = 2, 16, 4


class Options(NamedTuple):
    """The options of a TCP header."""

    layout: str
    """Their kinds in their order, as p0f writes them: `mss,sok,ts,nop,ws`; empty: there are none."""
    mss: int | None = None
    scale: int | None = None


class Syn(NamedTuple):
    """What a SYN shows; None: it is not known."""

    ttl: int
    window: int
    version: int = 4
    options: bytes | None = None
    option_bytes: int | None = None
    """How many bytes of options there are, where they themselves are not known."""
    df: bool | None = None
    ident: int | None = None
    """The IP id."""
    sequence: int | None = None
    dest_ip: str | None = None
    dest_port: int | None = None


class System(NamedTuple):
    """A guess."""

    kind: Literal["stack", "raw", "unknown"]
    name: str
    """Such as `Linux 4.20 or later` or `masscan`; empty: it has no name."""
    hops: int
    """Routers between, by the time to live rounded up to 64, 128 or 255."""
    basis: Literal["options", "length", "marks", ""]
    """What it stands on: the options, that there are none, or the marks of a tool."""


def options_of(text: bytes) -> Options:
    """Read the bytes of options; `bad` ends the layout of such as are none."""
    layout: list[str] = []
    mss = scale = None
    at = 0
    while at < len(text):
        kind = text[at]
        if kind == _END:
            layout.append(f"eol+{len(text) - at - 1}")
            break
        if kind == _NOP:
            layout.append("nop")
            at += 1
            continue
        length = text[at + 1] if at + 1 < len(text) else 0
        if length < 2 or at + length > len(text):
            layout.append("bad")
            break
        layout.append(_OPTION_NAMES.get(kind, f"?{kind}"))
        if layout[-1] == "mss" and length == _MSS_BYTES:
            mss = int.from_bytes(text[at + 2 : at + 4], "big")
        elif layout[-1] == "ws" and length == _SCALE_BYTES:
            scale = text[at + 2]
        at += length
    return Options(",".join(layout), mss, scale)


def initial_ttl(ttl: int) -> int:
    """Return the value that a packet most probably began with."""
    return next(first for first in _TTLS if ttl <= first)


# -- signatures -------------------------------------------------------------------------------------------------------


class Signature(NamedTuple):
    """What SYNs of a system look like; `*` fits anything."""

    name: str
    version: str
    ttl: int
    mss: str
    window: str
    scale: str
    layout: str
    df: bool | None

    def fits(self, syn: Syn, options: Options) -> bool:
        """Tell whether a SYN has this signature."""
        return (
            self.layout == options.layout
            and self.version in ("*", str(syn.version))
            and self._fits_ttl(syn.ttl)
            and self.mss in ("*", str(options.mss))
            and self.scale in ("*", str(options.scale or 0))
            and (self.df is None or syn.df is None or syn.version != 4 or self.df == syn.df)
            and self._fits_window(syn.window, options.mss)
        )

    def _fits_ttl(self, ttl: int) -> bool:
        return ttl <= self.ttl and (self.ttl - ttl <= _MOST_HOPS)

    def _fits_window(self, window: int, mss: int | None) -> bool:
        kind, _, factor = self.window.partition("*")
        if self.window == "*":
            return True
        if self.window.startswith("%"):
            return window % int(self.window[1:]) == 0
        if kind not in ("mss", "mtu"):
            return window == int(self.window)
        if not mss:
            return False
        if factor == "max":
            return window == _MOST_16 // mss * mss
        return window == (mss if kind == "mss" else mss + 40) * int(factor)


@cache
def signatures(p0f: str | None = P0F) -> tuple[Signature, ...]:
    """Return our signatures, then those of p0f's file if there is one. ConfigError: it is damaged."""
    found = [*read(OWN)]
    if p0f is not None and os.path.exists(p0f):
        found += read(p0f)
    return tuple(found)


def read(path: str | os.PathLike[str]) -> Iterator[Signature]:
    """Yield the signatures of SYNs of a file in p0f's form; OSError, or ConfigError with the line."""
    section = label = ""
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if text.startswith("["):
                section = text
            elif section == "[tcp:request]" and "=" in text and not text.startswith(";"):
                name, value = (word.strip() for word in text.split("=", 1))
                try:
                    if name == "label":
                        label = _label(value)
                    elif name == "sig":
                        yield _signature(label, value)
                except (ValueError, IndexError, ZeroDivisionError):
                    message = f"this is no {name} of p0f's form: {printable(value, None)}"
                    raise ConfigError(message, file=os.fspath(path), line=number) from None


def _label(text: str) -> str:
    _, kind, name, flavour = text.split(":", 3)
    del kind
    return f"{name} {flavour}".strip()


def _signature(name: str, text: str) -> Signature:
    version, ttl, _, mss, window, layout, quirks, _ = text.split(":")
    size, scale = window.split(",")
    words = quirks.split(",")
    df = None if quirks == "*" else "df" in words
    # p0f's "64-" is a sender that sets odd values, its "54+10" one that is so many hops away.
    first, _, more = ttl.rstrip("-").partition("+")
    found = Signature(name, version, int(first) + int(more or 0), mss, size, scale, layout, df)
    found.fits(Syn(found.ttl, 0), Options(layout, 1))  # what cannot be read shall be told now
    return found


# -- guessing ---------------------------------------------------------------------------------------------------------


def guess(syn: Syn, known: Sequence[Signature] | None = None) -> System:
    """Return what has sent a SYN; `known` are the signatures, otherwise `signatures()`."""
    hops = initial_ttl(syn.ttl) - syn.ttl
    options = None if syn.options is None else options_of(syn.options)
    empty = syn.option_bytes == 0 if options is None else not options.layout
    if (tool := _tool(syn, options, empty=empty)) is not None:
        return System("raw", tool, hops, "marks")
    if empty:
        return System("raw", "", hops, "options" if options is not None else "length")
    if options is None:
        return System("unknown", "", hops, "")
    if options.layout == "mss" and syn.window in (1024, 2048, 3072, 4096) and not syn.df:
        return System("raw", "nmap", hops, "options")
    for signature in signatures() if known is None else known:
        if signature.fits(syn, options):
            return System("stack", signature.name, signature.ttl - syn.ttl, "options")
    return System("unknown", "", hops, "options")


def _tool(syn: Syn, options: Options | None, *, empty: bool) -> str | None:
    """Return the tool whose mark a SYN has."""
    if syn.version != 4:
        return None
    dest = _number(syn.dest_ip)
    if syn.ident == 54321:
        return "ZMap"
    if dest is not None and syn.sequence == dest:
        return "Mirai"
    if empty and None not in (dest, syn.ident, syn.sequence, syn.dest_port):
        mixed = (dest or 0) ^ (syn.dest_port or 0) ^ (syn.sequence or 0)
        if syn.ident == mixed & _MOST_16:
            return "masscan"
    if empty and syn.ident == 256 and syn.df is False:
        return "scanner with IP id 256"
    return None


def _number(address: str | None) -> int | None:
    try:
        return None if address is None else int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
    except OSError:
        return None


# -- where SYNs come from ---------------------------------------------------------------------------------------------


def of_row(row: Mapping[str, Any]) -> Syn | None:
    """Return the SYN of a row of `packets`, with the names of columns; None: it is none, or lacks TTL or window."""
    ttl = row.get("ip_ttl")
    is_4 = ttl is not None
    ttl = ttl if is_4 else row.get("ip6_hoplimit")
    window = row.get("tcp_window")
    if row.get("tcp_syn") != 1 or row.get("tcp_ack") or row.get("tcp_rst") or ttl is None or window is None:
        return None
    text = row.get("tcp_options")
    offset, total, fragment = row.get("tcp_offset"), row.get("ip_totlen"), row.get("ip_fragoff")
    size = None
    if offset is not None:
        size = offset * 4 - _TCP_BYTES
    elif is_4 and total is not None and total == _IPV4_BYTES + _TCP_BYTES:
        size = 0  # no room for any
    return Syn(
        ttl=ttl,
        window=window,
        version=4 if is_4 else 6,
        options=_bytes_of(text),
        option_bytes=size,
        df=None if fragment is None else bool(fragment & 0x4000),
        ident=row.get("ip_id"),
        sequence=row.get("tcp_seq"),
        dest_ip=row.get("dest_ip"),
        dest_port=row.get("dest_port"),
    )


def _bytes_of(text: str | None) -> bytes | None:
    """Return bytes that are written as hex digits; None: a line of JSON has something else there."""
    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError:
        return None


def of_packet(packet: bytes) -> Syn | None:
    """Return the SYN of a packet from its network header on (`raw.pkt`, a capture's); None: it is none, or is cut."""
    if not packet:
        return None
    version = packet[0] >> 4
    at = (packet[0] & 0xF) * 4 if version == 4 else 40
    protocol = packet[9:10] if version == 4 else packet[6:7]
    if version not in (4, 6) or protocol != b"\6" or len(packet) < at + _TCP_BYTES or at < _IPV4_BYTES:
        return None
    if version == 4 and int.from_bytes(packet[6:8], "big") & 0x1FFF:
        return None
    header = packet[at:]
    if header[13] & (_SYN | _ACK | _RST) != _SYN:
        return None
    length = (header[12] >> 4) * 4
    is_whole = _TCP_BYTES <= length <= len(header)
    is_4 = version == 4
    family = socket.AF_INET if is_4 else socket.AF_INET6
    return Syn(
        ttl=packet[8] if is_4 else packet[7],
        window=int.from_bytes(header[14:16], "big"),
        version=version,
        options=header[_TCP_BYTES:length] if is_whole else None,
        option_bytes=max(0, length - _TCP_BYTES),
        df=bool(packet[6] & 0x40) if is_4 else None,
        ident=int.from_bytes(packet[4:6], "big") if is_4 else None,
        sequence=int.from_bytes(header[4:8], "big"),
        dest_ip=socket.inet_ntop(family, packet[16:20] if is_4 else packet[24:40]),
        dest_port=int.from_bytes(header[2:4], "big"),
    )


def systems(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[System, int]]:
    """Return, for each source address of rows of `packets`, its systems and how many SYNs of each there are."""
    found: dict[str, dict[System, int]] = {}
    known: dict[Syn, System] = {}
    for row in rows:
        syn, source = of_row(row), row.get("src_ip")
        if syn is None or source is None:
            continue
        if (system := known.get(syn)) is None:
            system = guess(syn)
            if len(known) < 65_536:
                known[syn] = system
        counts = found.setdefault(source, {})
        counts[system] = counts.get(system, 0) + 1
    return found
