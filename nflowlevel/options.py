# SPDX-License-Identifier: GPL-2.0-or-later
"""Typed options: the text of a configuration becomes a checked `Struct`, and the `Struct` its own documentation.

An option is declared once, as a field of the plugin's `Options`. Its name is the field's (or the field's `name=`, for
words such as `pass` that Python keeps for itself), its type says how text is read, its `Meta` what is allowed and what
it means; a field without a default is mandatory. A limit stands beside the type that it limits, so an optional number
is `Annotated[int, Meta(ge=0)] | None`. A rule between options is a `__post_init__` that raises ValueError.

`convert` finds every fault of a section before it gives up, so that one run of a check shows all there is to mend.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta, inspect

from nflowlevel.errors import ConfigError, choice, nearest
from nflowlevel.errors import printable as printable

_C_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLEANS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}

#: No number of 64 bits is longer, and Python refuses to read integers of thousands of digits.
_LONGEST_NUMBER = 24
_TOO_LONG = "more than 64 bits"


class Value(NamedTuple):
    """The text given for an option, and the line where it stands."""

    text: str
    line: int


_PORT = (
    "0*(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])|[!-~]*[A-Za-z][!-~]*"
)
#: The port of a peer: a number, or the name of a service in /etc/services. A number that is no port would be tried for
#: ever.
Port = Annotated[str, Meta(pattern=rf"\A(?:{_PORT})\Z", extra={"allowed": "1 to 65535 or the name of a service"})]
#: The same, or "" for the usual one.
PortOrNone = Annotated[
    str, Meta(pattern=rf"\A(?:{_PORT})?\Z", extra={"allowed": "1 to 65535, the name of a service or empty"})
]
#: Where an input reads.
NetnsPath = Annotated[str, Meta(description="Network namespace to read in: a path or a name; empty: the daemon's own.")]
#: A port that has to be a number; 0 for the usual one, or any that is free.
PortNumber = Annotated[int, Meta(ge=0, le=65535)]


#: `extra` of the Meta that has a `le`: a size or a time above it means "as much as possible", and the limit does that.
#: A number that would mean something else when cut, such as a group, has no such mark.
CLAMPED = {"clamped": True}
#: `extra` of the Meta of a file's mode: its default is shown as people write modes.
MODE = {"octal": True, "allowed": "0 to 0777"}
#: The longest time for an option in seconds: a year, the most that MySQL's drivers take.
MOST_SECS = 365 * 86400


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every plugin's options."""

    #: Whether a plugin that has options may be used without a section of its own. Where a forgotten or misspelt section
    #: would mean something else than was intended (group 0, a default file), it should not.
    section_optional: ClassVar[bool] = False


class OptionDoc(NamedTuple):
    """One option for people: `default` is as written in a configuration, None when there is none."""

    name: str
    type: str
    default: str | None
    mandatory: bool
    allowed: str
    description: str


