# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration grammar: what ulogd2 reads is read alike, what it loses in silence is said."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from nflowlevel.errors import ConfigError
from nflowlevel.options import ConfigErrors, Options, Value
from nflowlevel.stacks.config import (
    Config,
    GlobalOptions,
    PluginLine,
    Remark,
    StackItem,
    StackLine,
    parse,
    parse_all,
    parse_text,
)

GLOBAL = "[global]\nstack=log1:NFLOG,emu1:LOGEMU\n"

#: A file as distributions ship it: many sections, most of them for stacks that are commented out.
SHIPPED = """\
# Sample configuration in the manner of a distribution

[global]
######################################################################
# General
######################################################################

logfile="syslog"

# debug(1), info(3), notice(5), error(7), fatal(8)
loglevel=3

#plugin="/usr/lib/ulogd/ulogd_inppkt_NFLOG.so"

# packets as text
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU
#stack=ct1:NFCT,ip2str1:IP2STR,print1:PRINTFLOW,emu1:LOGEMU

[ct1]
#netlink_resync_timeout=60 # in seconds
#accept_src_filter=192.0.2.0/24,2001:db8::/64

[ct2]
hash_enable=0

[log1]
# the number behind --nflog-group
group=0

[log2]
group=1 # another than that of log1

[log3]
group=2 # yet another
numeric_label=1 # for dropped ones

[ulog1]
nlgroup=1

[nuauth1]
socket_path="/run/nuauth.sock"

[emu1]
file="/var/log/ulog/packets.log"
sync=1

[op1]
[gp1]
timestamp=1
[xml1]
directory="/var/log/ulog/"
[json1]
#device="the gate # 1"
[pcap1]
[mysql1]
db="packets"
pass="no secret"
[pgsql1]
#connstring="host=db.example dbname=packets"
[dbi1]
[sqlite3_ct]
[sqlite3_pkt]

[sys2]
facility=LOG_LOCAL2

[nacct1]
sync = 1

[mark1]
mark = 1

[acct1]
pollinterval = 2

[graphite1]
port="2003"
"""


class NFLOGOptions(Options, frozen=True, kw_only=True):
    group: Annotated[int, Meta(ge=0, le=65535)] = 0


class DatabaseOptions(Options, frozen=True, kw_only=True):
    db: str
    table: str


def section(body: str) -> dict[str, str]:
    """Return the values of a section with these lines."""
    config = parse_text(f"{GLOBAL}[log1]\n{body}\n")
    return {key: value.text for key, value in config.sections["log1"].values.items()}


def stack(line: str) -> list[StackItem]:
    """Return the items of the one stack that this [global] line defines."""
    config = parse_text(f"[global]\n{line}\n")
    assert not config.warnings
    return list(config.stacks[0].items)


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse_text(text, "u.conf")
    return [str(error) for error in caught.value.errors]


def section_errors(body: str) -> list[str]:
    """Return the errors in a section in use whose body begins in line 4."""
    return errors(f"{GLOBAL}[log1]\n{body}\n")


def warnings(text: str) -> list[str]:
    return [str(remark) for remark in parse_text(text, "u.conf").warnings]


# A whole file


def test_a_file_as_distributions_ship_it():
    config = parse_text(SHIPPED)
    assert config.warnings == ()
    assert config.errors == ()
    assert config.plugins == ()
    assert config.global_options == GlobalOptions(logfile="syslog", loglevel=3)
    text = "log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU"
    items = tuple(StackItem(*item.split(":")) for item in text.split(","))
    assert config.stacks == (StackLine(items, 16, text),)
    assert len(config.sections) == SHIPPED.count("\n[") == 24
    assert config.sections["log3"].values == {"group": Value("2", 34), "numeric_label": Value("1", 35)}
    assert config.sections["emu1"].line == 43
    assert config.sections["op1"].values == {}
    assert config.sections["sys2"].values["facility"].text == "LOG_LOCAL2"
    assert config.sections["nacct1"].values["sync"].text == "1"
    assert config.sections["mysql1"].values["pass"].text == "no secret"


