# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of interfaces follow the kernel: new ones, renames, removals, and what was announced while nobody listened."""

from __future__ import annotations

import os
import select
import socket

import pytest

from nflowlevel.binding._lib import ffi
from nflowlevel.binding.interfaces import Links, NameTable
from nflowlevel.errors import KernelError
from tests.fix_netns import Bridge, Netns, Pair
from tests.netlink import RTNLGRP_LINK, link_message

INDEX = 4242


def names_of(links: Links) -> dict[int, str]:
    """Return the names as they are now."""
    links.update()
    return links.table.names


def test_names_at_the_start(netns: Netns) -> None:
    netns.ip(f"link add one index {INDEX} type bridge\nlink add two type bridge")
    links = Links(netns.path)
    assert links.table.names == netns.interfaces()
    assert links.table.names[INDEX] == "one"
    links.close()


def test_names_of_the_own_namespace() -> None:
    links = Links()
    assert links.table.names == dict(socket.if_nameindex())
    links.close()


def test_new_renamed_removed(netns: Netns) -> None:
    links = Links(netns.path)
    netns.ip(f"link add one index {INDEX} type bridge")
    assert names_of(links)[INDEX] == "one"
    netns.ip("link set one name uno")
    assert names_of(links)[INDEX] == "uno"
    netns.ip("link set uno up")
    assert names_of(links)[INDEX] == "uno"
    netns.ip("link del uno")
    assert INDEX not in names_of(links)
    assert names_of(links) == netns.interfaces()
    links.close()


def test_several_changes_at_once(netns: Netns) -> None:
    """A name goes from one interface to another, an index from one name to another."""
    netns.ip(f"link add one index {INDEX} type bridge\nlink add two index {INDEX + 1} type bridge")
    links = Links(netns.path)
    netns.ip(
        "link set one name tmp\n"
        "link set two name one\n"
        "link set tmp name two\n"
        "link del one\n"
        f"link add three index {INDEX + 1} type bridge"
    )
    assert names_of(links) == netns.interfaces() == {1: "lo", INDEX: "two", INDEX + 1: "three"}
    links.close()


def test_an_interface_that_moves_away(pair: Pair) -> None:
    links = Links(pair.fw.path)
    index = pair.fw.index("va")
    pair.fw.ip(f"link set va netns {pair.peer.name}")
    assert index not in names_of(links)
    links.close()


def test_a_port_that_leaves_its_bridge_keeps_its_name(bridge: Bridge) -> None:
    """The bridge announces it as deleted, in its own family."""
    links = Links(bridge.br.path)
    index = bridge.br.index("pa")
    bridge.br.ip("link set pa nomaster")
    assert names_of(links)[index] == "pa"
    bridge.br.ip("link del pa")
    assert index not in names_of(links)
    links.close()


def test_a_table_does_not_change(netns: Netns) -> None:
    """A batch shows the names that were current when it asked."""
    netns.ip(f"link add one index {INDEX} type bridge")
    links = Links(netns.path)
    table = links.table
    netns.ip("link set one name uno")
    assert names_of(links)[INDEX] == "uno"
    assert table.names[INDEX] == "one"
    unchanged = links.table
    links.update()
    assert links.table is unchanged
    links.close()


def test_many_interfaces(netns: Netns) -> None:
    """More than one datagram of the kernel's answer."""
    netns.ip("\n".join(f"link add d{number} type bridge" for number in range(50)))
    links = Links(netns.path)
    assert links.table.names == netns.interfaces()
    assert len(links.table) == 51
    links.close()


def overflow(netns: Netns, links: Links) -> None:
    """Let the kernel announce more than the socket takes."""
    links._socket.set_receive_buffer(0)
    netns.ip("link set one name n0\n" + "\n".join(f"link set n{number} name n{number + 1}" for number in range(30)))
    netns.ip("link set n30 name one")
    assert links._socket.drops > 0


def test_what_was_not_announced_is_asked_for(netns: Netns) -> None:
    """ENOBUFS: a rename, a removal and a new interface among the announcements that were lost."""
    netns.ip(f"link add one index {INDEX} type bridge\nlink add two index {INDEX + 1} type bridge")
    links = Links(netns.path)
    overflow(netns, links)
    netns.ip("link set one name uno\nlink del two\nlink add three type bridge")
    assert names_of(links) == netns.interfaces()
    netns.ip("link set uno name eins")
    assert names_of(links)[INDEX] == "eins"
    links.close()


def test_old_announcements_do_not_outlive_the_new_list(netns: Netns) -> None:
    """They wait in the socket in front of the answer: the last word on an interface whose removal was lost."""
    links = Links(netns.path)
    netns.ip(f"link add one index {INDEX} type bridge")
    overflow(netns, links)
    netns.ip("link del one")
    assert INDEX not in names_of(links)
    links.close()


def test_readable_when_something_changed(netns: Netns) -> None:
    links = Links(netns.path)
    assert not select.select([links], [], [], 0)[0]
    netns.ip("link add one type bridge")
    assert select.select([links], [], [], 10)[0]
    links.update()
    assert not select.select([links], [], [], 0)[0]
    links.close()


def test_nobody_but_the_kernel_is_believed(netns: Netns) -> None:
    links = Links(netns.path)
    with (
        netns.enter(),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as forger,
        pytest.raises(ConnectionRefusedError),
    ):
        forger.sendto(link_message(INDEX, "forged"), (links._socket.portid, 0))
    assert INDEX not in names_of(links)
    links.close()


def test_close(netns: Netns) -> None:
    before = os.listdir("/proc/self/fd")
    links = Links(netns.path)
    links.close()
    links.close()
    assert os.listdir("/proc/self/fd") == before
    assert links.table.names == {1: "lo"}
    with pytest.raises(ValueError, match="closed"):
        links.update()


def test_unknown_namespace() -> None:
    with pytest.raises(KernelError, match="no-such-netns"):
        Links("no-such-netns")


def test_tables_are_sorted_for_the_search_in_c() -> None:
    table = NameTable({9: "nine", 2**31: "large", 3: "\udcff-ü"})
    rows = [(row.index, ffi.buffer(row.name)[: row.length]) for row in table.array]
    assert rows == [(3, b"\xff-\xc3\xbc"), (9, b"nine"), (2**31, b"large")]
    assert len(NameTable({})) == 0


def test_only_the_kernel_is_believed(netns: Netns) -> None:
    """Root of a namespace, as in a container, can send to the group of interfaces."""
    netns.ip(f"link add one index {INDEX} type bridge")
    links = Links(netns.path)
    netns.forge(socket.NETLINK_ROUTE, link_message(INDEX, "bad"), RTNLGRP_LINK)
    assert names_of(links)[INDEX] == "one"
    assert links.foreign == 1
    links.close()
