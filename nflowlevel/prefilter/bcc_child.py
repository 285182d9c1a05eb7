# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that holds bcc: compiles one source and ends. It is run as a script, also by a Python without nflowlevel.

bcc takes 130 MB and gives nothing back. A request comes as JSON on standard input (see compiling.py). What is wrong
with a source goes to standard error, as a compiler says it, and the answer as JSON to standard output:
{"code": hexadecimal}, {"missing": "bcc" | "headers", "found": …} or {"error": …}.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

_MODULES = Path("/lib/modules")
_VARIABLE = "BCC_KERNEL_SOURCE"


class Missing(Exception):
    """Something is not installed: what, and what was found instead."""

    def __init__(self, what: str, found: str) -> None:
        self.what, self.found = what, found


def find_headers(directory: Path, modules: Path = _MODULES) -> None:
    """Let bcc find headers: those that the user names, the running kernel's, or the newest of another kernel.

    The programs look into no structure of the kernel's, so any kernel's headers will do. Where a distribution has split
    them, they are put together in `directory`: bcc does that only for the running kernel's.
    """
    if named := os.environ.get(_VARIABLE):
        if not Path(named).is_dir():
            raise Missing("headers", f"no such directory: {named} ({_VARIABLE})")
        return
    release = os.uname().release
    if (modules / release / "build" / "include").is_dir():
        return
    others = [build.parent for build in modules.glob("*/build") if (build / "include").is_dir()]
    if not others:
        raise Missing("headers", f"no {modules}/{release}/build, and no build directory of another kernel")
    _merge([tree for name in ("build", "source") if (tree := max(others, key=_version) / name).is_dir()], directory)
    os.environ[_VARIABLE] = str(directory)


def _version(directory: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", directory.name)]


def _merge(trees: list[Path], into: Path) -> None:
    """Make links to what the trees have in their directories of headers."""
    for tree in trees:
        for headers in (tree / "include", *tree.glob("arch/*/include")):
            place = into / headers.relative_to(tree)
            place.mkdir(parents=True, exist_ok=True)
            for entry in headers.iterdir():
                if not (place / entry.name).exists():
                    (place / entry.name).symlink_to(entry.resolve())


def compile_source(request: dict[str, Any]) -> bytes:
    """Return the instructions of the source's function `predicate`."""
    try:
        bpf = importlib.import_module("bcc").BPF
    except (ImportError, AttributeError) as error:  # PyPI has another project of this name
        raise Missing("bcc", str(error)) from None
    find_headers(Path(request["scratch"]))
    module = bpf(text=request["source"].encode(), cflags=[f"-I{request['include']}", "-Wno-parentheses"])
    code: bytes = module.dump_func("predicate")
    return code


def main() -> int:
    """Answer one request."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # bcc complains there, too
    answer: dict[str, str]
    try:
        answer = {"code": compile_source(json.load(sys.stdin)).hex()}
    except Missing as missing:
        answer = {"missing": missing.what, "found": missing.found}
    except Exception as error:  # bcc raises nothing more precise
        answer = {"error": str(error)}
    with open(answers, "w") as stream:
        json.dump(answer, stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
