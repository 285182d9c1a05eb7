# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of our own: its rules ask the program, it has an owner or is kept, and it is made whole or not at all."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from nflowlevel import Group
from nflowlevel.binding import nftmatch
from nflowlevel.binding.nftmatch import LogTo, Mark, MatchTable, Table
from nflowlevel.errors import KernelError, NotSupported
from tests.fix_group import collect, packets_in, run_python
from tests.fix_lines import no_descriptor_left
from tests.fix_netns import Netns, Pair
from tests.fix_nobody import CLONE_NEWNET, enter_user_namespace, run_as_nobody
from tests.fix_program import port9

__all__ = ["port9"]

NAME = "nflowlevel-ssh"


def make(netns: Netns | None, program: int, *, name: str = NAME, **options: Any) -> MatchTable:
    given: dict[str, Any] = {"hooks": ["input"], "then": LogTo(7), "priority": -1, **options}
    return MatchTable(name, "ssh", program, netns=netns.path if netns else None, **given)


def there(netns: Netns) -> list[tuple[str, bool]]:
    """Return the tables of ours, and whether they have an owner."""
    return [(table.name, bool(table.owner)) for table in nftmatch.tables(netns.path)]


def ruleset(netns: Netns) -> str:
    return netns.run("nft", "list", "ruleset").stdout


# -- what it does -----------------------------------------------------------------------------------------------------


def test_matched_packets_are_logged(pair: Pair, port9: int) -> None:
    with Group(7, netns=pair.fw.path) as group:
        table = make(pair.fw, port9, then=LogTo(7, "föö"))
        pair.send_udp(13, port=10)
        pair.send_udp(11, port=10, source=pair.PEER6)
        pair.send_udp(23)
        pair.send_udp(17, source=pair.PEER6)
        batches = collect(group, 40)
        group.stop()
        assert packets_in(group.batches()) == 0
        table.remove()
    assert {prefix for batch in batches for prefix in batch.values("oob.prefix")} == {"föö"}
    families = [family for batch in batches for family in batch.values("oob.family")]
    assert (families.count(2), families.count(10)) == (23, 17)


def test_other_bits_of_the_mark_stay(pair: Pair, port9: int) -> None:
    pair.fw.nft("table inet t { chain c { type filter hook output priority 0; udp dport { 9, 10 } log group 7; }; }")
    before = (0, 0xABCD0001, 0xFFFFFFFF)
    with Group(7, netns=pair.fw.path) as group, pair.fw.enter():
        table = make(pair.fw, port9, hooks=["output"], then=Mark(0x500, 0xF00), priority=-301)
        for mark in before:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
                udp.sendto(b"x", (pair.PEER4, 10))
                udp.sendto(b"x", (pair.PEER4, 9))
        batches = collect(group, 6)
        table.remove()
    seen = [row for batch in batches for row in zip(batch.values("udp.dport"), batch.values("oob.mark"), strict=True)]
    assert [mark or 0 for port, mark in seen if port == 10] == list(before)
    assert [mark for port, mark in seen if port == 9] == [0x500, 0xABCD0501, 0xFFFFF5FF]


@pytest.mark.parametrize(
    ("then", "priority", "shown"),
    [
        (LogTo(0), 0, ["xt match bpf counter packets 0 bytes 0 log group 0\n", "priority filter;"]),
        (
            LogTo(65535, "p: ", 128, 32),
            -1,
            ['log prefix "p: " group 65535 snaplen 128 queue-threshold 32\n', "priority filter - 1;"],
        ),
        (Mark(0x100, 0x100), -301, ["meta mark set meta mark | 0x00000100\n", "priority raw - 1;"]),
        (Mark(0, 0x100), 5, ["meta mark set meta mark & 0xfffffeff\n", "priority filter + 5;"]),
    ],
)
def test_what_nft_shows(netns: Netns, port9: int, then: LogTo | Mark, priority: int, shown: list[str]) -> None:
    with_table = make(netns, port9, hooks=["input", "forward", "output"], then=then, priority=priority)
    text = ruleset(netns)
    for words in (*shown, "xt match bpf counter packets 0 bytes 0 "):
        assert text.count(words) == 3, text
    assert text.count('comment "nflowlevel prefilter ssh"\n') == 1
    for hook in ("input", "forward", "output"):
        assert f"\tchain {hook} {{\n\t\ttype filter hook {hook} " in text
    with_table.remove()
    assert ruleset(netns) == ""


