# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of JSON, rows for a database and columns of text rendered in C, against what Python makes of the same keys."""

from __future__ import annotations

import itertools
import json
import math
import random
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nflowlevel.binding._lib import ffi, lib
from nflowlevel.binding.interfaces import NameTable
from nflowlevel.records.batch import Batch
from nflowlevel.records.flow import FLOW
from nflowlevel.records.keys import (
    BY_NAME,
    CATALOGUE,
    TIME_KEY,
    FlowCondition,
    Key,
    PacketCondition,
    ReportedCondition,
    SumCondition,
    added_key,
    published_by,
)
from nflowlevel.records.packet import PACKET
from nflowlevel.records.render import CopyPlan, JSONPlan, TextColumn
from nflowlevel.records.reported import REPORTED
from nflowlevel.records.sums import SUM
from tests import oracle
from tests.corpus import by_name, frames, ipv6
from tests.fix_decoder import LABEL, NAMES, NOW, chunks, decode
from tests.messages import FULL, message_of, sample_messages
from tests.oracle import build_message

#: The members of a stack of all plugins: a name published again keeps its place and takes the newer value.
_STACK: dict[str, Key] = {}
for _plugin in ("NFLOG", "BASE", "IFINDEX", "IP2STR", "HWHDR"):
    _STACK |= {key.name: key for key in published_by(_plugin)}
MEMBERS = [(key.cim or name, key) for name, key in _STACK.items() if key.type not in ("raw", "ipaddr")]

MINE = added_key("mine", "string", "Whatever a test adds.")


def plan(members: Sequence[tuple[str, Key]] = MEMBERS, *, timestamp: bool = True) -> JSONPlan:
    head = '{"timestamp": "' if timestamp else '{"dvc": "Netfilter"'
    tail = '", "dvc": "Netfilter"' if timestamp else ""
    return JSONPlan(members, head=head, tail=tail, timestamp=timestamp, actions=frozenset(("action",)))


def lines_of(made: JSONPlan, batch: Batch) -> list[str]:
    """Return the lines rendered, their ends taken off; the number that goes with each piece must be right."""
    lines = []
    for piece, count in made.render(batch.raw, batch.added):
        text = bytes(piece).decode("utf-8")
        assert text.endswith("}\n")
        assert text.count("\n") == count
        lines += text[:-1].split("\n")
    return lines


