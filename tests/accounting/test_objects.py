# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounting on the real kernel: objects, their counts, quotas, and dumps that zero without losing any."""

from __future__ import annotations

import errno
import re
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nflowlevel.accounting import objects as module
from nflowlevel.accounting.objects import Accounting
from nflowlevel.accounting.table import Counter, CounterTable
from nflowlevel.binding._lib import ffi
from nflowlevel.binding.nfacct import AcctSocket, CounterArray, Dump, plan
from nflowlevel.errors import KernelError
from tests.fix_acct import MANY, Sums, accounting, count_udp, make_objects, sums
from tests.fix_interrupt import interrupt_everywhere
from tests.fix_lines import no_descriptor_left
from tests.fix_netns import Netns, Pair
from tests.fix_nobody import run_as_nobody

__all__ = ["accounting"]


def added(*tables: Sums) -> Sums:
    """Return the sums of sums."""
    total: Sums = {}
    for table in tables:
        for name, (packets, size) in table.items():
            before = total.get(name, (0, 0))
            total[name] = before[0] + packets, before[1] + size
    return total


# -- single objects -----------------------------------------------------------------------------------------------


def test_an_object_is_created_read_and_deleted(accounting: Accounting) -> None:
    accounting.create("ipv4.http")
    accounting.create("old", packets=2**64 - 1, bytes=5)
    assert accounting.get("ipv4.http") == Counter("ipv4.http", 0, 0)
    assert accounting.get("old") == Counter("old", 2**64 - 1, 5)
    assert accounting.list() == [Counter("ipv4.http", 0, 0), Counter("old", 2**64 - 1, 5)]
    accounting.delete("ipv4.http")
    assert [each.name for each in accounting.list()] == ["old"]


def test_quotas(accounting: Accounting) -> None:
    accounting.create("p", packet_quota=10)
    accounting.create("b", byte_quota=2**64 - 1, bytes=7)
    accounting.create("zero", byte_quota=0)
    p, b, zero = accounting.list()
    assert (p.quota, p.quota_unit, p.over_quota) == (10, "packets", False)
    assert (b.quota, b.quota_unit, b.bytes) == (2**64 - 1, "bytes", 7)
    assert (zero.quota, zero.quota_unit) == (0, "bytes")
    assert Counter("n", 0, 0).quota_unit is None


@pytest.mark.parametrize("name", ["x" * 31, "a b", "ü" * 15, ";", "\n", "\udcff\udc80", "{ } = 1;", "%s"])
def test_a_name_is_any_bytes(accounting: Accounting, name: str) -> None:
    accounting.create(name, packets=3)
    assert accounting.get(name).name == name
    assert accounting.list() == [Counter(name, 3, 0)]
    assert accounting.get_and_zero(name).packets == 3
    accounting.delete(name)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("", "must not be empty"),
        ("a\0b", "cannot contain a NUL"),
        ("x" * 32, "at most 31 bytes long, not 32"),
        ("ü" * 16, "at most 31 bytes long, not 32"),
    ],
)
def test_a_name_that_the_kernel_cannot_keep(accounting: Accounting, name: str, what: str) -> None:
    for use in (accounting.create, accounting.get, accounting.get_and_zero, accounting.delete):
        with pytest.raises(ValueError, match=what):
            use(name)
    assert accounting.list() == []


