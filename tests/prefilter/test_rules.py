# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules: the types of a prefilter's keyword arguments are those of its options."""

from __future__ import annotations

import ipaddress
from typing import Any, get_type_hints

import msgspec
import pytest

from nflowlevel.prefilter.conditions import PrefilterOptions, options_of
from nflowlevel.prefilter.rules import Networks, Numbers, Rules, Words

_TEXTS: dict[Any, list[Any]] = {
    Networks: [
        "10.0.0.0/8, fd00::/8",
        ["10.0.0.0/8"],
        ipaddress.ip_network("10.0.0.0/8"),
        (ipaddress.ip_address("10.0.0.1"), "fd00::/8"),
        [ipaddress.ip_interface("10.0.0.1/32")],
    ],
    Words: ["syn", ["syn", "!ack"]],
}
_NUMBERS = {"protocols": [6, "tcp", ["tcp", 17]], "sports": [22, "22,80-90", [22, "80-90"]]}
_NUMBERS["dports"] = _NUMBERS["sports"]


def test_rules_are_the_options() -> None:
    options = {field.name: field.type for field in msgspec.structs.fields(PrefilterOptions)}
    hints = get_type_hints(PrefilterOptions)
    rules = get_type_hints(Rules)
    assert list(rules) == list(options)
    for name, wanted in rules.items():
        if wanted in (Networks, Words, Numbers):
            assert hints[name] is str, name
        else:
            assert wanted == hints[name], name


@pytest.mark.parametrize("name", get_type_hints(Rules))
def test_what_a_type_allows_is_taken(name: str) -> None:
    wanted = get_type_hints(Rules)[name]
    default = getattr(PrefilterOptions(), name)
    for value in _NUMBERS.get(name) or _TEXTS.get(wanted) or [default]:
        taken = getattr(options_of({name: value}), name)
        assert isinstance(taken, str) or taken == default, value
