# SPDX-License-Identifier: GPL-2.0-or-later
"""`log` in nft's text: found among its names, strings and comments, converted, all else the same."""

from __future__ import annotations

import random

import pytest

from nflowlevel.firewall.logstatements import Groups, converted
from nflowlevel.firewall.nfttext import find, is_nft, looks_like_iptables


def convert(text: str, snaplen: int = 0, by_level: bool = False) -> str:
    """Return the text with groups from 5 on."""
    found = find(text, snaplen)
    assert not found.left
    return converted(text, found.statements, Groups(found.taken, 5, by_level))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("log", "log group 5"),
        ('log prefix "a b"', 'log prefix "a b" group 5'),
        ('log prefix "a" level warn flags all drop', 'log prefix "a" group 5 drop'),
        ('log level info prefix "a b"', 'log prefix "a b" group 5'),
        ("log flags tcp sequence,options flags ip options flags skuid flags ether", "log group 5"),
        ("log flags tcp sequence , options accept", "log group 5 accept"),
        ("log prefix $name level debug", "log prefix $name group 5"),
        (
            'iifname "log" counter packets 5 bytes 7 log # log',
            'iifname "log" counter packets 5 bytes 7 log group 5 # log',
        ),
        ("ether type ip log prefix x", "ether type ip log prefix x group 5"),
        ('limit rate 3/minute log prefix \\\n\t"x" level \\\n err', 'limit rate 3/minute log prefix "x" group 5'),
        ('log comment "log level err"', 'log group 5 comment "log level err"'),
        ('jump { log prefix "blk " drop; }', 'jump { log prefix "blk " group 5 drop; }'),
        ("jump {\n\t\tlog level err\n\t\tlog\n\t}", "jump {\n\t\tlog group 5\n\t\tlog group 5\n\t}"),
        ("log; log", "log group 5; log group 5"),
        ('log prefix "x" group 3 snaplen 80 drop', 'log prefix "x" group 3 snaplen 80 drop'),
        ("tcp dport vmap { 22 : jump log, 80 : goto log }", "tcp dport vmap { 22 : jump log, 80 : goto log }"),
        ('ip saddr @log counter name "log"', 'ip saddr @log counter name "log"'),
        ('log prefix "a\nlog\n" drop', 'log prefix "a\nlog\n" group 5 drop'),
    ],
)
def test_a_rule(before: str, after: str) -> None:
    text = (
        "table inet f {{\n\tset s {{\n\t\ttype ipv4_addr\n\t}}\n\tchain c {{\n\t\t{}\n\t}}\n\tchain log {{\n\t}}\n}}\n"
    )
    assert convert(text.format(before)) == text.format(after)


def test_the_size_of_what_is_copied() -> None:
    assert convert("table ip t {\nchain c { log level info; }\n}", 96).count("log group 5 snaplen 96;") == 1


def test_commands() -> None:
    text = "flush ruleset\nadd table ip t\nadd rule ip t c log level info drop\n"
    assert is_nft(text)
    assert convert(text) == text.replace("level info", "group 5")


def test_the_blank_at_the_end_of_a_prefix() -> None:
    (statement,) = find('log prefix "DROP: " drop', trim=True).statements
    assert statement.before == 'log prefix "DROP:" group '
    (statement,) = find("log drop", trim=True).statements
    assert statement.before == "log group "


def test_what_a_rule_asks_for() -> None:
    found = find(
        'log level err flags tcp options flags skuid\nlog prefix "x" flags all\nlog flags ip options, flags ether'
    )
    assert [statement.level for statement in found.statements] == ["err", "warning", "warning"]
    assert [sorted(statement.asks) for statement in found.statements] == [
        ["tcp-options", "uid"],
        ["ip-options", "macdecode", "tcp-options", "tcp-sequence", "uid"],
        ["ip-options", "macdecode"],
    ]


def test_groups_with_names_are_taken_too() -> None:
    text = "define one = 5\nredefine two = 6 \nlog group $one\nlog group $two\nlog group $three\nlog"
    assert find(text).taken == {5, 6}
    assert convert(text).endswith("log group 7")


def test_rules_of_iptables_that_newer_nft_prints() -> None:
    text = 'table ip filter {\n\tchain INPUT {\n\t\tcounter packets 0 bytes 0 xt target "LOG"\n\t}\n}\n'
    assert [left.why for left in find(text).left] == ["it is iptables-nft's: convert what its -save program prints"]


def test_levels_have_groups_of_their_own() -> None:
    text = "log level warn\nlog level info\nlog\nlog group 5"
    assert convert(text, by_level=True) == "log group 6\nlog group 7\nlog group 6\nlog group 5"


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("log level audit", "level audit writes to the audit subsystem, not to the kernel's log"),
        ("log level loud", "there is no level loud"),
        (
            'log prefix "a"b" level warn comment "',
            "there is a double quote in its prefix, which nft's text cannot hold",
        ),
    ],
)
def test_a_rule_that_is_left(rule: str, why: str) -> None:
    text = f"log\n{rule}\nlog"
    found = find(text)
    assert [(left.start, left.why) for left in found.left] == [(4, why)]
    assert len(found.statements) == 2


@pytest.mark.parametrize("text", ['log prefix "a', "table ip t {\n", "}\n{", 'comment "a" b" log'])
def test_text_that_nft_could_not_load_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="its quotes or braces do not match"):
        find(text)


def test_hostile_texts() -> None:
    comment = 'comment "x\u2028log\u2029 level warn\x85\x0b\x1c{{ \udcff\x1b[2J; log \\"'
    rule = f'table ip t {{{{\n{comment}\nlog prefix "\u2028 "{{}}\n}}}}'
    assert convert(rule.format(" level warn")) == rule.format(" group 5")


def test_random_words_stay() -> None:
    words = [
        "log",
        "prefix",
        '"a"',
        "level",
        "warn",
        "flags",
        "tcp",
        "options",
        ",",
        "{",
        "}",
        ";",
        "\n",
        "\u2028",
        "#",
    ]
    chance = random.Random(11)
    converted_ones = 0
    for _ in range(3_000):
        text = " ".join(chance.choices(words, k=9))
        try:
            found = find(text)
        except ValueError:
            continue
        at = 0
        for statement in found.statements:
            assert at <= statement.start < statement.end <= len(text)
            assert text.startswith("log", statement.start)
            at = statement.end
            converted_ones += 1
    assert converted_ones > 100


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("table ip t {\n}", True),
        ("#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {", True),
        ("add rule ip t c log", True),
        ("*filter\nCOMMIT", False),
        ("[global]\nstack=a:NFLOG", False),
    ],
)
def test_what_looks_like_it(text: str, is_one: bool) -> None:
    assert is_nft(text) == is_one


def test_tables_that_look_like_those_of_iptables() -> None:
    assert looks_like_iptables("table ip filter {\n\tchain a {\n\t}\n\n\tchain INPUT {\n")
    assert not looks_like_iptables("table ip filter {\n\tchain input {\n")
    assert not looks_like_iptables("table inet filter {\n\tchain INPUT {\n")
