# SPDX-License-Identifier: GPL-2.0-or-later
"""A kind of record that is no packet: 15 numbers of 64 bits, 6 texts, 4 addresses, as a flow has about so many.

Two of its keys have the name of a packet's key and lie elsewhere: `oob.mark`, with 64 bits, and `oob.prefix`.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cffi import FFI

from nflowlevel.binding.buffers import RecordArray
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import Condition, Key
from nflowlevel.records.row import Row
from nflowlevel.records.types import RecordType

NUMBERS = ("oob.mark", *(f"n.{number}" for number in range(1, 15)))
#: The first three have a length, the others end at a NUL or with their field.
TEXTS = ("oob.prefix", "t.1", "t.2", "t.3", "t.4", "t.5")
ADDRESSES = ("a.0", "a.1", "a.2", "a.3")
#: Bytes of the text fields.
TEXT_BYTES = 24
_WITH_LENGTH = TEXTS[:3]

_FFI = FFI()
_FFI.cdef(
    "struct wide { uint64_t valid; "
    + "".join(f"uint64_t {name.replace('.', '_')}; " for name in NUMBERS)
    + "".join(f"char {name.replace('.', '_')}[{TEXT_BYTES}]; " for name in TEXTS)
    + "".join(f"uint8_t {name.replace('.', '_')}[16]; " for name in ADDRESSES)
    + "".join(f"uint16_t {name.replace('.', '_')}_len; " for name in _WITH_LENGTH)
    + "uint64_t ns; };"
)
_STRUCT = _FFI.typeof("struct wide")


class WideCondition(Condition):
    """When its keys hold."""

    ALWAYS = "always"
    EVEN = "a record has them"
    SIX = "the addresses are IPv6"


class WideRow(Row, frozen=True, gc=False, eq=False):
    """One record."""


def _key(name: str, type_: str, kind: str, valid: WideCondition, **more: Any) -> Key:
    return Key(name, "TEST", type_, kind, name.replace(".", "_"), valid, "A test's own.", since="nflowlevel", **more)


def _keys() -> list[Key]:
    always = WideCondition.ALWAYS
    keys = [_key(name, "uint64", "u64", WideCondition.EVEN if name == "n.14" else always) for name in NUMBERS]
    for name in TEXTS:
        length = f"{name.replace('.', '_')}_len" if name in _WITH_LENGTH else ""
        keys.append(_key(name, "string", "chars", always, length=length))
    return keys + [_key(name, "string", "addr", always) for name in ADDRESSES]


WIDE = RecordType("wide record", struct=_STRUCT, keys=_keys(), row=lambda: WideRow, six=WideCondition.SIX, time=("ns",),
                  terms={"mark": "oob.mark", "first": "n.1"})  # fmt: skip

#: As a stack's output gets them.
MEMBERS = tuple(WIDE.by_name.items())


def wide_batch(records: Iterable[Mapping[str, Any]]) -> Batch:
    """Return a batch of these records: values by key; texts are bytes, addresses those of ipaddress, `ns` the time.

    What is None does not hold. A length that the texts do not have may be given as `KEY_len`.
    """
    made, words = [], []
    for record in records:
        fields: dict[str, Any] = {"valid": 1, "ns": record.get("ns", 0)}
        if record.get("n.14") is not None:
            fields["valid"] |= 1 << WideCondition.EVEN.value
        for name, value in record.items():
            field = name.replace(".", "_")
            if name in NUMBERS:
                fields[field] = value or 0
            elif name in TEXTS:
                fields[field] = value
                if name in _WITH_LENGTH:
                    fields.setdefault(f"{field}_len", len(value))
            elif name in ADDRESSES:
                fields[field] = value.packed
                if value.version == 6:
                    fields["valid"] |= 1 << WideCondition.SIX.value
            elif name.endswith("_len"):
                fields[field] = value
        made.append(fields)
        words.append(fields["valid"])
    some, every = 0, (1 << 64) - 1 if words else 0
    for word in words:
        some, every = some | word, every & word
    array = RecordArray(_FFI.new("struct wide[]", made), len(made))
    return Batch(array, len(made), type=WIDE, valid_any=some, valid_all=every)


def some_records(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return records with values as flows have them: small and large counters, short texts, both families."""
    chance = random.Random(seed)

    def number() -> int:
        return chance.randrange(10 ** chance.choice((1, 3, 5, 7, 9)))

    def address(version: int) -> Any:
        return ipaddress.ip_address(chance.randbytes(4 if version == 4 else 16))

    return [
        {
            **{name: number() for name in NUMBERS[:-1]},
            NUMBERS[-1]: None if row % 2 else number(),
            **{name: b"eth%d.web" % chance.randrange(100) for name in TEXTS},
            **{name: address(4 if row % 4 else 6) for name in ADDRESSES},
            "ns": 1_795_460_084_000_000_000 + row * 1_001_000,
        }
        for row in range(count)
    ]


def shown(record: Mapping[str, Any], names: Sequence[str] = tuple(WIDE.by_name)) -> dict[str, Any]:
    """Return what a batch has to say of such a record, without the keys that do not hold."""
    values = {}
    for name in names:
        value = record.get(name)
        if isinstance(value, bytes):
            values[name] = value.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif value is not None:
            values[name] = value if isinstance(value, int) else str(value)
    return values