# -- whose it is ------------------------------------------------------------------------------------------------------


def test_others_can_neither_flush_nor_change_it(netns: Netns, port9: int) -> None:
    table = make(netns, port9)
    netns.nft("table inet other { chain c { }; }")
    netns.run("nft", "flush", "ruleset")
    assert "other" not in ruleset(netns)
    for command in ("delete table", "flush table"):
        assert "not permitted" in netns.run("nft", *command.split(), "inet", NAME, check=False).stderr
    assert "not permitted" in netns.run("nft", "add", "chain", "inet", NAME, "c", check=False).stderr
    assert "xt match bpf counter packets 0 bytes 0 log group 7" in ruleset(netns)
    table.close()
    assert there(netns) == []


def test_remove_takes_only_this_table(netns: Netns, port9: int) -> None:
    netns.nft("table inet nflowlevel { }; table ip nflowlevel-ssh { }; table inet other { }")
    first, second = make(netns, port9), make(netns, port9, name="nflowlevel-web")
    assert there(netns) == [(NAME, True), ("nflowlevel-web", True)]
    first.remove()
    assert there(netns) == [("nflowlevel-web", True)]
    second.remove()
    assert netns.run("nft", "list", "tables").stdout.split("\n")[:-1] == [
        "table inet nflowlevel",
        "table ip nflowlevel-ssh",
        "table inet other",
    ]


def test_remove_and_close_may_be_called_again(netns: Netns, port9: int) -> None:
    with no_descriptor_left():
        table = make(netns, port9, keep=True)
        table.close()
        table.close()
    with no_descriptor_left():
        table = make(netns, port9)
        table.remove()
        table.remove()
        table.close()


def test_it_is_gone_when_the_namespace_lost_it(netns: Netns, port9: int) -> None:
    """A kept table without an owner may have been flushed; that is no error."""
    make(netns, port9, keep=True).close()
    netns.run("nft", "flush", "ruleset")
    assert nftmatch.remove(NAME, netns.path) is False


def test_kept_and_removed_by_another(netns: Netns, port9: int) -> None:
    table = make(netns, port9, keep=True)
    netns.run("nft", "flush", "ruleset")
    assert there(netns) == [(NAME, True)]
    table.close()
    assert there(netns) == [(NAME, False)]
    assert nftmatch.remove(NAME, netns.path) is True
    assert ruleset(netns) == ""
    assert nftmatch.remove(NAME, netns.path) is False


@pytest.mark.parametrize("keep", [True, False])
def test_kept_is_replaced(netns: Netns, port9: int, keep: bool) -> None:
    make(netns, port9, keep=True, hooks=["forward", "output"], then=Mark(1, 1)).close()
    table = make(netns, port9, keep=keep)
    assert there(netns) == [(NAME, True)]
    assert "hook forward" not in ruleset(netns)
    table.close()
    assert there(netns) == ([(NAME, False)] if keep else [])


