# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin described for people."""

from __future__ import annotations

from nflowlevel.stacks.describe import describe_plugin, page


def test_keys_that_are_read_where_they_are_there() -> None:
    text = describe_plugin("HWHDR")
    assert "Input keys:\n  oob.protocol\n  raw.type (optional)\n" in text
    assert "Options:\n  none\n" in text


def test_ulogds_file_names() -> None:
    assert describe_plugin("ulogd_raw2packet_BASE.so") == describe_plugin("/any/where/ulogd_raw2packet_BASE.so")
    assert describe_plugin("ulogd_raw2packet_BASE.so") == describe_plugin("BASE")


def test_the_page_of_a_class_in_a_file_with_others() -> None:
    from tests.fix_plugins import Memory

    assert page(Memory).startswith("Remembers the sequence numbers")
