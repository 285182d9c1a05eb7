# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration file: ulogd.conf's grammar, read once into sections and stacks, nothing guessed and nothing lost.

A file that ulogd2 runs is to run here unchanged, so what ulogd2 passes over in silence (text behind a value, a second
section of the same name, mistakes in a section that no stack uses) is a warning. What makes it do something else than
was written (an option without value that gets its own name as value, a repeated option that ends the section) is an
error with file and line. Which options a plugin has is not known here: `Config.options` joins a section with them.

Keys, section names and plugin names are case-sensitive. Words end at a blank, a tab, a carriage return or `=`; a word
in double quotes holds everything up to the next quote, and there is no escape for a quote.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from nflowlevel.errors import ConfigError, nearest
from nflowlevel.options import ConfigErrors, Options, SomeOptions, Value, convert, printable
from nflowlevel.stacks.historical import HISTORICAL

_BLANKS = " \t\r"
_SEPARATORS = _BLANKS + "="
_WORD = re.compile(r'"([^"]*)"|([^" \t\r=][^ \t\r=]*)')
#: An unquoted list of stack items goes on over blanks that stand before or behind a comma (ulogd2 cuts it there).
_STACK_WORDS = re.compile(r"([^ \t\r=]+(?:(?:(?<=,)[ \t\r]+|[ \t\r]+(?=,))(?!#)[^ \t\r=]+)*)")
_MODULE = re.compile(r"ulogd_(?:inppkt|inpflow|filter|output|raw2packet)_(.+)\.so")

#: The options of [global] that may stand there more than once.
_REPEATABLE = ("plugin", "stack")

#: Sections that are no plugin's but a BPF prefilter each.
_PREFILTER = re.compile("prefilter[A-Za-z0-9_-]*")

#: A stack that is commented out: its sections are kept for later.
_SPARE_STACK = re.compile(r"#[#\s]*stack\s*=(.*)")
_INSTANCE = re.compile(r"([^\s,:\"]+)\s*:")

#: A section header without its first bracket; a line of an option has a `=` or a blank.
_LOST_BRACKET = re.compile(r"[ \t]*([^\s\[\]=#\"]+)\][ \t]*(?:#.*)?\r?")

#: Text in UTF-16 without a mark: what people write begins with characters of one byte.
_NULS = re.compile(rb"(?:[\t-~]\0){4}|(?:\0[\t-~]){4}")
#: A carriage return that ends a line, as nothing else does in the file.
_LONE_RETURN = re.compile(r"\r[^\r]*[^\s]")

#: Where many names are alike by chance, as of sections: mark1 is not meant as mac2str1.
_SAME_NAME = 0.75

#: Nobody writes a longer configuration; a device such as /dev/zero has no end at all.
_LONGEST_FILE = 16 * 1024 * 1024
#: Nor so many plugins in one stack, or so many options in one section. Many stacks and many sections are all right.
_MOST_ITEMS = _MOST_OPTIONS = 1_000


class GlobalOptions(Options, frozen=True, kw_only=True):
    """Options of [global], besides `plugin=` and `stack=`."""

    logfile: Annotated[
        str,
        Meta(description="Target of the daemon's own messages: a file, 'stdout' or 'syslog'; empty: standard error."),
    ] = ""
    loglevel: Annotated[
        int,
        Meta(ge=1, le=8, description="Lowest level that is logged: 1 debug, 3 info, 5 notice, 7 error, 8 fatal."),
    ] = 5
    status_secs: Annotated[
        int,
        Meta(ge=0, description="Seconds between two lines of statistics in the log; 0: no such lines."),
    ] = 300


class StackItem(NamedTuple):
    """One item of a stack: an instance, and the plugin that it is of."""

    instance: str
    plugin: str


class StackLine(NamedTuple):
    """A `stack=` line: its items from source to sink, where it stands, and its value as written."""

    items: tuple[StackItem, ...]
    line: int
    text: str


class PluginLine(NamedTuple):
    """A `plugin=` line: the plugin's name as the file name tells it ("" if it does not), and the path as written."""

    name: str
    path: str
    line: int


class Section(NamedTuple):
    """A section: where its header stands, its values, and the lines in it that could not be understood."""

    name: str
    line: int
    values: dict[str, Value]
    errors: tuple[ConfigError, ...] = ()


