# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines to paste: what is printed is what the programs take."""

from __future__ import annotations

import pytest

from nflowlevel.prefilter.paste import rules_text


def test_rules_text() -> None:
    text = rules_text("ssh", "/bpf/a b", group=2, mark=0x100, hooks=["input", "forward"], prefix="it's: ")
    assert text.split("\n\n")[0].splitlines()[2:] == [
        "iptables -I INPUT -m bpf --object-pinned '/bpf/a b' -j NFLOG --nflog-group 2 --nflog-prefix 'it'\"'\"'s: '",
        "ip6tables -I INPUT -m bpf --object-pinned '/bpf/a b' -j NFLOG --nflog-group 2 --nflog-prefix 'it'\"'\"'s: '",
        "iptables -I FORWARD -m bpf --object-pinned '/bpf/a b' -j NFLOG --nflog-group 2 --nflog-prefix 'it'\"'\"'s: '",
        "ip6tables -I FORWARD -m bpf --object-pinned '/bpf/a b' -j NFLOG --nflog-group 2 --nflog-prefix 'it'\"'\"'s: '",
    ]
    assert "inet nflowlevel-ssh" in text
    assert "mark 0x100/0x100" in text
    assert text.endswith(
        "nft 'add table inet logging; "
        "add chain inet logging forward { type filter hook forward priority filter - 1; }; "
        "add rule inet logging forward meta mark and 0x100 == 0x100 counter log group 2 prefix \"it'\"'\"'s: \"'\n"
    )
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(commands) == 6


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("x" * 64, "at most 63 bytes"),
        ('a"b', "a double quote"),
        ("a$b", "a variable"),
        ("a\nb", "cannot be pasted"),
        ("a\0b", "without a NUL byte"),
    ],
)
def test_prefixes_that_a_program_does_not_take(prefix: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rules_text("ssh", "/p", group=1, mark=1, prefix=prefix)