def dumps(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def expected_record(message: bytes) -> dict[str, Any]:
    """Return the members of a message's record, in their order, by the oracle."""
    keys = oracle.decode(message, now=NOW, label=LABEL)
    assert keys is not None
    values: dict[str, Any] = {**keys, **oracle.derive(keys, NAMES)}
    for direction in ("in", "out"):
        if index := keys.get(f"oob.phys{direction}dev"):
            values[f"oob.phys{direction}"] = NAMES.get(int(index), "")
    values |= {name.removeprefix("HWHDR:"): value for name, value in values.items() if name.startswith("HWHDR:")}
    record = {"timestamp": timestamp_text(values["oob.time.sec"], values["oob.time.usec"]), "dvc": "Netfilter"}
    for label, key in MEMBERS:
        value = values.get(key.name)
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if value is not None:
            record[label] = value
    return record


def timestamp_text(sec: int, usec: int) -> str:
    local = time.localtime(sec)
    sign, minutes = ("-", -local.tm_gmtoff // 60) if local.tm_gmtoff < 0 else ("+", local.tm_gmtoff // 60)
    zone = f"{sign}{minutes // 60:02}{minutes % 60:02}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + f".{usec % 1_000_000:06}{zone}"


# -- whole records ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [None, oracle.BRIDGE, oracle.NETDEV])
def test_every_frame(family: int | None) -> None:
    messages = [message_of(frame, family) for frame in frames()]
    messages += [message_of(frame, family, **FULL) for frame in frames()]
    lines = lines_of(plan(), decode(messages).batch)
    for line, message in zip(lines, messages, strict=True):
        assert line == dumps(expected_record(message))


def test_truncated_frames() -> None:
    cut = [message_of(frame)[:-n] for frame in frames() for n in (1, 7, 20) if len(frame.payload) > n]
    cut = [struct.pack("=I", len(message)) + message[4:] for message in cut]
    cut = [message for message in cut if oracle.decode(message)]
    for piece in chunks(cut):
        lines = lines_of(plan(), decode(piece).batch)
        assert lines == [dumps(expected_record(message)) for message in piece]


def test_without_members() -> None:
    batch = decode([build_message(b"")] * 2).batch
    assert lines_of(plan([], timestamp=False), batch) == ['{"dvc": "Netfilter"}'] * 2
    assert lines_of(plan([]), batch) == [dumps({"timestamp": timestamp_text(*NOW), "dvc": "Netfilter"})] * 2


def test_names_of_members_are_escaped() -> None:
    batch = decode([build_message(b"", mark=5)]).batch
    names = ['a"b', "back\\slash", "new\nline", "ünïcode ☂", ""]
    (line,) = lines_of(plan([(name, BY_NAME["oob.mark"]) for name in names], timestamp=False), batch)
    assert line == dumps({"dvc": "Netfilter"} | dict.fromkeys(names, 5))


def test_head_and_tail_in_any_letters() -> None:
    made = JSONPlan([], head='{"t": "', tail='", "dvc": "Fürth\\n☂"', timestamp=True, actions=frozenset())
    (line,) = lines_of(made, decode([build_message(b"")]).batch)
    assert json.loads(line) == {"t": timestamp_text(*NOW), "dvc": "Fürth\n☂"}


@pytest.mark.parametrize(("label", "action"), [(0, "blocked"), (1, "allowed"), (255, "allowed")])
def test_action(label: int, action: str) -> None:
    batch = decode([build_message(b"")], label=label).batch
    (line,) = lines_of(plan([("action", BY_NAME["raw.label"])], timestamp=False), batch)
    assert json.loads(line)["action"] == action


def test_empty_batch() -> None:
    batch = Batch(None, 0)
    assert lines_of(plan(), batch) == []
    assert TextColumn(BY_NAME["oob.prefix"], PACKET).render(batch.raw) == []


# -- texts ------------------------------------------------------------------------------------------------------------

#: One byte of every class that UTF-8 and JSON make.
_BYTE_CLASSES = bytes.fromhex("01 09 0a 1f 22 5c 61 7f 80 8f 90 9f a0 bf c0 c2 df e0 e1 ed ef f0 f1 f4 f5 ff")


def assert_texts(texts: Iterator[bytes] | Sequence[bytes]) -> None:
    """Render texts as prefixes, as JSON and as a column; they must come out as Python decodes and escapes them."""
    made, column = plan([("p", BY_NAME["oob.prefix"])], timestamp=False), TextColumn(BY_NAME["oob.prefix"], PACKET)
    for piece in chunks(texts, 5000):
        batch = decode([build_message(None, protocol=None, prefix=text) for text in piece]).batch
        wanted = [text.partition(b"\0")[0].decode("utf-8", "replace") for text in piece]
        assert column.render(batch.raw) == wanted
        assert lines_of(made, batch) == [dumps({"dvc": "Netfilter", "p": text}) for text in wanted]


def test_every_pair_of_bytes() -> None:
    assert_texts(bytes(pair) for pair in itertools.product(range(256), repeat=2))


def test_every_triple_of_byte_classes() -> None:
    assert_texts(bytes(triple) for triple in itertools.product(_BYTE_CLASSES, repeat=3))


def test_random_bad_utf8() -> None:
    rng = random.Random(1)
    assert_texts(bytes(rng.choices(_BYTE_CLASSES, k=rng.randint(4, 12))) for _ in range(30_000))


def test_characters_at_the_edges_of_utf8() -> None:
    edges = (0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF, 0x2028, 0xFEFF)
    whole = [chr(edge).encode() for edge in edges]
    cut = [text[:length] for text in whole for length in range(1, len(text))]
    assert_texts([first + second for first in whole + cut for second in [*whole, *cut, b"", b'"']])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=40).map(str.encode), st.binary(max_size=40)), min_size=1, max_size=50))
def test_any_text(texts: list[bytes]) -> None:
    assert_texts([text.partition(b"\0")[0] for text in texts])