@pytest.mark.skipif(not os.access("/etc/ulogd.conf", os.R_OK), reason="no /etc/ulogd.conf (package ulogd2) here")
def test_the_file_of_this_machine():
    assert parse("/etc/ulogd.conf").stacks


# Lines, words and quotes


@pytest.mark.parametrize(
    "line", ["key=value", "key = value", "key value", "key\tvalue", "  key==value", "=key = = value"]
)
def test_blanks_and_equals_signs_separate_alike(line: str):
    assert section(line) == {"key": "value"}


def test_carriage_returns_separate():
    config = parse_text("[global]\r\nstack=a:X,b:Y\r\nloglevel=3\r\n[a]\r\nk=v\r\n")
    assert config.stacks[0].items == (("a", "X"), ("b", "Y"))
    assert config.global_options.loglevel == 3
    assert config.sections["a"].values == {"k": Value("v", 5)}
    assert not config.warnings


@pytest.mark.parametrize("value", ["a b", "a=b", "#a", "a # b", "", "\t", "'", "a\\"])
def test_quotes_keep_everything(value: str):
    assert section(f'key="{value}"') == {"key": value}
    assert not warnings(f'{GLOBAL}[log1]\nkey="{value}"\n')


def test_keys_may_be_quoted():
    assert section('"key"=value') == {"key": "value"}


def test_quotes_inside_a_word_are_part_of_it():
    assert section('key=a"b') == {"key": 'a"b'}


def test_keys_are_case_sensitive():
    assert section("key=1\nKey=2") == {"key": "1", "Key": "2"}


def test_other_white_space_is_part_of_a_word():
    # str.splitlines and str.split know more of it than ulogd2.
    assert section("key=a\x0bb\x0cc\x1cd\x85e\u2028f\u00a0g") == {"key": "a\x0bb\x0cc\x1cd\x85e\u2028f\u00a0g"}


def test_a_comment_begins_in_the_first_column():
    assert section("# key=value\n#key=value\n#") == {}


def test_an_indented_comment_is_passed_over():
    assert section("   # key=value\n\t#[other]\nkey=1") == {"key": "1"}


@pytest.mark.parametrize(
    "line", ["key=value # why", "key=value\t#why", 'key="value" # why', 'key="value"#why', "key value #"]
)
def test_a_comment_behind_the_value(line: str):
    assert section(line) == {"key": "value"}
    assert not warnings(f"{GLOBAL}[log1]\n{line}\n")


def test_a_hash_without_a_blank_before_it_is_part_of_the_value():
    assert section("key=value#text") == {"key": "value#text"}
    assert section("key=#text") == {"key": "#text"}


@pytest.mark.parametrize("line", ["key=a b", "key=a=b", 'key="a"b', 'key="a" "b"', "key=a ="])
def test_other_text_behind_the_value_is_ignored_with_a_warning(line: str):
    assert section(line) == {"key": "a"}
    assert warnings(f"{GLOBAL}[log1]\n{line}\n") == [
        "u.conf:4: 'key': text after the value is ignored; put the whole value in double quotes if it is part of it"
    ]


def test_lines_of_any_length():
    long = "x" * 5000
    assert section(f"#{long}\nkey={long}") == {"key": long}
    items = [(f"instance_with_more_than_thirty_characters_{n}", "BASE") for n in range(100)]
    assert stack("stack=" + ",".join(map(":".join, items))) == items


def test_a_last_line_without_newline():
    config = parse_text(f"{GLOBAL}[log1]\ngroup=5")
    assert config.sections["log1"].values == {"group": Value("5", 4)}


def test_a_byte_order_mark_is_skipped():
    assert parse_text("\ufeff" + GLOBAL).stacks


@pytest.mark.parametrize("line", ["key", "key=", "key = \t", "=key=", '"key"'])
def test_an_option_without_value_is_an_error(line: str):
    assert section_errors(line) == ["u.conf:4: [log1]: 'key' has no value; write key=\"\" for an empty one"]