class Remark(NamedTuple):
    """A warning: what is passed over, and where."""

    message: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration file as read. `errors` is only filled by `keep_going` and by `parse_all`."""

    file: str
    global_options: GlobalOptions
    stacks: tuple[StackLine, ...]
    sections: dict[str, Section]
    plugins: tuple[PluginLine, ...]
    warnings: tuple[Remark, ...]
    errors: tuple[ConfigError, ...]
    #: Those of `errors` that are section headers without a name.
    headers: tuple[ConfigError, ...] = ()
    #: Instances of stacks that are commented out.
    spare: frozenset[str] = frozenset()
    #: What is found out while plugins are joined with their sections, each once; see `remarks`.
    later: dict[Remark, None] = msgspec.field(default_factory=dict)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """All warnings: those of the grammar, and what `build` has found in options and sections by now."""
        return tuple(sorted((*self.warnings, *self.later), key=lambda remark: remark.line))

    def warn(self, message: str, line: int) -> None:
        """Add a warning to `remarks`."""
        self.later.setdefault(Remark(message, self.file, line))

    def look_for_unused(self) -> None:
        """Warn of sections that no stack uses, with the name that may be meant.

        Those of stacks that are commented out wait for them, and of those with mistakes the grammar has told already.
        """
        used = _instances(self.stacks)
        known = used | self.spare | {"global"} | _prefilters(self.sections, self.stacks)
        unused = [section for section in self.sections.values() if section.name not in known and not section.errors]
        lonely = []
        for section in unused:
            # [log2] beside [log1] is a spare; where there is no [log1] it may be meant as that.
            alike = [name for name in used if name not in self.sections or _letters(name) != _letters(section.name)]
            if hint := nearest(section.name, map(printable, sorted(alike)), _SAME_NAME):
                self.warn(f"no stack uses the section [{printable(section.name)}]{hint}", section.line)
            else:
                lonely.append(section)
        if lonely:
            names = ", ".join(f"[{printable(section.name)}]" for section in lonely)
            self.warn(f"no stack uses {'these sections:' if lonely[1:] else 'the section'} {names}", lonely[0].line)

    @property
    def prefilters(self) -> tuple[Section, ...]:
        """The sections of BPF prefilters: those of such a name that no stack uses."""
        names = _prefilters(self.sections, self.stacks)
        return tuple(section for name, section in self.sections.items() if name in names)

    def options(self, stack: StackLine, item: StackItem, options_type: type[SomeOptions]) -> SomeOptions:
        """Return the options of one `item` of a `stack`, or raise ConfigErrors with all that its section has wrong."""
        section = self.sections.get(item.instance)
        if section is None:
            self._check_not_needed(stack, item, options_type)
            section = Section(item.instance, stack.line, {})
        try:
            options = convert(
                options_type,
                section.values,
                plugin=item.plugin,
                instance=item.instance,
                file=self.file,
                line=section.line,
                historical=HISTORICAL,
                warn=self.warn,
            )
        except ConfigErrors as errors:
            raise _all([*section.errors, *errors.errors]) from None
        if section.errors:
            raise _all(section.errors)
        return options

    def _check_not_needed(self, stack: StackLine, item: StackItem, options_type: type[Options]) -> None:
        if options_type.section_optional or not options_type.__struct_fields__:
            return
        if self.headers:  # one of those may have been this section
            raise _all(self.headers)
        spare = set(self.sections) - _instances(self.stacks) - {"global"}
        message = (
            f"[{printable(item.instance)}] {printable(item.plugin)}: no such section; add it, "
            f"even without options{nearest(item.instance, map(printable, spare))}"
        )
        raise _all([ConfigError(message, file=self.file, line=stack.line)])


def parse(path: str | os.PathLike[str], *, keep_going: bool = False) -> Config:
    """Read a configuration file, or raise ConfigErrors with everything that is wrong in it.

    With `keep_going` an error that concerns one stack only does not take the others with it, as in ulogd2: bad `stack=`
    lines and section headers are reported in `Config.errors`, bad lines of a section by `Config.options`. Errors in
    [global], or no stack at all, are raised nevertheless.
    """
    file = os.fspath(path)
    return parse_text(_read(file), file, keep_going=keep_going)


def parse_all(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file and keep all that is wrong with it, so that `stacks.build` tells it with the rest.

    Raise ConfigErrors only where there is nothing to build: the file is unreadable, or it is no configuration.
    """
    file = os.fspath(path)
    return _parsed(_read(file), file)[0]


