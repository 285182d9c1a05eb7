# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes of a flow: each says its type, and the type is true of every flow there is."""

from __future__ import annotations

import builtins
import inspect
import types
from typing import Any, get_args, get_type_hints

import pytest

from nflowlevel.records.flow import FLOW, FLOW_TERMS
from nflowlevel.records.flowattributes import FlowAttributes
from tests.fix_flow_messages import DESTROY, NEW, decode_flows, message, tcp_flow, tuple_of
from tests.netlink import attribute, nest


def attributes() -> dict[str, property]:
    return {name: value for name, value in inspect.getmembers(FlowAttributes) if isinstance(value, property)}


def type_of(attribute_: property) -> Any:
    return get_type_hints(attribute_.fget, {"builtins": builtins})["return"]


@pytest.mark.parametrize("name", attributes())
def test_an_attribute_has_the_type_it_says(name: str) -> None:
    six = (
        tuple_of(1, "fd00::2", "fd00::1", 58, icmp=(128, 0, 7)),
        tuple_of(2, "fd00::1", "fd00::2", 58, icmp=(129, 0, 7)),
    )
    four = (
        tuple_of(1, "10.0.0.2", "10.0.0.1", 1, icmp=(8, 0, 9)),
        tuple_of(2, "10.0.0.1", "10.0.0.2", 1, icmp=(0, 0, 9)),
    )
    forwarded = (
        tuple_of(1, "192.0.2.9", "198.51.100.1", 6, ports=(40000, 8080)),
        tuple_of(2, "10.0.0.2", "192.0.2.9", 6, ports=(80, 40000)),
    )
    sctp = tcp_flow(state=nest(4, nest(3, attribute(1, b"\4"))), times=b"")
    messages = [message(DESTROY, *tcp_flow()), message(DESTROY, *sctp), message(NEW, *six), message(NEW, *four)]
    messages.append(message(NEW, *forwarded))
    listed = message(0, *tcp_flow(times=b""), sequence=3)
    batches = [decode_flows(messages)[0], decode_flows([listed], sequence=3)[0]]
    wanted = type_of(attributes()[name])
    kinds = set(get_args(wanted)) if isinstance(wanted, types.UnionType) else {wanted}
    assert {type(getattr(flow, name)) for batch in batches for flow in batch} == kinds


def test_every_name_of_a_key_is_an_attribute() -> None:
    names = {name.replace(".", "_") for name in (*FLOW.by_name, *FLOW.own.joined, *FLOW_TERMS)}
    assert attributes().keys() == names
