# SPDX-License-Identifier: GPL-2.0-or-later
"""The corpus of configurations: the files of tests/configurations, forms of one of them, and Debian's own.

A form changes how a configuration is written and not what it says. Some of them ulogd2 2.0.8 cannot read: it is given
the same configuration without that form, and `defect` says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.fix_world import TIMEZONE

_DIRECTORY = Path(__file__).parent / "configurations"
_DEBIAN = Path("/etc/ulogd.conf")
_EXAMPLES = Path(__file__).parent.parent / "examples"
#: Those that have nothing ulogd2 does not know.
_EXAMPLES_FOR_BOTH = ("ulogd.conf", "text-and-capture.conf", "syslog.conf")


@dataclass(frozen=True)
class Configuration:
    """A configuration; `for_ulogd2` is another text where 2.0.8 fails on it, with its `defect`."""

    name: str
    text: bytes
    for_ulogd2: bytes
    defect: str = ""
    timezone: str = TIMEZONE


_Form = Callable[[str], str]


def _pattern(pattern: str, new: str) -> _Form:
    return lambda text: re.sub(pattern, new, text, flags=re.MULTILINE)


def _each_value(form: str) -> _Form:
    """Write each assignment as `form`, in which KEY and VALUE stand; a value keeps its quotes."""

    def write(text: str) -> str:
        return re.sub(
            r"^(\w+)=(.+)$",
            lambda found: form.replace("KEY", found[1]).replace("VALUE", found[2]),
            text,
            flags=re.MULTILINE,
        )

    return write


def _with_modules(directory: str) -> _Form:
    """Name the modules as files of a directory, before the stack."""
    modules = ("inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR", "filter_HWHDR", "output_JSON")
    lines = "".join(f'plugin="{directory}/ulogd_{module}.so"\n' for module in modules)
    return lambda text: text.replace("stack=", lines + "stack=")


def _prepend(head: str) -> _Form:
    return lambda text: head + text


def _append(tail: str) -> _Form:
    return lambda text: text + tail


def _in_section(name: str, lines: str) -> _Form:
    return lambda text: text.replace(f"[{name}]\n", f"[{name}]\n{lines}")


def _with_long_names(text: str) -> str:
    """Name each filter so that the stack does not fit into the 253 characters of a line."""
    return re.sub(r"(base1|ifi1|ip2str1|mac2str1):", lambda found: found[1].ljust(60, "x") + ":", text)


_COMMENT = "# " + "what is logged here goes to the team that looks after the firewall " * 4

#: Name of the form: how the file is changed.
_FORMS: dict[str, _Form] = {
    "lines that end with CR LF": lambda text: text.replace("\n", "\r\n"),
    "blanks around equals": _each_value("KEY = VALUE"),
    "tabs around equals": _each_value("KEY\t=\tVALUE"),
    "without equals": _each_value("KEY VALUE"),
    "indented": _each_value("    KEY=VALUE"),
    "blanks behind": _each_value("KEY=VALUE  \t"),
    "comments behind values": _each_value("KEY=VALUE # as agreed"),
    "comments behind tabs": _each_value("KEY=VALUE\t\t# as agreed"),
    "indented comments": _pattern("^(?=[a-z])", "   # a word on the next line\n"),
    "without quotes": lambda text: text.replace('"', ""),
    "all in quotes": _pattern(r"^(\w+)=([^\"].*)$", r'\1="\2"'),
    "text behind quotes": _pattern('"$', r'"\\'),
    "blanks in headers": _pattern(r"^\[(\w+)\]$", r"[ \1 ]"),
    "indented headers": _pattern(r"^\[(\w+)\]$", r"  [\1]"),
    "comments behind headers": _pattern(r"^\[(\w+)\]$", r"[\1] # see below"),
    "empty lines": _pattern("$", "\n \t\n"),
    "group in hex": _pattern("^group=1$", "group=0x1"),
    "group in octal": _pattern("^group=1$", "group=01"),
    "section twice": _append("\n[log1]\ngroup=77\n"),
    "unused sections": _append("\n[emu1]\nfile=/var/log/emu.log\nsyslogsync=1\n[ulog1]\nnlgroup=1\n"),
    "text before the first section": _prepend("ulogd of the firewall\nlogfile=/nowhere\n\n"),
    "empty sections of filters": _append("\n[base1]\n\n[ifi1]\n\n[ip2str1]\n[mac2str1]\n"),
    "a stray character at the end": _append("\n[graphite1]\nhost=127.0.0.1\n\n'\n"),
    "sections before global": lambda text: text[text.index("[log1]") :] + text[: text.index("[log1]")],
    "options of ulogd 1 in global": _in_section("global", "nlgroup=1\nrmem=131071\nbufsize=150000\nuser=ulog\n"),
    "old options of the input": _in_section("log1", "bufsize=65535\nrmem=131071\nnlbufsiz=1048576\nsnaplen=65535\n"),
    "old options of the output": _in_section("json1", "buffer=200\nbuffer_size=4096\n"),
    "modules named behind the stack": _append('plugin="/usr/lib/ulogd/ulogd_output_JSON.so"\n'),
    "modules of i386": _with_modules("/usr/lib/i386-linux-gnu/ulogd"),
    "modules of armhf": _with_modules("/usr/lib/arm-linux-gnueabihf/ulogd"),
    "modules of arm64": _with_modules("/usr/lib/aarch64-linux-gnu/ulogd"),
    "modules of Fedora": _with_modules("/usr/lib64/ulogd"),
    "modules of OpenWrt": _with_modules("/usr/lib/ulogd"),
    "modules of a build": _with_modules("/usr/local/lib/ulogd"),
    "UTC": lambda text: text,
}

#: Forms that ulogd2 does not read: how the file is changed, and the defect. It is given the file as it was.
_NOT_FOR_ULOGD2: dict[str, tuple[_Form, str]] = {
    "no newline at the end": (lambda text: text.removesuffix("\n"), "D-C06"),
    "byte order mark": (_prepend("\ufeff"), "the mark hides the first line, so there is no [global]"),
    "long comments": (_in_section("log1", f"{_COMMENT}\ngroup=1 {_COMMENT}\n#"), "D-C07"),
    "blanks in the stack": (lambda text: text.replace(",", ", "), "D-C15"),
    "a long stack": (_with_long_names, "D-C08"),
}


def _files() -> list[Configuration]:
    return [
        Configuration(path.stem, path.read_bytes(), path.read_bytes()) for path in sorted(_DIRECTORY.glob("*.conf"))
    ]


def _formed() -> list[Configuration]:
    plain = (_DIRECTORY / "plain-json.conf").read_text()
    made = []
    for name, form in _FORMS.items():
        text = form(plain).encode()
        made.append(Configuration(f"form: {name}", text, text))
    for name, (form, defect) in _NOT_FOR_ULOGD2.items():
        made.append(Configuration(f"form: {name}", form(plain).encode(), plain.encode(), defect))
    return [replace(each, timezone="UTC") if each.name == "form: UTC" else each for each in made]


#: The plugin of Debian's stacks that never comes.
_NOT_HERE = re.compile(":ULOG\\b")


def _debian() -> Iterator[Configuration]:
    """Yield Debian's file as the package installs it, and with each of the stacks that it has as comments."""
    if not _DEBIAN.exists():
        return
    text = _DEBIAN.read_text()
    yield Configuration("debian: as installed", text.encode(), text.encode())
    (own,) = re.findall("^stack=.*$", text, flags=re.MULTILINE)
    for number, stack in enumerate(re.findall("^#(stack=.*)$", text, flags=re.MULTILINE)):
        if not _NOT_HERE.search(stack):
            changed = text.replace(f"\n{own}\n", f"\n{stack}\n").encode()
            plugins = re.findall(r":(\w+)", stack)
            yield Configuration(f"debian: {number}, {plugins[0]} to {plugins[-1]}", changed, changed)


CONFIGURATIONS = (*_files(), *_formed(), *_debian())

#: Those of `make test`: each output and source once, but for the servers of databases.
QUICK = (
    *("plain-json", "two-groups-one-file", "everything-of-one-group", "oprint", "xml-packets", "nuauth-logemu"),
    *(
        "sqlite-own-table",
        "accounting-graphite",
        "flows-of-one-source",
        "form: byte order mark",
        "debian: as installed",
    ),
)