@pytest.mark.parametrize("wrong", [{"packets": -1}, {"bytes": 2**64}, {"packet_quota": -1}, {"byte_quota": 2**64}])
def test_numbers_that_the_kernel_cannot_keep(accounting: Accounting, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 0 to 18446744073709551615"):
        accounting.create("a", **wrong)
    assert accounting.list() == []


def test_one_quota_at_most(accounting: Accounting) -> None:
    with pytest.raises(ValueError, match="packets or bytes, not both"):
        accounting.create("a", packet_quota=1, byte_quota=1)


def test_a_name_that_is_taken(accounting: Accounting) -> None:
    accounting.create("a", packets=5)
    with pytest.raises(KernelError, match=r"create accounting object 'a': File exists — delete it first") as caught:
        accounting.create("a")
    assert caught.value.errno == errno.EEXIST
    assert accounting.get("a").packets == 5


def test_an_object_that_is_not_there(accounting: Accounting) -> None:
    accounting.create("ipv4.http")
    for use in (accounting.get, accounting.get_and_zero, accounting.delete):
        with pytest.raises(KernelError, match=r"'ipv4\.htpp': No such file.*did you mean 'ipv4\.http'") as caught:
            use("ipv4.htpp")
        assert caught.value.errno == errno.ENOENT
    with pytest.raises(KernelError, match="acct list"):
        accounting.get("nothing like it")


def test_among_many_names_none_is_proposed(accounting: Accounting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW_NAMES", 1)
    accounting.create("ab")
    accounting.create("cd")
    with pytest.raises(KernelError, match=r"no object has that name$"):
        accounting.get("abc")


def test_an_object_in_use_stays(netns: Netns, accounting: Accounting) -> None:
    for name in ("used", "free", "also free"):
        accounting.create(name)
    count_udp(netns, "used")
    with pytest.raises(
        KernelError, match=r"delete accounting object 'used': .* 1 rule counts into it; remove"
    ) as caught:
        accounting.delete("used")
    assert caught.value.errno == errno.EBUSY
    count_udp(netns, "used", 10)
    with pytest.raises(KernelError, match="2 rules count into it"):
        accounting.delete("used")
    assert accounting.get("used").rules == 2
    assert accounting.flush() == ["used"]
    assert [each.name for each in accounting.list()] == ["used"]
    netns.run("iptables", "-F")
    assert accounting.flush() == []


def test_interrupts(netns: Netns) -> None:
    def use() -> None:
        with Accounting(netns.path) as accounting, accounting.quota_events():
            accounting.dump()

    interrupt_everywhere(use, least=100)


def test_another_namespace_of_the_same_name_is_not_zeroed(pair: Pair) -> None:
    """Many objects take another socket: it is opened by a name, which may lead elsewhere by now."""
    old, new = pair.fw, pair.peer
    with Accounting(old.name) as accounting, Accounting(new.name) as others:
        made = make_objects(accounting, 1000, seed=5)
        theirs = make_objects(others, 1000, seed=6)
        subprocess.run(["mount", "--bind", new.path, old.path], check=True)
        try:
            table = accounting.dump_and_zero()
        finally:
            subprocess.run(["umount", old.path], check=True)
        assert sums(table) == made
        assert sums(others.dump()) == theirs


def test_each_namespace_has_its_own(pair: Pair) -> None:
    with Accounting(pair.fw.name) as fw, Accounting(pair.peer.path) as peer:
        fw.create("a", packets=1)
        peer.create("a", packets=2)
        assert (fw.get("a").packets, peer.get("a").packets) == (1, 2)


def test_without_the_capability(netns: Netns) -> None:
    def attempt() -> int:
        accounting = Accounting()
        for ask in (
            accounting.list,
            accounting.dump_and_zero,
            accounting.flush,
            accounting.quota_events,
            lambda: accounting.create("a"),
            lambda: accounting.get("a"),
            lambda: accounting.delete("a"),
        ):
            try:
                ask()
            except KernelError as error:
                print(errno.errorcode[error.errno or 0], error)
        return 0

    with netns.enter():
        done = run_as_nobody(attempt)
    assert done.status == 0, done.output
    assert len(re.findall("^EPERM .*: Operation not permitted — CAP_NET_ADMIN is .*$", done.output, re.MULTILINE)) == 7


def test_a_namespace_that_is_not_there() -> None:
    with no_descriptor_left(), pytest.raises(KernelError, match="enter network namespace nowhere"):
        Accounting("nowhere")


def test_repr(accounting: Accounting) -> None:
    assert repr(accounting) == f"<Accounting of namespace {accounting.netns}>"
    with Accounting() as own:
        assert repr(own) == "<Accounting>"


def test_closed(accounting: Accounting) -> None:
    accounting.close()
    accounting.close()
    with pytest.raises(ValueError, match="closed"):
        accounting.list()


# -- counting -----------------------------------------------------------------------------------------------------


def test_every_packet_is_counted_and_none_twice(pair: Pair) -> None:
    with Accounting(pair.fw.name) as accounting:
        accounting.create("v4")
        accounting.create("v6")
        count_udp(pair.fw, "v4")
        count_udp(pair.fw, "v6", tool="ip6tables")
        pair.send_udp(23, size=100)
        pair.send_udp(7, size=100, source=Pair.PEER6)
        assert accounting.get("v4") == Counter("v4", 23, 23 * 128, rules=1)
        assert accounting.get_and_zero("v4") == Counter("v4", 23, 23 * 128, rules=1)
        assert accounting.get_and_zero("v6") == Counter("v6", 7, 7 * 148, rules=1)
        assert accounting.list() == [Counter("v4", 0, 0, rules=1), Counter("v6", 0, 0, rules=1)]
        pair.send_udp(2, size=100)
        assert sums(accounting.dump_and_zero()) == {"v4": (2, 256), "v6": (0, 0)}
        assert sums(accounting.dump()) == {"v4": (0, 0), "v6": (0, 0)}


def test_zeroing_while_packets_pass_loses_none(pair: Pair) -> None:
    """Single objects and all of them, in turns, while a thread sends."""
    total, packets, size = 6000, 0, 0
    with Accounting(pair.fw.name) as accounting:
        make_objects(accounting, 500)
        accounting.create("busy")
        accounting.create("busy6")
        accounting.dump_and_zero()
        count_udp(pair.fw, "busy")
        sender = threading.Thread(target=pair.send_udp, args=(total,))
        sender.start()
        polls = 0
        while sender.is_alive() or (packets < total and polls < 10_000):
            readings = [accounting.dump_and_zero()[500], accounting.get_and_zero("busy")]
            packets += sum(each.packets for each in readings)
            size += sum(each.bytes for each in readings)
            polls += 1
        sender.join()
        assert polls > 1
        assert (packets, size) == (total, total * 48)
        assert accounting.get("busy") == Counter("busy", 0, 0, rules=1)


def test_a_rule_with_a_quota_matches_beyond_it(pair: Pair) -> None:
    with Accounting(pair.fw.name) as accounting:
        accounting.create("guests", packet_quota=3)
        accounting.create("beyond")
        quota = ["-p", "udp", "--dport", "9", "-m", "nfacct", "--nfacct-name", "guests"]
        beyond = ["-m", "mark", "--mark", "5", "-m", "nfacct", "--nfacct-name", "beyond"]
        pair.fw.run("iptables", "-A", "INPUT", *quota, "-j", "MARK", "--set-mark", "5")
        pair.fw.run("iptables", "-A", "INPUT", *beyond)
        pair.send_udp(5)
        guests = accounting.get("guests")
        assert (guests.packets, guests.over_quota) == (5, True)
        assert accounting.get("beyond").packets == 2
        assert accounting.dump_and_zero()[0].over_quota, "it is told before it begins anew"
        assert not accounting.get("guests").over_quota
        pair.send_udp(3)
        assert accounting.get("beyond").packets == 0


# -- lists --------------------------------------------------------------------------------------------------------


def test_filters(pair: Pair) -> None:
    with Accounting(pair.fw.name) as accounting:
        accounting.create("plain", packets=1)
        accounting.create("packets", packet_quota=2, packets=1)
        accounting.create("bytes", byte_quota=5, packets=1)
        accounting.create("over", byte_quota=5)
        count_udp(pair.fw, "over")
        pair.send_udp(1)

        def names(only: str | tuple[int, int] | None) -> list[str]:
            return [each.name for each in accounting.list(only)]

        assert names(None) == ["plain", "packets", "bytes", "over"]
        assert names("plain") == ["plain"]
        assert names("packet-quota") == ["packets"]
        assert names("byte-quota") == ["bytes", "over"]
        assert names("over-quota") == ["over"]
        assert names("not-over-quota") == ["plain", "packets", "bytes"]
        assert names((7, 2)) == ["bytes"]
        assert names((7, 7)) == []
        with pytest.raises(ValueError, match=r"unknown filter 'over_quota' — did you mean 'over-quota'\?"):
            names("over_quota")
        assert sums(accounting.dump_and_zero("byte-quota")) == {"bytes": (1, 0), "over": (1, 48)}
        assert sums(accounting.dump()) == {"plain": (1, 0), "packets": (1, 0), "bytes": (0, 0), "over": (0, 0)}


def test_many_objects_are_zeroed_without_loss(accounting: Accounting) -> None:
    """With dumps as nfacct and ulogd2 make them, Linux 6.18 loses one object in a hundred."""
    made = make_objects(accounting, MANY)
    assert sums(accounting.dump()) == made
    table = accounting.dump_and_zero()
    assert (table.recovered, table.malformed, table.error) == (0, 0, "")
    assert sums(table) == made
    assert sum(accounting.dump().packets) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_objects_are_zeroed_without_loss(accounting: Accounting, seed: int) -> None:
    made = make_objects(accounting, 1500, seed=seed, quotas=seed / 5)
    table = accounting.dump_and_zero()
    assert (table.recovered, sums(table)) == (0, made)


def test_restore_creates_all_or_none(accounting: Accounting) -> None:
    wanted = [Counter("a", 1, 2), Counter("b", 3, 4, 5, 1), Counter("c", 6, 7, 8, 2)]
    accounting.restore(wanted)
    assert accounting.list() == wanted
    accounting.delete("a")
    accounting.delete("b")
    with pytest.raises(KernelError, match="'c': File exists"):
        accounting.restore(wanted)
    assert accounting.list() == wanted[2:]


# -- objects that come and go meanwhile ---------------------------------------------------------------------------


class Meanwhile:
    """Calls `act(socket, number)` after each datagram that a dump receives; numbers start anew with each socket."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[AcctSocket, int], None]) -> None:
        receive = AcctSocket._receive
        numbers: dict[int, int] = {}

        def received(socket: AcctSocket, answer: Any, counters: CounterArray, room: int) -> int:
            result = receive(socket, answer, counters, room)
            if counters.count > 1:
                numbers[id(socket)] = numbers.get(id(socket), 0) + 1
                act(socket, numbers[id(socket)])
            return result

        monkeypatch.setattr(AcctSocket, "_receive", received)


def test_an_object_is_deleted_between_list_and_zeroing(accounting: Accounting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then datagrams end elsewhere than planned, and the kernel loses objects; they have to be found again."""
    made = make_objects(accounting, 3000)
    zero = accounting._zero

    def deleting(before: CounterArray, only: tuple[int, int] | None) -> Any:
        accounting.delete(victim)
        return zero(before, only)

    monkeypatch.setattr(accounting, "_zero", deleting)
    for victim in [*made][:8]:
        made.pop(victim)
        table = accounting.dump_and_zero()
        assert sums(table) == made
        assert table.recovered < 20
        accounting.flush()
        accounting.restore(Counter(name, *counts) for name, counts in made.items())


def test_a_dump_that_was_cut_is_made_again(
    netns: Netns, accounting: Accounting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel goes on at the object it stopped at. When that is deleted it believes to be at the end."""
    make_objects(accounting, 2000, quotas=0)
    other = Accounting(netns.name)
    whole = accounting._socket.dump(zero=False, only=None)
    # After the first datagram the second one waits: the third begins with the object to delete.
    victim = whole.counters.name(whole.starts[1]).decode()

    def act(socket: AcctSocket, number: int) -> None:
        if socket is accounting._socket and number == 1:
            other.delete(victim)

    Meanwhile(monkeypatch, act)
    cut = accounting._socket.dump(zero=False, only=None)
    assert cut.counters.count == whole.starts[1], "the kernel does not do this any more: simplify Accounting.dump"
    assert cut.may_be_cut
    monkeypatch.undo()
    other.create(victim)

    calls: list[int] = []

    def again(socket: AcctSocket, number: int) -> None:
        if socket is accounting._socket and not calls and number == 1:
            calls.append(number)
            # Its place in the list is now the last.
            other.delete(whole.counters.name(whole.starts[1] + 1).decode())

    Meanwhile(monkeypatch, again)
    assert len(accounting.dump()) == 1999
    other.close()


def test_zeroing_that_was_cut_goes_on(netns: Netns, accounting: Accounting, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_objects(accounting, 2000)
    other, third = Accounting(netns.name), AcctSocket(netns.name)
    rooms = plan(accounting.dump().counters)
    listed = third.dump(zero=False, only=None, rooms=rooms)
    victim = listed.counters.name(listed.starts[1]).decode()
    third.close()
    deleted: list[str] = []

    def act(socket: AcctSocket, number: int) -> None:
        if socket not in (accounting._socket, other._socket) and number == 1 and not deleted:
            other.delete(victim)
            deleted.append(victim)

    Meanwhile(monkeypatch, act)
    table = accounting.dump_and_zero()
    assert deleted
    made.pop(victim)
    assert (sums(table), table.recovered, table.error) == (made, 0, "")
    other.close()


def test_where_there_is_no_other_socket_what_the_kernel_loses_is_found_again(
    accounting: Accounting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that has become an ordinary user cannot open one in another namespace."""
    made = make_objects(accounting, MANY // 2, quotas=0.5)

    def refuse(netns: str | None) -> AcctSocket:
        raise KernelError("enter network namespace", errno.EPERM)

    monkeypatch.setattr(module, "AcctSocket", refuse)
    table = accounting.dump_and_zero()
    assert sums(table) == made
    assert table.recovered < len(made) / 100


def array_of(*counters: Counter) -> CounterArray:
    array = CounterArray()
    for each in counters:
        fields = {"packets": each.packets, "bytes": each.bytes, "flags": each.flags, "name": each.name.encode()}
        array.append(ffi.new("struct nfl_counter *", fields)[0])
    return array


def test_what_is_found_again() -> None:
    before = array_of(
        Counter("first", 5, 5),
        Counter("deleted", 5, 5),
        Counter("moved", 7, 70, flags=1 | 4),
        Counter("quiet", 0, 0),
        Counter("bytes", 3, 2**64 - 2),
        Counter("within", 9, 9),
    )
    zeroed = array_of(
        Counter("first", 4, 4),  # begins the dump: somebody else has zeroed it
        Counter("moved", 1, 10, flags=1),
        Counter("quiet", 0, 0),
        Counter("bytes", 3, 5),  # as many packets again since, but shorter ones
        Counter("within", 0, 0),  # not where a datagram begins
        Counter("new", 1, 1),
    )
    dump = Dump(zeroed, (1, 2, 3, 5), 0, False)
    assert module._recover(before, dump) == 2
    found = [(each.name, each.packets, each.bytes, each.flags) for each in CounterTable(zeroed)]
    assert found == [
        ("first", 4, 4, 0),
        ("moved", 8, 80, 5),
        ("quiet", 0, 0, 0),
        ("bytes", 6, 2**64 - 1, 0),
        ("within", 0, 0, 0),
        ("new", 1, 1, 0),
    ]


@pytest.mark.parametrize("at", [1, 3])
def test_what_was_zeroed_before_a_failure_is_kept(
    accounting: Accounting, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    make_objects(accounting, 3000)
    receive, number = AcctSocket._receive, 0

    def failing(socket: AcctSocket, answer: Any, counters: CounterArray, room: int) -> int:
        nonlocal number
        if socket is not accounting._socket and counters.capacity > 2000:
            number += 1
            if number == at:
                return -errno.ENOMEM
        return receive(socket, answer, counters, room)

    monkeypatch.setattr(AcctSocket, "_receive", failing)
    if at == 1:
        with pytest.raises(KernelError, match="read and zero accounting objects: Cannot allocate memory"):
            accounting.dump_and_zero()
        return
    table = accounting.dump_and_zero()
    assert table.error == "Cannot allocate memory"
    assert 100 < len(table) < 3000
    assert all(table.packets)


def test_a_failure_in_the_second_try_keeps_the_first(accounting: Accounting, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_objects(accounting, 10)
    zeroed, calls = accounting._zeroed, 0

    def twice(only: Any) -> tuple[CounterTable, bool]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KernelError("list accounting objects", errno.ENOBUFS)
        return zeroed(only)[0], False

    monkeypatch.setattr(accounting, "_zeroed", twice)
    table = accounting.dump_and_zero()
    assert sums(table) == made
    assert table.error == "list accounting objects: No buffer space available"


def test_two_tries_are_added_up(accounting: Accounting, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_objects(accounting, 10)
    zeroed, calls = accounting._zeroed, 0

    def twice(only: Any) -> tuple[CounterTable, bool]:
        nonlocal calls
        calls += 1
        table = zeroed(only)[0]
        accounting.delete("c9" if "c9" in made else [*made][9])
        accounting.restore([Counter([*made][9], 4, 5), *([Counter("new", 6, 7)] if calls == 1 else [])])
        return table, calls == 2

    monkeypatch.setattr(accounting, "_zeroed", twice)
    expected = added(made, {[*made][9]: (4, 5), "new": (6, 7)})
    assert sums(accounting.dump_and_zero()) == expected