def test_a_comment_is_no_value():
    assert section_errors("key = # none") == [
        "u.conf:4: [log1]: 'key' has no value, because '#' after a blank begins a comment; "
        "quote the value if '#' is part of it"
    ]


@pytest.mark.parametrize("line", ['key="value', 'key="', '"key=value', 'key=  " # '])
def test_an_unterminated_quote_is_an_error(line: str):
    assert section_errors(line) == ["u.conf:4: [log1]: a double quote is not closed"]


def test_an_option_without_name_is_an_error():
    assert section_errors('""=5') == ["u.conf:4: [log1]: the name of the option is missing"]


def test_a_repeated_option_is_an_error_and_the_rest_is_read():
    text = "group=5\nkey=1\ngroup=5\nother"
    assert section_errors(text) == [
        "u.conf:6: [log1]: 'group' is set twice; it was first set in line 4",
        "u.conf:7: [log1]: 'other' has no value; write other=\"\" for an empty one",
    ]


def test_a_nul_byte_is_an_error_outside_of_comments():
    assert section_errors("key=a\0b") == ["u.conf:4: [log1]: has a NUL byte, so it is not text"]
    assert section("#\0\nkey=1 # \0") == {"key": "1"}


# Sections


@pytest.mark.parametrize(
    "header", ["[log1]", "[ log1 ]", "  [log1]", "\t[\tlog1\t]  ", "[[log1]]", '["log1"]', "[log1]# x", "[log1] # x"]
)
def test_section_headers(header: str):
    config = parse_text(f"{GLOBAL}{header}\nkey=1\n")
    assert config.sections["log1"] == ("log1", 3, {"key": Value("1", 4)}, ())
    assert not config.warnings


@pytest.mark.parametrize("header", ["[log1", "[ log1  ", "[log1 # x"])
def test_a_header_without_its_bracket_is_read_with_a_warning(header: str):
    text = f"{GLOBAL}{header}\nkey=1\n"
    assert parse_text(text).sections["log1"].values == {"key": Value("1", 4)}
    assert warnings(text) == ["u.conf:3: the section's name lacks the closing ']'"]


def test_text_behind_a_header_is_ignored_with_a_warning():
    text = f"{GLOBAL}[log1] group=5\n"
    assert parse_text(text).sections["log1"].values == {}
    assert warnings(text) == ["u.conf:3: text after the section's name is ignored"]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("[]", "it has no name"),
        ("[", "it has no name"),
        ("[ ]", "it has no name"),
        ("[log1 x]", "'log1 x' is not one word"),
    ],
)
def test_a_header_that_is_none_is_an_error(header: str, why: str):
    assert errors(f"{GLOBAL}{header}\nkey=1\n") == [f"u.conf:3: bad section header: {why}; write it as [name]"]


@pytest.mark.parametrize("header", ["emu1]", " emu1]  # text\r"])
def test_a_header_without_its_first_bracket(header: str) -> None:
    message = "bad section header: write it as [emu1]"
    assert errors(f"{GLOBAL}[log1]\n{header}\nkey=1\n") == [f"u.conf:4: {message}"]


def test_names_of_sections_are_case_sensitive():
    config = parse_text(f"{GLOBAL}[log1]\nk=1\n[LOG1]\nk=2\n")
    assert [config.sections[name].values["k"].text for name in ("log1", "LOG1")] == ["1", "2"]


def test_a_second_section_of_the_same_name_is_ignored_with_a_warning():
    text = f'{GLOBAL}[log1]\nkey=1\n[emu1]\n[log1]\nkey=2\nother="\n[emu2]\nkey=3\n'
    config = parse_text(text)
    assert config.sections["log1"].values == {"key": Value("1", 4)}
    assert config.sections["emu2"].values == {"key": Value("3", 10)}
    assert warnings(text) == ["u.conf:6: second section [log1]: ignored, the one in line 3 is read"]


def test_the_name_of_a_section_as_an_option_begins_no_section():
    assert section("emu1=2\nkey=1") == {"emu1": "2", "key": "1"}


