# SPDX-License-Identifier: GPL-2.0-or-later
"""LOG and ULOG in texts of iptables-save and its kin: found as iptables-restore reads, converted, all else the same."""

from __future__ import annotations

import random

import pytest

from nflowlevel.firewall.logstatements import Groups, converted
from nflowlevel.firewall.savetext import find, is_save


def convert(text: str, snaplen: int = 0, by_level: bool = False) -> str:
    """Return the text with groups from 5 on."""
    found = find(text, snaplen)
    assert not found.left
    return converted(text, found.statements, Groups(found.taken, 5, by_level))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("-A INPUT -j LOG", "-A INPUT -j NFLOG --nflog-group 5"),
        ("[3:180] -A INPUT -j LOG", "[3:180] -A INPUT -j NFLOG --nflog-group 5"),
        ("-A x --jump LOG --log-level 7", "-A x --jump NFLOG --nflog-group 5"),
        (
            '-A INPUT -p tcp -m limit --limit 3/min -j LOG --log-prefix "IN \\"x\\\\y: " --log-level 6 --log-uid',
            '-A INPUT -p tcp -m limit --limit 3/min -j NFLOG --nflog-prefix "IN \\"x\\\\y: " --nflog-group 5',
        ),
        # A comment that looks like the target, a prefix that looks like an option.
        (
            "-A INPUT -m comment --comment -j -j LOG --log-prefix -j",
            "-A INPUT -m comment --comment -j -j NFLOG --nflog-prefix -j --nflog-group 5",
        ),
        (
            '-A INPUT -m comment --comment "-j LOG --log-level 3" -j ACCEPT',
            '-A INPUT -m comment --comment "-j LOG --log-level 3" -j ACCEPT',
        ),
        ("-A INPUT -m comment --comment --log -j ACCEPT", "-A INPUT -m comment --comment --log -j ACCEPT"),
        # As one writes by hand: matches behind the target, values after an equals sign, words with quotes inside.
        (
            '-I INPUT 2 -j LOG -p tcp --log-prefix="a b" -m limit --log-level=debug --limit 1/s',
            '-I INPUT 2 -j NFLOG --nflog-prefix "a b" --nflog-group 5 -p tcp -m limit --limit 1/s',
        ),
        (
            '-A INPUT -j LOG --log-prefix="a "b',
            '-A INPUT -j NFLOG --nflog-prefix "a "b --nflog-group 5',
        ),
        ("-A INPUT -ptcp -jLOG --log-prefix x", "-A INPUT -ptcp -j NFLOG --nflog-prefix x --nflog-group 5"),
        ('-A INPUT "-jLOG"', "-A INPUT -j NFLOG --nflog-group 5"),
        ("-A INPUT --jump=LOG --log-uid -p tcp", "-A INPUT -j NFLOG --nflog-group 5 -p tcp"),
        ("-A INPUT --ju LOG", "-A INPUT --ju NFLOG --nflog-group 5"),
        ("-A INPUT -jULOG", "-A INPUT -j NFLOG --nflog-group 1"),
        ("-A INPUT -jLOGDROP", "-A INPUT -jLOGDROP"),
        ("-A INPUT -m comment --comment -jLOG", "-A INPUT -m comment --comment -jLOG"),
        ("-A LOG -j RETURN", "-A LOG -j RETURN"),
        ("-A INPUT -j LOGDROP", "-A INPUT -j LOGDROP"),
        ("-A INPUT -g LOG", "-A INPUT -g LOG"),
        ("# -A INPUT -j LOG", "# -A INPUT -j LOG"),
        (":LOG - [0:0]", ":LOG - [0:0]"),
        ("-A INPUT -j ULOG", "-A INPUT -j NFLOG --nflog-group 1"),
        (
            '-A INPUT -j ULOG --ulog-prefix "u " --ulog-nlgroup 3 --ulog-cprange 100 --ulog-qthreshold 50',
            '-A INPUT -j NFLOG --nflog-prefix "u " --nflog-group 3 --nflog-size 100 --nflog-threshold 50',
        ),
        # ebtables.
        (
            '-A INPUT -p IPv4 --log-level info --log-prefix "eb x" --log-ip --log-arp -j CONTINUE',
            '-A INPUT -p IPv4 --nflog-prefix "eb x" --nflog-group 5 -j CONTINUE',
        ),
        ("-A INPUT --log -j DROP", "-A INPUT --nflog-group 5 -j DROP"),
    ],
)
def test_a_rule(before: str, after: str) -> None:
    text = "# comment\n*filter\n:INPUT ACCEPT [0:0]\n{}\nCOMMIT\n"
    assert convert(text.format(before)) == text.format(after)


def test_a_chain_may_be_called_like_a_target() -> None:
    rules = "-A INPUT -j LOG\n-A LOG -j ULOG\nCOMMIT\n"
    text = f"*raw\n:INPUT - [0:0]\n:LOG - [0:0]\n:ULOG - [0:0]\n{rules}*filter\n{rules}"
    assert convert(text) == text[: -len(rules)] + rules.replace("j LOG", "j NFLOG --nflog-group 5").replace(
        "ULOG", "NFLOG --nflog-group 1"
    )


