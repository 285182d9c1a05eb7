# SPDX-License-Identifier: GPL-2.0-or-later
"""The page docs/library.md: every public class, method, option, unit and error, read from the code by generate.py."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

import nflowlevel as nfl
from nflowlevel.options import arguments, describe
from nflowlevel.prefilter.conditions import PrefilterOptions
from nflowlevel.records.row import Row
from nflowlevel.stats import Counters

_INTRODUCTION = """\
`import nflowlevel as nfl` gives the names on this page. They are typed (`py.typed`), and `help()` shows the same text.
[recipes.md](recipes.md) has programs to start from, and [keys.md](keys.md) lists all keys.

A key has several names: its own (`ip.saddr`), the attribute (`packet.saddr`, `packet.ip_saddr`) and the name in JSON
(`src_ip`). You can use any of them wherever a key is expected. An unknown name raises a KeyError that suggests the
nearest name.

Times are in seconds and sizes in bytes unless the text says otherwise."""

#: Section → what stands in it, in this order.
SECTIONS: dict[str, tuple[object, ...]] = {
    "Packets": (
        nfl.open_group,
        nfl.Group,
        nfl.GroupStats,
        nfl.read_pcap,
        nfl.Capture,
        nfl.CaptureStats,
        nfl.Batch,
        nfl.Packet,
        nfl.Sum,
    ),
    "Logs": (nfl.read, nfl.Log, nfl.Answer),
    "Flows": (nfl.open_flows, nfl.Flows, nfl.FlowStats, nfl.flows, nfl.Flow, nfl.Accept),
    "Accounting objects": (nfl.Accounting, nfl.Counter, nfl.CounterTable, nfl.QuotaEvents),
    "The BPF prefilter": (
        nfl.Prefilter,
        nfl.Rules,
        nfl.Attachment,
        nfl.PrefilterCounters,
        nfl.Count,
        nfl.Top,
        nfl.mount_bpffs,
    ),
    "Errors": (
        nfl.NflowError,
        nfl.CaptureError,
        nfl.ConfigError,
        nfl.FilterError,
        nfl.KernelError,
        nfl.LayoutError,
        nfl.NotSupported,
        nfl.OutputError,
        nfl.StackError,
    ),
}

#: Functions whose options are those of what they open.
_OPENED: dict[Any, Any] = {nfl.open_group: nfl.Group.__init__, nfl.open_flows: nfl.Flows.__init__}

_SPECIAL = {
    "__len__": "`len(…)`",
    "__iter__": "`for … in …`",
    "__aiter__": "`async for … in …`",
    "__getitem__": "`…[0]`, `…[0:64]`",
    "__enter__": "`with … as …`",
}


def library_page(made: str, table: Callable[[tuple[str, ...], Iterable[tuple[str, ...]]], str]) -> str:
    """Return the page; `made` says who made it, `table` makes one."""
    parts = ["# The library", made, _INTRODUCTION]
    for section, things in SECTIONS.items():
        parts.append(f"## {section}")
        if section == "Errors":
            parts.append("All are an NflowError. Wrong arguments are a TypeError, a ValueError or a KeyError.")
        for thing in things:
            parts += _class(thing, table) if isinstance(thing, type) else _function(thing, table)
    parts += ["## Types from elsewhere", _ELSEWHERE]
    rows = [
        (f"`{name}`", f"`from {cls.__module__} import {cls.__name__}`", ", ".join(f"`{place}`" for place in places))
        for (name, cls), places in elsewhere().items()
    ]
    parts.append(table(("Type", "Import", "Where it comes up"), rows))
    return "\n\n".join(parts) + "\n"


_ELSEWHERE = """\
What is above returns or takes objects of a few more types, which `nfl` does not name. For annotations, import them:"""


def elsewhere() -> dict[tuple[str, type], list[str]]:
    """Return the types of the package that public calls and attributes have, and that `nfl` does not name: each with
    the places where it comes up."""
    public = [thing for things in SECTIONS.values() for thing in things]
    found: dict[tuple[str, type], list[str]] = {}
    for thing in public:
        for place, module, annotation in _annotations(thing):
            for word in re.findall(r"(?<![\w.])\w+", _type(annotation)):
                cls = _classes(module).get(word)
                if cls and cls not in public and (not found.get((word, cls)) or place not in found[word, cls]):
                    found.setdefault((word, cls), []).append(place)
    return dict(sorted(found.items(), key=lambda each: each[0][0]))


def _annotations(thing: Any) -> Iterator[tuple[str, str, object]]:
    """Yield what a function or a class says of types, with the place and the module: results, arguments, attributes,
    fields."""
    if not isinstance(thing, type):
        for name, annotation in thing.__annotations__.items():
            yield thing.__name__ if name == "return" else f"{thing.__name__}({name})", thing.__module__, annotation
        return
    if issubclass(thing, BaseException):
        return
    made = inspect.unwrap(vars(thing).get("__init__", thing))
    attributes = [*_instance_attributes(thing), *(_fields(thing) if issubclass(thing, msgspec.Struct | tuple) else ())]
    for name, annotation in {**getattr(thing, "__annotations__", {}), **getattr(made, "__annotations__", {})}.items():
        if name in attributes or (name != "return" and thing not in _MADE_BY_OTHERS):
            place = f"{thing.__name__}.{name}" if name in attributes else f"{thing.__name__}({name})"
            yield place, thing.__module__, annotation
    for name, value in public_members(thing).items():
        if isinstance(value, property | cached_property):
            function: Any = value.func if isinstance(value, cached_property) else value.fget
            yield f"{thing.__name__}.{name}", function.__module__, _returned(value)
        else:
            method = inspect.unwrap(getattr(thing, name))
            for argument, annotation in method.__annotations__.items():
                place = f"{thing.__name__}.{name}" + ("" if argument == "return" else f"({argument})")
                yield place, method.__module__, annotation


@cache
def _classes(module: str) -> dict[str, type]:
    """Return the package's classes by the names that they have in a module, also where only type checkers see them."""
    text = ast.parse(inspect.getsource(sys.modules[module]))
    found = dict(vars(sys.modules[module]))
    for node in ast.walk(text):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nflowlevel"):
            found.update(
                (each.asname or each.name, getattr(import_module(node.module or ""), each.name)) for each in node.names
            )
    return {
        name: each
        for name, each in found.items()
        if isinstance(each, type) and each.__module__.startswith("nflowlevel")
    }


