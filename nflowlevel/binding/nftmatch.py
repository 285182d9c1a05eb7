# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of our own in nftables whose rules ask a BPF program about a packet, then log it or set its mark.

The nft command cannot write such a rule: what holds the program is the `bpf` match of xtables (revision 1), which
takes a descriptor, so that nothing has to be pinned (net/netfilter/xt_bpf.c, net/netfilter/nft_compat.c). The kernel
takes all messages of a batch or none of them (net/netfilter/nfnetlink.c, nfnetlink_rcv_batch).

An owned table (NFT_TABLE_F_OWNER) belongs to the socket that made it: others can neither change nor flush it, and it
goes when the socket is closed, however the process ends. With NFT_TABLE_F_PERSIST (Linux 6.9) it stays then, but as
a table without an owner, which anybody may change and flush (net/netfilter/nf_tables_api.c, nft_rcv_nl_event).
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nflowlevel.binding import messages, numbers, procfs
from nflowlevel.binding._lib import lib
from nflowlevel.binding.messages import (
    GENERAL_BYTES,
    attribute,
    attributes,
    errno_of,
    general,
    message,
    nested,
    number,
    text,
)
from nflowlevel.binding.netlink import NetlinkSocket
from nflowlevel.binding.netns import entered
from nflowlevel.binding.numbers import FAMILIES, some
from nflowlevel.errors import KernelError, NotSupported

# linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h, linux/netfilter/nf_tables_compat.h.
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE = (_SUBSYSTEM << 8 | number for number in (0, 1, 2, 3, 6))
_TABLE_NAME, _TABLE_FLAGS, _TABLE_USERDATA, _TABLE_OWNER = 1, 2, 6, 7
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 1, 2
_MATCH_NAME, _MATCH_REVISION, _MATCH_INFO = 1, 2, 3
_LOG_GROUP, _LOG_PREFIX, _LOG_SNAPLEN, _LOG_QTHRESHOLD = 1, 2, 3, 4
_META_DREG, _META_KEY, _META_SREG, _META_MARK = 1, 2, 3, 3
_BITWISE_SREG, _BITWISE_DREG, _BITWISE_LENGTH, _BITWISE_MASK, _BITWISE_XOR = 1, 2, 3, 4, 5
_DATA_VALUE, _REGISTER = 1, 1
_OWNER, _PERSIST = 0x2, 0x4
_NEW = messages.CREATE | messages.EXCLUSIVE

#: `struct xt_bpf_info_v1`: mode, number of instructions, descriptor, 512 bytes of instructions or path, a pointer.
_BPF_INFO = struct.Struct("=HHi512x8x")
_BPF_BY_DESCRIPTOR = 2
_MATCH = b"bpf"

_OF_INET = general(FAMILIES["inet"])
_OF_NFTABLES = general(FAMILIES["unspec"], _SUBSYSTEM)
#: How nft and iptables keep a comment: type 0, length, text with its final zero (libnftnl/udata.h).
_COMMENT_BYTES = 250

#: Where a packet may be asked about; also the names of the chains.
HOOKS = some(numbers.HOOKS, "input", "forward", "output")
#: Our tables are known by the comment they carry; the prefilter's name follows.
COMMENT = "nflowlevel prefilter "
#: And their names begin with this; that name follows, too.
TABLE_PREFIX = "nflowlevel-"


class LogTo(NamedTuple):
    """Log the packet to a group; a 0 leaves the setting to the reader."""

    group: int
    prefix: str = ""
    snaplen: int = 0
    queue_threshold: int = 0


class Mark(NamedTuple):
    """Set the bits of `mask` in the packet's mark to those of `mark`; all others stay."""

    mark: int
    mask: int


class Table(NamedTuple):
    """A table of ours: its name, the prefilter it says it serves, and the owner's netlink port (0: nobody)."""

    name: str
    prefilter: str
    owner: int