class ConfigErrors(ConfigError):
    """Everything wrong in one section or file: `errors` has one ConfigError each, this one points to the first."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.message, file=first.file, line=first.line)

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


SomeOptions = TypeVar("SomeOptions", bound=Options)


def convert(
    options_type: type[SomeOptions],
    values: Mapping[str, Value],
    *,
    plugin: str,
    instance: str,
    file: str = "",
    line: int = 0,
    elsewhere: Collection[str] = (),
    historical: Mapping[str, str] = MappingProxyType({}),
    warn: Callable[[str, int], None] | None = None,
) -> SomeOptions:
    """Read the `values` of a section as `options_type`, or raise ConfigErrors with all that is wrong in them.

    `line` is where the section begins (or where the instance is named, if it has no section): the place of what is
    missing. `elsewhere` are names that are no options of this type but known, to be suggested for a misspelt one.
    With `warn`, which gets a message and its line, three things are no errors: a name in `historical`, which says what
    to write instead, a size above its limit (see `CLAMPED`), and a number above 1 for yes, as C has it.
    """
    fields = _fields(options_type)
    errors: list[ConfigError] = []
    given: dict[str, Any] = {}
    who = f"[{printable(instance)}] {printable(plugin)}".rstrip()

    def wrong(message: str, at: int) -> None:
        errors.append(ConfigError(f"{who}: {message}", file=file, line=at))

    for name, value in values.items():
        if name not in fields:
            if warn and name in historical:
                warn(
                    f"{who}: '{name}' has no effect, as in ulogd2; {historical[name]}",
                    value.line,
                )
            else:
                wrong(_unknown(name, [*fields, *elsewhere]), value.line)
            continue
        try:
            given[fields[name].attribute] = fields[name].read(value.text)
        except _Unfit as unfit:
            most = fields[name].clamped(value.text) if warn else None
            if warn and most is not None:
                given[fields[name].attribute] = most
                why = "means yes, as in ulogd2" if most is True else f"is too large, so {most} is used"
                warn(f"{who}: {name}={printable(value.text)} {why}; write {name}={int(most)}", value.line)
            else:
                wrong(f"{name}={printable(value.text)}: {unfit}", value.line)
    for name, field in fields.items():
        if field.mandatory and name not in values:
            wrong(f"{name} is mandatory" + (f": {field.description}" if field.description else ""), line)
    if not errors:
        try:
            return options_type(**given)
        except ValueError as unfit:
            wrong(str(unfit), line)
    raise ConfigErrors(errors)


def describe(options_type: type[Options]) -> list[OptionDoc]:
    """Return what there is to say about each option, in the order of declaration."""
    return [
        OptionDoc(
            name=name,
            type=_either(_KINDS[type(kind)].called(kind) for kind in field.kinds),
            default=None if field.default is None else field.shown(field.default),
            mandatory=field.mandatory,
            allowed=field.allowed,
            description=field.description,
        )
        for name, field in _fields(options_type).items()
    ]


def check_call(
    function: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Check what a function is to be called with, by its annotations, and return it in the types that these say.

    Checked are options (what stands behind a `*`) and all arguments whose types have limits. TypeError for an unknown
    option and for a value of another type, ValueError for a value that is not allowed.
    """
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    fields = arguments(function)
    refuse_unknown(function.__qualname__.removesuffix(".__init__"), given, function.__kwdefaults__ or {}, positional)
    taken = [
        fields[name].take(name, value) if name in fields else value
        for name, value in zip(positional, args, strict=False)
    ]
    options = {name: fields[name].take(name, value) if name in fields else value for name, value in given.items()}
    return [*taken, *args[len(positional) :]], options


def taken(options_type: type[Options], given: Mapping[str, object]) -> dict[str, object]:
    """Return options as a program gives them in their types; TypeError or ValueError where one must not be that."""
    fields = _fields(options_type)
    return {name: fields[name].take(name, value) for name, value in given.items()}


def refuse_unknown(called: str, given: Iterable[str], known: Iterable[str], other: Collection[str] = ()) -> None:
    """Raise TypeError for an option that is not among the known ones, nor among `other` arguments of what is called."""
    known = list(known)
    for name in given:
        if name not in known and name not in other:
            raise TypeError(f"{called}: unknown option '{printable(name)}'{choice(name, known)}")


@functools.cache
def arguments(function: Callable[..., Any]) -> dict[str, _Field]:
    """Return the arguments of a function that `check_call` checks, with what each may be (`taken`)."""
    defaults = function.__kwdefaults__ or {}
    hints = get_type_hints(function, include_extras=True)
    return {
        name: _field(name, annotation, defaults.get(name), mandatory=name not in defaults)
        for name, annotation in hints.items()
        if name in defaults or _has_limits(annotation)
    }


def _has_limits(annotation: object) -> bool:
    return hasattr(annotation, "__metadata__") or any(map(_has_limits, get_args(annotation)))