def test_long_texts() -> None:
    """Longer than any first guess at a buffer."""
    assert_texts([b"\1" * 60_000, b"short", b"\xff" * 65_000, "☂".encode() * 20_000, b"x" * 65_000] * 3)


# -- addresses --------------------------------------------------------------------------------------------------------


def _addresses6() -> Iterator[bytes]:
    rng = random.Random(6)
    groups = (b"\0\0", b"\0\0", b"\0\0", b"\0\1", b"\xff\xff", b"\x0a\xbc", b"\x80\0")
    for _ in range(30_000):
        yield b"".join(rng.choices(groups, k=8))
    for _ in range(5_000):
        yield rng.randbytes(16)
        for start in (bytes(12), bytes(10) + b"\xff\xff", bytes(8) + b"\xff\xff\0\0", bytes(10), bytes(14)):
            yield (start + rng.randbytes(16))[:16]
            yield (start + rng.choice((bytes(4), b"\0\0\0\1", b"\0\1\0\0", b"\1\0\0\0")) + bytes(6))[:16]


def test_ipv6_addresses() -> None:
    """Runs of zeros at every place, mapped and compatible addresses."""
    made = plan([("src_ip", BY_NAME["ip.saddr.str"])], timestamp=False)
    for piece in chunks(_addresses6(), 5000):
        batch = decode(
            [build_message(ipv6(59, saddr=address), family=oracle.INET6, protocol=0x86DD) for address in piece]
        ).batch
        texts = [socket.inet_ntop(socket.AF_INET6, address) for address in piece]
        assert batch.values("ip.saddr") == texts
        assert lines_of(made, batch) == [dumps({"dvc": "Netfilter", "src_ip": text}) for text in texts]


def test_ipv4_addresses() -> None:
    rng = random.Random(4)
    addresses = [bytes([n, 255 - n, n, 0]) for n in range(256)] + [rng.randbytes(4) for _ in range(2000)]
    header = by_name("udp4").payload[:12]
    batch = decode([build_message(header + address + bytes(4)) for address in addresses]).batch
    assert batch.values("ip.saddr.str") == [socket.inet_ntop(socket.AF_INET, address) for address in addresses]


def test_hardware_headers_of_any_length() -> None:
    headers = [bytes(range(256))[:size] * times for size in range(1, 40) for times in (1, 6)] + [bytes(60_000)]
    batch = decode([build_message(b"", hwheader=header) for header in headers]).batch
    wanted = [header.hex(":") for header in headers]
    assert batch.values("mac.str") == wanted
    lines = lines_of(plan([("mac.str", BY_NAME["mac.str"])], timestamp=False), batch)
    assert [json.loads(line)["mac.str"] for line in lines] == wanted


# -- interface names --------------------------------------------------------------------------------------------------


def test_names_are_found_among_many() -> None:
    rng = random.Random(3)
    names = {rng.randrange(1, 5000): f"if{number}" for number in range(700)} | {2**31 - 1: "last"}
    batch = decode([build_message(None, indev=index) for index in (*range(1, 5001), 2**31 - 1, 2**32 - 1)]).batch
    batch.names = NameTable(names)
    indexes = batch.values("oob.ifindex_in")
    assert batch.values("oob.in") == [names.get(index, "") for index in indexes]
    lines = lines_of(plan([("oob.in", BY_NAME["oob.in"])], timestamp=False), batch)
    assert [json.loads(line)["oob.in"] for line in lines] == [names.get(index, "") for index in indexes]


@pytest.mark.parametrize("name", ["x", "fifteen-letters", "quo\"te'\\", "zwölf-☂-\udcff\udc80", "a\nb"])
def test_any_name(name: str) -> None:
    batch = decode([build_message(None, indev=5)]).batch
    batch.names = NameTable({5: name})
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    (line,) = lines_of(plan([("oob.in", BY_NAME["oob.in"])], timestamp=False), batch)
    assert line == dumps({"dvc": "Netfilter", "oob.in": shown})
    assert batch.values("oob.in") == [shown]


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


_BERLIN, _ST_JOHNS = "CET-1CEST,M3.5.0,M10.5.0/3", "NST3:30NDT,M3.2.0,M11.1.0"
_ZONES = ["UTC0", _BERLIN, _ST_JOHNS, "<-0030>0:30", "<+0545>-5:45", "<+14>-14", "<-12>12"]
#: As of old: not even whole minutes.
_ZONES += ["<+0019>-0:19:32", "<-0044>0:44:30"]