class MatchTable:
    """The table `inet NAME`, one chain and one rule in it for each hook. `remove` takes it away at once.

    With `keep` it outlives this process, otherwise it goes with it. An ownerless table of the same name that was kept
    is replaced, without a packet in between that meets neither.
    """

    def __init__(
        self,
        name: str,
        prefilter: str,
        program: int,
        hooks: Iterable[str],
        then: LogTo | Mark,
        *,
        priority: int,
        keep: bool = False,
        netns: str | None = None,
    ) -> None:
        self.name = name
        hooks = tuple(hooks)
        self._channel = _Channel(netns)
        try:
            replace = self._replaceable()
            parts = [_chain(name, hook, priority) for hook in hooks]
            parts += [_rule(name, hook, program, then) for hook in hooks]
            # A kernel that cannot keep an owned table keeps one that nobody ever owned.
            flags = (_OWNER | _PERSIST, 0) if keep else (_OWNER,)
            self._create(prefilter, parts, replace=replace, flags=flags)
        except BaseException:
            self.close()
            raise

    def _replaceable(self) -> bool:
        """Tell whether a kept table has our name; KernelError where it is not for us to replace."""
        old, ours = self._channel.find(self.name)
        if old and not old.owner and not ours:
            hint = f"nflowlevel did not make the existing table; see it with: nft list table inet {self.name}"
            raise KernelError(f"make nftables table inet {self.name}", errno.EEXIST, hint)
        return self._channel.is_free(old, "make")

    def _create(self, prefilter: str, parts: list[_Part], *, replace: bool, flags: Iterable[int]) -> None:
        """Make the table with the first of these flags that the kernel knows."""
        removal = [_delete(self.name)] if replace else []
        for each in flags:
            try:
                return self._channel.commit([*removal, _table(self.name, prefilter, each), *parts])
            except _Refused as refused:
                # Flags that a kernel does not know: EOPNOTSUPP since Linux 5.12, EINVAL before.
                if refused.part != _NEWTABLE or refused.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise self._explained(refused) from None
        raise NotSupported(
            "a table of rules that goes when its process ends",
            found=f"Linux {platform.release()}, whose tables have no owner",
            needed="Linux 5.12, or on_exit=keep",
        )

    def _explained(self, refused: _Refused) -> Exception:
        if refused.errno == errno.ENOENT and refused.part == _NEWRULE:
            return NotSupported(
                "BPF programs in nftables rules",
                found="a kernel that lacks the match 'bpf' of xtables, its use in nftables, or logging from there",
                needed="CONFIG_NETFILTER_XT_MATCH_BPF, CONFIG_NFT_COMPAT, CONFIG_NFT_LOG and "
                "CONFIG_NETFILTER_NETLINK_LOG (try: modprobe -a xt_bpf nft_compat nft_log nfnetlink_log)",
            )
        if refused.errno in (errno.EINVAL, errno.EBADF) and refused.part == _NEWRULE:
            hint = "what it asks has to be the descriptor of a loaded BPF program of type socket filter"
            return KernelError(refused.purpose, refused.errno, hint)
        return self._channel.explained(refused)

    def remove(self) -> None:
        """Take the table away, rules and all; nothing happens where it is gone, or was given up."""
        if self._channel.closed:
            return
        try:
            self._channel.commit([_delete(self.name)])
        except _Refused as refused:
            if refused.errno != errno.ENOENT:
                raise self._channel.explained(refused) from None
        finally:
            self.close()

    def close(self) -> None:
        """Give the table up: it goes now, unless it is kept. May be called again."""
        self._channel.close()


def tables(netns: str | None = None) -> list[Table]:
    """Return the tables of ours in a namespace, whoever owns them."""
    with _Channel(netns) as channel:
        return channel.tables()


def remove(name: str, netns: str | None = None) -> bool:
    """Remove a table of ours that was kept; False where there is none. KernelError where a process still owns it."""
    with _Channel(netns) as channel:
        old, ours = channel.find(name)
        if not ours or not channel.is_free(old, "remove"):
            return False
        try:
            channel.commit([_delete(name)])
        except _Refused as refused:
            raise channel.explained(refused) from None
    return True


# -- messages ---------------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """A part of a batch, and what it is for."""

    purpose: str
    type: int
    flags: int = 0
    attributes: bytes = b""
    resource: bytes = _OF_INET


