# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters and quotas are read from the kernel as they are, and zeroed without losing a packet."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

import pytest

from nflowlevel.binding import nftables
from nflowlevel.binding.nftables import NamedObject, NamedObjects
from nflowlevel.errors import KernelError, NotSupported
from tests.fix_lines import no_descriptor_left
from tests.fix_netns import Netns, Pair
from tests.fix_nobody import enter_network_namespace, enter_user_namespace, run_as_nobody

Values = dict[str, tuple[int | None, int, int | None]]


@pytest.fixture
def objects(netns: Netns) -> Iterator[NamedObjects]:
    with no_descriptor_left(), NamedObjects(netns.path) as opened:
        yield opened
        opened.close()


def values(found: list[NamedObject]) -> Values:
    by_path = {each.path: (each.packets, each.bytes, each.limit) for each in found}
    assert len(by_path) == len(found)
    return by_path


def packets(found: list[NamedObject]) -> int:
    return sum(each.packets or 0 for each in found)


def many(count: int) -> str:
    """Return a table of counters that have counted one packet each, with comments of all lengths."""
    lines = (f'counter c{n} {{ packets 1 bytes 20\n comment "{"x" * (n % 100)}"\n}}' for n in range(count))
    return "table inet many {\n" + "\n".join(lines) + "\n}\n"


def test_objects_of_all_families(netns: Netns, objects: NamedObjects) -> None:
    assert objects.read() == []
    for family in ("inet", "ip", "ip6", "arp", "bridge", "netdev"):
        netns.nft(f"table {family} t {{\ncounter ipv4.http {{ packets 3 bytes 77\n}}\n}}\n")
    netns.nft(
        "table inet t {\nquota q1 { over 1000 bytes used 5 bytes }\nquota q2 { until 2 mbytes }\n"
        'limit none { rate 1/second }\nct helper ftp {\ntype "ftp" protocol tcp\nl3proto ip\n}\n}\n'
    )
    assert values(objects.read()) == {
        **{f"{family}.t.ipv4.http": (3, 77, None) for family in ("inet", "ip", "ip6", "arp", "bridge", "netdev")},
        "inet.t.q1": (None, 5, 1000),
        "inet.t.q2": (None, 0, 2 << 20),
    }


def test_longest_names(netns: Netns, objects: NamedObjects) -> None:
    table, name = "t" * 255, "c" * 255
    netns.nft(f"table inet {table} {{\ncounter {name} {{ packets 1 bytes 2\n}}\n}}\n")
    assert values(objects.take()) == {f"inet.{table}.{name}": (1, 2, None)}
    assert values(objects.take()) == {f"inet.{table}.{name}": (0, 0, None)}


def test_take_zeroes_counters_and_leaves_quotas(netns: Netns, objects: NamedObjects) -> None:
    netns.nft(
        "table ip t {\ncounter a { packets 3 bytes 77\n}\ncounter b { packets 18446744073709551615 bytes 1\n}\n"
        "counter idle { }\nquota q { over 1000 bytes used 5 bytes }\n}\n"
        "table ip6 t {\ncounter a { packets 1 bytes 1\n}\n}\n"
    )
    rest: Values = {"ip.t.idle": (0, 0, None), "ip.t.q": (None, 5, 1000)}
    first: Values = {"ip.t.a": (3, 77, None), "ip.t.b": (2**64 - 1, 1, None), "ip6.t.a": (1, 1, None)}
    assert values(objects.take()) == {**first, **rest}
    assert values(objects.take()) == {**dict.fromkeys(first, (0, 0, None)), **rest}


def test_nothing_is_lost_between_datagrams(netns: Netns, objects: NamedObjects) -> None:
    """Where a dump that resets loses the counts of an object at each end of a datagram."""
    netns.nft(many(3000))
    assert packets(objects.read()) == 3000
    assert packets(objects.take()) == 3000
    assert packets(objects.read()) == 0


def test_nothing_is_lost_under_traffic(pair: Pair) -> None:
    chain = "chain i {\ntype filter hook input priority 0\nudp dport 9 counter name c\n}\n"
    pair.fw.nft("table inet t {\ncounter c { }\n" + chain + "}\n")
    sender = threading.Thread(target=pair.send_udp, args=(20_000,))
    taken = polls = 0
    with NamedObjects(pair.fw.path) as objects:
        sender.start()
        while sender.is_alive():
            taken += packets(objects.take())
            polls += 1
        taken += packets(objects.take())
    assert taken == 20_000
    assert polls > 5


def test_counter_removed_while_it_is_taken(
    netns: Netns, objects: NamedObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    netns.nft("table inet t {\ncounter a { packets 3 bytes 77\n}\ncounter b { packets 5 bytes 99\n}\n}\n")
    known = objects.read()
    monkeypatch.setattr(objects, "read", lambda: known)
    netns.nft("delete counter inet t a")
    assert values(objects.take()) == {"inet.t.a": (3, 77, None), "inet.t.b": (5, 99, None)}


def test_what_was_zeroed_before_an_error_comes_next_time(
    netns: Netns, objects: NamedObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    netns.nft(many(10))
    monkeypatch.setattr(nftables, "_WINDOW", 4)
    send = objects._send
    sends = iter([send, send, None])

    def failing(requests: list[bytes]) -> None:
        if (next_send := next(sends)) is None:
            raise KernelError("ask for nftables objects", errno.ENOBUFS)
        next_send(requests)

    monkeypatch.setattr(objects, "_send", failing)
    with pytest.raises(KernelError):
        objects.take()
    monkeypatch.setattr(objects, "_send", send)
    assert packets(objects.read()) == 6
    netns.nft("delete counter inet many c0")
    assert packets(objects.take()) == 10
    assert packets(objects.take()) == 0


def test_answers_that_found_no_room(netns: Netns, objects: NamedObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.nft(many(2))
    messages = objects._messages

    def cut_short() -> Iterator[tuple[int, int, int, bytes]]:
        yield next(messages())

    known = objects.read()
    monkeypatch.setattr(objects, "read", lambda: known)
    monkeypatch.setattr(objects, "_messages", cut_short)
    with pytest.raises(KernelError, match="1 answers did not fit into the socket buffer"):
        objects.take()


def test_dump_that_was_interrupted_is_made_again(
    netns: Netns, objects: NamedObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    netns.nft(many(2))
    dump = objects._dump
    made: list[bool] = []

    def interrupted() -> tuple[list[NamedObject], bool]:
        made.append(True)
        return dump()[0][: len(made)], len(made) == 2

    monkeypatch.setattr(objects, "_dump", interrupted)
    assert packets(objects.read()) == 2
    assert len(made) == 2


def test_without_the_capability() -> None:
    def read() -> int:
        with NamedObjects() as objects:
            objects.read()
        return 0

    status, output = run_as_nobody(read)
    assert status == 99
    assert (
        output == "KernelError: ask for nftables objects: Operation not permitted — needs CAP_NET_ADMIN: run as root\n"
    )


def test_in_a_user_namespace() -> None:
    def read() -> int:
        enter_user_namespace()
        enter_network_namespace()
        with NamedObjects() as objects:
            return len(objects.take())

    assert run_as_nobody(read) == (0, "")


def test_kernel_without_nftables() -> None:
    with pytest.raises(NotSupported, match="nftables is not available"):
        nftables._raise(errno.EINVAL)


def test_closed(objects: NamedObjects) -> None:
    objects.close()
    with pytest.raises(ValueError, match="closed"):
        objects.read()
