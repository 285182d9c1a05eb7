# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel doctor`: its arguments, its lines, its exit status; tests/doctor/test_examine.py has what it finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import nflowlevel
from nflowlevel import cli
from tests.fix_netns import Netns


@pytest.mark.parametrize("group", ["65536", "-1", "x"])
def test_bad_group(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", f"--group={group}"])
    assert caught.value.code == 2
    assert "group" in capsys.readouterr().err


def test_as_a_program(netns: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(nflowlevel.__file__).parents[1]))
    done = netns.run(sys.executable, "-m", "nflowlevel", "doctor", "--group", "2", check=False)
    assert done.returncode == 1
    assert "no rule logs to group 2" in done.stdout
    assert not done.stderr
