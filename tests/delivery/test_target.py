# SPDX-License-Identifier: GPL-2.0-or-later
"""Files and peers have one face: what an output calls is there in both, and is called in the same way."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.peer import Peer
from nflowlevel.delivery.target import LineTarget
from nflowlevel.logs import Limited
from nflowlevel.stats import OutputStats

if TYPE_CHECKING:

    def _same_face(file: AppendFile, peer: Peer) -> list[LineTarget]:
        return [file, peer]  # for type checkers


_FACE = {name: member for name, member in vars(LineTarget).items() if not name.startswith("_")}


@pytest.mark.parametrize("target", [AppendFile, Peer], ids=lambda target: target.__name__)
@pytest.mark.parametrize("name", _FACE)
def test_targets_have_the_whole_face(target: Any, name: str) -> None:
    wanted, found = _FACE[name], getattr(target, name)
    assert isinstance(found, property) == isinstance(wanted, property)
    if callable(wanted):
        parameters = inspect.signature(found).parameters
        for parameter in inspect.signature(wanted).parameters.values():
            assert parameters[parameter.name].kind == parameter.kind
        more = set(parameters) - set(inspect.signature(wanted).parameters)
        assert all(parameters[each].default is not inspect.Parameter.empty for each in more)


def test_the_face_is_not_empty() -> None:
    assert set(_FACE) >= {"state", "deadline", "open", "write", "reopen", "retry", "close"}
    stats = OutputStats()
    assert AppendFile("-", stats=stats, limited=Limited()).stats is stats
    assert Peer("tcp", stats=stats, limited=Limited()).stats is stats