@pytest.mark.parametrize("size", [0, 96])
def test_the_size_of_what_is_copied(size: int) -> None:
    assert convert("-A a -j LOG\n-A b --log -j DROP", size) == (
        "-A a -j NFLOG --nflog-group 5 --nflog-size 96\n-A b --nflog-group 5 --nflog-range 96 -j DROP"
        if size
        else "-A a -j NFLOG --nflog-group 5\n-A b --nflog-group 5 -j DROP"
    )


@pytest.mark.parametrize(
    ("prefix", "trimmed"),
    [
        ('"DROP: "', '"DROP:"'),
        ('"two  "', '"two "'),
        ('"DROP:"', '"DROP:"'),
        ("DROP:", "DROP:"),
        ('" "', '" "'),
        ('"a\\ "', '"a\\ "'),
    ],
)
def test_the_blank_at_the_end_of_a_prefix(prefix: str, trimmed: str) -> None:
    rules = "-A a -j LOG --log-prefix {0}\n-A a -j ULOG --ulog-prefix {0}\n-A a --log-prefix {0} --log -j DROP"
    for rule in rules.format(prefix).split("\n"):
        (kept,), (cut,) = find(rule, 0).statements, find(rule, 0, trim=True).statements
        assert f"--nflog-prefix {prefix} " in kept.before
        assert f"--nflog-prefix {trimmed} " in cut.before


def test_what_a_rule_asks_for() -> None:
    found = find("-A a -j LOG --log-tcp-options --log-tcp-sequence --log-ip-options --log-uid --log-macdecode")
    (statement,) = found.statements
    assert statement.asks == {"tcp-options", "tcp-sequence", "ip-options", "uid", "macdecode"}
    assert statement.level == "warning"
    (watcher,) = find("-A a --log-level notice --log-ip --log-arp --log-ip6 -j DROP").statements
    assert (watcher.level, watcher.asks) == ("notice", {"ip", "arp", "ip6"})


def test_levels() -> None:
    text = "-A a -j LOG --log-level {}"
    assert [find(text.format(word)).statements[0].level for word in ("0", "warning", "7")] == [
        "emerg",
        "warning",
        "debug",
    ]
    assert convert("-A a -j LOG --log-level 3\n-A a -j LOG\n-A a -j LOG --log-level err", by_level=True) == (
        "-A a -j NFLOG --nflog-group 5\n-A a -j NFLOG --nflog-group 6\n-A a -j NFLOG --nflog-group 5"
    )


def test_groups_that_are_taken() -> None:
    text = "-A a -j NFLOG --nflog-group 5\n-A a -j NFLOG\n-A a --nflog-group=7 -j DROP\n-A a -j LOG"
    assert find(text).taken == {0, 5, 7}
    assert convert(text).endswith("-j NFLOG --nflog-group 6")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("-A a -j AUDIT --type drop", "-j AUDIT writes to the audit subsystem, not to the kernel's log"),
        ("-A a -j LOG --log-level 9", "--log-level 9 is no level"),
        ("-A a -j LOG --log-level", "--log-level has no value"),
        ('-A a -j LOG --log-prefix "a b', "a double quote is not closed, so iptables could not load it"),
        ("-A c -j", "-j has no value"),
        ("-A a -j ULOG --ulog-nlgroup 33", "--ulog-nlgroup must be 1 to 32, not 33"),
        ("-A a -j ULOG --ulog-cprange x", "--ulog-cprange must be a number, not x"),
    ],
)
def test_a_rule_that_is_left(rule: str, why: str) -> None:
    text = f"-A a -j LOG\n{rule}\n-A b -j LOG"
    found = find(text)
    assert [(left.start, left.why) for left in found.left] == [(text.index(rule), why)]
    assert len(found.statements) == 2


def test_hostile_texts() -> None:
    comment = "x\u2028-A b -j LOG\x85\x0b\x0c\x1c-j LOG\udcff\x1b[2J"
    rule = f'*filter\n-A a -m comment --comment "{comment}" -j {{}}\n'
    assert convert(rule.format('LOG --log-prefix "\u2029 "')) == rule.format(
        'NFLOG --nflog-prefix "\u2029 " --nflog-group 5'
    )


def test_random_words_stay() -> None:
    words = ["-j", "LOG", "-A", '"', "\\", "--log-prefix", "--comment", "-m", "x", "\t", "\u2028", "[1:2]", "=", "#"]
    chance = random.Random(11)
    for _ in range(2_000):
        text = "\n".join(" ".join(chance.choices(words, k=9)) for _ in range(3))
        found = find(text)
        at = 0
        for statement in found.statements:
            assert at <= statement.start < statement.end <= len(text)
            assert text[statement.start : statement.end].startswith(("LOG", "--log"))
            at = statement.end


@pytest.mark.parametrize(("text", "is_one"), [("*filter\nCOMMIT\n", True), ("a\n*nat \r\n", True), ("* filter", False)])
def test_what_looks_like_it(text: str, is_one: bool) -> None:
    assert is_save(text) == is_one