class _Refused(Exception):
    """The kernel refused a batch: the first part that it complained of, and its answer."""

    def __init__(self, purpose: str, part: int, errno: int) -> None:
        super().__init__(purpose)
        self.purpose, self.part, self.errno = purpose, part, errno


def _table(name: str, prefilter: str, flags: int) -> _Part:
    attributes = text(_TABLE_NAME, name) + number(_TABLE_FLAGS, flags)
    attributes += attribute(_TABLE_USERDATA, _comment(COMMENT + prefilter))
    return _Part(f"make nftables table inet {name}", _NEWTABLE, _NEW, attributes)


def _delete(name: str) -> _Part:
    return _Part(f"remove nftables table inet {name}", _DELTABLE, attributes=text(_TABLE_NAME, name))


def _chain(table: str, hook: str, priority: int) -> _Part:
    place = number(_HOOK_NUMBER, HOOKS[hook]) + number(_HOOK_PRIORITY, priority & 0xFFFFFFFF)
    attributes = text(_CHAIN_TABLE, table) + text(_CHAIN_NAME, hook)
    attributes += nested(_CHAIN_HOOK, place) + text(_CHAIN_TYPE, "filter")
    return _Part(f"hook nftables table inet {table} into {hook}", _NEWCHAIN, _NEW, attributes)


def _rule(table: str, chain: str, program: int, then: LogTo | Mark) -> _Part:
    info = _BPF_INFO.pack(_BPF_BY_DESCRIPTOR, 0, program)
    match = attribute(_MATCH_NAME, _MATCH + b"\0") + number(_MATCH_REVISION, 1) + attribute(_MATCH_INFO, info)
    expressions = [_expression("match", match), _expression("counter", b"")]
    expressions += [_log(then)] if isinstance(then, LogTo) else _set_mark(then)
    attributes = text(_RULE_TABLE, table) + text(_RULE_CHAIN, chain)
    attributes += nested(_RULE_EXPRESSIONS, b"".join(expressions))
    return _Part(
        f"put the rule into chain {chain} of nftables table inet {table}", _NEWRULE, messages.CREATE, attributes
    )


def _log(log: LogTo) -> bytes:
    data = attribute(_LOG_GROUP, log.group.to_bytes(2, "big"))
    if log.prefix:
        data += text(_LOG_PREFIX, log.prefix)
    if log.snaplen:
        data += number(_LOG_SNAPLEN, log.snaplen)
    if log.queue_threshold:
        data += attribute(_LOG_QTHRESHOLD, log.queue_threshold.to_bytes(2, "big"))
    return _expression("log", data)


def _set_mark(mark: Mark) -> list[bytes]:
    """mark = (mark & ~mask) ^ bits; the registers hold it in the machine's byte order."""
    keep, bits = (struct.pack("=I", value & 0xFFFFFFFF) for value in (~mark.mask, mark.mark))
    load = number(_META_KEY, _META_MARK) + number(_META_DREG, _REGISTER)
    change = number(_BITWISE_SREG, _REGISTER) + number(_BITWISE_DREG, _REGISTER) + number(_BITWISE_LENGTH, 4)
    change += nested(_BITWISE_MASK, attribute(_DATA_VALUE, keep))
    change += nested(_BITWISE_XOR, attribute(_DATA_VALUE, bits))
    store = number(_META_KEY, _META_MARK) + number(_META_SREG, _REGISTER)
    return [_expression("meta", load), _expression("bitwise", change), _expression("meta", store)]


def _expression(name: str, data: bytes) -> bytes:
    return nested(_LIST_ELEMENT, text(_EXPRESSION_NAME, name) + nested(_EXPRESSION_DATA, data))


def _comment(text: str) -> bytes:
    data = text.encode()[:_COMMENT_BYTES] + b"\0"
    return bytes((0, len(data))) + data


# -- the kernel's answers ---------------------------------------------------------------------------------------------


