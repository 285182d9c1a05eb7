# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents say what is: generated pages are fresh, links lead somewhere, what is to be pasted works."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.cli import COMMANDS, _parser
from nflowlevel.records.keys import CATALOGUE
from tests.fix_netns import Pair

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "nflowlevel"
_NOT_OURS = {".pytest_cache", ".venv", ".git", "build", "node_modules"}
PAGES = sorted(page for page in ROOT.rglob("*.md") if not _NOT_OURS & set(page.relative_to(ROOT).parts))


def read(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_generated_pages_are_fresh() -> None:
    done = run(sys.executable, "docs/generate.py", "--check")
    assert done.returncode == 0, done.stderr


# Links


def slug(heading: str) -> str:
    """Return the anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Yield target and anchor of each relative link of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {path}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name}: {path}#{anchor}"


# What a reader types


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each line that runs the command `nflowlevel`, up to a pipe or a redirection."""
    lines = re.findall(r"^ *(?:sudo |\$ )?(?:\S*/bin/)?nflowlevel +(.+)$", text.replace("\\\n", " "), re.MULTILINE)
    for line in lines:
        if line.split()[0] in COMMANDS:
            yield [*itertools.takewhile(lambda word: word not in ("|", ">", "&&"), shlex.split(line, comments=True))]


def test_commands_in_documents_are_taken() -> None:
    """They are read, not run."""
    found = [(page, words) for page in PAGES if page.name != "CHANGELOG.md" for words in commands(page.read_text())]
    assert {words[0] for page, words in found if page.parent == ROOT} >= {
        "tail",
        "flows",
        "acct",
        "sql",
        "find",
        "report",
    }
    for page, words in found:
        try:
            _parser([word for word in words if word in COMMANDS]).parse_args(words)
        except SystemExit:
            pytest.fail(f"{page.relative_to(ROOT)}: nflowlevel {shlex.join(words)}")


def test_readme_names_every_extra() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"].keys() - {"test"}
    told = read("README.md").partition("## Installation")[2]
    assert extras == set(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE))


def test_every_page_is_named_in_the_readme() -> None:
    assert {page for page, _ in links(ROOT / "README.md")} >= {
        f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")
    }


def test_contributing_knows_every_room() -> None:
    """Whoever looks for the place of a change finds one, and it is there."""
    text = read("CONTRIBUTING.md")
    named = {path for path in re.findall(r"`((?:nflowlevel|tests)/[\w./]*)`", text) if "/x/" not in path}
    assert [path for path in sorted(named) if "bigtcp" not in path and not (ROOT / path).exists()] == []
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms - set(re.findall(r"`(?:nflowlevel/)?(\w+)/", text)) == set()


def test_make_targets_named_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^    |`)make ([a-z]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, page
    assert {"setup", "demo", "test", "lint", "bench", "fuzz", "docs"} <= targets


def test_make_help_names_every_target() -> None:
    done = run("make", "--no-print-directory", "help")
    targets = set(re.findall(r"^([a-z-]+):.*##", read("Makefile"), re.MULTILINE))
    assert {line.split()[1] for line in done.stdout.splitlines()} == targets


@pytest.mark.parametrize("text", [*blocks(read("README.md"), "ini"), read("examples/nflowlevel.conf")])
def test_configurations_pass_the_check(text: str, tmp_path: Path) -> None:
    config = tmp_path / "ulogd.conf"
    config.write_text(text)
    done = run(sys.executable, "-m", "nflowlevel.daemon.main", "--check-config", "-c", str(config))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_readme_shows_the_example_configuration() -> None:
    assert blocks(read("README.md"), "ini") == [read("examples/ulogd.conf")]


def test_readme_shows_members_that_exist() -> None:
    (sample,) = blocks(read("README.md"), "json")
    names = {key.cim or key.name for key in CATALOGUE}
    assert json.loads(sample).keys() - names == {"timestamp", "dvc", "action"}


@pytest.mark.parametrize("number", [0, 1])
def test_readme_programs_work_with_its_rule(pair: Pair, number: int) -> None:
    """The rule and the program, both as pasted, on real packets."""
    (rules,) = blocks(read("README.md"), "nft")
    # Those that read groups: the others read files.
    program = [block for block in blocks(read("README.md"), "python") if "group" in block][number]
    pair.fw.nft(rules if "open_group(1)" in program else rules.replace("group 1", "group 2"))
    child = pair.fw.popen(sys.executable, "-u", "-c", program, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    wait_for_reader(pair, 1 if number == 0 else 2)
    pair.inject([syn(pair)])
    expected = {0: "SSH Attempt 10.77.0.2 22 1 40", 1: "10.77.0.2 22"}[number]
    lines = iter(child.stdout.readline, "")
    assert any(line.strip() == expected for line in lines), f"'{expected}' was not printed"
    if number == 1:
        assert any(line.strip() == "1 [1234]" for line in lines)
    child.send_signal(signal.SIGKILL)


def syn(pair: Pair) -> bytes:
    """A frame with a SYN to port 22; its checksums are right, or conntrack would call it invalid."""
    tcp = bytes.fromhex("c350 0016 00000001 00000000 5002 04d2 0000 0000")
    source, target = (bytes(map(int, address.split("."))) for address in (pair.PEER4, pair.FW4))
    pseudo = source + target + bytes([0, 6, 0, len(tcp)])
    tcp = tcp[:16] + checksum(pseudo + tcp) + tcp[18:]
    ip = bytes([0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0]) + source + target
    ip = ip[:10] + checksum(ip) + ip[12:]
    macs = (bytes.fromhex(mac.replace(":", "")) for mac in (pair.FW_MAC, pair.PEER_MAC))
    return b"".join(macs) + b"\x08\x00" + ip + tcp


def checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def wait_for_reader(pair: Pair, group: int) -> None:
    """Return when the group is bound: /proc has no event for that."""
    table = "/proc/net/netfilter/nfnetlink_log"
    loop = f"until grep -q '^ *{group} ' {table}; do sleep 0.01; done"
    pair.fw.run("sh", "-c", loop, timeout=30)


# What the pages say about the code


def test_changelog_has_an_unreleased_part() -> None:
    assert re.search(r"^## Unreleased\n\n- ", read("CHANGELOG.md"), re.MULTILINE)
