# SPDX-License-Identifier: GPL-2.0-or-later
"""`log` in nft's JSON: its members are found in the text as written, whatever the texts of others hold."""

from __future__ import annotations

import json

import pytest

from nflowlevel.firewall.logstatements import Groups, converted
from nflowlevel.firewall.nftjson import find, is_json


def ruleset(*statements: object, comment: str = "", indent: int | None = None) -> str:
    """Return a rule with these statements as nft prints it."""
    rule = {"family": "inet", "table": "t", "chain": "c", "handle": 2, "comment": comment, "expr": [*statements]}
    return json.dumps({"nftables": [{"metainfo": {"version": "1"}}, {"rule": rule}]}, indent=indent, ensure_ascii=False)


def convert(text: str, snaplen: int = 0) -> str:
    """Return the text with groups from 5 on."""
    found = find(text, snaplen)
    return converted(text, found.statements, Groups(found.taken, 5))


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("log", "group"),
    [
        (None, {"group": 5}),
        ({"prefix": 'a "b" \\ \u2028'}, {"prefix": 'a "b" \\ \u2028', "group": 5}),
        ({"level": "info", "prefix": "x", "flags": ["skuid", "ether"]}, {"prefix": "x", "group": 5}),
        ({"flags": "all"}, {"group": 5}),
        ({"group": 3, "snaplen": 4}, {"group": 3, "snaplen": 4}),
    ],
)
def test_a_rule(log: object, group: object, indent: int | None) -> None:
    others = {"counter": {"packets": 1, "bytes": 2}}, {"drop": None}
    comment = '"log": {"level": "x"} \u2028 \\"log\\": null'
    text = ruleset(others[0], {"log": log}, others[1], comment=comment, indent=indent)
    result = convert(text)
    assert json.loads(result) == json.loads(ruleset(others[0], {"log": group}, others[1], comment=comment))
    start = text.index("expr")
    assert result[:start] == text[:start]
    end = text[text.rindex("drop") :]
    assert result.endswith(end)


def test_the_size_of_what_is_copied() -> None:
    assert '"log": {"group": 5, "snaplen": 96}' in convert(ruleset({"log": None}), 96)


def test_the_blank_at_the_end_of_a_prefix() -> None:
    (statement,) = find(ruleset({"log": {"prefix": "a: "}}), trim=True).statements
    assert statement.before == '{"prefix": "a:", "group": '


def test_what_a_rule_asks_for() -> None:
    (statement,) = find(ruleset({"log": {"flags": ["tcp options", "skuid"], "level": "err"}})).statements
    assert (statement.level, statement.asks) == ("err", {"tcp-options", "uid"})


def test_what_is_left() -> None:
    text = ruleset(
        {"log": {"level": "audit"}},
        {"xt": {"type": "target", "name": "LOG"}},
        {"xt": {"type": "match", "name": "comment"}},
        "jump { log drop }",
        {"log": None},
    )
    found = find(text)
    assert sorted(left.why.split(" ")[0] for left in found.left) == ["level", "nft", "rule"]
    assert len(found.statements) == 1
    assert '"level": "audit"' in convert(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"nftables": 1}',
        '{"nftables": [',
        ruleset({"log": None}).replace('"log"', r'"\u006cog"'),
        ruleset({"log": {"level": "err"}}).replace('"level"', '"level": "debug", "log": null, "level"')[:-1],
    ],
)
def test_what_nft_does_not_write_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"nftables|delimiter|Expecting|does not use"):
        find(text)


def test_a_member_that_is_given_twice_is_refused() -> None:
    text = ruleset({"log": None}).replace('"log": null', '"log": null, "log": {"level": "err"}')
    with pytest.raises(ValueError, match="in a way that nft does not use"):
        find(text)


@pytest.mark.parametrize(("text", "is_one"), [(' \n{"nftables": []}', True), ("{}", False), ("table ip t {}", False)])
def test_what_looks_like_it(text: str, is_one: bool) -> None:
    assert is_json(text) == is_one
