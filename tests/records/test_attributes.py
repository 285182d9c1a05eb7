# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes of a packet: each says its type, and the type is true of every packet there is."""

from __future__ import annotations

import inspect
import pydoc
import re
import types
from typing import Any, get_args, get_type_hints

import pytest

from nflowlevel.records.attributes import PacketAttributes
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import PACKET_KEYS
from nflowlevel.records.packet import PACKET
from nflowlevel.records.packetrow import Packet
from nflowlevel.records.terms import TERMS
from tests import oracle
from tests.corpus import frames
from tests.fix_decoder import decode
from tests.messages import FULL, egress_message_of, message_of, sample_messages


def attributes() -> dict[str, property]:
    return {name: value for name, value in inspect.getmembers(Packet) if isinstance(value, property)}


def type_of(attribute: property) -> Any:
    return get_type_hints(attribute.fget)["return"]


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    """Packets of every kind: with all that the kernel can say, with as little, and of other families."""
    few = [oracle.build_message(None), oracle.build_message(b"", protocol=None)]
    bridged = [message_of(frame, oracle.BRIDGE) for frame in frames()]
    full = [message_of(frame, **FULL) for frame in frames()]
    egress = [egress_message_of(frame) for frame in frames()]
    return [decode(messages).batch for messages in (sample_messages(), bridged, full, egress, few)]


@pytest.mark.parametrize("name", attributes())
def test_an_attribute_has_the_type_it_says(name: str, batches: list[Batch]) -> None:
    wanted = type_of(attributes()[name])
    kinds = set(get_args(wanted)) if isinstance(wanted, types.UnionType) else {wanted}
    assert kinds <= {int, str, bytes, float, memoryview, type(None)}
    assert len(kinds - {type(None)}) == 1
    found = {type(getattr(packet, name)) for batch in batches for packet in batch}
    assert found == kinds


def test_every_name_of_a_key_is_an_attribute() -> None:
    names = {name.replace(".", "_") for name in (*PACKET_KEYS, *PACKET.names.joined, *TERMS)}
    own = {name for name, value in vars(PacketAttributes).items() if isinstance(value, property)}
    assert own == names
    assert attributes().keys() - own == {"timestamp", "totlen"}


def test_every_attribute_says_what_it_is() -> None:
    for name, attribute in attributes().items():
        assert attribute.__doc__, name
        optional = type(None) in get_args(type_of(attribute))
        if name in vars(PacketAttributes):
            assert (
                bool(
                    re.search(
                        "; None if (the packet lacks it|it has none of them)", " ".join(attribute.__doc__.split())
                    )
                )
                == optional
            ), name


def test_help_and_signature() -> None:
    text = pydoc.render_doc(Packet, renderer=pydoc.plaintext)
    assert "tcp_syn" in text
    assert "SYN flag. Key: `tcp.syn`; None if the packet lacks it." in text
    assert list(inspect.signature(Packet).parameters) == ["_batch", "_row"]
    assert attributes().keys() <= set(dir(Packet))
