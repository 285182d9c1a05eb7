# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan of the house: who may import whom, that each module has its test, and how each file begins."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import nflowlevel
from tests.fix_group import run_python

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nflowlevel"

#: The rooms in their order: a module imports only from its own room and from those that stand before it. Nothing is
#: said of single modules: within a room there is no circle.
ROOMS = (
    "errors",
    "logs",
    "options",
    "stats",
    "binding",
    "records",
    "readers",
    "accounting",
    "firewall",
    "prefilter",
    "delivery",
    "spool",
    "sql",
    "archive",
    "analytics",
    "plugin",
    "inputs",
    "filters",
    "outputs",
    "stacks",
    "doctor",
    "daemon",
    "cli",
    "__main__",
)

#: Modules without a test file of their own, and the one that tests them. It only shrinks.
TESTED_BY: dict[str, str] = {
    "binding._lib": "test_layout.py",
    "__main__": "test_layout.py",
    "daemon.__main__": "test_layout.py",
}

#: Imports that cost the daemon more start time or memory than it is allowed (docs/architecture.md).
HEAVY = (
    "asyncio",
    "bcc",
    "concurrent.futures",
    "duckdb",
    "importlib.metadata",
    "iptocc",
    "maxminddb",
    "numpy",
    "psycopg",
    "pyarrow",
    "pymysql",
    "pyroute2",
    "pyspark",
    "rich",
    "sqlite3",
    "ssl",
)


def name_of(path: Path) -> str:
    """Return a module's name within the package: `binding.nflog`, `filters` for a package itself, "" for all."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax trees of the modules that are there at run time, by name."""
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if "_cdefs" not in path.parts)
    return {name_of(path): ast.parse(path.read_text()) for path in paths}


def imports(name: str, within: ast.AST | None = None) -> Iterator[tuple[str, int]]:
    """Yield what a module imports of the package, and in which line; also where it does so late or for types only."""
    for node in ast.walk(within or modules()[name]):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}:{node.lineno}: relative import"
            if node.module == "nflowlevel" or (node.module or "").startswith("nflowlevel."):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}".removeprefix("nflowlevel.")
                    inner = (node.module or "").removeprefix("nflowlevel").removeprefix(".")
                    yield (full if full in modules() or full == "_clib" else inner), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "nflowlevel":
                    yield alias.name.removeprefix("nflowlevel").removeprefix("."), node.lineno


def room_of(name: str) -> str:
    """Return the room of a module: the first part of its name."""
    return name.partition(".")[0]


def all_modules() -> list[str]:
    """Return the names of all modules but the package itself, which only lists the public names."""
    return [name for name in modules() if name]


# -- rooms ------------------------------------------------------------------------------------------------------------


def test_every_module_has_a_room_and_every_room_a_module() -> None:
    assert {room_of(name) for name in all_modules()} == set(ROOMS)


def test_what_is_flat_is_what_every_line_may_use() -> None:
    flat = {name for name in all_modules() if "." not in name} - {name_of(p) for p in PACKAGE.rglob("__init__.py")}
    assert flat == {"__main__", "errors", "logs", "options", "stats"}


@pytest.mark.parametrize("name", all_modules())
def test_a_module_imports_from_the_rooms_before_it(name: str) -> None:
    for imported, line in imports(name):
        # The package itself: its version. _clib: see below.
        if imported not in ("", "_clib"):
            order = ROOMS.index(room_of(imported)), ROOMS.index(room_of(name))
            assert order[0] <= order[1], f"{name}:{line} imports {imported}, whose room comes later"


@pytest.mark.parametrize("room", ROOMS)
def test_there_is_no_circle_in_a_room(room: str) -> None:
    """Also none for type checkers, and none by an import that comes late."""
    inside = {name: {other for other, _ in imports(name)} for name in all_modules() if room_of(name) == room}
    graph = {name: {other for other in found if other in inside} for name, found in inside.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))


def test_the_compiled_module_is_imported_in_one_place() -> None:
    importers = {name for name in modules() for imported, _ in imports(name) if imported.startswith("_clib")}
    assert importers == {"binding._lib"}
    for source in sources(".py"):
        if source != "nflowlevel/binding/_lib.py":
            text = (ROOT / source).read_text()
            assert not re.search(r"^\s*(from|import) nflowlevel\._clib\b", text, re.MULTILINE), source


def test_the_package_lists_the_public_names_and_no_more() -> None:
    body = modules()[""].body
    kinds = {type(node) for node in body}
    # The functions import what few need, and name it; only types need it before.
    assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign, ast.If, ast.FunctionDef}
    functions = {node.name for part in body for node in ast.walk(part) if isinstance(node, ast.FunctionDef)}
    assert functions == {"__dir__", "__getattr__"}
    assigned = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}  # type: ignore[attr-defined]
    assert assigned == {"_LATE", "__all__", "__version__"}


