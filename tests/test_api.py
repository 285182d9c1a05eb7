# SPDX-License-Identifier: GPL-2.0-or-later
"""The API as tools see it: type checkers, the plain REPL's completion and help, from outside of the checkout.

What README and docs show in Python is the sample: each block is checked by mypy --strict, and each name after a dot
must be offered by the completer.
"""

from __future__ import annotations

import ast
import inspect
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from rlcompleter import Completer
from typing import Any

import pytest

import nflowlevel as nfl
from nflowlevel.prefilter.rules import Rules
from nflowlevel.stats import GroupStats
from tests.corpus import by_name
from tests.fix_decoder import decode
from tests.fix_netns import Netns
from tests.messages import message_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Packages that recipes use and that come without types.
_UNTYPED = ("dpkt", "pandas", "pyarrow", "scapy")


def python_blocks() -> dict[str, str]:
    """Return every Python block of README and docs, by page and line."""
    found = {}
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found[f"{page.stem.replace('-', '_')}_{line}"] = match[1]
    return found


BLOCKS = python_blocks()


def mypy(directory: Path) -> str:
    """Check all files of a directory outside of the checkout; return what mypy says."""
    settings = ["[mypy]", "strict = true", "cache_dir = .cache"]
    settings += [f"[mypy-{name}.*]\nignore_missing_imports = true\nfollow_imports = skip" for name in _UNTYPED]
    (directory / "mypy.ini").write_text("\n".join(settings) + "\n")
    # The environment's own package, not what a variable or the present directory leads to.
    environment = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "."]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return done.stdout


def test_there_are_blocks() -> None:
    assert len([name for name in BLOCKS if name.startswith("README")]) == 3
    assert sum("nflowlevel" in block for block in BLOCKS.values()) >= 3


# -- type checkers -----------------------------------------------------------------------------------------------------


def test_every_block_is_typed(tmp_path: Path) -> None:
    for name, block in BLOCKS.items():
        (tmp_path / f"{name}.py").write_text(block)
    said = mypy(tmp_path)
    assert said.startswith("Success: no issues found"), said


_WRONG = """\
import nflowlevel as nfl
from nflowlevel.prefilter.rules import Rules
from nflowlevel.stats import GroupStats

nfl.open_group(2, profil="latency")  # E: Unexpected keyword argument "profil"
nfl.open_group(2, profile="latencie")  # E: expected "Literal['default', 'latency', 'throughput']"
nfl.open_group(2, copy_mode="all")  # E: expected "Literal['packet', 'meta', 'none']"
nfl.open_group("2")  # E: expected "int"
nfl.open_group(2, qthreshold="9")  # E: expected "int"
nfl.open_group()  # E: Missing positional argument
nfl.Prefilter("ssh", rat=3)  # E: Unexpected keyword argument "rat"
nfl.Prefilter("ssh", rate="3")  # E: expected "float"
nfl.Prefilter("ssh", dports=[2.5])  # E: List item 0 has incompatible type "float"
nfl.Prefilter("ssh", on_exit="stay")  # E: expected "Literal['no-match', 'keep']"
nfl.Prefilter.take("ssh", sampel=2)  # E: Unexpected keyword argument "sampel"
nfl.Prefilter.from_source("ip.ttl < 3", sampel=2)  # E: Unexpected keyword argument "sampel"
nfl.Prefilter("ssh").update(sampel=2)  # E: Unexpected keyword argument "sampel"
group = nfl.open_group(2, profile="latency", copy_range=96, netns="blue")
for packet in group:
    reveal_type(packet.saddr)  # E: "str | None"
    reveal_type(packet.tcp_syn)  # E: "int | None"
    reveal_type(packet.payload)  # E: "memoryview[int] | None"
    reveal_type(packet.raw_mac_saddr)  # E: "bytes | None"
    reveal_type(packet.mark)  # E: "int"
    reveal_type(packet.timestamp)  # E: "float"
    packet.sadr  # E: has no attribute "sadr"
    len(packet.payload)  # E: expected "Sized"
for batch in group.batches():
    reveal_type(batch[0])  # E: Packet"
    reveal_type(batch[0:64])  # E: Batch"
reveal_type(group)  # E: Group"


async def read() -> None:
    async for batch in group:
        reveal_type(batch)  # E: Batch"
"""


