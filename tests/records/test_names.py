# SPDX-License-Identifier: GPL-2.0-or-later
"""Names: the same key by whichever of its names, and a hint for what is none."""

from __future__ import annotations

import pytest

from nflowlevel.records.keys import BY_NAME, Key
from nflowlevel.records.names import Names


def key(name: str, cim: str = "") -> Key:
    return BY_NAME["tcp.dport"]._replace(name=name, cim=cim)


@pytest.fixture
def names() -> Names:
    """A table that has nothing to do with packets."""
    keys = [key("flow.start.sec"), key("orig.sport", "src_port"), key("reply.sport", "src_port"), key("a.b", "one")]
    return Names({k.name: k for k in keys}, {"began": "flow.start.sec", "port": "src_port"})


@pytest.mark.parametrize(
    ("name", "found", "keys"),
    [
        ("flow.start.sec", "flow.start.sec", ("flow.start.sec",)),
        ("flow_start_sec", "flow.start.sec", ("flow.start.sec",)),
        ("began", "flow.start.sec", ("flow.start.sec",)),
        ("src_port", "src_port", ("orig.sport", "reply.sport")),
        ("port", "src_port", ("orig.sport", "reply.sport")),
        ("one", "one", ("a.b",)),
        ("a_b", "a.b", ("a.b",)),
    ],
)
def test_one_key_by_all_its_names(names: Names, name: str, found: str, keys: tuple[str, ...]) -> None:
    assert name in names
    assert names.find(name) == found
    assert names.keys_of(name) == keys


def test_a_table_knows_its_own_keys_only(names: Names) -> None:
    """A name of another kind of record is none here."""
    assert "ip.saddr" not in names
    with pytest.raises(KeyError, match=r"unknown key 'ip\.saddr'"):
        names.find("ip.saddr")
    assert {"flow.start.sec", "flow_start_sec", "began", "src_port", "port"} <= set(names)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("flow.start.sek", "flow.start.sec"),
        ("flow_start_sek", "flow_start_sec"),
        ("src_prt", "src_port"),
        ("begann", "began"),
        ("FLOW.START.SEC", "flow.start.sec"),
        ("my.colum", "my.column"),
    ],
)
def test_an_unknown_name_has_a_hint(names: Names, name: str, hint: str) -> None:
    with pytest.raises(KeyError) as caught:
        names.find(name, {"my.column": None})
    assert caught.value.args[0] == f"unknown key '{name}' — did you mean '{hint}'?"


def test_without_a_near_name_there_is_no_hint(names: Names) -> None:
    with pytest.raises(KeyError, match=r"unknown key 'zzzzzzzz'; docs"):
        names.find("zzzzzzzz")


def test_added_columns_come_first(names: Names) -> None:
    assert names.find("port", ["port"]) == "port"
    assert names.find("my.column", ["my.column"]) == "my.column"
    assert names.find("my_column", ["other", "my.column"]) == "my.column"
    assert names.find("began", ["my.column"]) == "flow.start.sec"


def test_lists_are_found_as_single_names_are(names: Names) -> None:
    asked = ("began", "port", "a.b", "began")
    assert names.find_all(asked) == ("flow.start.sec", "src_port", "a.b", "flow.start.sec")
    assert names.find_all(asked) is names.find_all(asked), "the second time it is one look"
    with pytest.raises(KeyError, match=r"unknown key 'no\.such'"):
        names.find_all(("began", "no.such"))
