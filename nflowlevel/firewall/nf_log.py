# SPDX-License-Identifier: GPL-2.0-or-later
"""The nf_log switch: which back end takes the packets that the kernel logs unasked, per family and namespace.

A back end is a module: `nfnetlink_log` gives packets to the reader of group 0, `nf_log_ipv4` and its like (module
nf_log_syslog) write them to the kernel's log, `NONE` is neither.

The switch does not decide where a rule logs: since Linux 3.17 a rule names its back end itself (net/netfilter/nf_log.c,
nf_log_packet). `log group N` and `-j NFLOG` always go to nfnetlink_log, `log` without a group and `-j LOG` always to
the kernel's log. Left to the switch are messages that no rule asks for: conntrack's about invalid packets, once
`set_log_invalid` has turned them on ("ACK is under the lower bound …"), and `-j TRACE` of iptables-legacy.

    from nflowlevel.firewall import nf_log
    nf_log.select("ipv4", "nfnetlink_log")
    nf_log.set_log_invalid("tcp")
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nflowlevel.binding import numbers, procfs
from nflowlevel.binding.netns import entered
from nflowlevel.binding.numbers import FAMILIES
from nflowlevel.errors import KernelError, choice, nearest

#: nft's names of families, and ours.
_NFT_NAMES = {nft: ours for ours, nft in numbers.NFT_NAMES.items()}

NONE = "NONE"

#: Protocols whose invalid packets conntrack can log one by one; every other goes by its number.
PROTOCOLS = numbers.some(numbers.PROTOCOLS, "icmp", "tcp", "udp", "dccp", "gre", "icmpv6", "sctp", "udplite")
_OFF, _ALL = 0, 255

_LIST = Path("/proc/thread-self/net/netfilter/nf_log")
_SETTINGS = Path("/proc/sys/net/netfilter")
_ALL_NETNS = _SETTINGS / "nf_log_all_netns"
#: The namespace that has the settings of the whole machine.
_INITIAL_NETNS = "/proc/1/ns/net"

#: Before Linux 3.17 and in old instructions.
_FORMER_NAMES = {"ipt_LOG": "nf_log_ipv4", "ip6t_LOG": "nf_log_ipv6"}


@dataclass(frozen=True, slots=True)
class Family:
    """A family, the back end that takes its packets (None: they are thrown away), and those that could."""

    name: str
    number: int
    active: str | None
    available: tuple[str, ...]


def families(netns: str | None = None) -> dict[str, Family]:
    """Return the families that this kernel has, by name (by number as text where there is no name)."""
    with entered(netns):
        try:
            lines = _LIST.read_text().splitlines()
        except OSError as error:
            raise KernelError("read the logging back ends", error.errno or 0, f"no such file: {_LIST}") from None
    return {family.name: family for family in map(_parse_line, lines)}


def _parse_line(line: str) -> Family:
    """Read `FAMILY ACTIVE (AVAILABLE,AVAILABLE)`."""
    number, active, available = line.split(maxsplit=2)
    names = tuple(name for name in available.strip("()").split(",") if name)
    return Family(_name_of(int(number)), int(number), None if active == NONE else active, names)


def _name_of(number: int) -> str:
    return next((name for name, known in FAMILIES.items() if known == number), str(number))


def family_number(family: str | int) -> int:
    """Return the number of a family given by our name, nft's name or number; ValueError where there is none."""
    if isinstance(family, int) or family.isdecimal():
        return int(family)
    name = _NFT_NAMES.get(family, family)
    if name not in FAMILIES:
        raise ValueError(f"unknown family '{family}'{choice(family, (*FAMILIES, *_NFT_NAMES))}")
    return FAMILIES[name]


def select(family: str | int, backend: str | None, *, netns: str | None = None) -> None:
    """Let `backend` take the family's packets; None or `NONE`: nobody. KernelError says why the kernel refuses."""
    number = family_number(family)
    backend = NONE if backend is None or backend.upper() == NONE else backend
    tried = f"make {backend} the logging back end of {_name_of(number)}"
    setting = _SETTINGS / "nf_log" / str(number)
    with entered(netns), _explained(tried):
        if not setting.exists():
            known = ", ".join(families())
            raise KernelError(tried, errno.ENOENT, f"this kernel does not know this family; available: {known}")
        try:
            _write(setting, backend)
        except FileNotFoundError as error:
            raise KernelError(tried, error.errno or 0, _not_loaded(number, backend)) from None


