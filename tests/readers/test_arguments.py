# SPDX-License-Identifier: GPL-2.0-or-later
"""What a group or a capture file is opened with: each argument is checked, with one kind of message."""

from __future__ import annotations

import inspect
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nflowlevel as nfl
from nflowlevel.errors import ConfigError
from nflowlevel.inputs.nflog import NFLOGOptions
from nflowlevel.options import Value, arguments, convert
from nflowlevel.readers.arguments import Label, Seconds, checked

_WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"copy_range": -1}, ValueError, "copy_range must be 0 to 65535, not -1"),
    ({"copy_range": 65536}, ValueError, "copy_range must be 0 to 65535, not 65536"),
    ({"copy_range": "96"}, TypeError, "copy_range must be 0 to 65535, not '96'"),
    ({"qthreshold": -1}, ValueError, "qthreshold must be 0 to 4294967295, not -1"),
    ({"qthreshold": 2**32}, ValueError, "qthreshold must be 0 to 4294967295, not 4294967296"),
    ({"qtimeout": 1.0}, TypeError, "qtimeout must be 0 to 4294967295, not 1.0"),
    ({"nlbufsiz": 131073}, ValueError, "nlbufsiz must be 0 to 131072, not 131073"),
    ({"socket_buffer": -1}, ValueError, "socket_buffer must be 0 to 1073741823, not -1"),
    ({"max_socket_buffer": 2**30}, ValueError, "max_socket_buffer must be 0 to 1073741823, not 1073741824"),
    ({"seq_global": "no"}, TypeError, "seq_global must be True or False, not 'no'"),
    ({"seq_global": 1}, TypeError, "seq_global must be True or False, not 1"),
    ({"attach_conntrack": None}, TypeError, "attach_conntrack must be True or False, not None"),
    ({"netns": 5}, TypeError, "netns must be a string or None, not 5"),
    ({"label": True}, TypeError, "label must be 0 to 255, not True"),
    ({"label": 256}, ValueError, "label must be 0 to 255, not 256"),
    ({"max_held_bytes": 0}, ValueError, "max_held_bytes must be at least 1, not 0"),
    ({"max_held_bytes": 1e9}, TypeError, "max_held_bytes must be at least 1, not 1000000000.0"),
    ({"profile": 3}, TypeError, "profile must be 'default', 'latency' or 'throughput', not 3"),
    ({"profile": "latence"}, ValueError, "unknown profile 'latence' — did you mean 'latency'?"),
    ({"copy_mode": "all"}, ValueError, "unknown copy_mode 'all'; available: meta, none, packet"),
    ({"copy_range": "x" * 99}, TypeError, "copy_range must be 0 to 65535, not '" + "x" * 79 + "…"),
]


@pytest.mark.parametrize("called", [nfl.open_group, nfl.Group])
@pytest.mark.parametrize(("options", "error", "message"), _WRONG)
def test_options_of_a_group(
    called: Callable[..., Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=r"^" + re.escape(message)):
        called(1, **options)


def test_every_option_of_a_group_is_tried() -> None:
    tried = {name for options, _, _ in _WRONG for name in options}
    assert tried == set(inspect.signature(nfl.Group).parameters) - {"group"}
    assert arguments(inspect.unwrap(nfl.Group.__init__)).keys() == {"group", *tried}


@pytest.mark.parametrize(
    ("group", "error"), [(-1, ValueError), (65536, ValueError), ("2", TypeError), (None, TypeError)]
)
def test_the_number_of_a_group(group: Any, error: type[Exception]) -> None:
    for given in ((group,), {"group": group}):
        with pytest.raises(error, match=f"^group must be 0 to 65535, not {group!r}$"):
            nfl.open_group(*given) if isinstance(given, tuple) else nfl.open_group(**given)


@pytest.mark.parametrize("called", [nfl.read_pcap, nfl.Capture])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strict": 0}, TypeError, "strict must be True or False, not 0"),
        ({"label": -1}, ValueError, "label must be 0 to 255, not -1"),
        ({"max_held_bytes": 0}, ValueError, "max_held_bytes must be at least 1, not 0"),
    ],
)
def test_options_of_a_capture(
    called: Callable[..., Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        called(io.BytesIO(), **options)


@pytest.mark.parametrize("called", [nfl.open_group, nfl.Group, nfl.read_pcap, nfl.Capture])
def test_a_misspelt_option(called: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=rf"^{called.__name__}: unknown option 'labl' — did you mean 'label'\?"):
        called(1, labl=3)


def test_an_option_has_one_range_for_python_and_for_the_configuration() -> None:
    """ulogd's names of some differ."""
    names = {
        "qthreshold": "netlink_qthreshold",
        "qtimeout": "netlink_qtimeout",
        "label": "numeric_label",
        "socket_buffer": "netlink_socket_buffer_size",
        "max_socket_buffer": "netlink_socket_buffer_maxsize",
    }
    checked_ = 0
    for options, error, message in _WRONG:
        ((name, value),) = options.items()
        option = names.get(name, name)
        if error is ValueError and option in NFLOGOptions.__struct_fields__ and isinstance(value, int):
            allowed = message.partition(" must be ")[2].partition(",")[0]
            with pytest.raises(ConfigError, match=f"{option}={value}: must be {allowed}"):
                convert(NFLOGOptions, {option: Value(str(value), 1)}, plugin="NFLOG", instance="g")
            checked_ += 1
    assert checked_ >= 7


# -- checked ----------------------------------------------------------------------------------------------------------


@checked
def _call(place: object, label: Label = 0, *more: int, wait: Seconds | None = None, path: str = "") -> tuple[Any, ...]:
    """Return what it got."""
    return place, label, more, wait, path


def test_values_become_the_types_that_are_declared() -> None:
    assert _call(None, np.uint8(7), 1, 2, wait=1, path=Path("/x")) == (None, 7, (1, 2), 1.0, "/x")  # type: ignore[arg-type]
    assert list(map(type, _call(None, np.uint8(7), wait=1)[1:4])) == [int, tuple, float]  # type: ignore[arg-type]
    assert _call(5) == (5, 0, (), None, "")


def test_a_function_stays_what_it_was() -> None:
    assert (_call.__name__, _call.__doc__) == ("_call", "Return what it got.")
    assert list(inspect.signature(_call).parameters) == ["place", "label", "more", "wait", "path"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'place'"):
        _call()  # type: ignore[call-arg]


def test_positional_and_optional_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^label must be 0 to 255, not 256$"):
        _call(None, 256)
    with pytest.raises(ValueError, match=r"^wait must be at least 0 or None, not -0.5$"):
        _call(None, wait=-0.5)
    with pytest.raises(TypeError, match=r"^wait must be at least 0 or None, not 'a'$"):
        _call(None, wait="a")  # type: ignore[arg-type]


def test_a_wait_cannot_be_negative(tmp_path: os.PathLike[str]) -> None:
    """poll(2) would take it for ever."""
    path = os.path.join(tmp_path, "x.pcap")
    with open(path, "wb") as file:
        file.write(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000065000000"))
    with nfl.read_pcap(path) as capture, pytest.raises(ValueError, match="timeout must be at least 0 or None, not -1"):
        capture.batches(timeout=-1)