def as_text(value: object) -> str:
    """Return `value` as a configuration writes it (without quotes)."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


#: So many words a message lists; of more, it names the nearest.
_FEW_WORDS = 4


class _Unfit(Exception):
    """The text of an option is not what its type allows; says why."""


class _Field(NamedTuple):
    """What the declaration of one option says."""

    attribute: str
    annotation: Any
    kinds: tuple[inspect.Type, ...]
    mandatory: bool
    default: object
    description: str
    told: str
    clamps: bool
    octal: bool

    def shown(self, value: object) -> str:
        """Return a value of it as it is written in a configuration."""
        return f"{value:04o}" if self.octal else as_text(value)

    @property
    def allowed(self) -> str:
        """What may be given; a type that says it itself (`Meta(extra={"allowed": …})`) says it better."""
        return self.told or _either(filter(None, (_KINDS[type(kind)].allows(kind) for kind in self.kinds)))

    def clamped(self, text: str) -> int | None:
        """Return what may take the place of a whole number in `text`: the limit that it is above, or True."""
        if isinstance(self.kinds[0], inspect.BoolType):
            return True if _C_INTEGER.fullmatch(text) and text.strip("+-0xX") else None
        if not self.clamps or not _C_INTEGER.fullmatch(text) or text[0] == "-":
            return None
        most: int | None = next((kind.le for kind in self.kinds if isinstance(kind, inspect.IntType)), None)
        try:
            return most if most is not None and _read_int(self.kinds[0], text) > most else None
        except _Unfit as unfit:
            return most if str(unfit) == _TOO_LONG else None

    def read(self, text: str) -> object:
        """Return the value of `text` in the first of the option's types that takes it; msgspec checks the limits."""
        reasons = []
        for kind in self.kinds:
            try:
                return msgspec.convert(_KINDS[type(kind)].read(kind, text), self.annotation)
            except _Unfit as unfit:
                reasons.append(str(unfit))
            except msgspec.ValidationError:
                reasons.append("")
        words = self._words
        if len(words) > _FEW_WORDS and (hint := nearest(text, words) or nearest(text.upper(), words)):
            raise _Unfit(f"unknown{hint}")
        reason = reasons[0] if len(reasons) == 1 and reasons[0] != f"not {self.allowed}" else ""
        raise _Unfit(f"{reason}; must be {self.allowed}" if reason else f"must be {self.allowed}")

    def take(self, name: str, value: Any) -> object:
        """Return a value that a program gives for it; TypeError or ValueError where it must not be that."""
        for kind in self.kinds:
            if isinstance(kind, inspect.IntType) and not isinstance(value, bool) and hasattr(value, "__index__"):
                value = int(value)  # NumPy's
            elif isinstance(kind, inspect.StrType) and isinstance(value, os.PathLike):
                value = os.fspath(value)
        types = {type_ for kind in self.kinds for type_ in _KINDS[type(kind)].types(kind)}
        may_be = isinstance(value, tuple(types)) and (not isinstance(value, bool) or bool in types)
        try:
            if may_be or value is None:
                return msgspec.convert(value, self.annotation)
        except msgspec.ValidationError:
            pass
        if may_be and (words := self._words):
            raise ValueError(f"unknown {name} '{printable(str(value))}'{choice(str(value), words)}")
        error = ValueError if may_be else TypeError
        raise error(f"{name} must be {self.taken}, not {printable(repr(value))}")

    @property
    def _words(self) -> list[str]:
        """The words of which the value must be one, if it is a choice."""
        return [str(word) for kind in self.kinds if isinstance(kind, inspect.LiteralType) for word in kind.values]

    @property
    def taken(self) -> str:
        """What a program may give."""
        none = " or None" if _may_be_none(inspect.type_info(self.annotation)) else ""
        return (self.told or _either(_KINDS[type(kind)].takes(kind) for kind in self.kinds)) + none


@functools.cache
def _fields(options_type: type[Options]) -> dict[str, _Field]:
    fields = {}
    for info in msgspec.structs.fields(options_type):
        default = None if info.default is msgspec.NODEFAULT else info.default
        if info.default_factory is not msgspec.NODEFAULT:
            default = info.default_factory()
        try:
            fields[info.encode_name] = _field(info.name, info.type, default, mandatory=info.required)
        except TypeError as error:
            raise TypeError(f"{options_type.__name__}.{error}") from None
    return fields


def _field(name: str, annotation: Any, default: object, *, mandatory: bool) -> _Field:
    """Return what a declaration says; TypeError where an option cannot be that."""
    declared = inspect.type_info(annotation)
    # Every text is a string: where an option may also be something narrower, that is tried first.
    kinds = tuple(sorted(_members(declared), key=lambda kind: isinstance(kind, inspect.StrType)))
    for kind in kinds:
        if type(kind) not in _KINDS:
            raise TypeError(f"{name}: an option cannot be a {type(kind).__name__}")
    description, told = next(_descriptions(declared), ""), next(_told(declared), "")
    clamps, octal = _extra(declared, "clamped"), _extra(declared, "octal")
    return _Field(name, annotation, kinds, mandatory, default, description, told, clamps, octal)


def _may_be_none(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.Metadata):
        return _may_be_none(kind.type)
    members = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return any(isinstance(member, inspect.NoneType) for member in members)


