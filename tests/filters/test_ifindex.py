# SPDX-License-Identifier: GPL-2.0-or-later
"""IFINDEX: names of the moment, of the right namespace, and never those of another packet or interface."""

from __future__ import annotations

import io
import logging
import socket
from collections.abc import Iterator

import pytest

import nflowlevel as nfl
from nflowlevel.filters.ifindex import IFINDEX
from nflowlevel.inputs.pcapfile import PCAPFILE, PCAPFILEOptions
from nflowlevel.logs import log
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.records.batch import Batch
from tests import captures
from tests.fix_decoder import decode, shown
from tests.fix_group import collect, log_udp
from tests.fix_netns import Bridge, Netns, Pair
from tests.netlink import RTNLGRP_LINK, link_message
from tests.oracle import build_message

INDEX = 4242


@pytest.fixture
def plugin(netns: Netns) -> Iterator[IFINDEX]:
    """In a namespace with the interface `one`."""
    netns.ip(f"link add one index {INDEX} type bridge")
    made = IFINDEX("ifi1", NoOptions())
    made.netns = netns.path
    made.open()
    yield made
    made.close()


def batch_of(*indexes: tuple[int | None, int | None]) -> Batch:
    return decode([build_message(b"", indev=indev, outdev=outdev) for indev, outdev in indexes]).batch


def names(plugin: IFINDEX, *indexes: tuple[int | None, int | None]) -> list[tuple[str, str]]:
    """Return input and output name of packets, as the library and as JSON give them."""
    batch = plugin.process(batch_of(*indexes))
    rows = [(record["oob.in"], record["oob.out"]) for record in shown(batch, plugin.published())]
    assert batch.rows("oob.in", "oob.out") == rows
    return rows


def test_names(plugin: IFINDEX) -> None:
    assert names(plugin, (INDEX, 1), (1, None), (None, INDEX)) == [("one", "lo"), ("lo", ""), ("", "one")]


def test_without_an_interface_or_with_an_unknown_one(plugin: IFINDEX) -> None:
    """ulogd2 gives the previous packet's name."""
    assert names(plugin, (INDEX, 1), (INDEX + 1, 99), (0, 0), (None, None), (INDEX, 2**32 - 1)) == [
        ("one", "lo"),
        ("", ""),
        ("", ""),
        ("", ""),
        ("one", ""),
    ]


def test_renamed_between_two_batches(plugin: IFINDEX, netns: Netns) -> None:
    assert names(plugin, (INDEX, None)) == [("one", "")]
    netns.ip("link set one name uno")
    assert names(plugin, (INDEX, None)) == [("uno", "")]


def test_removed_and_its_index_used_again(plugin: IFINDEX, netns: Netns) -> None:
    netns.ip("link del one")
    assert names(plugin, (INDEX, None)) == [("", "")]
    netns.ip(f"link add other index {INDEX} type bridge")
    assert names(plugin, (INDEX, None)) == [("other", "")]


def test_a_batch_keeps_the_names_it_got(plugin: IFINDEX, netns: Netns) -> None:
    """As long as a slow output keeps it."""
    batch = plugin.process(batch_of((INDEX, None)))
    netns.ip("link set one name uno")
    assert names(plugin, (INDEX, None)) == [("uno", "")]
    assert batch.values("oob.in") == ["one"]
    assert batch.select([0]).values("oob.in") == ["one"]


def test_what_another_process_says_is_ignored_and_told(
    plugin: IFINDEX, netns: Netns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO)
    netns.forge(socket.NETLINK_ROUTE, link_message(INDEX, "forged"), RTNLGRP_LINK)
    for _ in range(3):
        assert names(plugin, (INDEX, None)) == [("one", "")]
    (text,) = caplog.messages
    assert text.startswith("ifi1:IFINDEX: 1 messages about interfaces were ignored so far")


def test_empty_batch(plugin: IFINDEX) -> None:
    assert len(plugin.process(Batch(None, 0))) == 0


def test_a_file_has_its_own_names() -> None:
    """Those of this machine mean nothing to it."""
    data = captures.section() + captures.interface(captures.RAW, name=b"eth7")
    data += captures.packet_block(captures.udp_packets(1)[0])
    plugin = IFINDEX("ifi1", NoOptions())
    plugin.input = PCAPFILE("p", PCAPFILEOptions(file="x"))
    plugin.open()
    with nfl.read_pcap(io.BytesIO(data)) as packets:
        batch = plugin.process(packets.receive())
    assert [(r["oob.in"], r["oob.out"]) for r in shown(batch, plugin.published())] == [("eth7", "")]
    with nfl.read_pcap(
        io.BytesIO(captures.pcap([captures.Captured(captures.nflog(build_message(b"", indev=1)))], 239))
    ) as packets:
        batch = plugin.process(packets.receive())
    assert [(r["oob.in"], r["oob.out"]) for r in shown(batch, plugin.published())] == [("", "")]
    plugin.close()


def test_close_twice() -> None:
    plugin = IFINDEX("ifi1", NoOptions())
    plugin.close()
    plugin.open()
    plugin.close()
    plugin.close()


def test_packets_of_a_kernel(pair: Pair) -> None:
    """A rename while packets come: each batch has the name of its time."""
    log_udp(pair)
    plugin = IFINDEX("ifi1", NoOptions())
    plugin.netns = pair.fw.path
    plugin.open()
    with nfl.open_group(2, netns=pair.fw.path) as group:
        pair.send_udp(3)
        (batch,) = collect(group, 3)
        assert plugin.process(batch).rows("oob.in", "oob.out") == [("va", "")] * 3
        pair.fw.ip("link set va name outside")
        pair.send_udp(3)
        (batch,) = collect(group, 3)
        assert plugin.process(batch).rows("oob.in", "oob.out") == [("outside", "")] * 3
    plugin.close()


def test_ports_of_a_bridge(bridge: Bridge) -> None:
    """The names of bridge ports come with the bridge's own."""
    batch = decode([build_message(b"", family=7, physindev=bridge.br.index("pa"), physoutdev=77)]).batch
    plugin = IFINDEX("ifi1", NoOptions())
    plugin.netns = bridge.br.path
    plugin.open()
    plugin.process(batch)
    assert shown(batch, plugin.published()) == [{"oob.in": "", "oob.out": "", "oob.physin": "pa", "oob.physout": ""}]
    plugin.close()
