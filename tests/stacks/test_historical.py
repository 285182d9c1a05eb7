# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of real configurations that do nothing in ulogd2 keep nobody from starting: they are warnings."""

from __future__ import annotations

from pathlib import Path

import pytest

from nflowlevel.options import ConfigErrors
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.stacks.config import parse_text
from nflowlevel.stacks.historical import HISTORICAL
from nflowlevel.stacks.registry import builtin_names, find_plugin
from nflowlevel.stacks.stack import build
from tests.fix_daemon import run

_STACK = "stack=g:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR,j:JSON"


def told(name: str, where: str) -> list[str]:
    """Return the warnings about an option in [global], or in the section of an input, a filter or an output."""
    sections = {"global": _STACK, "g": "group=2", "b": "", "j": "file=/dev/null"}
    sections[where] += f"\n{name}=160000"
    config = parse_text("".join(f"[{section}]\n{text}\n" for section, text in sections.items()), "u.conf")
    build(config)
    return [remark.message for remark in config.remarks]


@pytest.mark.parametrize("where", ["global", "g", "b", "j"])
@pytest.mark.parametrize("name", HISTORICAL)
def test_it_is_a_warning_that_says_what_to_write(name: str, where: str) -> None:
    own = {"g": find_plugin("NFLOG").Options, "j": find_plugin("JSON").Options}.get(where, NoOptions)
    if name in own.__struct_fields__ or (where, name) in (("global", "plugin"), ("global", "stack")):
        pytest.skip("an option there")
    called = {"global": "[global]", "g": "[g] NFLOG", "b": "[b] BASE", "j": "[j] JSON"}[where]
    assert told(name, where) == [f"{called}: '{name}' has no effect, as in ulogd2; {HISTORICAL[name]}"]


def test_the_options_that_it_names_exist() -> None:
    known = {name for plugin in builtin_names() for name in find_plugin(plugin).Options.__struct_fields__}
    words = {word.removesuffix("=") for advice in HISTORICAL.values() for word in advice.split() if word[-1] == "="}
    assert words - {"User"} <= known
    assert "netlink_socket_buffer_size" in words


def test_many_stacks_in_a_section() -> None:
    """Where a configuration goes on with a second stack behind the sections of the first: ulogd2 does not read it."""
    config = parse_text(
        f"[global]\n{_STACK}\n[g]\ngroup=2\n[j]\nstack=a:NFLOG,b:JSON\nstack=c:NFLOG,d:JSON\n", "u.conf"
    )
    build(config)
    assert [(remark.line, "move it into [global]" in remark.message) for remark in config.remarks] == [(6, True)]


def test_many_plugin_lines_in_a_section() -> None:
    text = f"[global]\n{_STACK}\n[g]\ngroup=2\nplugin=ulogd_inppkt_NFLOG.so\nplugin=ulogd_output_JSON.so\n[j]\n"
    config = parse_text(text, "u.conf")
    build(config)
    assert [remark.line for remark in config.remarks] == [5]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("buffersize=1", "unknown option 'buffersize' — did you mean 'bufsize'?"),
        ("rnem=1", "unknown option 'rnem'"),
        ("Rmem=1", "unknown option 'Rmem'"),
    ],
)
def test_a_misspelling_is_still_an_error(wrong: str, said: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        build(parse_text(f"[global]\n{_STACK}\n[g]\n{wrong}\n[j]\n"))
    assert said in str(caught.value)


def test_a_real_configuration_starts_and_says_all_of_it(tmp_path: Path) -> None:
    """As it is found in public: options of ulogd 1 in [global], sizes beyond the kernel's, a section too many."""
    file = tmp_path / "ulogd.conf"
    file.write_text(f"""[global]
logfile="/var/log/ulogd.log"
loglevel=5
rmem=131071
bufsize=150000
user="ulog"
{_STACK}
#stack=ct1:NFCT,s:IP2STR,j:JSON
[ct1]
[g]
group=2
nlbufsiz=160000
netlink_socket_buffer_maxsize=0xffffffffffffffffff
buffer_size=1
[j]
plugin="/usr/lib/ulogd/ulogd_output_JSON.so"
file="{tmp_path}/out.json"
[spare]
""")
    done = run("--check-config", "-c", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: no errors; 1 stack\n")
    lines = done.stderr.splitlines()
    assert [line.split(":")[2] for line in lines] == ["4", "5", "6", "12", "13", "14", "16", "18"]
    assert "[g] NFLOG: nlbufsiz=160000 is too large, so 131072 is used; write nlbufsiz=131072" in lines[3]
    assert lines[4].endswith("is too large, so 1073741823 is used; write netlink_socket_buffer_maxsize=1073741823")
    assert lines[7].endswith("no stack uses the section [spare]")