def test_killed(netns: Netns, port9: int) -> None:
    code = f"""if True:
        import os, signal
        from nflowlevel.binding.nftmatch import LogTo, MatchTable, tables
        from tests.fix_program import load
        gone = MatchTable("nflowlevel-gone", "gone", load(9), ["input"], LogTo(7), priority=0, netns={netns.path!r})
        kept = MatchTable("nflowlevel-kept", "kept", load(9), ["input"], LogTo(7), priority=0, keep=True,
                          netns={netns.path!r})
        print(*sorted(table.name for table in tables({netns.path!r})), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run_python(code)
    assert done.returncode == -9, done.stderr
    assert done.stdout == "nflowlevel-gone nflowlevel-kept\n"
    assert nftmatch.tables(netns.path) == [Table("nflowlevel-kept", "kept", 0)]


# -- what may be in the way -------------------------------------------------------------------------------------------


def test_owned_by_another_process(netns: Netns, port9: int) -> None:
    table = make(netns, port9)
    owner = nftmatch.tables(netns.path)[0].owner
    told = rf"it belongs to netlink port {owner} \(process {os.getpid()}, .*detach it there, or end that process"
    for call in (lambda: make(netns, port9), lambda: nftmatch.remove(NAME, netns.path)):
        with no_descriptor_left(), pytest.raises(KernelError, match=told) as caught:
            call()
        assert caught.value.errno == errno.EBUSY
    assert there(netns) == [(NAME, True)]
    table.remove()


def test_a_table_somebody_else_made(netns: Netns, port9: int) -> None:
    netns.nft(f'table inet {NAME} {{ comment "mine"; chain c {{ }}; }}')
    before = ruleset(netns)
    with pytest.raises(KernelError, match="nflowlevel did not make the existing table") as caught:
        make(netns, port9)
    assert caught.value.errno == errno.EEXIST
    assert nftmatch.remove(NAME, netns.path) is False
    assert there(netns) == []
    assert ruleset(netns) == before


def test_all_or_nothing(netns: Netns, port9: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make(netns, port9, keep=True).close()
    before = ruleset(netns)
    monkeypatch.setattr(nftmatch, "_MATCH", b"no_such_match")
    for name in (NAME, "nflowlevel-web"):
        with no_descriptor_left(), pytest.raises(NotSupported, match="modprobe -a xt_bpf"):
            make(netns, port9, name=name)
    assert ruleset(netns) == before


def test_no_program(netns: Netns) -> None:
    read, write = os.pipe()
    try:
        for descriptor, code in ((read, errno.EINVAL), (9999, errno.EBADF)):
            with pytest.raises(KernelError, match="of type socket filter") as caught:
                make(netns, descriptor)
            assert caught.value.errno == code
    finally:
        os.close(read)
        os.close(write)
    assert there(netns) == []


def test_kernel_that_knows_no_owner(netns: Netns, port9: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftmatch, "_OWNER", 0x8000)
    with pytest.raises(NotSupported, match=r"needed: Linux 5\.12, or on_exit=keep"):
        make(netns, port9)
    assert there(netns) == []
    make(netns, port9, keep=True).close()
    assert there(netns) == [(NAME, False)]


def test_kernel_that_knows_no_kept_owner(netns: Netns, port9: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftmatch, "_PERSIST", 0x8000)
    table = make(netns, port9, keep=True)
    assert there(netns) == [(NAME, False)]
    table.close()
    assert there(netns) == [(NAME, False)]
    make(netns, port9, keep=True).remove()
    assert there(netns) == []


@pytest.mark.parametrize("call", [nftmatch.tables, lambda netns: nftmatch.remove(NAME, netns)])
def test_kernel_without_nftables(netns: Netns, monkeypatch: pytest.MonkeyPatch, call: Callable[[str], object]) -> None:
    monkeypatch.setattr(nftmatch, "_GETTABLE", 200 << 8 | 1)
    with pytest.raises(NotSupported, match="modprobe nf_tables"):
        call(netns.path)


@pytest.mark.kernel
def test_without_the_capability(port9: int) -> None:
    def function() -> int:
        for call in (lambda: make(None, port9), nftmatch.tables, lambda: nftmatch.remove(NAME)):
            try:
                call()
            except KernelError as error:
                print(error)
        return 0

    _, output = run_as_nobody(function)
    assert output.count("Operation not permitted — CAP_NET_ADMIN is missing: run as root") == 3, output


@pytest.mark.kernel
def test_without_root_in_a_namespace_of_ones_own(port9: int) -> None:
    """The program was loaded by somebody who may; its descriptor is all that the rule needs."""

    def function() -> int:
        enter_user_namespace(also=CLONE_NEWNET)
        table = make(None, port9)
        print([table.name for table in nftmatch.tables()])
        table.remove()
        print(nftmatch.tables())
        return 0

    assert run_as_nobody(function) == (0, f"['{NAME}']\n[]\n")
