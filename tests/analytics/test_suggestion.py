# SPDX-License-Identifier: GPL-2.0-or-later
"""A suggestion to nft names whom one would block and nobody else, and nft takes it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.analytics.suggestion import suggestion
from tests.fix_netns import Netns


def finding(source: str | None, name: str = "brute_force", severity: str = "high") -> dict[str, Any]:
    return {"finding": name, "severity": severity, "src_ip": source}


def test_each_address_stands_once_with_its_reasons() -> None:
    rows = [finding("192.0.2.9"), finding("192.0.2.9", "fixed_port", "medium"), finding("2001:db8::1")]
    text = suggestion(rows)
    assert "\t\t\t192.0.2.9, # brute_force, fixed_port\n" in text
    assert text.count("192.0.2.9") == 1
    assert "\t\t\t2001:db8::1, # brute_force\n" in text
    assert "nothing was applied" in text


@pytest.mark.parametrize(
    "row",
    [
        finding("192.0.2.9", "beacon"),
        finding("192.0.2.9", "syn_flood"),
        finding("192.0.2.9", "sweep", "low"),
        finding(None),
        finding("127.0.0.1"),
        finding("0.0.0.0"),
        finding("224.0.0.1"),
        finding("fe80::1%eth0"),
        finding("192.0.2.9 } ; flush ruleset ; {"),
        finding("192.0.2.9\n}\nflush ruleset"),
    ],
)
def test_nobody_else_is_named(row: dict[str, Any]) -> None:
    assert suggestion([row]) == "# No finding names a source to block.\n"


def test_the_queries_behind_findings_are_comments(netns: Netns, tmp_path: Path) -> None:
    query = "SELECT * FROM packets\n WHERE src_ip = '192.0.2.9' ORDER BY us"
    rows = [finding("192.0.2.9") | {"evidence": query}, finding("192.0.2.10") | {"evidence": None}]
    text = suggestion([*rows, finding("192.0.2.11", "beacon") | {"evidence": "SELECT 1"}])
    assert text.endswith(
        "\n}\n# brute_force, 192.0.2.9: SELECT * FROM packets WHERE src_ip = '192.0.2.9' ORDER BY us\n"
    )
    (tmp_path / "suggested.nft").write_text(text)
    netns.run("nft", "-c", "-f", str(tmp_path / "suggested.nft"))


def test_nft_takes_it_and_drops(netns: Netns, tmp_path: Path) -> None:
    path = tmp_path / "suggested.nft"
    for sources in (["192.0.2.9"], ["2001:db8::1"], ["192.0.2.9", "192.0.2.10", "2001:db8::1"]):
        path.write_text(suggestion([finding(source) for source in sources]))
        netns.run("nft", "-f", str(path))
        listed = subprocess.run(
            netns.command("nft", "list", "table", "inet", "nflowlevel_suggested"),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert all(source in listed for source in sources)
        netns.run("nft", "delete", "table", "inet", "nflowlevel_suggested")