@pytest.mark.parametrize("zone", _ZONES, indirect=True)
def test_time_zones(zone: str) -> None:
    """Around the change to winter time, then back: the text is made anew for each second."""
    change = 1_792_890_000  # 2026-10-25T01:00:00Z
    seconds = [change + offset for offset in (-3601, -1, 0, 0, 1, 3600, -1, -86400 * 100)] + [1, 2**31, 2**32 - 1]
    messages = [build_message(b"", time=(second, number)) for number, second in enumerate(seconds)]
    lines = lines_of(plan([]), decode(messages).batch)
    wanted = [timestamp_text(second, number) for number, second in enumerate(seconds)]
    assert [json.loads(line)["timestamp"] for line in lines] == wanted


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC0", "2026-11-23T18:54:44.190524+0000"),
        (_BERLIN, "2026-11-23T19:54:44.190524+0100"),
        ("<-0030>0:30", "2026-11-23T18:24:44.190524-0030"),
        (_ST_JOHNS, "2026-11-23T15:24:44.190524-0330"),
    ],
    indirect=["zone"],
)
def test_the_zone_is_always_written(zone: str, text: str) -> None:
    (line,) = lines_of(plan([]), decode([build_message(b"", time=(1_795_460_084, 190_524))]).batch)
    assert json.loads(line)["timestamp"] == text


@pytest.mark.parametrize("usec", [0, 1, 9, 10, 99_999, 100_000, 999_999, 1_000_000, 2**32 - 1])
def test_microseconds(usec: int) -> None:
    (line,) = lines_of(plan([]), decode([build_message(b"", time=(5, usec))]).batch)
    assert json.loads(line)["timestamp"] == timestamp_text(5, usec)


# -- selections and columns of Python ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[], [0], [521], [0, 1, 2], list(range(0, 522, 7)), [3, 500], [500, 3]])
def test_selected_rows(rows: list[int]) -> None:
    messages = sample_messages()
    batch = decode(messages).batch.select(rows)
    assert lines_of(plan(), batch) == [dumps(expected_record(messages[row])) for row in rows]


@pytest.mark.parametrize(
    "values",
    [
        [1, 0, -1, 10, 99, 100, 101, 2**63 - 1, -(2**63), -(2**63) + 1],
        [0, 2**63, 2**64 - 1],
        [None, 5, None, -7],
        [True, False, None],
        ["text", "", 'q"uote', "Ünï\n\0☂", None, "\udcff", "x" * 70_000],
        ["text", 5, 1.5, None],
        [None, None],
    ],
)
def test_added_columns(values: list[Any]) -> None:
    batch = decode([build_message(b"")] * len(values)).batch
    batch.add("mine", values)
    lines = lines_of(plan([("mine", MINE), ("oob.mark", BY_NAME["oob.mark"])], timestamp=False), batch)
    texts = any(isinstance(value, str) for value in values)
    for line, value in zip(lines, values, strict=True):
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        elif value is not None:
            value = str(value) if texts else int(value)
        assert line == dumps({"dvc": "Netfilter"} | ({} if value is None else {"mine": value}) | {"oob.mark": 0})


def test_added_fractions() -> None:
    values = [0.5, -1.25, 0.1, 1e300, -5e-324, 1 / 3, 3.0, -0.0, 7, None, math.nan, math.inf, -math.inf]
    batch = decode([build_message(b"")] * len(values)).batch
    batch.add("mine", values)
    lines = lines_of(plan([("mine", MINE)], timestamp=False), batch)
    for line, value in zip(lines, values, strict=True):
        shown = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        if value is None:
            assert "mine" not in shown
        else:
            assert shown["mine"] == (value if math.isfinite(value) else None)


def test_an_added_text_that_is_no_text() -> None:
    """Surrogates that stand for no byte come from JSON, for example."""
    batch = decode([build_message(b"")] * 2).batch
    batch.add("mine", ["a\ud800\udcffz", "☂"])
    lines = lines_of(plan([("mine", MINE)], timestamp=False), batch)
    assert [json.loads(line)["mine"] for line in lines] == ["a\ufffd\ufffdz", "☂"]


