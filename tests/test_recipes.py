# SPDX-License-Identifier: GPL-2.0-or-later
"""Every program of docs/recipes.md runs, from outside of the checkout, on real packets, and says what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.fix_group import log_udp
from tests.fix_netns import Netns, Pair

_PAGE = (Path(__file__).resolve().parent.parent / "docs" / "recipes.md").read_text()
#: Heading → its programs.
RECIPES = {
    heading: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for heading, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", _PAGE, re.MULTILINE | re.DOTALL)
}

#: Heading → what its program prints of 23 UDP packets with 20 bytes of payload each; all of a line.
_SAID = {
    "pandas": r"10\.77\.0\.2 +\d+ +\d+",
    "Arrow and Parquet": r"2\d packets in packets\.parquet",
    "asyncio": r"23 packets, 0 lost",
    "scapy": r"IP / UDP 10\.77\.0\.2:\d+ > 10\.77\.0\.1:\w+ / Raw b'\\x00\\x01\\x02\\x03'",
    "dpkt": r"10\.77\.0\.2 9 20",
    "Threads": r"\{'10\.77\.0\.2': 1104\}",
    "Keeping packets, and other processes": r"10\.77\.0\.2 sent 48 bytes",
}


def test_every_recipe_is_known_here() -> None:
    assert {heading: len(programs) for heading, programs in RECIPES.items()} == dict.fromkeys(_SAID, 1)


def start(netns: Netns, program: str, directory: Path) -> subprocess.Popen[str]:
    """Start a program as somebody would who pasted it into a file; return it once it reads the group."""
    (directory / "recipe.py").write_text(program)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pipe = subprocess.PIPE
    words = [sys.executable, "-W", "error::ResourceWarning", "recipe.py"]
    child = netns.popen(*words, cwd=directory, env=environment, stdout=pipe, stderr=pipe, text=True)
    reads = f"grep -q '^ *2 ' /proc/net/netfilter/nfnetlink_log || ! kill -0 {child.pid}"
    netns.run("sh", "-c", f"until {reads}; do sleep 0.02; done", timeout=60)
    return child


@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_runs(pair: Pair, heading: str, tmp_path: Path) -> None:
    log_udp(pair)
    child = start(pair.fw, RECIPES[heading][0], tmp_path)
    pair.send_udp(23)
    said, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert any(re.fullmatch(_SAID[heading], line.strip()) for line in said.splitlines()), said
    if heading == "Arrow and Parquet":
        table = pq.read_table(tmp_path / "packets.parquet")
        assert set(table.column("dport").to_pylist()) == {9}
        assert {len(payload) for payload in table.column("payload").to_pylist()} == {48}