def test_lines_before_the_first_section_are_ignored_with_one_warning():
    text = '# fine\nloglevel=3\nlogfile="\n' + GLOBAL
    assert parse_text(text).global_options.loglevel == 5
    assert warnings(text) == ["u.conf:2: stands before the first [section]: ignored"]


def test_errors_in_a_section_that_no_stack_uses_are_warnings():
    text = f"{GLOBAL}[log1]\ngroup=5\n[spare]\nkey\n"
    assert parse_text(text).sections["log1"].values
    assert warnings(text) == [
        "u.conf:6: [spare]: 'key' has no value; write key=\"\" for an empty one (no stack uses this section)"
    ]


def test_warnings_come_in_the_order_of_the_file():
    text = f"x\n{GLOBAL}[spare]\nkey\n[log1]\na=b c\n[log1]\n"
    assert [remark.line for remark in parse_text(text).warnings] == [1, 5, 7, 8]


# [global]


def test_global_defaults():
    assert parse_text(GLOBAL).global_options == GlobalOptions(logfile="", loglevel=5, status_secs=300)


def test_global_options():
    options = parse_text(GLOBAL + "logfile=/x y\nloglevel=0x7\nstatus_secs=0\n").global_options
    assert options == GlobalOptions(logfile="/x", loglevel=7, status_secs=0)


def test_wrong_global_options_are_errors():
    assert errors(GLOBAL + "loglevel=9\nstak=a:B\nlogfile=a\nlogfile=b\nstatus_secs=soon\n") == [
        "u.conf:3: [global]: loglevel=9: must be 1 to 8",
        "u.conf:4: [global]: unknown option 'stak' — did you mean 'stack'?",
        "u.conf:6: [global]: 'logfile' is set twice; it was first set in line 5",
        "u.conf:7: [global]: status_secs=soon: not a whole number; must be at least 0",
    ]


def test_no_global_section():
    assert errors("") == ["u.conf: there is no section [global], which holds the stack= lines"]
    assert errors("[Global]\nstack=a:B\n") == [
        "u.conf:1: there is no section [global], which holds the stack= lines; [Global] may be meant as that section"
    ]


def test_no_stack():
    assert errors("[log1]\n[global]\nloglevel=5\n") == [
        "u.conf:2: [global]: there is no stack= line, so there is nothing to do"
    ]


def test_plugin_lines_are_recorded_by_the_name_in_the_file_name():
    config = parse_text(
        'plugin=ignored\n[global]\nplugin="/usr/lib/ulogd/ulogd_inppkt_NFLOG.so"\nplugin=ulogd_raw2packet_BASE.so\n'
        "plugin=/opt/own/ulogd_output_MY_OWN.so\nstack=a:NFLOG,b:MY_OWN\nplugin=/opt/other.so\n"
    )
    assert config.plugins == (
        PluginLine("NFLOG", "/usr/lib/ulogd/ulogd_inppkt_NFLOG.so", 3),
        PluginLine("BASE", "ulogd_raw2packet_BASE.so", 4),
        PluginLine("MY_OWN", "/opt/own/ulogd_output_MY_OWN.so", 5),
        PluginLine("", "/opt/other.so", 7),
    )
    assert [remark.line for remark in config.warnings] == [1, 7]


@pytest.mark.parametrize("kind", ["inppkt", "inpflow", "filter", "output", "raw2packet"])
def test_every_kind_of_module_has_a_name(kind: str):
    assert parse_text(f"{GLOBAL}plugin=/x/ulogd_{kind}_NAME.so\n").plugins[0].name == "NAME"


# Stacks


@pytest.mark.parametrize(
    "line",
    [
        "stack=a:X,b:Y",
        "stack = a:X,b:Y",
        "stack=a:X, b:Y",
        "stack=a:X ,b:Y",
        "stack=a:X\t,\tb:Y",
        "stack=,a:X,,b:Y,",
        "stack=a:X, , b:Y",
        "stack=a:X, b:Y # why",
        "stack=a:X,b:Y, # why",
        'stack="a:X, b:Y"',
        'stack=" a:X,b : Y " # why',
    ],
)
def test_stack_lines(line: str):
    assert stack(line) == [("a", "X"), ("b", "Y")]