def test_an_added_column_follows_its_rows() -> None:
    batch = decode([build_message(b"", mark=number) for number in range(10)]).batch
    batch.add("before", [f"b{number}" for number in range(10)])
    some = batch.select([2, 3, 7])
    some.add("after", [20, None, 70])
    few = some.select([0, 2])
    made = plan(
        [
            ("mark", BY_NAME["oob.mark"]),
            *((name, added_key(name, "string", "A test's.")) for name in ("before", "after")),
        ],
        timestamp=False,
    )
    records = [json.loads(line) for line in lines_of(made, some)]
    shown = [(record["mark"], record["before"], record.get("after")) for record in records]
    assert shown == [(2, "b2", 20), (3, "b3", None), (7, "b7", 70)]
    assert [json.loads(line)["after"] for line in lines_of(made, few)] == [20, 70]


def test_a_plan_serves_batches_of_any_kind() -> None:
    """The kind of an added column may change from batch to batch."""
    made = plan([("mine", MINE)], timestamp=False)
    for value in (1, "text", 0.5, None, -1):
        batch = decode([build_message(b"")]).batch
        batch.add("mine", [value])
        assert json.loads(lines_of(made, batch)[0]).get("mine") == value


def test_a_column_that_was_not_added() -> None:
    with pytest.raises(KeyError, match="mine"):
        lines_of(plan([("mine", MINE)]), decode([build_message(b"")]).batch)


# -- room -------------------------------------------------------------------------------------------------------------


def test_a_batch_of_any_size_is_rendered_whole() -> None:
    """Small, then larger than the largest buffer that is kept, then a line that is larger still."""
    made = plan()
    for messages in (
        [message_of(by_name("udp4"))],
        [message_of(by_name("tcp4-all"), **{**FULL, "prefix": b"\1" * 500})] * 1150,
        [message_of(by_name("udp4"), prefix=b"\x01" * 60_000)] * 12,
    ):
        batch = decode(messages).batch
        assert lines_of(made, batch) == [dumps(expected_record(message)) for message in messages]


def test_every_size_of_buffer() -> None:
    """What does not fit whole is left for the next call, and nothing is written past the end."""
    messages = [message_of(by_name(name), **FULL) for name in ("tcp4-all", "arp-reply", "udp6", "vlan-qinq-ip6")]
    batch, made = decode(messages).batch, plan()
    raw, done = batch.raw, ffi.new("uint32_t *")
    whole = "".join(line + "\n" for line in lines_of(made, batch)).encode()
    first_fit = 0
    form, source = made.form(PACKET).plan, raw.as_c()
    for size in range(0, form.plan.fixed_size * 6, 97):
        out = ffi.new("char[]", b"\xa5" * (size + 64))
        text, first = b"", 0
        while first < raw.count:
            used = lib.nfl_lines_render(form, source, first, out, size, done)
            assert used <= size
            assert bytes(ffi.buffer(out + size, 64)) == b"\xa5" * 64
            if done[0] == first:
                assert used == 0
                break
            text += bytes(ffi.buffer(out, used))
            first = done[0]
        assert whole.startswith(text)
        if text == whole:
            first_fit = first_fit or size
        else:
            assert not first_fit, f"{size} bytes are too few although {first_fit} sufficed"
    assert first_fit


def test_every_size_of_buffer_for_texts() -> None:
    batch = decode([message_of(by_name(name), **FULL) for name in ("tcp4-all", "arp-reply", "udp6")]).batch
    raw, done = batch.raw, ffi.new("uint32_t *")
    for name in ("oob.prefix", "ip.saddr.str", "mac.str", "mac.saddr.str", "oob.in", "arp.saddr.str"):
        column = TextColumn(BY_NAME[name], PACKET)
        whole = b"".join(text.encode() + b"\0" for text in column.render(raw))
        for size in range(len(whole) + 2):
            out = ffi.new("char[]", b"\xa5" * (size + 64))
            used = lib.nfl_text_render(column._column, raw.as_c(), 0, out, size, done)
            assert bytes(ffi.buffer(out + size, 64)) == b"\xa5" * 64
            assert whole[:size].startswith(bytes(ffi.buffer(out, used)))
            assert bytes(ffi.buffer(out, used)).count(b"\0") == done[0]
        assert done[0] == raw.count