def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(_WRONG)
    said: dict[int, str] = {}
    for line, text in re.findall(r"^wrong\.py:([0-9]+): (?:error|note): (.*)$", mypy(tmp_path), re.MULTILINE):
        said[int(line)] = said.get(int(line), "") + text
    for number, line in enumerate(_WRONG.splitlines(), 1):
        _, _, wanted = line.partition("  # E: ")
        found = said.pop(number, "")
        assert (wanted in found) if wanted else not found, f"{line}\n{found}"
    assert not said


_NAMED = """\
import nflowlevel as nfl
{imports}


def named(group: nfl.Group, capture: nfl.Capture, accounting: nfl.Accounting, pre: nfl.Prefilter) -> None:
    group_stats: nfl.GroupStats = group.stats
    capture_stats: nfl.CaptureStats = capture.stats
    table: nfl.CounterTable = accounting.dump()
    events: nfl.QuotaEvents = accounting.quota_events()
    attachment: nfl.Attachment = pre.attach()
    counters: nfl.PrefilterCounters = pre.counters()
    top: nfl.Top = pre.top()
    count: nfl.Count = top.sources[0][1]
    then: LogTo | Mark = attachment.then
    print(group_stats, capture_stats, table, events, counters, count, then)


def of_a_batch(batch: nfl.Batch) -> tuple[dict[str, Column | Printed], NameTable, RecordType]:
    return batch.added, batch.names, batch.type


def with_rules(rules: nfl.Rules, row: nfl.Sum) -> int | None:
    return row.packets if nfl.Prefilter("x", **rules).rules else None
"""


def test_what_calls_return_can_be_named(tmp_path: Path) -> None:
    """By `nfl`, or by the import that docs/library.md gives."""
    page = (ROOT / "docs" / "library.md").read_text()
    imports = re.findall(r"^\| `(\w+)` \| `(from nflowlevel\.\S+ import (\w+))` \| ", page, re.MULTILINE)
    assert len(imports) > 8
    assert not {name for name, _, _ in imports} & set(nfl.__all__)
    text = _NAMED.format(imports="\n".join(line for _, line, _ in imports))
    (tmp_path / "named.py").write_text(text)
    said = mypy(tmp_path)
    assert said.startswith("Success: no issues found"), said
    exec(compile(text, "named.py", "exec"), {})


def test_the_page_names_nothing_that_cannot_be_imported() -> None:
    page = (ROOT / "docs" / "library.md").read_text().partition("## Types from elsewhere")[0]
    headings = [heading.partition(" ")[0] for heading in re.findall(r"^### (.*)$", page, re.MULTILINE)]
    assert sorted(headings) == sorted(nfl.__all__)
    for name in nfl.__all__:
        assert getattr(nfl, name).__name__ == name


# -- completion and help -----------------------------------------------------------------------------------------------


@pytest.fixture
def namespace(netns: Netns) -> Iterator[dict[str, Any]]:
    """What somebody at the prompt has who typed the blocks: by the names that they use."""
    batch = decode([message_of(by_name("tcp4-syn"))]).batch
    with nfl.open_group(2, netns=netns.path) as group:
        yield {"nfl": nfl, "group": group, "batch": batch, "packet": batch[0], "pre": nfl.Prefilter("ssh")}


