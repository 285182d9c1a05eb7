# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the pages that the code knows best: `make docs`. With `--check`, only say which of them are not fresh.

docs/keys.md              from nflowlevel/keys.py
docs/library.md           from the public names of the package
docs/plugins.md           from the plugins: docstring, options, keys; and from the counters
examples/nflowlevel.conf  every option of every plugin, with its default
nflowlevel/records/attributes.py
                          an attribute for each name of a packet's keys, from nflowlevel/records/
docs/from-ulogd2.md       the table between its two marks, from tests/parity_differences.py
docs/filters.md           the table of fields, from the language of filters and the prefilter's part of it
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.library import library_page  # noqa: E402
from nflowlevel import filters, inputs, outputs  # noqa: E402
from nflowlevel.daemon import prefilters  # noqa: E402
from nflowlevel.options import OptionDoc, describe  # noqa: E402
from nflowlevel.plugin.contract import ANY_KEYS, AnyPlugin, Input  # noqa: E402
from nflowlevel.prefilter import predicate  # noqa: E402
from nflowlevel.readers.files import NOT_IN_CAPTURES  # noqa: E402
from nflowlevel.records.filters import PACKET_NAMES, field_of  # noqa: E402
from nflowlevel.records.keys import CATALOGUE, Key, PacketCondition, published_by  # noqa: E402
from nflowlevel.records.names import Names  # noqa: E402
from nflowlevel.records.packet import PACKET  # noqa: E402
from nflowlevel.records.terms import TERMS  # noqa: E402
from nflowlevel.stacks.config import GlobalOptions  # noqa: E402
from nflowlevel.stacks.describe import page  # noqa: E402
from nflowlevel.stacks.registry import ULOGD2_NAMES, builtin_names, find_plugin  # noqa: E402
from nflowlevel.stats import Counters, GroupStats, OutputStats  # noqa: E402
from tests.parity_differences import DIFFERENCES  # noqa: E402
from tests.test_layout import ROOMS  # noqa: E402

_MADE = "<!-- Made by `make docs` from the code; what is changed here by hand is lost. -->"
_PLUGINS = ("<!-- plugins: made by `make docs` -->", "<!-- /plugins -->")
_DIFFERENCES = ("<!-- differences: made by `make docs` -->", "<!-- /differences -->")
_FIELDS = ("<!-- fields: made by `make docs` -->", "<!-- /fields -->")
_ROOMS = ("<!-- rooms: made by `make docs` -->", "<!-- /rooms -->")

_KEYS_INTRODUCTION = """\
Every named value a record can carry, by the plugin that publishes it, in the order of a record's members. In a stack,
the nearest plugin before the reader counts where several publish a name. In Python a key is an attribute of a packet,
with `_` for `.`: `packet.tcp_dport`; of a batch, `batch.column("tcp.dport")`, `batch.values(…)` and `batch.rows(…)`
take its name.

JSON writes numbers and texts, under the name in the column *JSON* where that is another; keys of the types `ipaddr` and
`raw` have no form in it. A dagger (†) marks keys that ulogd2 does not have."""

_PCAPFILE_KEYS = """\
The keys of NFLOG, also for files that `nfl.read_pcap` reads. Captures of link type NFLOG hold what the kernel said. In
those of other link types `oob.family` is that of the packet (2, 10, 3, else 7; 0 where nothing says what it is),
`oob.mark` is 0, the link-layer header is there for Ethernet only, and these keys never hold:"""

_PLUGINS_INTRODUCTION = """\
A stack is an input, filters and an output: `stack=id:PLUGIN,id:PLUGIN,…` in `[global]`; the section `[id]` holds the
options. `nflowlevel describe PLUGIN` says the same as this page. Numbers may be decimal, octal (`010`) or hexadecimal
(`0x10`); a switch is `0` or `1` (or no, yes, off, on, false, true).

## [global]

Options of the daemon itself, besides `stack=` and `plugin=`, which may stand there many times. `plugin=` lines are
accepted for ulogd's sake: every plugin is known by its name."""

_ATTRIBUTES_HEAD = '''\
# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="no-any-return"
"""Every name of a packet's keys as an attribute with its type. Made by `make docs` from the catalogue of keys; what is
changed here by hand is lost.

Each looks into the batch's columns first: a call in between would cost half as much as the look itself.
"""

from __future__ import annotations

from nflowlevel.records.row import Row


class PacketAttributes(Row, frozen=True, gc=False, eq=False):
    """The attributes of a packet."""
'''

#: What Python makes of a key, by its kind; all others are texts.
_TYPES = {"u8": "int", "u16": "int", "u32": "int", "u64": "int", "fixed": "bytes", "bytes": "memoryview"}