# -- the layout of records --------------------------------------------------------------------------------------------


def test_every_key_lies_in_the_record() -> None:
    sizes = {"u8": 1, "u16": 2, "u32": 4, "addr": 16, "addr4": 4, "bytes": 4, "text": 4, "macbytes": 4, "ifname": 4}
    for key in (key for key in CATALOGUE if key.kind != "column"):
        types = [type_ for type_ in (PACKET, REPORTED, FLOW, SUM) if key in type_]
        assert types, key
        for type_ in types:
            assert type_.field_size(key.field) == sizes.get(key.kind, type_.field_size(key.field)), key
            assert 0 <= type_.offset_of(key.field) < type_.stride, key
        assert 0 <= key.valid.value < 64, key


def test_there_is_a_bit_for_every_condition() -> None:
    named = {name for name in dir(lib) if name.startswith("NFL_VALID_")}
    assert len({getattr(lib, name) for name in named}) == len(named) <= 64
    assert named - {f"NFL_VALID_{key.valid}" for key in CATALOGUE if key in PACKET} == {"NFL_VALID_KERNEL_TIME"}


#: Names of C that begin as those of conditions, and are none.
OTHERS = frozenset(
    (
        *("MESSAGE_MIN", "MESSAGE_MAX", "LABELS_BYTES", "HELPER_BYTES", "DATAGRAM_MAX", "NEW", "UPDATE", "DESTROY"),
        *("IDLE", "ACTIVE", "FINISHED", "FORCED", "LACK", "FREE", "LIVE", "OLD", "ENDED"),
        *("ELEMENT", "TEXT_BYTES", "XML_BYTES"),
    )
)


def test_conditions_are_the_bits_of_c() -> None:
    for conditions, prefix in ((PacketCondition, "NFL_VALID_"), (SumCondition, "NFL_COUNTER_"),
                               (FlowCondition, "NFL_FLOW_"), (ReportedCondition, "NFL_REPORTED_")):  # fmt: skip
        declared = {
            name.removeprefix(prefix): getattr(lib, name)
            for name in dir(lib)
            if name.startswith(prefix) and name.removeprefix(prefix) not in OTHERS
        }
        assert {condition.name: condition.value for condition in conditions} == declared


# -- rows for a database ----------------------------------------------------------------------------------------------

_ESCAPES = {"\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r", "\0": "\ufffd"}

#: All that a record holds, as a stack whose table is not known yet wants it; addresses as numbers too.
_COPIED: list[tuple[str, Key]] = [("oob.time", TIME_KEY), *_STACK.items()]
_COPIED += [(key.name, key) for plugin in ("IP2BIN", "IP2HBIN") for key in published_by(plugin)]
_COPIED += [(f"{name}:number", BY_NAME[name]) for name in ("ip.saddr", "ip.daddr", "arp.saddr", "icmp.gateway")]


def rows_of(made: CopyPlan, batch: Batch) -> list[list[str]]:
    """Return the fields of the rows rendered, as they are written."""
    rows = []
    for piece, count in made.render(batch.raw, batch.added):
        assert piece.count(b"\n") == count
        rows += [row.split("\t") for row in piece.decode("utf-8").removesuffix("\n").split("\n")]
    return rows


def copied(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def expected_field(item: str, values: dict[str, Any]) -> str:
    """Return a field as COPY has to read it, by the oracle."""
    if item == "oob.time":
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(values["oob.time.sec"]))
        return f"{when}.{values['oob.time.usec']:06}+00"
    name = item.removesuffix(":number")
    value = values.get(name)
    if value is None:
        return "\\N"
    if item.endswith(":number"):
        return str(int.from_bytes(value)) if len(value) == 4 else "\\N"
    if isinstance(value, bytes) and BY_NAME[name].type == "ipaddr":
        return socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)
    if BY_NAME[name].type == "raw":
        return f"\\\\x{value.hex()}"
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return copied(value.decode("utf-8", "replace")) if isinstance(value, bytes) else str(value)


