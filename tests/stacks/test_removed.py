# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks of plugins that cannot exist are told what to write, and that is right as it stands."""

from __future__ import annotations

import pytest

from nflowlevel.options import ConfigErrors
from nflowlevel.stacks.config import parse_text
from nflowlevel.stacks.stack import build

_OLD = "stack=log2:ULOG,base1:BASE,ip2str1:IP2STR,j:JSON"
_NEW = "stack=log2:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,j:JSON"


def refused(*lines: str) -> str:
    """Return the only error of a configuration."""
    text = "\n".join(("[global]", *lines, "[j]", "file=/dev/null"))
    with pytest.raises(ConfigErrors) as caught:
        build(parse_text(text, "u.conf"))
    (error,) = caught.value.errors
    return str(error)


def test_ulog_is_told_its_stack_its_section_and_its_rule() -> None:
    assert refused(_OLD, "[log2]", "nlgroup=5") == (
        f"u.conf:2: {_OLD}: Linux has no ULOG target since 3.17, so no packet would ever come; "
        f"write {_NEW} and group=5 (its nlgroup) in [log2], "
        "and in the rules -j NFLOG --nflog-group 5 in place of -j ULOG --ulog-nlgroup 5"
    )


@pytest.mark.parametrize("section", [("[log2]",), ("[log2]", "rmem=131071"), ()])
def test_ulog_without_a_group_has_its_default(section: tuple[str, ...]) -> None:
    assert "group=32 (ULOG's default) in [log2]" in refused(_OLD, *section)


def test_what_is_told_to_write_is_a_configuration() -> None:
    text = f"[global]\n{_NEW}\n[log2]\ngroup=5\n[j]\nfile=/dev/null\n"
    (stack,) = build(parse_text(text))
    assert stack.text == _NEW.removeprefix("stack=")


def test_an_ifindex_that_is_there_stays_and_a_name_that_is_taken_is_not_used() -> None:
    assert "write stack=u:NFLOG,b:BASE,x:IFINDEX,j:JSON and" in refused("stack=u:ULOG,b:BASE,x:IFINDEX,j:JSON")
    taken = refused("stack=u:ULOG,b:BASE,ifi1:IP2STR,j:JSON")
    assert "write stack=u:NFLOG,b:BASE,ifi2:IFINDEX,ifi1:IP2STR,j:JSON and" in taken


def test_local_is_left_out() -> None:
    assert refused("stack=n:NFLOG,b:BASE,l:LOCAL,j:JSON", "[n]").endswith(
        "built with LOCAL; write stack=n:NFLOG,b:BASE,j:JSON"
    )


def test_a_value_that_would_move_a_cursor_is_escaped() -> None:
    assert "group=\\x1b[2J (its nlgroup)" in refused(_OLD, "[log2]", "nlgroup=\x1b[2J")


def test_a_plugin_line_alone_is_a_warning() -> None:
    """ulogd2 loads the module and does nothing with it, so the configuration runs there."""
    line = 'plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_inppkt_ULOG.so"'
    config = parse_text(f"[global]\n{line}\nstack=n:NFLOG,b:BASE,j:JSON\n[n]\n[j]\nfile=/dev/null\n", "u.conf")
    assert len(build(config)) == 1
    (remark,) = config.remarks
    assert remark.line == 2
    assert remark.message.endswith(
        "ulogd_inppkt_ULOG.so': Linux has no ULOG target since 3.17, so no packet would ever come; remove this line"
    )