class _Channel:
    """A nfnetlink socket that sends batches and looks tables up; the owner of what it makes."""

    def __init__(self, netns: str | None) -> None:
        self._netns = netns
        self._socket = NetlinkSocket(lib.NETLINK_NETFILTER, netns=netns)
        self._socket.connect_to_kernel()
        self._sequence = 0
        self.closed = False

    def commit(self, parts: list[_Part]) -> None:
        """Send a batch; _Refused tells the first thing the kernel did not want, and then nothing of it is done."""
        begin, end = (_Part("change nftables", type_, resource=_OF_NFTABLES) for type_ in (_BATCH_BEGIN, _BATCH_END))
        batch = [begin, *parts[:-1], parts[-1]._replace(flags=parts[-1].flags | messages.ACK), end]
        first = self._sequence + 1
        self._send(b"".join(map(self._packed, batch)))
        answered = False
        for type_, _, sequence, body in self._answers():
            if type_ == messages.ERROR and 0 <= sequence - first < len(batch):
                part = batch[sequence - first]
                answered = True
                if code := errno_of(body):
                    raise _Refused(part.purpose, part.type, code)
        if not answered:
            raise KernelError(parts[-1].purpose, errno.EIO, "the kernel did not answer")

    def find(self, name: str) -> tuple[Table | None, bool]:
        """Return a table of the inet family, and whether it is ours."""
        self._ask(0, text(_TABLE_NAME, name))
        for type_, _, sequence, body in self._answers():
            if sequence != self._sequence:
                continue
            if type_ != messages.ERROR:
                return _parse(body)
            if errno_of(body) not in (0, errno.ENOENT):
                raise self.explained(_Refused(f"look nftables table inet {name} up", _GETTABLE, errno_of(body)))
        return None, False

    def tables(self) -> list[Table]:
        """Return those of ours."""
        self._ask(messages.DUMP, b"")
        found = []
        for type_, _, sequence, body in self._answers():
            if sequence != self._sequence:
                continue
            if type_ == messages.DONE:
                break
            if type_ == messages.ERROR:
                raise self.explained(_Refused("list nftables tables", _GETTABLE, errno_of(body)))
            table, ours = _parse(body)
            found += [table] if ours else []
        return found

    def is_free(self, table: Table | None, verb: str) -> bool:
        """Tell whether the table is there, and nobody's; KernelError names its owner."""
        if table is None:
            return False
        if table.owner:
            with entered(self._netns):
                holder = procfs.holder_at(table.owner)
            hint = f"it belongs to {holder}: detach it there, or end that process"
            raise KernelError(f"{verb} nftables table inet {table.name}", errno.EBUSY, hint)
        return True

    def explained(self, refused: _Refused) -> Exception:
        """Return the error that users see."""
        if refused.part == _GETTABLE and refused.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return NotSupported(
                "nftables",
                found="a kernel without it",
                needed="CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (try: modprobe nf_tables)",
            )
        hint = ""
        if refused.errno == errno.EPERM:
            with entered(self._netns):
                hint = procfs.admin_obstacle()
            hint = f"{hint}: run as root" if hint else "another process owns it"
        return KernelError(refused.purpose, refused.errno, hint)

    def close(self) -> None:
        """Close the socket, which ends what it owns; may be called again."""
        self.closed = True
        self._socket.close()

    def __enter__(self) -> _Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, flags: int, attributes: bytes) -> None:
        self._send(self._packed(_Part("look nftables tables up", _GETTABLE, flags, attributes)))

    def _packed(self, part: _Part) -> bytes:
        self._sequence += 1
        body = part.resource + part.attributes
        return message(part.type, part.flags | messages.REQUEST, self._sequence, body)

    def _send(self, data: bytes) -> None:
        self._socket.write(data, "send to nftables")

    def _answers(self) -> Iterator[messages.Message]:
        return self._socket.answers("read the answer of nftables")


def _parse(body: bytes) -> tuple[Table, bool]:
    """Return the table of a message, and whether its comment says that it is ours."""
    found = attributes(body, GENERAL_BYTES)
    owner = int.from_bytes(found.get(_TABLE_OWNER, b""), "big")
    name = found[_TABLE_NAME][:-1].decode("utf-8", "surrogateescape")
    comment = found.get(_TABLE_USERDATA, b"")[2:-1].decode("utf-8", "surrogateescape")
    return Table(name, comment.removeprefix(COMMENT), owner), comment.startswith(COMMENT)