def all_values(message: bytes) -> dict[str, Any]:
    keys = oracle.decode(message, now=NOW, label=LABEL)
    assert keys is not None
    values: dict[str, Any] = {**keys, **oracle.derive(keys, NAMES)}
    for direction in ("in", "out"):
        if index := keys.get(f"oob.phys{direction}dev"):
            values[f"oob.phys{direction}"] = NAMES.get(int(index), "")
    return values | {name.removeprefix("HWHDR:"): v for name, v in values.items() if name.startswith("HWHDR:")}


@pytest.mark.parametrize("family", [None, oracle.BRIDGE, oracle.NETDEV])
def test_rows_of_every_frame(family: int | None) -> None:
    messages = [message_of(frame, family) for frame in frames()]
    messages += [message_of(frame, family, **FULL) for frame in frames()]
    for piece in chunks(messages):
        rows = rows_of(CopyPlan(_COPIED), decode(piece).batch)
        for row, message in zip(rows, piece, strict=True):
            values = all_values(message)
            expected = {item: expected_field(item, values) for item, _ in _COPIED}
            assert dict(zip((item for item, _ in _COPIED), row, strict=True)) == expected


@given(prefix=st.binary(max_size=60).filter(lambda prefix: b"\0" not in prefix))
def test_any_prefix_as_a_field(prefix: bytes) -> None:
    batch = decode([build_message(b"", prefix=prefix, mark=1)]).batch
    wanted = copied(prefix.decode("utf-8", "replace"))
    assert rows_of(CopyPlan([("oob.prefix", BY_NAME["oob.prefix"]), ("oob.mark", BY_NAME["oob.mark"])]), batch) == [
        [wanted, "1"]
    ]


def test_rows_of_added_columns() -> None:
    batch = decode([build_message(b"", mark=number) for number in range(4)]).batch
    batch.add("a.text", ["tab\there", None, "nul\0", "\\N"])
    batch.add("a.number", [-1, None, 2**63 - 1, 0])
    batch.add("a.float", [0.5, math.inf, None, math.nan])
    members: list[tuple[str, Key]] = [("oob.mark", BY_NAME["oob.mark"])]
    members += [
        (name, added_key(name, "string", "A test's.")) for name in ("a.text", "a.number", "a.float", "a.missing")
    ]
    assert rows_of(CopyPlan(members), batch) == [
        ["0", "tab\\there", "-1", "0.5", "\\N"],
        ["1", "\\N", "\\N", "inf", "\\N"],
        ["2", "nul\ufffd", str(2**63 - 1), "\\N", "\\N"],
        ["3", "\\\\N", "0", "nan", "\\N"],
    ]
    chosen = batch.select([1, 3])
    assert [row[0] for row in rows_of(CopyPlan(members), chosen)] == ["1", "3"]


def test_rows_that_are_no_packets() -> None:
    sums = {"sum.name": ["a", "b"], "sum.pkts": [1, 2**64 - 1]}
    batch = Batch.of_columns(sums, time=(1_795_460_084, 7))
    members: list[tuple[str, Key]] = [("oob.time", TIME_KEY), ("oob.mark", BY_NAME["oob.mark"])]
    members += [(name, BY_NAME[name]) for name in sums]
    when = "2026-11-23 18:54:44.000007+00"
    assert rows_of(CopyPlan(members), batch) == [[when, "\\N", "a", "1"], [when, "\\N", "b", str(2**64 - 1)]]


def test_rows_of_many_packets_grow_the_buffer() -> None:
    batch = decode([message_of(by_name("udp4"), seq=number, prefix=b"x" * 120) for number in range(3000)]).batch
    rows = rows_of(CopyPlan(_COPIED), batch)
    at = [item for item, _ in _COPIED].index("oob.seq.local")
    assert [int(row[at]) for row in rows] == list(range(3000))


def test_a_row_longer_than_the_buffer() -> None:
    payload = bytes(range(256)) * 240
    batch = decode([build_message(payload)]).batch
    (row,) = rows_of(CopyPlan([("raw.pkt", BY_NAME["raw.pkt"])] * 80), batch)
    assert row == [f"\\\\x{payload.hex()}"] * 80