def test_the_daemon_imports_nothing_heavy() -> None:
    code = f"""if True:
        import sys
        import nflowlevel.daemon.main
        assert "nflowlevel.prefilter.prefilter" not in sys.modules
        from nflowlevel.stacks.config import parse_text
        from nflowlevel.stacks.stack import build
        build(parse_text('''
            [global]
            stack=n:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR,m:MARK,j:JSON
            [n]
            group=2
            [j]
            file=/dev/null
        '''))
        print(*sorted(name for name in sys.modules if name in {HEAVY!r}))
        late = ("accounting.objects", "prefilter.prefilter", "records.attributes")
        print(*(name for name in late if "nflowlevel." + name in sys.modules))
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_command_is_a_module() -> None:
    done = run_python("import runpy; runpy.run_module('nflowlevel', run_name='__main__', alter_sys=True)")
    assert "usage: " in done.stdout + done.stderr


def test_the_daemon_is_a_module() -> None:
    code = "import runpy, sys; sys.argv = ['d', '-V']; runpy.run_module('nflowlevel.daemon', run_name='__main__')"
    assert run_python(code).stdout == f"nflowlevel-daemon {nflowlevel.__version__}\n"


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", modules())
def test_all_is_sorted_and_importable(name: str) -> None:
    lists = [
        ast.literal_eval(node.value)
        for node in modules()[name].body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    for names in lists:
        assert list(names) == sorted(names)
        assert len(set(names)) == len(names)
        module = importlib.import_module("nflowlevel" + (f".{name}" if name else ""))
        assert not [public for public in names if not hasattr(module, public)]


@pytest.mark.parametrize("room", ["inputs", "filters", "outputs"])
def test_a_plugin_is_one_file_with_its_name(room: str) -> None:
    names = importlib.import_module(f"nflowlevel.{room}").NAMES
    files = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
    assert {name.lower() for name in names} == files


@pytest.mark.parametrize("word", ["utils", "util", "helpers", "helper", "manager", "common", "misc"])
def test_a_file_is_named_after_its_concern(word: str) -> None:
    assert not [name for name in modules() if word in name.split(".")]


# -- tests ------------------------------------------------------------------------------------------------------------


def mirror_of(name: str) -> Path:
    """Return where a module's test is."""
    *packages, last = name.split(".")
    return Path(*packages, f"test_{last}.py")


def test_every_module_has_its_test() -> None:
    tests = ROOT / "tests"
    packages = {name_of(path) for path in PACKAGE.rglob("__init__.py")}
    missing = [
        f"{name}: tests/{mirror_of(name)}"
        for name in all_modules()
        if name not in packages and name not in TESTED_BY and not (tests / mirror_of(name)).exists()
    ]
    assert not missing, "\n".join(missing)


def test_exceptions_are_still_needed() -> None:
    tests = ROOT / "tests"
    for name, elsewhere in TESTED_BY.items():
        assert name in modules(), f"{name} is gone: strike it from TESTED_BY"
        assert not (tests / mirror_of(name)).exists(), f"{name} has its test: strike it from TESTED_BY"
        assert (tests / elsewhere).exists(), f"{name}: tests/{elsewhere} is gone"


# -- how files begin --------------------------------------------------------------------------------------------------

LICENCE = "SPDX-License-Identifier: GPL-2.0-or-later"
_DIRECTORIES = ("nflowlevel", "tests", "bench", "docs", "examples", "demo", "scripts", "bpf")


def sources(*suffixes: str) -> list[str]:
    paths = (path for name in _DIRECTORIES for path in sorted((ROOT / name).rglob("*")) if path.is_file())
    return [
        str(path.relative_to(ROOT)) for path in paths if path.suffix in suffixes and "__pycache__" not in path.parts
    ]


@pytest.mark.parametrize("source", sources(".py"))
def test_python_files_begin_with_licence_and_docstring(source: str) -> None:
    text = (ROOT / source).read_text()
    lines = text.splitlines()
    assert lines[1 if lines[0].startswith("#!") else 0] == f"# {LICENCE}"
    assert ast.get_docstring(ast.parse(text)), "what is it for?"


@pytest.mark.parametrize("source", sources(".c", ".h"))
def test_c_files_begin_with_licence_and_purpose(source: str) -> None:
    first, second, *_ = (ROOT / source).read_text().splitlines()
    assert re.fullmatch(rf"(//|/\*) {re.escape(LICENCE)}", first)
    assert re.match(r"(/\*| \*)", second), "what is it for?"


@pytest.mark.parametrize("source", [s for s in sources(".c") if s.startswith("nflowlevel/")])
def test_c_files_neither_allocate_nor_print(source: str) -> None:
    text = re.sub(r"/\*.*?\*/", "", (ROOT / source).read_text(), flags=re.DOTALL)
    assert not re.findall(r"\b(?:malloc|calloc|realloc|free|strdup|f?printf|puts|exit|abort)\s*\(", text)
