# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that fit a terminal: nothing that is quoted begins one of them."""

from __future__ import annotations

import io

from nflowlevel.cli.terminal import styled
from nflowlevel.daemon import lines as terminal


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_parts_fill_lines() -> None:
    parts = ["12:00", "in eth0", "TCP", "a > b", "ttl 64"]
    assert terminal.filled(parts, None, 4) == "12:00 in eth0 TCP a > b ttl 64"
    assert terminal.filled(parts, 30, 4) == "12:00 in eth0 TCP a > b ttl 64"
    assert terminal.filled(parts, 29, 4) == "12:00 in eth0 TCP a > b\n    ttl 64"
    assert terminal.filled(parts, 12, 2) == "12:00\n  in eth0\n  TCP a > b\n  ttl 64"
    assert terminal.filled([], 12, 2) == ""


def test_a_long_part_never_begins_a_line() -> None:
    """What a terminal would break begins at its left edge, and may look like a line of ours."""
    lines = terminal.filled(["12:00", "x" * 10 + "ok fine"], 10, 4).split("\n")
    assert lines == ["12:00", "    xxxxxx", "    xxxxok", "     fine"]
    wide = terminal.filled(["漢字" * 10], 10, 4).split("\n")
    assert len(wide) > 3
    assert all(terminal.cells(line) <= 10 and line.startswith("    ") for line in wide[1:])


def test_cells() -> None:
    assert terminal.cells("größer") == 6
    assert terminal.cells("漢字") == 4
    assert terminal.cells("e\u0301") == 1
    assert terminal.cells(styled("TCP", "bold")) == 3
    assert terminal.filled([styled("TCP", "bold"), "12"], 6, 0) == "\x1b[1mTCP\x1b[0m 12"


def test_a_message_is_broken_at_blanks_on_a_terminal_only() -> None:
    said = "nflowlevel tail: bind group 1: Operation not permitted — stop that reader or use another group"
    quoted = ["    tcp.dprt == 22 && ip.ttl < 40 && tcp.window > 1000 && ip.saddr == 192.0.2.0/24", "    ^"]
    text = "\n".join([said, *quoted])
    assert terminal.wrapped(text, io.StringIO()) == text
    # 80 columns where the terminal does not say.
    assert terminal.wrapped(text, Tty()).split("\n") == [
        "nflowlevel tail: bind group 1: Operation not permitted — stop that reader or use",
        "    another group",
        *quoted,
    ]
