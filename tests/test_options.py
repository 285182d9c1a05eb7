# SPDX-License-Identifier: GPL-2.0-or-later
"""Options: text to typed values, what is refused and how it is said, and what an option says about itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from nflowlevel.errors import ConfigError
from nflowlevel.options import (
    CLAMPED,
    MODE,
    ConfigErrors,
    OptionDoc,
    Options,
    Port,
    PortNumber,
    PortOrNone,
    Value,
    as_text,
    convert,
    describe,
    printable,
)


class Sample(Options, frozen=True, kw_only=True):
    group: Annotated[int, Meta(ge=0, le=65535, description="Group to read.")] = 0
    mark: int = 0
    bind: Annotated[bool, Meta(description="Become the logger.")] = False
    flush_secs: Annotated[float, Meta(ge=0)] = 1.0
    file: str = "/var/log/sample"
    mode: Annotated[Literal["file", "tcp", "udp"], Meta(description="Where to.")] = "file"
    facility: Literal["LOG_KERN", "LOG_USER"] = "LOG_KERN"
    limit: Annotated[int, Meta(ge=1, description="Most of them.")] | None = None
    password: Annotated[str, Meta(description="For the server.")] = msgspec.field(name="pass", default="")


class Needy(Options, frozen=True, kw_only=True):
    db: Annotated[str, Meta(description="Name of the database.")]
    table: str
    port: int = 5432


def read(options_type: type[Options] = Sample, /, **texts: str) -> Any:
    values = {name.rstrip("_"): Value(text, number) for number, (name, text) in enumerate(texts.items(), 11)}
    return convert(options_type, values, plugin="NFLOG", instance="log1", file="u.conf", line=10)


def refused(options_type: type[Options] = Sample, /, **texts: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read(options_type, **texts)
    return [str(error) for error in caught.value.errors]


def made(name: str, *fields: Any) -> type[Options]:
    return cast(type[Options], msgspec.defstruct(name, fields, bases=(Options,), frozen=True, kw_only=True))


def only(annotation: Any) -> type[Options]:
    """Return an Options type with the single option `x`."""
    return made("Only", ("x", annotation))


def test_defaults_without_values():
    assert read() == Sample()


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("12", 12), ("+12", 12), ("0x10", 16), ("0XfF", 255), ("010", 8), ("00", 0), ("-5", -5), ("-0x10", -16)],
)
def test_integers_in_c_notation(text: str, value: int):
    assert read(mark=text).mark == value


@pytest.mark.parametrize("text", ["", "abc", "1x", "0x", "1 2", "1_000", "--1", "1.5", "٣", "²", "0b1", "0o7"])
def test_what_is_no_integer_is_refused(text: str):
    assert refused(mark=text)[0].endswith(": must be a whole number")


def test_a_number_with_a_leading_zero_that_is_not_octal_says_why():
    assert refused(group="08") == ["u.conf:11: [log1] NFLOG: group=08: a leading 0 means octal; must be 0 to 65535"]


def test_limits_are_named_with_place_option_instance_and_plugin():
    assert refused(group="70000") == ["u.conf:11: [log1] NFLOG: group=70000: must be 0 to 65535"]
    assert refused(group="-1") == ["u.conf:11: [log1] NFLOG: group=-1: must be 0 to 65535"]
    assert read(group="65535").group == 65535


@pytest.mark.parametrize("text", [str(2**64), "-" + str(2**64), "0x1" + 16 * "0", "02" + 21 * "0", "9" * 5000])
def test_integers_that_no_c_type_holds_are_refused(text: str):
    assert refused(mark=text)[0].endswith(": more than 64 bits; must be a whole number")
    assert read(mark=str(2**64 - 1)).mark == 2**64 - 1
    assert read(mark="01" + 21 * "7").mark == 2**64 - 1


@pytest.mark.parametrize("text", ["1", "yes", "on", "true", "TRUE", "Yes", "0x1", "01"])
def test_true(text: str):
    assert read(bind=text).bind is True


@pytest.mark.parametrize("text", ["2", "128", "-1", "0x80", "9" * 30])
def test_a_number_in_a_configuration_that_means_yes_is_told(text: str):
    """As `sync=128` does in a configuration of PCAP that is in use."""
    values, told = {"bind": Value(text, 3)}, []
    options = convert(Sample, values, plugin="NFLOG", instance="log1", warn=lambda *each: told.append(each))
    assert options.bind is True
    assert told == [(f"[log1] NFLOG: bind={text} means yes, as in ulogd2; write bind=1", 3)]
    with pytest.raises(ConfigErrors, match="must be 0, 1"):
        convert(Sample, {"bind": Value("2x", 3)}, plugin="NFLOG", instance="log1", warn=lambda *_: None)


@pytest.mark.parametrize("text", ["0", "no", "off", "false", "Off", "00"])
def test_false(text: str):
    assert read(bind=text).bind is False


@pytest.mark.parametrize("text", ["2", "", "-1", "y", "maybe"])
def test_what_is_neither_true_nor_false_is_refused(text: str):
    assert "must be 0, 1, no, yes, off, on, false or true" in refused(bind=text)[0]


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1.5", 1.5), (".25", 0.25), ("2.", 2.0), ("1e3", 1000.0)])
def test_floats(text: str, value: float):
    flush_secs = read(flush_secs=text).flush_secs
    assert flush_secs == value
    assert isinstance(flush_secs, float)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e999", "1_0", "0x10", "-0.5", "."])
def test_what_is_no_float_or_too_small_is_refused(text: str):
    assert refused(flush_secs=text)[0].endswith("must be at least 0")


def test_strings_are_taken_as_they_are():
    assert read(file="").file == ""
    assert read(file=" a=b# ").file == " a=b# "
    assert read(file="caf\udce9").file == "caf\udce9"


def test_choices_declared_in_lower_case_are_taken_in_any():
    assert read(mode="UDP").mode == "udp"
    assert refused(mode="http") == ["u.conf:11: [log1] NFLOG: mode=http: must be file, tcp or udp"]


def test_choices_declared_otherwise_are_taken_exactly():
    assert read(facility="LOG_USER").facility == "LOG_USER"
    assert refused(facility="log_user") == ["u.conf:11: [log1] NFLOG: facility=log_user: must be LOG_KERN or LOG_USER"]


def test_choices_of_numbers():
    level = only(Literal[1, 3, 5])
    assert read(level, x="0x3").x == 3
    assert refused(level, x="4") == ["u.conf:11: [log1] NFLOG: x=4: must be 1, 3 or 5"]
    assert describe(level)[0].type == "int"


def test_optional_values_are_read_by_their_type():
    assert read().limit is None
    assert read(limit="3").limit == 3
    assert refused(limit="0") == ["u.conf:11: [log1] NFLOG: limit=0: must be at least 1"]
    assert refused(limit="") == ["u.conf:11: [log1] NFLOG: limit=: not a whole number; must be at least 1"]


def test_several_types_are_tried_narrowest_first():
    number_or_auto = only(Annotated[int, Meta(ge=1)] | Literal["auto"])
    assert read(number_or_auto, x="7").x == 7
    assert read(number_or_auto, x="AUTO").x == "auto"
    assert refused(number_or_auto, x="0") == ["u.conf:11: [log1] NFLOG: x=0: must be at least 1 or auto"]
    text_or_number = only(str | int)
    assert read(text_or_number, x="7").x == 7
    assert read(text_or_number, x="seven").x == "seven"


@pytest.mark.parametrize(
    ("annotation", "text", "allowed"),
    [
        (Annotated[int, Meta(gt=0)], "0", "more than 0"),
        (Annotated[int, Meta(le=9)], "10", "at most 9"),
        (Annotated[int, Meta(ge=2, lt=9)], "9", "at least 2 and less than 9"),
        (Annotated[int, Meta(ge=4, multiple_of=4)], "6", "at least 4 and a multiple of 4"),
        (Annotated[float, Meta(ge=0.5, le=2)], "3", "0.5 to 2"),
        (Annotated[str, Meta(min_length=1)], "", "at least 1 character long"),
        (Annotated[str, Meta(max_length=3)], "abcd", "at most 3 characters long"),
        (Annotated[str, Meta(pattern="^[a-z]+$")], "A", "text that matches ^[a-z]+$"),
    ],
)
def test_each_limit_is_checked_and_named(annotation: Any, text: str, allowed: str):
    assert refused(only(annotation), x=text) == [f"u.conf:11: [log1] NFLOG: x={text}: must be {allowed}"]
    assert describe(only(annotation))[0].allowed == allowed


class Ports(Options, frozen=True, kw_only=True):
    peer: Annotated[Port, Meta(description="Where to.")] = "80"
    usual: PortOrNone = ""
    own: PortNumber = 0


@pytest.mark.parametrize("text", ["1", "80", "0080", "59999", "64999", "65499", "65529", "65535", "http", "x11-1"])
def test_ports(text: str):
    ports = read(Ports, peer=text, usual=text, own="0")
    assert (ports.peer, ports.usual, ports.own) == (text, text, 0)
    assert read(Ports, usual="").usual == ""


@pytest.mark.parametrize("text", ["0", "00", "65536", "65540", "65600", "70000", "99999", "-1", "8.0", "a b", "٣"])
def test_what_is_no_port_is_refused(text: str):
    assert refused(Ports, peer=text, usual=text) == [
        f"u.conf:11: [log1] NFLOG: peer={text}: must be 1 to 65535 or the name of a service",
        f"u.conf:12: [log1] NFLOG: usual={text}: must be 1 to 65535, the name of a service or empty",
    ]


def test_a_port_that_has_to_be_there():
    assert refused(Ports, peer="")
    assert refused(Ports, own="http") == ["u.conf:11: [log1] NFLOG: own=http: not a whole number; must be 0 to 65535"]


def test_names_that_python_reserves():
    assert read(pass_="secret").password == "secret"
    assert refused(password="secret")[0].startswith("u.conf:11: [log1] NFLOG: unknown option 'password'")


def test_unknown_option_names_the_nearest():
    assert refused(grup="1") == ["u.conf:11: [log1] NFLOG: unknown option 'grup' — did you mean 'group'?"]
    assert refused(GROUP="1") == ["u.conf:11: [log1] NFLOG: unknown option 'GROUP' — did you mean 'group'?"]


def test_unknown_option_without_a_near_one_lists_all():
    assert refused(Needy, db="x", table="y", zzz="1") == [
        "u.conf:13: [log1] NFLOG: unknown option 'zzz'; available: db, table, port"
    ]
    assert refused(Options, zzz="1") == ["u.conf:11: [log1] NFLOG: unknown option 'zzz'; it has no options"]


def test_unknown_option_may_be_known_elsewhere():
    with pytest.raises(ConfigErrors, match="did you mean 'stack'"):
        convert(Sample, {"stak": Value("x", 3)}, plugin="", instance="global", elsewhere=("stack",))


def test_mandatory_options_are_reported_at_the_section():
    assert refused(Needy, port="1") == [
        "u.conf:10: [log1] NFLOG: db is mandatory: Name of the database.",
        "u.conf:10: [log1] NFLOG: table is mandatory",
    ]


def test_all_errors_of_a_section_at_once():
    with pytest.raises(ConfigErrors) as caught:
        read(group="x", bind="x", mark="1", nope="1")
    errors = caught.value
    assert [error.line for error in errors.errors] == [11, 12, 14]
    assert str(errors).splitlines() == [str(error) for error in errors.errors]
    assert (errors.file, errors.line, errors.message) == ("u.conf", 11, errors.errors[0].message)
    assert isinstance(errors, ConfigError)


def test_a_rule_between_options_is_an_error_of_the_section():
    class Buffers(Options, frozen=True, kw_only=True):
        size: int = 0
        maxsize: int = 0

        def __post_init__(self) -> None:
            if self.size > self.maxsize:
                raise ValueError("size is larger than maxsize")

    assert refused(Buffers, size="2", maxsize="1") == ["u.conf:10: [log1] NFLOG: size is larger than maxsize"]
    assert read(Buffers, size="1", maxsize="2").size == 1


def test_a_type_that_text_cannot_give_is_the_programmers_error():
    with pytest.raises(TypeError, match="x: an option cannot be a ListType"):
        describe(only(list[int]))


def test_an_error_without_a_plugin_names_the_section():
    with pytest.raises(ConfigErrors) as caught:
        convert(Sample, {"group": Value("x", 2)}, plugin="", instance="global", file="u.conf")
    assert str(caught.value) == "u.conf:2: [global]: group=x: not a whole number; must be 0 to 65535"


def test_messages_are_printable_whatever_the_text_holds():
    message = refused(group="\x1b[2J\udce9" + "x" * 200)[0]
    assert message.isprintable()
    assert r"group=\x1b[2J\udce9xxx" in message
    assert len(message) < 200
    assert printable("plain text") == "plain text"


def test_describe():
    booleans = "0, 1, no, yes, off, on, false or true"
    assert describe(Sample) == [
        OptionDoc("group", "int", "0", False, "0 to 65535", "Group to read."),
        OptionDoc("mark", "int", "0", False, "a whole number", ""),
        OptionDoc("bind", "bool", "0", False, booleans, "Become the logger."),
        OptionDoc("flush_secs", "float", "1", False, "at least 0", ""),
        OptionDoc("file", "string", "/var/log/sample", False, "", ""),
        OptionDoc("mode", "string", "file", False, "file, tcp or udp", "Where to."),
        OptionDoc("facility", "string", "LOG_KERN", False, "LOG_KERN or LOG_USER", ""),
        OptionDoc("limit", "int", None, False, "at least 1", "Most of them."),
        OptionDoc("pass", "string", "", False, "", "For the server."),
    ]
    assert [(option.name, option.mandatory, option.default) for option in describe(Needy)] == [
        ("db", True, None),
        ("table", True, None),
        ("port", False, "5432"),
    ]
    assert describe(Options) == []


def test_describe_a_default_that_is_made():
    here = made("Here", ("x", str, msgspec.field(default_factory=lambda: "here")))
    assert describe(here)[0].default == "here"
    assert read(here).x == "here"


def test_a_description_may_stand_with_one_of_several_types():
    inner = Annotated[int, Meta(ge=1, description="How many.")]
    assert describe(only(Annotated[inner | None, Meta(title="X")]))[0].description == "How many."


def test_options_are_inherited():
    class Output(Options, frozen=True, kw_only=True):
        when_full: Literal["drop", "block"] = "drop"

    class File(Output, frozen=True, kw_only=True):
        sync: bool = False

    assert [option.name for option in describe(File)] == ["when_full", "sync"]
    assert read(File, when_full="block", sync="1") == File(when_full="block", sync=True)


@given(st.integers(-(2**40), 2**40))
def test_every_integer_reads_back_in_each_notation(number: int):
    sign, size = "-" if number < 0 else "", abs(number)
    for text in (f"{number}", f"{sign}{size:#x}", f"{sign}0{size:o}"):
        assert read(mark=text).mark == number


@given(st.floats(0, allow_nan=False, allow_infinity=False))
def test_every_float_reads_back(number: float):
    assert read(flush_secs=as_text(number)).flush_secs == number


@given(st.dictionaries(st.sampled_from([option.name for option in describe(Sample)]) | st.text(), st.text()))
def test_any_text_is_read_or_refused_with_its_line(texts: dict[str, str]):
    values = {name: Value(text, number) for number, (name, text) in enumerate(texts.items(), 1)}
    try:
        options = convert(Sample, values, plugin="NFLOG", instance="log1", file="u.conf", line=99)
    except ConfigErrors as errors:
        for error in errors.errors:
            assert 1 <= error.line <= len(values)
            assert str(error).isprintable()
    else:
        assert 0 <= options.group <= 65535


# What is too large


class Sizes(Options, frozen=True, kw_only=True):
    size: Annotated[int, Meta(ge=0, le=131072, extra=CLAMPED)] = 0
    some: Annotated[int, Meta(ge=1, le=10, extra=CLAMPED)] | None = None
    group: Annotated[int, Meta(ge=0, le=65535)] = 0


def warned(text: str, name: str = "size") -> tuple[Sizes, list[tuple[str, int]]]:
    said: list[tuple[str, int]] = []
    options = convert(
        Sizes, {name: Value(text, 7)}, plugin="NFLOG", instance="g", warn=lambda *remark: said.append(remark)
    )
    return options, said


@pytest.mark.parametrize("text", ["160000", "0x7fffffff", "99999999999999999999999999999999", "18446744073709551616"])
def test_a_size_above_its_limit_is_the_limit_with_a_warning(text: str) -> None:
    said = f"[g] NFLOG: size={text} is too large, so 131072 is used; write size=131072"
    assert warned(text) == (Sizes(size=131072), [(said, 7)])


def test_a_size_that_may_be_absent_is_clamped_as_well() -> None:
    assert warned("11", "some")[0] == Sizes(some=10)


@pytest.mark.parametrize("text", ["131072", "0", "0x10"])
def test_a_size_within_its_limits_is_no_warning(text: str) -> None:
    assert warned(text) == (Sizes(size=int(text, 0)), [])


@pytest.mark.parametrize(
    ("name", "text"),
    [("size", "-1"), ("size", "1e9"), ("size", ""), ("group", "70000"), ("some", "0"), ("group", "-1")],
)
def test_what_would_mean_something_else_when_cut_is_an_error(name: str, text: str) -> None:
    with pytest.raises(ConfigErrors):
        warned(text, name)


def test_where_nobody_is_warned_it_is_an_error() -> None:
    with pytest.raises(ConfigErrors):
        convert(Sizes, {"size": Value("160000", 7)}, plugin="NFLOG", instance="g")
    with pytest.raises(ConfigErrors):
        convert(Sizes, {"old": Value("1", 7)}, plugin="NFLOG", instance="g", historical={"old": "new"})


class Moded(Options, frozen=True, kw_only=True):
    perms: Annotated[int, Meta(ge=0, le=0o777, extra=MODE)] = 0o60


def test_a_mode_is_shown_as_people_write_it():
    (option,) = describe(Moded)
    assert (option.default, option.allowed) == ("0060", "0 to 0777")
