# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors: one tree, messages that say what was tried, what happened and what to do."""

from __future__ import annotations

import errno

import pytest

from nflowlevel import errors
from nflowlevel.errors import (
    ConfigError,
    KernelError,
    NflowError,
    NotSupported,
    OutputError,
    StackError,
    choice,
    counted,
    nearest,
    plural,
    printable,
)


def test_numbers_of_things() -> None:
    assert [counted(number, "line") for number in (0, 1, 2, 1_000_000)] == [
        "0 lines", "1 line", "2 lines", "1,000,000 lines",
    ]  # fmt: skip
    assert plural(1, "file") == "file"


def test_one_tree() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert {cls.__name__ for cls in classes} == {
        "NflowError", "CaptureError", "ConfigError", "KernelError", "NotSupported", "StackError", "OutputError",
    }  # fmt: skip
    assert all(issubclass(cls, NflowError) for cls in classes)
    for cls in classes:
        assert cls.__name__ in (errors.__doc__ or ""), f"{cls.__name__} is missing in the tree at the module's head"


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({"file": "/etc/ulogd.conf", "line": 7}, "/etc/ulogd.conf:7: no such option"),
        ({"file": "/etc/ulogd.conf"}, "/etc/ulogd.conf: no such option"),
        ({}, "no such option"),
        ({"line": 7}, "no such option"),
    ],
)
def test_config_error(where: dict[str, object], text: str) -> None:
    error = ConfigError("no such option", **where)  # type: ignore[arg-type]
    assert str(error) == text
    assert (error.message, error.file, error.line) == ("no such option", where.get("file", ""), where.get("line", 0))


def test_kernel_error() -> None:
    error = KernelError("bind group 5", errno.EPERM, "stop that reader")
    assert str(error) == "bind group 5: Operation not permitted — stop that reader"
    assert (error.errno, error.tried, error.hint) == (errno.EPERM, "bind group 5", "stop that reader")
    assert str(KernelError("send", errno.ENOBUFS)) == "send: No buffer space available"


def test_a_kernel_error_is_an_oserror() -> None:
    """So that `except OSError` and errno work; but never one of its subclasses by chance."""
    with pytest.raises(OSError, match="bind group 5") as caught:
        raise KernelError("bind group 5", errno.EPERM)
    assert type(caught.value) is KernelError
    assert not isinstance(caught.value, PermissionError)


def test_not_supported() -> None:
    error = NotSupported("the BPF prefilter", found="Linux 4.19", needed="Linux 5.4")
    assert str(error) == "the BPF prefilter is not available: found Linux 4.19; needed: Linux 5.4"
    assert (error.feature, error.found, error.needed) == ("the BPF prefilter", "Linux 4.19", "Linux 5.4")


def test_output_error() -> None:
    assert OutputError("the disk is full").retryable
    assert not OutputError("the table is missing", retryable=False).retryable
    assert str(StackError("no input")) == "no input"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gruop", " — did you mean 'group'?"),
        ("GROUP", " — did you mean 'group'?"),
        ("nflog", " — did you mean 'NFLOG'?"),
        ("group", " — did you mean 'group'?"),
        ("something else", ""),
        ("", ""),
    ],
)
def test_nearest(name: str, hint: str) -> None:
    assert nearest(name, iter(["group", "NFLOG", "copy_range"])) == hint
    assert nearest(name, []) == ""


def test_choice_is_the_nearest_name_or_all() -> None:
    assert choice("grup", iter(["group", "NFLOG"])) == " — did you mean 'group'?"
    assert choice("xyzzy", iter(["group", "NFLOG"])) == "; available: group, NFLOG"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain größer 漢字 'quoted'", "plain größer 漢字 'quoted'"),
        ("a\nb\tc\r\0", r"a\nb\tc\r\x00"),
        ("\x1b[31m\x7f", r"\x1b[31m\x7f"),
        ("\x80\x9b1m\x9f", r"\x80\x9b1m\x9f"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("\udcff", r"\udcff"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_printable_cuts_and_keeps() -> None:
    assert printable("x" * 81) == "x" * 80 + "…"
    assert printable("x" * 81, None) == "x" * 81
    assert printable("a\nb\x1b", None, keep="\n") == "a\nb\\x1b"


def test_of_very_many_names_only_one_that_differs_in_case_is_suggested() -> None:
    """To compare a name with each of them takes a millisecond for every fifty."""
    names = [f"name{number}" for number in range(600)]
    assert nearest("nam7", names[:400]).startswith(" — did you mean 'name")
    assert nearest("nam7", names) == ""
    assert nearest("NAME7", names) == " — did you mean 'name7'?"