def _function(function: Any, table: Callable[..., str]) -> list[str]:
    text, options = options_in(inspect.getdoc(function) or "")
    first, _, rest = text.partition("\n\n")
    parts = [f"### {function.__name__}", _code(function.__name__, function), first, *([rest] if rest else [])]
    if options:
        signature = inspect.signature(function)
        called = inspect.unwrap(_OPENED.get(function, function))
        types = get_type_hints(called)
        allowed = arguments(called) if any(types[name] in (int, float) for name in options if name in types) else {}
        rows = [
            (
                f"`{name}`",
                f"`{_literal(types[name])}`",
                "mandatory" if p.default is p.empty else f"`{p.default!r}`",
                allowed[name].taken if name in allowed and types[name] in (int, float) else "",
                options[name][:1].upper() + options[name][1:],
            )
            for name, p in signature.parameters.items()
            if name in options
        ]
        assert len(rows) == len(options), f"{function.__name__}: its text has options that it lacks"
        parts.insert(3, table(("Option", "Type", "Default", "Allowed", "Meaning"), rows))
    return parts


def options_in(doc: str) -> tuple[str, dict[str, str]]:
    """Return a docstring without the lines `name: meaning` in it, and these by name."""
    options: dict[str, str] = {}
    paragraphs = []
    for paragraph in doc.split("\n\n"):
        if re.match(r"[a-z_]+: ", paragraph):
            for name, meaning in re.findall(r"^(\w+): (.*(?:\n +.*)*)", paragraph, re.MULTILINE):
                options[name] = " ".join(meaning.split())
        else:
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs), options


def _class(cls: type, table: Callable[..., str]) -> list[str]:
    own = f" ({cls.__bases__[-1].__name__})" if issubclass(cls, OSError) else ""
    parts = [f"### {cls.__name__}{own}"]
    if not issubclass(cls, BaseException) and cls not in _MADE_BY_OTHERS:
        parts.append(_code(cls.__name__, cls))
    parts.append(_paragraphs(cls))
    if issubclass(cls, Counters):
        rows = [(f"`{name}`", c.unit, c.meaning) for name, c in cls.declared.items()]
        parts.append(table(("Counter", "Unit", "Meaning"), rows))
    if issubclass(cls, msgspec.Struct | tuple) and not issubclass(cls, Row):
        hints = get_type_hints(cls)
        said = _field_meanings(cls)
        rows = [(f"`{name}`", f"`{_type(hints[name])}`", said.get(name, "")) for name in _fields(cls)]
        parts.append(table(("Field", "Type", "Meaning"), rows))
    if cls is nfl.Prefilter:
        options = [(f"`{o.name}`", o.type, f"`{o.default}`" if o.default else "", o.description)
                   for o in describe(PrefilterOptions)]  # fmt: skip
        assert [o[0].strip("`") for o in options] == list(nfl.Rules.__annotations__)
        parts += ["Its rules:", table(("Rule", "Type", "Default", "Meaning"), options)]
    if attributes := list(_instance_attributes(cls)):
        parts.append(f"Attributes: {', '.join(f'`{name}`' for name in attributes)}.")
    if special := [text for name, text in _SPECIAL.items() if _defines(cls, name)]:
        parts.append(f"Supports {', '.join(special)}.")
    properties = {
        name: value for name, value in public_members(cls).items() if isinstance(value, property | cached_property)
    }
    if properties:
        rows = [(f"`{name}`", f"`{_type(_returned(value))}`", _line(value)) for name, value in properties.items()]
        parts.append(table(("Attribute", "Type", "Meaning"), rows))
    for name, value in public_members(cls).items():
        if not isinstance(value, property | cached_property):
            method = getattr(cls, name)
            bound = isinstance(value, classmethod | staticmethod)
            parts.append(f"#### {cls.__name__}.{name}")
            parts.append(_code(f"{cls.__name__}.{name}" if bound else name, method, skip_self=not bound))
            parts.append(_paragraphs(method))
    return parts