def test_several_stacks_keep_their_order_and_lines():
    config = parse_text("[global]\nstack=a:X,b:Y\n\nstack=a:X,c:Z\n")
    assert [(line.line, line.text) for line in config.stacks] == [(2, "a:X,b:Y"), (4, "a:X,c:Z")]


def test_a_quoted_instance_may_have_blanks_and_a_section():
    config = parse_text('[global]\nstack="my log:NFLOG,b:Y"\n["my log"]\ngroup=7\n')
    line = config.stacks[0]
    assert config.options(line, line.items[0], NFLOGOptions).group == 7


def test_text_behind_a_stack_is_ignored_with_a_warning():
    config = parse_text("[global]\nstack=a:X,b:Y and more\n")
    assert config.stacks[0].items == (("a", "X"), ("b", "Y"))
    assert [remark.line for remark in config.warnings] == [2]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("a:X,b", "'b' is not of the form id:PLUGIN"),
        ("a:X,:Y", "':Y' is not of the form id:PLUGIN"),
        ("a:X,b:", "'b:' is not of the form id:PLUGIN"),
        ("a:X, b : Y", "'b' is not of the form id:PLUGIN"),
        (",,", "it is empty; write it as id:PLUGIN,id:PLUGIN,…"),
        ('""', "it is empty; write it as id:PLUGIN,id:PLUGIN,…"),
        ('"a:X b:Y"', "'a:X b:Y' is more than one id:PLUGIN; put commas between them"),
        ("a:X:b:Y", "'a:X:b:Y' is more than one id:PLUGIN; put commas between them"),
    ],
)
def test_wrong_stacks_are_errors(value: str, why: str):
    assert errors(f"[global]\nstack={value}\n") == [f"u.conf:2: stack: {why}"]


def test_a_stack_without_value():
    assert errors("[global]\nstack=\n") == [
        "u.conf:2: [global]: 'stack' has no value; write stack=\"\" for an empty one"
    ]


# All that is wrong, or as much as will run


BROKEN = """\
[global]
stack=log1:NFLOG,emu1:LOGEMU
stack=nonsense
stack=log2:NFLOG,emu2:LOGEMU
[log1]
group=5
[log2]
group=
[log3 x]
"""


def test_all_errors_of_a_file_come_at_once():
    assert [error.split(":")[1] for error in errors(BROKEN)] == ["3", "8", "9"]
    with pytest.raises(ConfigError) as caught:
        parse_text(BROKEN, "u.conf")
    assert (caught.value.file, caught.value.line) == ("u.conf", 3)
    assert len(str(caught.value).splitlines()) == 3


def test_keep_going_leaves_an_error_to_the_stack_that_it_concerns():
    config = parse_text(BROKEN, "u.conf", keep_going=True)
    assert [error.line for error in config.errors] == [3, 9]
    first, second = config.stacks
    assert config.options(first, first.items[0], NFLOGOptions).group == 5
    with pytest.raises(ConfigErrors, match="'group' has no value"):
        config.options(second, second.items[0], NFLOGOptions)


def test_keep_going_needs_a_stack_and_a_sound_global_section():
    with pytest.raises(ConfigErrors) as caught:
        parse_text("[global]\nstack=nonsense\n", keep_going=True)
    assert caught.value.line == 2
    with pytest.raises(ConfigErrors) as caught:
        parse_text(GLOBAL + "loglevel=none\n[log1]\nk\n", keep_going=True)
    assert [error.line for error in caught.value.errors] == [3, 5]


# Options of an instance


def options_of(config: Config, number: int, options_type: type[Options]) -> Options:
    return config.options(config.stacks[0], config.stacks[0].items[number], options_type)


def test_options_of_an_instance():
    config = parse_text(GLOBAL + "[log1]\ngroup=010\n")
    assert options_of(config, 0, NFLOGOptions) == NFLOGOptions(group=8)