def _read(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            data = stream.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise _all([ConfigError(_unreadable(error), file=file)]) from error
    if len(data) > _LONGEST_FILE:
        raise _all([ConfigError("is too large for a configuration file", file=file)])
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or _NULS.match(data):
        raise _all([ConfigError("is UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)", file=file)])
    # Paths in the file are bytes to the kernel: surrogates give the very same bytes back when they are opened.
    return data.decode("utf-8", "surrogateescape")


def parse_text(text: str, file: str = "ulogd.conf", *, keep_going: bool = False) -> Config:
    """Read a configuration from `text`; `file` is the name that messages give it."""
    config, own = _parsed(text, file)
    if keep_going and own is not None:
        return msgspec.structs.replace(config, errors=own)
    if config.errors:
        raise _all(config.errors)
    return config


def _parsed(text: str, file: str) -> tuple[Config, tuple[ConfigError, ...] | None]:
    """Return what `text` says, with all errors in the file; and those that leave the other stacks alone.

    The latter is None where no stack can run. `Config.options` tells those of sections in use, so they are not in it.
    """
    if "\n" not in text and _LONE_RETURN.search(text):
        message = "its lines end with CR alone, so it is one long line; convert it: tr '\\r' '\\n' < FILE"
        raise _all([ConfigError(message, file=file, line=1)])
    reader = _Reader(file)
    sections = reader.sections(text.removeprefix("\ufeff"))
    stacks = reader.stacks()
    plugins = reader.plugins()
    global_options, fatal = _global_options(reader, sections)
    in_use = reader.errors_in_use(sections.values(), _instances(stacks) | _prefilters(sections, stacks))
    config = Config(
        file=file,
        global_options=global_options,
        stacks=tuple(stacks),
        sections=sections,
        plugins=tuple(plugins),
        warnings=tuple(sorted(reader.warnings, key=lambda remark: remark.line)),
        errors=_sorted([*fatal, *reader.errors, *reader.headers, *in_use]),
        headers=tuple(reader.headers),
        spare=frozenset(reader.spare),
    )
    return config, None if fatal or not stacks else _sorted([*reader.errors, *reader.headers])


class _Unclear(Exception):
    """A line does not follow the grammar; says why."""


class _Reader:
    """Reads a file's lines; gathers warnings, errors, and the options of [global] that may come many times."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.warnings: list[Remark] = []
        self.errors: list[ConfigError] = []
        self.repeated: dict[str, list[Value]] = {name: [] for name in _REPEATABLE}
        self.headers: list[ConfigError] = []
        self.spare: set[str] = set()

    def warn(self, message: str, line: int) -> None:
        self.warnings.append(Remark(message, self.file, line))

    def error(self, message: str, line: int) -> ConfigError:
        return ConfigError(message, file=self.file, line=line)

    def sections(self, text: str) -> dict[str, Section]:
        """Return the sections by name; only the first of a name counts, as ulogd2 looks no further."""
        found: dict[str, Section] = {}
        bodies: dict[str, list[tuple[int, str]]] = {}
        body: list[tuple[int, str]] | None = None
        for number, line in enumerate(text.split("\n"), 1):
            start = line.lstrip(_BLANKS)
            # A comment that is indented is none for ulogd2, but an unknown option, which it passes over.
            if not line.strip(_SEPARATORS) or start.startswith("#"):
                if found_spare := _SPARE_STACK.match(start):
                    self.spare |= set(_INSTANCE.findall(found_spare[1]))
                continue
            if start.startswith("["):
                name = self._header(start, number)
                body = []
                if name in found:
                    first = found[name].line
                    self.warn(f"second section [{printable(name)}]: ignored, the one in line {first} is read", number)
                elif name is not None:
                    found[name], bodies[name] = Section(name, number, {}), body
            elif lost := _LOST_BRACKET.fullmatch(line):
                self.headers.append(self.error(f"bad section header: write it as [{printable(lost[1])}]", number))
                body = []
            elif body is None:
                self.warn("stands before the first [section]: ignored", number)
                body = []
            else:
                body.append((number, line))
        return {name: self._section(section, bodies[name]) for name, section in found.items()}

    def _header(self, start: str, number: int) -> str | None:
        """Return the name in a section header, None if there is none."""
        inside, bracket, behind = start.lstrip(_BLANKS + "[").partition("]")
        if not bracket:
            inside = re.split(r"(?:^|[ \t\r])#", inside, maxsplit=1)[0]
            self.warn("the section's name lacks the closing ']'", number)
        elif behind.strip(_BLANKS + "]") and not behind.lstrip(_BLANKS).startswith("#"):
            self.warn("text after the section's name is ignored", number)
        quoted = re.fullmatch(r'"([^"]+)"', inside.strip(_BLANKS))
        words = [quoted[1]] if quoted else re.findall(r"[^ \t\r]+", inside)
        if len(words) != 1:
            why = f"'{printable(inside.strip(_BLANKS))}' is not one word" if words else "it has no name"
            self.headers.append(self.error(f"bad section header: {why}; write it as [name]", number))
        return words[0] if words else None

    def _section(self, section: Section, body: list[tuple[int, str]]) -> Section:
        """Return `section` with what the lines of its `body` say."""
        repeated = self.repeated if section.name == "global" else {}
        values: dict[str, Value] = {}
        errors = []
        for number, line in body:
            try:
                key, value, behind = _assignment(line, "stack" if repeated else "")
                # Many plugin= and stack= lines may have come into a section, by a header too early.
                if key in _REPEATABLE and key in values:
                    continue
                if key in values:
                    raise _Unclear(f"'{printable(key)}' is set twice; it was first set in line {values[key].line}")
            except _Unclear as unclear:
                errors.append(self.error(f"[{printable(section.name)}]: {unclear}", number))
                continue
            if behind:
                advice = "put the whole value in double quotes if it is part of it"
                self.warn(f"'{printable(key)}': text after the value is ignored; {advice}", number)
            if key in repeated:
                repeated[key].append(Value(value, number))
            elif len(values) >= _MOST_OPTIONS:
                message = f"[{printable(section.name)}]: more than {_MOST_OPTIONS} options; the rest is not read"
                errors.append(self.error(message, number))
                break
            else:
                values[key] = Value(value, number)
        return Section(section.name, section.line, values, tuple(errors))

    def stacks(self) -> list[StackLine]:
        """Return the stacks of the `stack=` lines; those that cannot be understood become errors."""
        stacks = []
        for text, line in self.repeated["stack"]:
            try:
                stacks.append(StackLine(_stack_items(text), line, text))
            except _Unclear as unclear:
                self.errors.append(self.error(f"stack: {unclear}", line))
        return stacks

    def plugins(self) -> list[PluginLine]:
        """Return the `plugin=` lines: ulogd2's modules are never loaded, their names are known here."""
        plugins = []
        for path, line in self.repeated["plugin"]:
            match = _MODULE.fullmatch(os.path.basename(path))
            if not match:
                self.warn(f"plugin='{printable(path, None)}' is not named like an ulogd2 module: ignored", line)
            plugins.append(PluginLine(match[1] if match else "", path, line))
        return plugins

    def errors_in_use(self, sections: Iterable[Section], used: set[str]) -> list[ConfigError]:
        """Return the errors of the plugins' sections; of those not in use, which ulogd2 never reads, make warnings."""
        in_use: list[ConfigError] = []
        for section in sections:
            if section.name == "global":
                continue
            if section.name in used:
                in_use.extend(section.errors)
            else:
                for error in section.errors:
                    self.warn(f"{error.message} (no stack uses this section)", error.line)
        return in_use


def _assignment(line: str, list_key: str) -> tuple[str, str, bool]:
    """Split `key=value` (also `key = value`, `key value`); the last tells whether more than a comment follows.

    The value of `list_key` may have blanks at its commas.
    """
    key, end = _word(line, len(line) - len(line.lstrip(_SEPARATORS)), _WORD)
    if not key:
        raise _Unclear("the name of the option is missing")
    start = len(line) - len(line[end:].lstrip(_SEPARATORS))
    if start == len(line):
        raise _Unclear(f"'{printable(key)}' has no value; write {printable(key)}=\"\" for an empty one")
    if line[start] == "#" and line[start - 1] in _BLANKS:
        raise _Unclear(
            f"'{printable(key)}' has no value, because '#' after a blank begins a comment; "
            "quote the value if '#' is part of it"
        )
    unquoted_list = key == list_key and line[start] != '"'
    value, end = _word(line, start, _STACK_WORDS if unquoted_list else _WORD)
    if "\0" in key + value:
        raise _Unclear("has a NUL byte, so it is not text")
    behind = line[end:].lstrip(_BLANKS)
    return key, value, bool(behind) and not behind.startswith("#")


def _word(line: str, start: int, pattern: re.Pattern[str]) -> tuple[str, int]:
    match = pattern.match(line, start)
    if not match:
        raise _Unclear("a double quote is not closed")
    return match[match.lastindex or 0], match.end()


def _stack_items(text: str) -> tuple[StackItem, ...]:
    items = []
    if (count := text.count(",") + 1) > _MOST_ITEMS:
        raise _Unclear(f"it has {count} plugins; the most is {_MOST_ITEMS}")
    for written in text.split(","):
        item = written.strip(_BLANKS)
        if not item:
            continue
        instance, colon, plugin = (part.strip(_BLANKS) for part in item.partition(":"))
        if not (colon and instance and plugin):
            raise _Unclear(f"'{printable(item)}' is not of the form id:PLUGIN")
        if re.search("[ \t\r:]", plugin):
            raise _Unclear(f"'{printable(item)}' is more than one id:PLUGIN; put commas between them")
        items.append(StackItem(instance, plugin))
    if not items:
        raise _Unclear("it is empty; write it as id:PLUGIN,id:PLUGIN,…")
    return tuple(items)


def _global_options(reader: _Reader, sections: dict[str, Section]) -> tuple[GlobalOptions, list[ConfigError]]:
    """Return the options of [global] (the defaults, if they are wrong) and what is wrong with that section.

    Raise ConfigErrors, with one error, where the file is nothing that is meant for us.
    """
    section = sections.get("global")
    if section is None:
        alike = next((s for s in sections.values() if nearest(s.name, ["global"])), None)
        hint = f"; [{printable(alike.name)}] may be meant as that section" if alike else ""
        message = f"there is no section [global], which holds the stack= lines{hint}"
        error = reader.error(message, alike.line if alike else 0)
        if not alike:
            raise _all([error])
        return GlobalOptions(), [error]
    known = (*GlobalOptions.__struct_fields__, *_REPEATABLE, *HISTORICAL)
    stack_lines, plugin_lines = reader.repeated["stack"], reader.repeated["plugin"]
    meant = sum(bool(nearest(name, known, _SAME_NAME)) for name in section.values)
    ours = stack_lines or plugin_lines or any(name in known for name in section.values)
    if not ours and 2 * meant < len(section.values):
        message = "is a configuration of another program: [global] has no stack= line, and no option known here"
        raise _all([reader.error(message, section.line)])
    errors = list(section.errors)
    options = GlobalOptions()
    try:
        options = convert(
            GlobalOptions,
            section.values,
            plugin="",
            instance="global",
            file=reader.file,
            line=section.line,
            elsewhere=_REPEATABLE,
            historical=HISTORICAL,
            warn=reader.warn,
        )
    except ConfigErrors as wrong:
        errors.extend(wrong.errors)
    if not stack_lines and not section.errors:
        errors.append(reader.error("[global]: there is no stack= line, so there is nothing to do", section.line))
    return options, errors


def _instances(stacks: Iterable[StackLine]) -> set[str]:
    return {item.instance for stack in stacks for item in stack.items}


def _prefilters(sections: Iterable[str], stacks: Iterable[StackLine]) -> set[str]:
    return {name for name in sections if _PREFILTER.fullmatch(name)} - _instances(stacks)


def _letters(name: str) -> str:
    return re.sub("[0-9]+", "", name)


def _sorted(errors: Iterable[ConfigError]) -> tuple[ConfigError, ...]:
    return tuple(sorted(errors, key=lambda error: error.line))


def _all(errors: Iterable[ConfigError]) -> ConfigErrors:
    return ConfigErrors(_sorted(errors))


def _unreadable(error: OSError) -> str:
    """Say why a file cannot be read, and what to do."""
    advice = {
        FileNotFoundError: "name another with -c, or create it",
        IsADirectoryError: "name a file in it",
        PermissionError: f"it must be readable for user id {os.geteuid()}",
    }.get(type(error), "")
    return f"cannot read the configuration: {error.strerror}" + (f" — {advice}" if advice else "")