def _not_loaded(number: int, backend: str) -> str:
    family = _name_of(number)
    available = families()[family].available
    remedies = [f"available: {', '.join((*available, NONE))}"]
    if backend == "nfnetlink_log":
        remedies.append("load it with: modprobe nfnetlink_log")
    elif backend in _FORMER_NAMES:
        remedies.append(f"{backend} is now called {_FORMER_NAMES[backend]}")
    elif backend == f"nf_log_{family}":
        remedies.append("load it with: modprobe nf_log_syslog")
    return f"no such back end is loaded for {family}; {'; '.join(remedies)}"


def log_invalid(netns: str | None = None) -> str:
    """Return whose invalid packets conntrack logs: `off`, `all`, or one protocol by name or number."""
    with entered(netns), _explained("read which invalid packets conntrack logs"):
        number = int((_SETTINGS / "nf_conntrack_log_invalid").read_text())
    if number in (_OFF, _ALL):
        return "all" if number else "off"
    return next((name for name, known in PROTOCOLS.items() if known == number), str(number))


def set_log_invalid(protocol: str | int, *, netns: str | None = None) -> None:
    """Let conntrack log the invalid packets of one protocol, of `all`, or none (`off`), to the active back ends."""
    number = _protocol_number(protocol)
    with entered(netns), _explained(f"set conntrack's logging of invalid packets to {protocol}"):
        _write(_SETTINGS / "nf_conntrack_log_invalid", str(number))


def _protocol_number(protocol: str | int) -> int:
    words = {"off": _OFF, "all": _ALL, **PROTOCOLS}
    text = str(protocol).lower()
    number = int(text) if text.isdecimal() else words.get(text, -1)
    if not 0 <= number <= 255:
        known = f"available: {', '.join(words)}, or a number from 0 to 255"
        raise ValueError(f"unknown protocol '{protocol}'{nearest(text, words)}; {known}")
    return number


def all_netns() -> bool | None:
    """Tell whether namespaces other than the initial one may write to the kernel's log; None if it cannot be seen."""
    try:
        with _where_all_netns_is():
            return _ALL_NETNS.read_text().strip() != "0"
    except OSError:
        return None


def set_all_netns(allowed: bool) -> None:
    """Let rules that log without a group write to the kernel's log in every namespace, or in the initial one only."""
    tried = f"set nf_log_all_netns to {int(allowed)}"
    try:
        with _explained(tried), _where_all_netns_is():
            _write(_ALL_NETNS, str(int(allowed)))
    except KernelError as error:
        if error.tried == tried:
            raise
        hint = "only possible in the initial network namespace, which this process cannot enter"
        raise KernelError(tried, error.errno or 0, hint) from None


def is_initial_netns() -> bool:
    """Tell whether the calling thread is in the initial network namespace: only that has the setting for all."""
    return _ALL_NETNS.exists()


@contextmanager
def _where_all_netns_is() -> Iterator[None]:
    with entered(None if is_initial_netns() else _INITIAL_NETNS):
        yield


def _write(setting: Path, value: str) -> None:
    """Write in one call, and see its error: a file object would write when it is closed."""
    fd = os.open(setting, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


@contextmanager
def _explained(tried: str) -> Iterator[None]:
    """Turn the refusal of a setting into a KernelError with the likely reason, as seen inside the namespace."""
    try:
        yield
    except KernelError:
        raise
    except OSError as error:
        raise KernelError(tried, error.errno or 0, _reason(error)) from None


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        remedy = ": load the module with: modprobe nf_conntrack" if "nf_conntrack" in str(error.filename) else ""
        return f"no such file: {error.filename}{remedy}"
    if error.errno == errno.EROFS:
        return "/proc/sys is read-only here, as in most containers; set it from outside, with --netns"
    obstacle = procfs.admin_obstacle() if error.errno in (errno.EACCES, errno.EPERM) else ""
    return obstacle and f"not allowed in this namespace: {obstacle}"