#: They are not made by calling them.
_MADE_BY_OTHERS = frozenset(
    (
        nfl.Attachment,
        nfl.Batch,
        nfl.CaptureStats,
        nfl.Count,
        nfl.CounterTable,
        nfl.Flow,
        nfl.FlowStats,
        nfl.GroupStats,
        nfl.Packet,
        nfl.PrefilterCounters,
        nfl.Rules,
        nfl.Sum,
        nfl.Top,
    )
)


def public_members(cls: type) -> dict[str, Any]:
    """Return the methods and properties that the package gives a class, by name."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("nflowlevel") and not issubclass(base, Exception):
            found.update(
                (name, value)
                for name, value in vars(base).items()
                if not name.startswith("_")
                and isinstance(value, property | cached_property | classmethod | staticmethod | type(library_page))
            )
    return found


def _instance_attributes(cls: type) -> Iterator[str]:
    """Yield the public attributes that `__init__` sets, and those that the class declares."""
    if not cls.__module__.startswith("nflowlevel") or issubclass(cls, msgspec.Struct | tuple | Counters):
        return
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    seen = {}
    for function in node.body:
        if isinstance(function, ast.AnnAssign) and isinstance(function.target, ast.Name):
            seen[function.target.id] = True
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            for part in ast.walk(function):
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                    seen[part.attr] = True
    yield from (name for name in seen if not name.startswith("_"))


def _fields(cls: type) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(cls, "__struct_fields__", ()) or getattr(cls, "_fields", ())
    return names


def _field_meanings(cls: type) -> dict[str, str]:
    """Return what is said of fields: by a text behind one, or a comment `#:` before it."""
    said, comment = {}, []
    lines = iter(textwrap.dedent(inspect.getsource(cls)).splitlines())
    name = ""
    for line in map(str.strip, lines):
        if line.startswith("#: "):
            comment.append(line.removeprefix("#: "))
        elif match := re.match(r"(\w+): ", line):
            name = match[1]
            said[name], comment = " ".join(comment), []
        elif name and line.startswith('"""'):
            said[name] = line.strip('"')
        elif line.startswith("def "):
            break
    return said


def _defines(cls: type, name: str) -> bool:
    return any(name in vars(base) for base in cls.__mro__ if base.__module__.startswith("nflowlevel"))


def _code(name: str, function: Any, *, skip_self: bool = False) -> str:
    signature = inspect.signature(function)
    parameters = _plain(function, list(signature.parameters.values())[int(skip_self) :])
    shown = [str(p.replace(annotation=p.empty)) if p.annotation is p.empty else _parameter(p) for p in parameters]
    # What comes after the star is given by name.
    first = next((n for n, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if first is not None and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        shown.insert(first, "*")
    returned = signature.return_annotation
    answer = "" if isinstance(function, type) or returned is signature.empty else f" -> {_type(returned)}"
    text = f"{name}({', '.join(shown)}){answer}"
    if len(text) > 110:
        text = f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + f"){answer}"
    return f"```\n{text}\n```"


def _plain(function: Any, parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return the parameters with the types of those that have limits (`Annotated`) instead of the names of these."""
    called: Any = getattr(function, "__init__", None) if isinstance(function, type) else function
    called = inspect.unwrap(_OPENED.get(called, called))
    try:
        plain, limited = get_type_hints(called), get_type_hints(called, include_extras=True)
    except (NameError, TypeError):
        return parameters  # it names what only type checkers know: no limits
    types = {name: hint for name, hint in plain.items() if hint != limited[name]}
    return [p.replace(annotation=types.get(p.name, p.annotation)) for p in parameters]


def _parameter(p: inspect.Parameter) -> str:
    stars = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
    value = str(p.default) if isinstance(p.default, Path) else p.default
    default = "" if p.default is p.empty else f" = {value!r}"
    return f"{stars}{p.name}: {_type(p.annotation)}{default}"


def _type(annotation: object) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and not isinstance(annotation, UnionType) else annotation
    text = re.sub(r"typing\.Optional\[(\w+)\]", r"\1 | None", str(text))
    return re.sub(r"\b(?:nflowlevel|collections|typing|pathlib)(?:\.[a-z_]+)*\.(?=[A-Z])", "", str(text)).strip("'")


def _literal(hint: object) -> str:
    """Return a type for the table of options: of a Literal its values."""
    return " | ".join(map(repr, get_args(hint))) if get_origin(hint) is Literal else _type(hint)


def _returned(attribute: property | cached_property[Any]) -> object:
    function: Any = attribute.func if isinstance(attribute, cached_property) else attribute.fget
    return inspect.signature(function).return_annotation


def _line(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


def _paragraphs(thing: object) -> str:
    return inspect.getdoc(thing) or ""