def test_wrong_options_name_place_instance_and_plugin():
    config = parse_text(GLOBAL + "[log1]\ngroup=70000\ngrop=1\n[emu1]\n", "u.conf")
    with pytest.raises(ConfigErrors) as caught:
        options_of(config, 0, NFLOGOptions)
    assert str(caught.value).splitlines() == [
        "u.conf:4: [log1] NFLOG: group=70000: must be 0 to 65535",
        "u.conf:5: [log1] NFLOG: unknown option 'grop' — did you mean 'group'?",
    ]
    with pytest.raises(ConfigErrors) as caught:
        options_of(config, 1, DatabaseOptions)
    assert str(caught.value).splitlines() == [
        "u.conf:6: [emu1] LOGEMU: db is mandatory",
        "u.conf:6: [emu1] LOGEMU: table is mandatory",
    ]


def test_lines_not_understood_and_wrong_options_come_together():
    config = parse_text(GLOBAL + "[log1]\ngroup=x\ngroup=5\n", "u.conf", keep_going=True)
    with pytest.raises(ConfigErrors) as caught:
        options_of(config, 0, NFLOGOptions)
    assert [error.line for error in caught.value.errors] == [4, 5]


def test_a_missing_section_is_an_error_at_the_stack():
    config = parse_text(GLOBAL + "[log2]\ngroup=5\n", "u.conf")
    with pytest.raises(ConfigErrors) as caught:
        options_of(config, 0, NFLOGOptions)
    assert str(caught.value) == (
        "u.conf:2: [log1] NFLOG: no such section; add it, even without options — did you mean 'log2'?"
    )


def test_a_plugin_without_options_needs_no_section():
    assert options_of(parse_text(GLOBAL), 0, Options) == Options()


def test_a_plugin_may_say_that_it_needs_no_section():
    class Syslog(Options, frozen=True, kw_only=True):
        section_optional = True
        level: str = "LOG_NOTICE"

    class Mandatory(DatabaseOptions, frozen=True, kw_only=True):
        section_optional = True

    config = parse_text(GLOBAL, "u.conf")
    assert options_of(config, 1, Syslog) == Syslog()
    with pytest.raises(ConfigErrors, match=r"u.conf:2: \[emu1\] LOGEMU: db is mandatory"):
        options_of(config, 1, Mandatory)


def test_a_section_of_a_plugin_without_options_may_not_set_any():
    config = parse_text(GLOBAL + "[log1]\ngroup=5\n", "u.conf")
    with pytest.raises(ConfigErrors, match="unknown option 'group'; it has no options"):
        options_of(config, 0, Options)


# Files


def test_parse_a_file(tmp_path: Path):
    path = tmp_path / "u.conf"
    path.write_text(GLOBAL)
    assert parse(path) == parse(str(path)) == parse_text(GLOBAL, str(path))
    assert parse(path).file == str(path)


def test_bytes_that_are_not_utf8_come_back_as_they_were(tmp_path: Path):
    path = tmp_path / "u.conf"
    path.write_bytes(GLOBAL.encode() + b"[emu1]\nfile=/tmp/\xe9t\xe9.log # caf\xe9\n")
    text = parse(path).sections["emu1"].values["file"].text
    assert os.fsencode(text) == b"/tmp/\xe9t\xe9.log"


def test_messages_about_such_bytes_can_be_printed(tmp_path: Path):
    path = tmp_path / "u.conf"
    path.write_bytes(GLOBAL.encode() + b"[log1]\n\xe9=1\n\xe9=2\n[\xe9]\n[\xe9]\n")
    with pytest.raises(ConfigErrors) as caught:
        parse(path)
    assert str(caught.value).encode().endswith(rb"'\udce9' is set twice; it was first set in line 4")


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(ConfigErrors) as caught:
        parse(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path}/none: cannot read the configuration: No such file or directory"
        " — name another with -c, or create it"
    )


