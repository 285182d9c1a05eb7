# SPDX-License-Identifier: GPL-2.0-or-later
"""What GPRINT, OPRINT and XML write against what those of ulogd2 write, over every nft family and the whole corpus.

As test_parity.py does for JSON: names, their order and how often each stands there, and values byte for byte, but for
the differences on the list.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import oracle
from tests.fix_debian import need
from tests.fix_netns import Bridge, Netns, Pair
from tests.forms import escaped
from tests.parity_differences import DIFFERENCES, Case, Difference
from tests.test_parity import Recorder, Stage, play_all
from tests.ulogd2 import Nflowlevel, Ulogd2


@contextlib.contextmanager
def _daemon(netns: Netns, group: int, directory: Path, *, output: str) -> Iterator[Recorder]:
    """Read a group with our daemon, configured as ulogd2 is."""
    options = "seq_local=1\nseq_global=1"
    with Nflowlevel(netns, directory, group=group, output=output, options=options) as daemon:
        yield daemon


def _stage(output: str, directory: Path, differences: tuple[Difference, ...]) -> Stage:
    opener = functools.partial(_daemon, output=output)
    return Stage(opener, directory, ordered=True, output=output, differences=differences)


def _of_all(*extra: Difference) -> tuple[Difference, ...]:
    """Return the list for a form: what differs in all records, but for what JSON alone does, and its own."""
    return (*(entry for entry in DIFFERENCES if not entry.id.startswith("D-J")), *extra)


def _reversed(case: Case, *members: str) -> bool:
    """Whether ulogd2 wrote the bytes of an IPv4 address from the last to the first."""
    found = [member for member in members if member in case.ours and member in case.theirs]
    return bool(found) and all(
        ".".join(reversed(str(case.theirs[member]).split("."))) == case.ours[member] for member in found
    )


def _first_four(case: Case, step: int) -> bool:
    """Whether ulogd2 wrote the first four bytes of IPv6 addresses, forward or backward."""

    def first(address: Any) -> str:
        return ".".join(str(byte) for byte in ipaddress.IPv6Address(address).packed[:4][::step])

    return all(case.theirs[member] == first(case.ours[member]) for member in ("ip.saddr", "ip.daddr"))


def _escaping(separator: str) -> Difference:
    return Difference(
        "D-G02",
        ("oob.prefix",),
        "both",
        lambda case: case.ours["oob.prefix"] == escaped(case.theirs["oob.prefix"], separator),
        "ulogd2 writes control characters, and what separates items, as they are.",
    )


_ARP_ADDRESSES = ("arp.saddr", "arp.daddr")

GPRINT_DIFFERENCES = _of_all(
    _escaping(","),
    Difference(
        "D-G03",
        ("ip.saddr", "ip.daddr"),
        "both",
        lambda case: case.ip6 and _first_four(case, 1),
        "ulogd2 writes the first four bytes of an IPv6 address as if they were one of IPv4.",
    ),
    Difference(
        "icmp-gateway",
        ("icmp.gateway",),
        "both",
        lambda case: _reversed(case, "icmp.gateway"),
        "ulogd2 writes the bytes of the gateway from the last to the first.",
    ),
    Difference(
        "D-B09",
        _ARP_ADDRESSES,
        "both",
        lambda case: case.network[0] == oracle.ETH_ARP,
        "ulogd2 writes a part of a memory address in place of ARP's addresses.",
    ),
    Difference(
        "arp-foreign",
        _ARP_ADDRESSES,
        "them",
        lambda case: case.network[0] == oracle.ETH_ARP and case.packet[2:6] != bytes([8, 0, 6, 4]),
        "ulogd2 looks for Ethernet and IPv4 addresses whatever the ARP packet is about.",
    ),
)

OPRINT_DIFFERENCES = _of_all(
    _escaping("\n"),
    Difference(
        "D-O01",
        ("ip.saddr", "ip.daddr"),
        "both",
        lambda case: case.ip4 and _reversed(case, "ip.saddr", "ip.daddr"),
        "ulogd2 writes the bytes of an IPv4 address from the last to the first.",
    ),
    Difference(
        "D-G03",
        ("ip.saddr", "ip.daddr"),
        "both",
        lambda case: case.ip6 and _first_four(case, -1),
        "ulogd2 writes the first four bytes of an IPv6 address as if they were one of IPv4.",
    ),
    Difference(
        "D-B09",
        _ARP_ADDRESSES,
        "both",
        lambda case: case.network[0] == oracle.ETH_ARP,
        "ulogd2 writes a part of a memory address in place of ARP's addresses.",
    ),
    Difference(
        "arp-foreign",
        (*_ARP_ADDRESSES, "arp.shwaddr", "arp.dhwaddr"),
        "them",
        lambda case: case.network[0] == oracle.ETH_ARP and case.packet[2:6] != bytes([8, 0, 6, 4]),
        "ulogd2 looks for Ethernet and IPv4 addresses whatever the ARP packet is about.",
    ),
    Difference(
        "D-N05",
        ("raw.l2hdr",),
        "us",
        lambda case: case.family in (oracle.BRIDGE, oracle.NETDEV),
        "ulogd2 has no key for the link-layer header of bridged packets.",
    ),
)


XML_DIFFERENCES = (
    Difference(
        "D-X01",
        ("prefix",),
        "both",
        lambda case: case.ours["prefix"] == _in_xml(case.theirs["prefix"]),
        "ulogd2 writes characters that XML reserves or cannot hold as they are.",
    ),
)


def _in_xml(text: str) -> str:
    """Return a text as a document can hold it: written independently of the renderer in C."""
    read = os.fsencode(text).decode("utf-8", "replace")
    read = "".join(c if c >= " " or c in "\t\n\r" else "\ufffd" for c in read)
    for character, reference in (("&", "&amp;"), ("<", "&lt;"), ("]]>", "]]&gt;"), ("\n", "&#10;"), ("\r", "&#13;")):
        read = read.replace(character, reference)
    return read


@pytest.mark.parametrize(
    ("output", "differences"),
    [("GPRINT", GPRINT_DIFFERENCES), ("OPRINT", OPRINT_DIFFERENCES), ("XML", XML_DIFFERENCES)],
)
def test_all_records(
    output: str, differences: tuple[Difference, ...], tmp_path: Path, bridge: Bridge, pair: Pair
) -> None:
    stage = _stage(output, tmp_path, differences)
    play_all(stage, bridge, pair)
    print(f"{output}: {stage.cases} records compared")


# -- sums -------------------------------------------------------------------------------------------------------------


def _sums(kind: type[Ulogd2], netns: Netns, directory: Path, output: str, options: str) -> str:
    """Return what a daemon writes of the accounting objects, each number of a time as #."""
    directory.mkdir()
    daemon = kind(netns, directory, filters=(), output=output)
    text = daemon.config.read_text().replace("inppkt_NFLOG", "inpflow_NFACCT").replace("NFLOG", "NFACCT")
    input_ = f"[i0]\npollinterval=1\nzerocounter=0\n{options}\n"
    daemon.config.write_text(re.sub(r"\[i0\].*?(?=\[i1\])", input_, text, flags=re.DOTALL))
    with daemon.started():
        daemon.until("web", 2)
    text = re.sub(r"<(hour|min|sec|wday|day|month|year)>\d+<", r"<\1>#<", daemon.text)
    return re.sub(r"(oob\.time\.u?sec)=\d+", r"\1=#", text)


@pytest.mark.parametrize("options", ["", "timestamp=1"])
@pytest.mark.parametrize("output", ["GPRINT", "OPRINT", "XML"])
def test_sums(output: str, options: str, tmp_path: Path, netns: Netns) -> None:
    """Byte for byte, but for the time, over as many polls as both have made."""
    need("nfacct")
    for name in ("web", "a b", "http-0123456789-0123456789-01234"):
        netns.run("nfacct", "add", name[:31])
    theirs = _sums(Ulogd2, netns, tmp_path / "theirs", output, options)
    ours = _sums(Nflowlevel, netns, tmp_path / "ours", output, options)
    end = "</sum>\n"
    assert ours.endswith(end) == theirs.endswith(end) == (output == "XML")
    ours, theirs = ours.removesuffix(end), theirs.removesuffix(end)
    assert "web" in ours
    assert ours.startswith(theirs) or theirs.startswith(ours)
