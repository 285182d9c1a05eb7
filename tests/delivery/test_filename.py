# SPDX-License-Identifier: GPL-2.0-or-later
"""FileNames: which names follow one another, and which files are never taken for ours."""

from __future__ import annotations

import itertools
import os
import re
import time
from pathlib import Path

import pytest

from nflowlevel.binding.rootpath import directory_of
from nflowlevel.delivery.filename import FileNames

_WHEN = 1_795_460_084.0  # 2026-11-23 18:54:44 UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()


def test_a_name_is_that_of_a_time_and_a_number_follows() -> None:
    names = FileNames("/var/log/fw-%Y%m%d-%H%M%S.pcap")
    assert list(itertools.islice(names.at(_WHEN), 3)) == [
        "/var/log/fw-20261123-185444.pcap",
        "/var/log/fw-20261123-185444-1.pcap",
        "/var/log/fw-20261123-185444-2.pcap",
    ]


@pytest.mark.parametrize("taken", ["x-2026", "x-2026.gz", "x-2026.zst"])
def test_a_fresh_name_is_not_taken(tmp_path: Path, taken: str) -> None:
    names = FileNames(str(tmp_path / "x-%Y"))
    assert names.fresh(_WHEN) == str(tmp_path / "x-2026")
    (tmp_path / taken).touch()
    assert names.fresh(_WHEN) == str(tmp_path / "x-2026-1")


def test_the_newest_file_goes_on_unless_it_is_compressed_or_large(tmp_path: Path) -> None:
    names = FileNames(str(tmp_path / "x-%Y"))
    assert names.to_continue(_WHEN) == str(tmp_path / "x-2026")
    (tmp_path / "x-2026").write_bytes(bytes(10))
    assert names.to_continue(_WHEN, 11) == str(tmp_path / "x-2026")
    assert names.to_continue(_WHEN, 10) == str(tmp_path / "x-2026-1")
    (tmp_path / "x-2026-1").touch()
    assert names.to_continue(_WHEN) == str(tmp_path / "x-2026-1")
    (tmp_path / "x-2026-1.gz").touch()
    assert names.to_continue(_WHEN) == str(tmp_path / "x-2026-2")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("/var/log/ulogd.pcap", "is always the same name; put the time into it, as in NAME-%Y%m%d-%H%M%S.pcap"),
        ("/var/log/100%%.pcap", "is always the same name"),
        ("/var/log/%Y/x-%H.pcap", "only the name of the file may change, not its directory"),
        ("x-%Q", "unknown conversion %Q; available: d, H"),
        ("x-%D", "unknown conversion %D"),
        ("x-%Y%", "unknown conversion %;"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        FileNames(pattern)


def existing(names: FileNames) -> list[str]:
    with directory_of(names.directory) as directory:
        return names.existing(directory)


def test_only_what_the_pattern_can_have_made_is_ours(tmp_path: Path) -> None:
    ours = {"fw%-20261123.pcap", "fw%-20261123-7.pcap", "fw%-20261123.pcap.gz", "fw%-20261123-7.pcap.zst"}
    others = {
        "fw%-2026112.pcap", "fw%-20261123.pcap.gz.part", "fw%-20261123.pcapng", "fw%-20261123.pcap.bz2",
        "fw%-20261123-.pcap", "xfw%-20261123.pcap", "fw%-20261123_pcap", "fw%-20261123-7-8.pcap",
    }  # fmt: skip
    for name in ours | others:
        (tmp_path / name).touch()
    names = FileNames(str(tmp_path / "fw%%-%Y%m%d.pcap"))
    assert set(existing(names)) == set(ours)


def test_every_conversion_is_found_again(tmp_path: Path) -> None:
    from nflowlevel.delivery import filename

    for letter in filename._CONVERSIONS:
        if letter == "%":
            continue
        names = FileNames(str(tmp_path / f"x{letter}=%{letter}.pcap"))
        for when in (_WHEN, _WHEN + 40_000_000, 0.0):
            path = names.fresh(when)
            Path(path).touch()
            assert os.path.basename(path) in existing(names), letter