def test_a_directory(tmp_path: Path):
    with pytest.raises(ConfigErrors, match="Is a directory — name a file in it"):
        parse(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "u.conf"
    path.write_text(GLOBAL)
    path.chmod(0)
    if os.geteuid() == 0:
        # Root reads everything; only the kernel's answer is played here.
        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigErrors, match=f"Permission denied — it must be readable for user id {os.geteuid()}"):
        parse(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0


def test_another_refusal_of_the_kernel(tmp_path: Path):
    path = tmp_path / "u.conf"
    path.write_text(GLOBAL)
    with pytest.raises(ConfigErrors, match=r"cannot read the configuration: Not a directory$"):
        parse(path / "x")


def test_a_file_without_end():
    with pytest.raises(ConfigErrors, match="/dev/zero: is too large"):
        parse("/dev/zero")


def test_a_pipe():
    reading, writing = os.pipe()
    os.write(writing, GLOBAL.encode())
    os.close(writing)
    assert parse(f"/dev/fd/{reading}").stacks
    os.close(reading)


# Any text

PIECES = [
    "[",
    "]",
    "=",
    " ",
    "\t",
    "\r",
    "\n",
    '"',
    "#",
    ",",
    ":",
    "\0",
    "global",
    "[global]\n",
    "stack=",
    "plugin",
    "a:X",
    "log1",
]
LIKE_A_FILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=3)).map("".join)


@given(LIKE_A_FILE, st.booleans())
def test_any_text_is_read_or_refused_with_a_line(text: str, keep_going: bool):
    lines = text.count("\n") + 1
    try:
        config = parse_text(text, "u.conf", keep_going=keep_going)
    except ConfigErrors as caught:
        for error in caught.errors:
            assert 1 <= error.line <= lines or (error.line == 0 and "no section [global]" in error.message)
            assert str(error).isprintable()
    else:
        assert config.stacks
        assert config.errors == () or keep_going
        assert all(1 <= remark.line <= lines and str(remark).isprintable() for remark in config.warnings)
        assert all(1 <= error.line <= lines and str(error).isprintable() for error in config.errors)


@given(st.binary())
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_bytes(GLOBAL.encode() + data)
    with contextlib.suppress(ConfigErrors):
        parse(path)


words = st.text(
    st.characters(exclude_characters=' \t\r\n="#[],:\0', exclude_categories=["Cs"]), min_size=1, max_size=12
)
quotable = st.text(st.characters(exclude_characters='\n"\0', exclude_categories=["Cs"]), max_size=20)
contents = st.dictionaries(words.filter(lambda name: name != "global"), st.dictionaries(words, quotable), max_size=5)
equals = st.sampled_from(["=", " = ", " ", "\t=", "= "])
ends = st.sampled_from(["", " ", " # comment", "\r", "\t#"])


@given(contents, st.lists(st.tuples(words, words), min_size=1, max_size=6), st.data())
def test_what_is_written_is_read(written: dict[str, dict[str, str]], items: list[tuple[str, str]], data: st.DataObject):
    comma = data.draw(st.sampled_from([",", ", ", " ,", ",,"]))
    lines = ["[global]", f"stack={comma.join(map(':'.join, items))}{data.draw(ends)}"]
    for name, values in written.items():
        lines += ["", "# comment", f"[{name}]"]
        lines += [f'{key}{data.draw(equals)}"{value}"{data.draw(ends)}' for key, value in values.items()]
    config = parse_text("\n".join(lines))
    assert config.warnings == ()
    assert config.stacks[0].items == tuple(items)
    read = {name: section for name, section in config.sections.items() if name != "global"}
    assert {name: {k: v.text for k, v in section.values.items()} for name, section in read.items()} == written
    for section in read.values():
        assert lines[section.line - 1] == f"[{section.name}]"
        assert all(lines[value.line - 1].startswith(key) for key, value in section.values.items())


def test_a_remark_says_where():
    assert f"{Remark('why', 'u.conf', 3)}" == "u.conf:3: why"