#: A plugin with more keys is not told them one by one.
_LONGEST_LIST = 12

_TRANSPORT = ("tcp", "udp", "udplite", "icmp", "icmpv6", "sctp", "ahesp")

#: The options that the example sets: what is mandatory, and group 0 would take over the machine's own logging.
_EXAMPLE_VALUES = {"NFLOG.group": "1", "PCAPFILE.file": "/tmp/capture.pcap", "pollinterval": "10"}


def main() -> int:
    """Write the pages, or check them; the result is the exit status."""
    stale = [path for path, text in pages() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not fresh: type `make docs`", file=sys.stderr)
        return bool(stale)
    for path, text in pages():
        path.write_text(text)
    return 0


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each page and what it should say."""
    yield ROOT / "docs" / "keys.md", keys_page()
    yield ROOT / "docs" / "library.md", library_page(_MADE, _table)
    yield ROOT / "docs" / "plugins.md", plugins_page()
    yield ROOT / "examples" / "nflowlevel.conf", example_config()
    yield ROOT / "nflowlevel" / "records" / "attributes.py", attributes_module()
    page = ROOT / "docs" / "from-ulogd2.md"
    text = between(page.read_text(), _PLUGINS, plugins_here_and_not())
    yield page, between(text, _DIFFERENCES, differences_table())
    page = ROOT / "docs" / "filters.md"
    yield page, between(page.read_text(), _FIELDS, fields_table())
    page = ROOT / "docs" / "architecture.md"
    yield page, between(page.read_text(), _ROOMS, rooms_list())


def between(text: str, marks: tuple[str, str], block: str) -> str:
    """Return `text` with `block` between the two marks."""
    before, _, rest = text.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    return f"{before}{marks[0]}\n\n{block}\n\n{marks[1]}{after}"


# docs/keys.md


def keys_page() -> str:
    """Return the page of keys."""
    parts = ["# Keys", _MADE, _KEYS_INTRODUCTION]
    named = dict.fromkeys(key.plugin for key in CATALOGUE)
    adding = {name: find_plugin(name).adds for name in builtin_names()}
    for plugin in (*named, *(name for name, adds in adding.items() if adds and name not in named)):
        parts += [f"## {plugin}", _key_table((*published_by(plugin), *adding.get(plugin, ())))]
        if plugin == "NFLOG":
            parts += ["## PCAPFILE", textwrap.fill(f"{_PCAPFILE_KEYS} {_quoted(sorted(NOT_IN_CAPTURES))}.", 120)]
    return "\n\n".join(parts) + "\n"


def _key_table(keys: Iterable[Key]) -> str:
    def ipfix(key: Key) -> str:
        return "" if key.ipfix is None else "/".join(map(str, key.ipfix))

    rows = [
        (
            f"`{key.name}`{'' if key.since == 'ulogd2' else ' †'}",
            key.type,
            key.meaning,
            key.valid.text,
            key.cim,
            ipfix(key),
        )
        for key in keys
    ]
    return _table(("Key", "Type", "Meaning", "Holds where", "JSON", "IPFIX"), rows)


# nflowlevel/records/attributes.py


def attributes_module() -> str:
    """Return the module of a packet's attributes."""
    names = [*PACKET.terms, *PACKET.cim, *PACKET.by_name]
    return _ATTRIBUTES_HEAD + "".join(_attribute(PACKET.names, name) for name in names)


def _attribute(table: Names, name: str) -> str:
    """Return the property for one name of a key."""
    found = table.find(name)
    keys = [table.keys[key] for key in table.keys_of(name)]
    types = {_TYPES.get(key.kind, "str") for key in keys}
    assert len(types) == 1, f"{name}: keys of one name have one type, not {types}"
    always = all(key.valid is PacketCondition.ALWAYS for key in keys)
    if len(keys) == 1:
        text = f"{keys[0].meaning} Key: `{keys[0].name}`"
    else:
        text = f"Whichever holds of {', '.join(key.name for key in keys)}"
    text += "." if always else "; None where it does not hold."
    doc = textwrap.indent("\n".join(textwrap.wrap(f'"""{text}', 109)), " " * 8)
    doc += '"""' if "\n" not in doc else f'\n{" " * 8}"""'
    return f"""
    @property
    def {name.replace(".", "_")}(self) -> {types.pop()}{"" if always else " | None"}:
{doc}
        try:
            return self._batch._cache["{found}"][self._row]
        except KeyError:
            return self._batch.values("{found}")[self._row]
"""


# docs/plugins.md


def plugins_page() -> str:
    """Return the page of plugins."""
    rooms = {"Inputs": inputs.NAMES, "Filters": filters.NAMES, "Outputs": outputs.NAMES}
    parts = ["# Plugins", _MADE, _PLUGINS_INTRODUCTION, _option_table(describe(GlobalOptions))]
    for room, names in rooms.items():
        parts.append(f"## {room}")
        for name in names:
            parts += _plugin(find_plugin(name))
    parts += _prefilter()
    parts += ["## Counters", "What the status says: at SIGUSR1, in the log every `status_secs`, in `systemctl status`."]
    for counters, plugins in _counted_by().items():
        parts.append(f"{', '.join(plugins)}: {_lower_first(inspect.cleandoc(counters.__doc__ or ''))}")
        if counters is GroupStats:
            parts.append("`received + gap` is what the rule counted.")
        if counters is OutputStats:
            parts.append("`records = written + pending + dropped` at every moment.")
        parts.append(
            _table(
                ("Counter", "Unit", "Meaning"), [(f"`{n}`", c.unit, c.meaning) for n, c in counters.declared.items()]
            )
        )
        if issubclass(counters, OutputStats):
            reasons = [(f"`{name}`", meaning) for name, meaning in counters.reasons.items()]
            parts += ["Why it drops a record:", _table(("Reason", "Meaning"), reasons)]
    return "\n\n".join(parts) + "\n"


def _prefilter() -> list[str]:
    """The sections that are no plugin's."""
    text = inspect.cleandoc(prefilters.__doc__ or "")
    return ["## [prefilter…]", text, "Options:", _option_table(describe(prefilters.SectionOptions))]


def _plugin(plugin: type[AnyPlugin]) -> list[str]:
    parts = [f"### {plugin.name}", page(plugin)]
    options = describe(plugin.Options)
    parts.append(_option_table(options) if options else "No options; it needs no section.")
    if plugin.consumes == ANY_KEYS:
        parts.append("Takes every key that the plugins before it publish.")
    elif plugin.consumes:
        needed = _quoted(name for name in plugin.consumes if not name.startswith("["))
        optional = _quoted(name.strip("[]") for name in plugin.consumes if name.startswith("["))
        parts += [f"Needs {needed}."] * bool(needed) + [f"Reads, where it is there, {optional}."] * bool(optional)
    names = [key.name for key in (*published_by(plugin.name), *plugin.adds)]
    if len(names) > _LONGEST_LIST:
        parts.append(f"Publishes [{len(names)} keys](keys.md#{plugin.name.lower()}).")
    elif names:
        parts.append(f"Publishes {_quoted(names)}.")
    return parts


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _option_table(options: Iterable[OptionDoc]) -> str:
    def default(option: OptionDoc) -> str:
        return "mandatory" if option.mandatory else f"`{option.default}`" if option.default else "empty"

    rows = [(f"`{o.name}`", o.type, default(o), o.description + _allowed(o)) for o in options]
    return _table(("Option", "Type", "Default", "Meaning"), rows)


def _allowed(option: OptionDoc) -> str:
    """What the type and the description leave open."""
    obvious = option.allowed.startswith(("0, 1, no", "a whole number", "at least 0", "at least 1 character"))
    return "" if obvious or not option.allowed else f" ({option.allowed})"


def _counted_by() -> dict[type[Counters], list[str]]:
    """Return the counters there are, and the plugins that count with them."""
    found: dict[type[Counters], list[str]] = {}
    for name in (*inputs.NAMES, *outputs.NAMES):
        plugin: Any = find_plugin(name)
        # The bases of plugin/ make what `Stats` says.
        counters = getattr(plugin, "Stats", None) or get_type_hints(plugin.stats.fget)["return"]
        found.setdefault(counters, []).append(name)
    return found


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


# examples/nflowlevel.conf


def example_config() -> str:
    """Return a configuration with every option there is, at its default."""
    lines = [
        "# Every option of every plugin, at its default. Made by `make docs` from the code.",
        "# As it stands it runs one stack, which reads group 1. A shorter file to begin with is ulogd.conf.",
        "",
        "[global]",
        *_option_lines(describe(GlobalOptions)),
        "",
        "# Input, filters, output. Each item is id:PLUGIN, the section [id] has the options.",
        "stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,json1:JSON",
    ]
    ids = {"NFLOG": "log1", "JSON": "json1"}
    others = [name for name in inputs.NAMES if name not in ids]
    decode = {"raw": "base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,"}
    lines += [f"#stack={name.lower()}1:{name},{decode.get(_provides(name), '')}json1:JSON" for name in others]
    for name in builtin_names():
        plugin = find_plugin(name)
        options = describe(plugin.Options)
        if options:
            lines += [
                "",
                f"# {page(plugin).splitlines()[0]}",
                f"[{ids.get(name, name.lower() + '1')}]",
                *_option_lines(options, name),
            ]
    lines += ["", "# A BPF prefilter, loaded before the stacks start; docs/prefilter.md.", "#[prefilter1]"]
    lines += _option_lines(describe(prefilters.SectionOptions))
    return "\n".join(lines) + "\n"


def _provides(name: str) -> str:
    plugin = find_plugin(name)
    assert issubclass(plugin, Input)
    return plugin.provides


def _option_lines(options: Iterable[OptionDoc], plugin: str = "") -> Iterator[str]:
    for option in options:
        yield from textwrap.wrap(
            option.description + _allowed(option), 110, initial_indent="# ", subsequent_indent="# "
        )
        chosen = _EXAMPLE_VALUES.get(f"{plugin}.{option.name}") or _EXAMPLE_VALUES.get(option.name)
        value = chosen or option.default or ""
        shown = value if value.isalnum() else f'"{value}"'
        yield f"{'' if option.mandatory or chosen else '#'}{option.name}={shown}"


# docs/from-ulogd2.md


def plugins_here_and_not() -> str:
    """Return what became of each plugin of ulogd2."""
    here = [name for name in ULOGD2_NAMES if name in builtin_names()]
    new = [name for name in builtin_names() if name not in ULOGD2_NAMES]
    absent = [name for name in ULOGD2_NAMES if name not in here]
    parts = [f"Here, with all their options and keys: {_quoted(here)}."]
    parts += [f"New: {_quoted(new)}."] * bool(new)
    parts.append(f"Not here, so that a stack with one of them is refused: {_quoted(absent)}.")
    return "\n\n".join("\n".join(textwrap.wrap(part, 118)) for part in parts)


def differences_table() -> str:
    """Return the table of differences in records, as the tests hold it."""
    members: dict[tuple[str, str, str], list[str]] = {}
    for entry in DIFFERENCES:
        members.setdefault((entry.id, entry.written, entry.reason), []).extend(entry.members)
    by = {"us": "us only", "them": "ulogd2 only", "both": "both, with other values"}
    rows = [(id_, _members(names), by[written], reason) for (id_, written, reason), names in members.items()]
    return _table(("", "Members", "Written by", "Reason"), rows)


def _members(prefixes: Iterable[str]) -> str:
    """Name the members that begin so; those of all transport protocols in one word."""
    names = list(dict.fromkeys(prefixes))
    transport = [name for name in names if name.split(".")[0] in _TRANSPORT or name in ("src_port", "dest_port")]
    if len(transport) <= len(_TRANSPORT):
        transport = []
    shown = [f"`{name}…`" if name[-1] == "." else f"`{name}`" for name in names if name not in transport]
    return ", ".join([*shown, "those of the transport protocol"] if transport else shown)


# docs/filters.md


def fields_table(names: Names = PACKET_NAMES) -> str:
    """Return the fields that a filter may look at."""
    called: dict[str, list[str]] = {}
    types: dict[str, str] = {}
    for name in (*names.keys, *sorted(names.joined), *TERMS):
        try:
            field = field_of(name, names)
        except TypeError:
            continue  # bytes
        types[field.name] = field.type
        if name not in (field.name, field.name.replace(".", "_")):
            called.setdefault(field.name, []).append(name)
    rows = [
        (f"`{name}`", type_, _quoted(called.get(name, ())), "yes" if predicate.has(name) else "")
        for name, type_ in types.items()
    ]
    return _table(("Field", "Type", "Also called", "Prefilter"), rows)


# docs/architecture.md


def rooms_list() -> str:
    """Return the rooms in the order that the tests demand, each with its charter and the names of its files."""
    lines = ["nflowlevel/"]
    for name in (room for room in ROOMS if not room.startswith("__")):
        folder = ROOT / "nflowlevel" / name
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        purpose = _first_sentence(ast.get_docstring(ast.parse(path.read_text())) or "")
        shown = f"{name}/" if folder.is_dir() else f"{name}.py"
        lines += textwrap.wrap(f"  {shown:<15}{purpose}", 118, subsequent_indent=" " * 17)
        files = " ".join(file.stem for file in sorted(folder.glob("*.py")) if file.stem != "__init__")
        lines += textwrap.wrap(files, 118, initial_indent=" " * 17, subsequent_indent=" " * 17)
    return "\n".join(["```", *lines, "```"])


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