def _members(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Yield the plain types that `kind` consists of; None, which no text stands for, is left out."""
    if isinstance(kind, inspect.Metadata):
        yield from _members(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _members(member)
    elif not isinstance(kind, inspect.NoneType):
        yield kind


def _descriptions(kind: inspect.Type) -> Iterator[str]:
    if isinstance(kind, inspect.Metadata):
        if kind.extra_json_schema and "description" in kind.extra_json_schema:
            yield kind.extra_json_schema["description"]
        yield from _descriptions(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _descriptions(member)


def _told(kind: inspect.Type) -> Iterator[str]:
    if isinstance(kind, inspect.Metadata):
        if kind.extra and "allowed" in kind.extra:
            yield kind.extra["allowed"]
        yield from _told(kind.type)


def _extra(kind: inspect.Type, name: str) -> bool:
    if isinstance(kind, inspect.Metadata):
        return bool(kind.extra and kind.extra.get(name)) or _extra(kind.type, name)
    return isinstance(kind, inspect.UnionType) and any(_extra(each, name) for each in kind.types)


def _unknown(name: str, known: list[str]) -> str:
    hint = choice(name, known) if known else "; it has no options"
    return f"unknown option '{printable(name)}'{hint}"


def _either(words: Iterable[str], last: str = "or") -> str:
    """Join `words`, each once, as in "tcp, udp or unix"."""
    distinct = list(dict.fromkeys(words))
    return f" {last} ".join(filter(None, [", ".join(distinct[:-1]), *distinct[-1:]]))


# How each type is read, and what is allowed in it


def _read_int(_: inspect.Type, text: str) -> int:
    if not _C_INTEGER.fullmatch(text):
        raise _Unfit("a leading 0 means octal" if re.fullmatch("[+-]?0[0-9]+", text) else "not a whole number")
    digits = text.lstrip("+-")
    octal = digits.isdecimal() and digits[0] == "0"
    number = int(digits, 8 if octal else 0) if len(text) <= _LONGEST_NUMBER else 2**64
    if number >= 2**64:
        raise _Unfit(_TOO_LONG)
    return -number if text[0] == "-" else number


def _read_float(_: inspect.Type, text: str) -> float:
    if not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
        raise _Unfit("not a number")
    return float(text)


def _read_bool(kind: inspect.Type, text: str) -> bool:
    if text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    number = _read_int(kind, text)
    if number not in (0, 1):
        raise _Unfit("")
    return bool(number)


def _read_literal(kind: Any, text: str) -> object:
    for value in kind.values:
        if text == value or (isinstance(value, str) and value.islower() and text.lower() == value):
            return value
        if isinstance(value, int) and _C_INTEGER.fullmatch(text) and _read_int(kind, text) == value:
            return value
    raise _Unfit("")


def _allowed_number(kind: Any) -> str:
    if kind.ge is not None and kind.le is not None:
        return f"{as_text(kind.ge)} to {as_text(kind.le)}"
    limits = {"at least": kind.ge, "more than": kind.gt, "at most": kind.le, "less than": kind.lt}
    words = [f"{word} {as_text(limit)}" for word, limit in limits.items() if limit is not None]
    if kind.multiple_of is not None:
        words.append(f"a multiple of {as_text(kind.multiple_of)}")
    return " and ".join(words) or ("a whole number" if isinstance(kind, inspect.IntType) else "a number")


def _allowed_str(kind: Any) -> str:
    limits = {"at least": kind.min_length, "at most": kind.max_length}
    words = [
        f"{word} {limit} character{'' if limit == 1 else 's'} long"
        for word, limit in limits.items()
        if limit is not None
    ]
    if kind.pattern is not None:
        words.append(f"text that matches {kind.pattern}")
    return " and ".join(words)


def _called_literal(kind: Any) -> str:
    return _either("string" if isinstance(value, str) else "int" for value in kind.values)


def _allowed_literal(kind: Any) -> str:
    return _either(map(as_text, kind.values))


def _taken_literal(kind: Any) -> str:
    return _either(map(repr, kind.values))


def _allowed_bool(_: inspect.Type) -> str:
    return "0, 1, no, yes, off, on, false or true"


def _taken_str(kind: Any) -> str:
    return _allowed_str(kind) or "a string"


class _Kind(NamedTuple):
    called: Callable[[Any], str]
    read: Callable[[Any, str], object]
    allows: Callable[[Any], str]
    types: Callable[[Any], Iterable[type]]
    """What a program gives."""
    takes: Callable[[Any], str]
    """What is allowed of that."""


_KINDS: dict[type, _Kind] = {
    inspect.IntType: _Kind(lambda _: "int", _read_int, _allowed_number, lambda _: (int,), _allowed_number),
    inspect.FloatType: _Kind(lambda _: "float", _read_float, _allowed_number, lambda _: (int, float), _allowed_number),
    inspect.BoolType: _Kind(lambda _: "bool", _read_bool, _allowed_bool, lambda _: (bool,), lambda _: "True or False"),
    inspect.LiteralType: _Kind(
        _called_literal, _read_literal, _allowed_literal, lambda kind: map(type, kind.values), _taken_literal
    ),
    inspect.StrType: _Kind(lambda _: "string", lambda _, text: text, _allowed_str, lambda _: (str,), _taken_str),
}
