# SPDX-License-Identifier: GPL-2.0-or-later
"""The notebook of the investigation: its cells run, answer what stands in it, and end at the article's attacker."""

from __future__ import annotations

import json

import pytest

from docs.investigation import ATTACKER, CELLS, NOTEBOOK, executed, is_code, notebook


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What the cells answer."""
    return dict(executed())


def test_the_notebook_is_fresh() -> None:
    assert NOTEBOOK.read_text() == notebook(), "type: python docs/investigation.py"


def test_the_steps_of_the_article(answers: dict[str, str]) -> None:
    steps = list(answers.values())
    assert "16384" in steps[1]
    assert steps[2].split() == ["dest_port", "n", "22", "144"]
    assert steps[3].split()[:4] == ["country", "n", "addresses", "CN"]
    assert steps[4].split()[4:] == ["6000", "40", "256", "144"]
    assert steps[5].count("crafted_rst") == steps[6].count("fixed_port") == 12
    assert ATTACKER in steps[7]
    assert steps[7].count("scan_then_brute") == 1
    assert "sshd" in steps[8]
    assert "password root" in steps[8]
    assert steps[9].startswith("SELECT src_ip, COUNT(*) AS n FROM packets WHERE tcp_syn = 1")


def test_it_is_a_notebook() -> None:
    read = json.loads(NOTEBOOK.read_text())
    assert (read["nbformat"], read["nbformat_minor"]) == (4, 5)
    assert ["".join(cell["source"]) for cell in read["cells"]] == list(CELLS)
    kinds = [cell["cell_type"] for cell in read["cells"]]
    assert kinds == ["code" if is_code(cell) else "markdown" for cell in CELLS]
    assert len({cell["id"] for cell in read["cells"]}) == len(CELLS)