# Files that are none of ours


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_said(tmp_path: Path, encoding: str):
    file = tmp_path / "u.conf"
    file.write_bytes(GLOBAL.encode(encoding))
    for read in (parse, parse_all):
        with pytest.raises(ConfigErrors) as caught:
            read(file)
        assert str(caught.value) == f"{file}: is UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"


def test_lines_that_end_with_cr_alone_are_said():
    assert errors(GLOBAL.replace("\n", "\r")) == [
        r"u.conf:1: its lines end with CR alone, so it is one long line; convert it: tr '\r' '\n' < FILE"
    ]
    assert errors("[global]\r") == ["u.conf:1: [global]: there is no stack= line, so there is nothing to do"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("root:x:0:0::/root:/bin/sh\n" * 50, "u.conf: there is no section [global], which holds the stack= lines"),
        (
            "\x7fELF\x02\x01\0\0\n[]\n[x y]\n\0=\0\n",
            "u.conf: there is no section [global], which holds the stack= line",
        ),
        ('{\n"a": [\n[\n[]\n]\n]\n}\n', "u.conf: there is no section [global], which holds the stack= lines"),
        ("#!/bin/sh\nif [ -e x ]\nthen\n  [ -z y ] || z\nfi\n", "u.conf: there is no section [global], which holds"),
        (
            "[global]\nworkgroup = HOME\nserver role =\nmap to guest = x\nusershare\n[homes]\nbrowseable\n[a b]\n",
            "u.conf:1: is a configuration of another program: [global] has no stack= line, and no option known here",
        ),
    ],
)
def test_what_is_no_configuration_at_all_is_one_error(tmp_path: Path, text: str, said: str):
    (only,) = errors(text)
    assert only.startswith(said)
    file = tmp_path / "u.conf"
    file.write_text(text)
    with pytest.raises(ConfigErrors) as caught:
        parse_all(file)
    assert len(caught.value.errors) == 1


# Sections that no stack uses


def unused(text: str) -> list[str]:
    """Return what is said about the sections of a configuration that is otherwise right."""
    config = parse_text(text, "u.conf")
    config.look_for_unused()
    config.look_for_unused()  # nothing is said twice
    return [str(remark) for remark in config.remarks]


def test_a_section_that_no_stack_uses_is_named_with_what_may_be_meant():
    text = "[global]\nstack=log1:NFLOG,m:MARK,json1:JSON\n[log1]\n[json1]\n[jsn1]\n[prefilter1]\n[M]\n"
    assert unused(text) == [
        "u.conf:5: no stack uses the section [jsn1] — did you mean 'json1'?",
        "u.conf:7: no stack uses the section [M] — did you mean 'm'?",
    ]


def test_sections_that_wait_for_a_stack_are_told_in_one_line():
    text = "[global]\nstack=log1:NFLOG,emu1:LOGEMU\n[log1]\n[emu1]\n[log2]\n[log3]\n[xml1]\n"
    assert unused(text) == ["u.conf:5: no stack uses these sections: [log2], [log3], [xml1]"]


def test_a_number_may_be_meant_where_the_section_is_missing():
    assert unused("[global]\nstack=log1:NFLOG,mark1:MARK,j:JSON\n[log1]\n[j]\n[mark2]\n") == [
        "u.conf:5: no stack uses the section [mark2] — did you mean 'mark1'?"
    ]


@pytest.mark.parametrize("comment", ["#stack=xml1:XML", "# stack = a:NFLOG, xml1:XML", '##stack="xml1:XML,b:C"'])
def test_sections_of_a_stack_that_is_commented_out_are_silent(comment: str):
    assert unused(f"{GLOBAL}{comment}\n[log1]\n[emu1]\n[xml1]\n") == []


@pytest.mark.skipif(not os.access("/etc/ulogd.conf", os.R_OK), reason="no /etc/ulogd.conf (package ulogd2) here")
def test_the_file_of_this_machine_gets_a_line_at_most():
    config = parse("/etc/ulogd.conf")
    config.look_for_unused()
    assert len(config.remarks) <= 1