def chains(block: str, roots: set[str]) -> Iterator[str]:
    """Yield `a.b.c` for each attribute of one of these names."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if re.fullmatch(r"[\w.]+", text) and text.partition(".")[0] in roots:
                yield text


def completions(completer: Completer, text: str) -> list[str]:
    found = []
    while (word := completer.complete(text, len(found))) is not None:
        found.append(re.sub(r"\(\)?$", "", word))
    return found


def test_the_prompt_completes_every_block(namespace: dict[str, Any]) -> None:
    completer, checked = Completer(namespace), dict.fromkeys(BLOCKS, 0)
    for name, block in BLOCKS.items():
        for chain in chains(block, set(namespace)):
            # After the dot, and after the first letters.
            start = chain.rpartition(".")[0] + "."
            assert chain in completions(completer, start), f"{name}: {chain}"
            assert chain in completions(completer, chain[: len(start) + 2]), f"{name}: {chain}"
            checked[name] += 1
    assert all(count for name, count in checked.items() if "import nflowlevel" in BLOCKS[name]), checked
    assert sum(checked.values()) > 15


def test_the_prompt_completes_all_that_is_public(namespace: dict[str, Any]) -> None:
    completer = Completer(namespace)
    assert {f"nfl.{name}" for name in nfl.__all__} == set(completions(completer, "nfl."))
    assert completions(completer, "nfl.Pre") == ["nfl.Prefilter", "nfl.PrefilterCounters"]
    assert {"packet.saddr", "packet.tcp_dport", "packet.src_ip"} <= set(completions(completer, "packet."))
    assert completions(completer, "nfl.Packet.tcp_dp") == ["nfl.Packet.tcp_dport"]


def test_dir_has_what_is_public_and_nothing_else() -> None:
    """Also in a process that has not asked for the prefilter yet, and in one that has imported what lies inside."""
    code = """if True:
        import nflowlevel as nfl
        print(set(nfl.__all__) ^ {name for name in dir(nfl) if not name.startswith("__")})
        import nflowlevel.prefilter.prefilter, nflowlevel.sql.where
        print(set(nfl.__all__) ^ {name for name in dir(nfl) if not name.startswith("__")})
    """
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == "set()\nset()\n"


@pytest.mark.parametrize("name", nfl.__all__)
def test_help_and_signature(name: str) -> None:
    thing = getattr(nfl, name)
    text = pydoc.render_doc(thing, renderer=pydoc.plaintext)
    assert inspect.getdoc(thing).splitlines()[0] in text  # type: ignore[union-attr]
    if thing.__init__ not in (Exception.__init__, dict.__init__):  # Python's own have no signature
        without = name in ("CaptureStats", "FlowStats", "GroupStats")
        assert bool(inspect.signature(thing).parameters.keys() - {"self"}) != without


def test_open_group_shows_its_options() -> None:
    shown, own = inspect.signature(nfl.open_group), inspect.signature(nfl.Group)
    assert shown.parameters == own.parameters
    assert shown.return_annotation is nfl.Group
    assert "profile" in pydoc.render_doc(nfl.open_group, renderer=pydoc.plaintext)


# -- at run time -------------------------------------------------------------------------------------------------------


def test_unknown_options_have_a_hint() -> None:
    options: dict[str, Any] = {"profil": "latency"}
    with pytest.raises(TypeError, match=r"open_group: unknown option 'profil' — did you mean 'profile'\?"):
        nfl.open_group(2, **options)
    rules: dict[str, Any] = {"rat": 3}
    with pytest.raises(TypeError, match=r"unknown rule 'rat' of a prefilter — did you mean 'rate'\?"):
        nfl.Prefilter("ssh", **rules)
    options = {"profile": "latencie"}
    with pytest.raises(ValueError, match=r"unknown profile 'latencie' — did you mean 'latency'\?"):
        nfl.open_group(2, **options)


# -- the page ----------------------------------------------------------------------------------------------------------


def sections(page: str) -> dict[str, str]:
    """Return the parts of a page by their headings of the third and fourth level."""
    parts = re.split(r"^#{3,4} (.*)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_all_that_is_public() -> None:
    """That it is fresh test_docs.py checks; here, that nothing is left out."""
    found = sections((ROOT / "docs" / "library.md").read_text())
    assert set(nfl.__all__) <= {heading.partition(" ")[0] for heading in found}
    for name in nfl.__all__:
        thing = getattr(nfl, name)
        text = next(text for heading, text in found.items() if heading.partition(" ")[0] == name)
        if not isinstance(thing, type) or issubclass(thing, Exception):
            continue
        for member, value in inspect.getmembers_static(thing):
            if member.startswith("_") or type(value).__module__ != "builtins":
                continue
            if inspect.isfunction(value) and not value.__module__.startswith("nflowlevel"):
                continue  # of Sequence
            if isinstance(value, property):
                assert f"| `{member}` |" in text, f"{name}.{member}"
            elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
                assert f"{name}.{member}" in found, f"{name}.{member}"


def test_the_page_has_every_option_and_counter() -> None:
    found = sections((ROOT / "docs" / "library.md").read_text())
    options = set(inspect.signature(nfl.Group).parameters) - {"group"}
    assert len(options) > 10
    for option in options:
        row = rf"^\| `{option}` \| `[^`]+` \| `[^`]+` \| [^|]* \| \S.*\w.* \|$"
        assert re.search(row, found["open_group"], re.MULTILINE), option
    for rule in Rules.__annotations__:
        assert re.search(rf"^\| `{rule}` \| .*\w.* \|$", found["Prefilter"], re.MULTILINE), rule
    for counter, about in GroupStats.declared.items():
        assert f"| `{counter}` | {about.unit} | {about.meaning} |" in found["GroupStats"]
