# SPDX-License-Identifier: GPL-2.0-or-later
"""How keys are read: where a field lies, and that nothing but plain numbers is read at once."""

from __future__ import annotations

import pytest

from nflowlevel.binding.buffers import RECORD_BYTES
from nflowlevel.records.batch import Batch
from nflowlevel.records.fields import fields_of, find_key
from nflowlevel.records.keys import CIM, PACKET_KEYS
from nflowlevel.records.packet import PACKET
from tests import oracle
from tests.corpus import frames
from tests.fix_decoder import expected
from tests.messages import FULL, message_of

FIELDS = fields_of(PACKET)


def test_layout_of_a_number() -> None:
    layout = FIELDS.layout_of("tcp.dport")
    assert (layout.format, layout.width, layout.step) == ("H", 0, RECORD_BYTES // 2)
    assert layout.start * 2 == PACKET.offset_of("tcp_dport")


def test_numpy_sees_the_same_fields() -> None:
    _, dtype = FIELDS.record_array
    assert dtype.itemsize == RECORD_BYTES
    assert dtype.fields is not None
    for field in dtype.names or ():
        assert dtype.fields[field][1] == PACKET.offset_of(field)


def test_only_plain_numbers_are_read_at_once() -> None:
    assert FIELDS.row_struct(("ip.ttl", "ip.saddr")) is None
    assert FIELDS.row_struct(("ip.ttl", "ip.ttl")) is None
    fast = FIELDS.row_struct(("udp.dport", "oob.mark"))
    assert fast is not None
    mask, struct, reorder = fast
    assert struct.size == RECORD_BYTES
    assert mask == FIELDS.layout_of("udp.dport").bit | FIELDS.layout_of("oob.mark").bit
    assert reorder is not None
    assert reorder((1, 2)) == (2, 1)


def test_names_that_keys_share() -> None:
    assert PACKET.cim.keys() == set(CIM) == {"src_ip", "dest_ip", "src_port", "dest_port"}
    assert CIM["dest_port"] == ("tcp.dport", "udp.dport", "sctp.dport")


def test_an_unknown_key_without_a_nearest() -> None:
    with pytest.raises(KeyError, match="unknown key 'zzzzzzzz'; docs"):
        Batch(None, 0).values("zzzzzzzz")


def test_a_key_has_one_name_here() -> None:
    """Other names are resolved before: what is looked up here is the record."""
    assert find_key("tcp.dport", PACKET).field == "tcp_dport"
    for name in ("tcp.dportt", "tcp_dport", "dport"):
        with pytest.raises(KeyError, match=f"unknown key '{name}'.*did you mean 'tcp.dport'|unknown key 'dport'"):
            find_key(name, PACKET)


def test_oracle_and_catalogue_know_the_same_keys() -> None:
    """No key is left out of the comparisons because the oracle does not know it."""
    messages = [message_of(frame, family, **FULL) for frame in frames() for family in (None, oracle.BRIDGE)]
    known = set().union(*(expected(message) or {} for message in messages))
    assert known == set(PACKET_KEYS)
