# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of outputs with a spool: defaults, limits, and what is said where a value is wrong."""

from __future__ import annotations

import pytest

from nflowlevel.options import ConfigErrors, Value, convert
from nflowlevel.spool.options import SpoolOptions


def read(**given: str) -> SpoolOptions:
    values = {name: Value(text, 1) for name, text in given.items()}
    return convert(SpoolOptions, values, plugin="ANY", instance="any1")


def test_everything_has_a_default() -> None:
    options = read()
    assert (options.reconnect, options.connect_timeout, options.timeout) == (2, 0, 60)
    assert (options.when_full, options.spool_directory) == ("spool", "/var/lib/nflowlevel/spool")
    assert (options.ring_buffer_size, options.backlog_memcap, options.spool_max_bytes) == (0, 0, 4 << 30)
    assert options.dead_letter_file == ""
    assert options.backlog_rows == 10_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reconnect", "-1"),
        ("connect_timeout", "-1"),
        ("timeout", "0"),
        ("ring_buffer_size", "-1"),
        ("backlog_memcap", "-1"),
        ("spool_max_bytes", "0"),
        ("spool_directory", ""),
        ("when_full", "wait"),
    ],
)
def test_what_no_spool_can_do_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigErrors, match=name):
        read(**{name: text})
