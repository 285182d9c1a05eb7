# SPDX-License-Identifier: GPL-2.0-or-later
"""OPRINT: what a record has, that no value forges a line or a record, and that none is left torn."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nflowlevel.filters.ip2bin import IP2BIN
from nflowlevel.filters.ip2hbin import IP2HBIN
from nflowlevel.outputs.oprint import OPRINT, OPRINTOptions
from nflowlevel.plugin.contract import NoOptions
from tests.corpus import by_name
from tests.fix_acct import sums_of
from tests.fix_daemon import FILTERS, PATIENCE, Daemon, config, log_rule, wait_for
from tests.fix_lines import check, small_disk
from tests.fix_netns import Pair
from tests.fix_plugins import batch_of, opened_stack, stacks_of, written
from tests.flows import SNAT, TCP6, deliver, flow_batch
from tests.forms import BOUNDARY, oprint_records, unescaped
from tests.messages import message_of, udp_message

Rendered = Callable[..., str]


@pytest.fixture
def rendered(tmp_path: Path) -> Rendered:
    """Returns what a stack writes of messages."""

    def render(*messages: bytes, filters: str = f"{FILTERS},") -> str:
        path = tmp_path / "rendered"
        text = config(f"g:NFLOG,{filters}o:OPRINT", g="group=1", o=f"file={path}")
        return written(text, path, *messages).decode(errors="surrogateescape")

    return render


_RAW = [
    "raw.mac=default", "raw.pkt=default", "raw.pktlen=35", "raw.pktcount=1", "oob.prefix=pfx: ",
    "oob.time.sec=1795460084", "oob.time.usec=190524", "oob.mark=0", "oob.ifindex_in=1", "oob.hook=1", "raw.mac_len=14",
    "oob.family=2", "oob.protocol=2048", "raw.label=7", "raw.type=1", "raw.mac.saddr=default", "raw.mac.addrlen=6",
    "raw=default",
]  # fmt: skip


def test_a_record(rendered: Rendered) -> None:
    """Names and values, their order, and what stands there twice: as ulogd2 writes it, with right addresses."""
    decoded = [
        "ip.saddr=10.77.0.2", "ip.daddr=10.77.0.1", "ip.protocol=17", "ip.tos=0", "ip.ttl=64", "ip.totlen=35",
        "ip.ihl=5", "ip.csum=26157", "ip.id=1", "ip.fragoff=0", "udp.sport=5000", "udp.dport=53", "udp.len=15",
        "udp.csum=6727", "oob.protocol=2048", "oob.in=lo", "oob.out=", "ip.saddr.str=10.77.0.2",
        "ip.daddr.str=10.77.0.1", "raw.type=1", "oob.protocol=2048", "mac.saddr.str=02:77:00:00:00:02",
        "mac.daddr.str=02:77:00:00:00:01", "mac.str=02:77:00:00:00:01:02:77:00:00:00:02:08:00",
        "ip.saddr.bin=default", "ip.daddr.bin=default",
    ]  # fmt: skip
    text = rendered(udp_message(), filters=f"{FILTERS},n:IP2BIN,")
    assert text == BOUNDARY + "".join(f"{line}\n" for line in (*_RAW, *decoded))


def test_a_stack_without_base(rendered: Rendered) -> None:
    """ulogd2 runs it although the types do not fit."""
    assert rendered(udp_message(), udp_message(), filters="") == 2 * (BOUNDARY + "".join(f"{x}\n" for x in _RAW))


def test_ipv6_addresses_are_text(rendered: Rendered) -> None:
    assert "\nip.saddr=fd77::2\nip.daddr=fd77::1\n" in rendered(message_of(by_name("udp6")))


def test_no_prefix_forges_a_line(rendered: Rendered) -> None:
    every = bytes(range(1, 256))
    forged = f"x\n{BOUNDARY}oob.mark=7\n".encode()
    prefixes = [every, every[::-1], forged, b"\n", b"\\", b"\r\n" * 9, b"a,b=c"]
    text = rendered(*(udp_message(prefix=prefix) for prefix in prefixes), filters="")
    found = oprint_records(text)
    assert [os.fsencode(unescaped(record["oob.prefix"])) for record in found] == prefixes
    assert {record["oob.mark"] for record in found} == {0}
    assert found[-1]["oob.prefix"] == "a,b=c"
    assert not set(text) & {chr(number) for number in (*range(10), *range(11, 32), 127)}


def test_sums(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (stack,) = stacks_of(config("a:NFACCT,o:OPRINT", a="pollinterval=1\ntimestamp=1", o=f"file={path}"))
    stack.output.open()
    stack.deliver(sums_of((b"web", 7, 2**64 - 1)))
    stack.close()
    assert path.read_text() == (
        f"{BOUNDARY}sum.name=web\nsum.pkts=7\nsum.bytes={2**64 - 1}\nsum=default\n"
        "oob.time.sec=1795460084\noob.time.usec=190524\n"
    )


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    """Records are counted as such, though each has many lines."""
    with small_disk(tmp_path / "disk", "16k") as disk:
        path = disk / "out"
        stack = opened_stack(config(f"g:NFLOG,{FILTERS},o:OPRINT", g="group=1", o=f"file={path}"))
        for number in range(40):
            stack.deliver(batch_of(*[udp_message(mark=number * 3 + each) for each in range(3)]))
        stats = stack.output.stats
        check(stats)
        assert 0 < stats.written < 120
        found = oprint_records(path.read_text())
        assert len(found) == stats.written
        assert all("mac.str" in record for record in found)
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        stack.output.retry()
        stack.close()
        check(stats)
        assert [record["oob.mark"] for record in oprint_records(path.read_text())] == list(range(120))


@pytest.mark.parametrize("torn", ["ip.saddr=10.7", "ip.sa", "oob.prefix=a b", "===>PACK"])
def test_a_torn_record_is_removed(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "out"
    whole = f"{BOUNDARY}raw.pktlen=35\nip.saddr=10.77.0.2\n"
    path.write_text(whole + ("" if torn.startswith("=") else f"{BOUNDARY}raw.pktlen=35\n") + torn)
    (stack,) = stacks_of(config("g:NFLOG,o:OPRINT", g="group=1", o=f"file={path}"))
    stack.output.open()
    stack.close()
    assert path.read_text() == whole
    assert stack.output.stats.as_dict()["torn"] == 1


def test_over_udp_each_record_is_a_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(PATIENCE)
        peer = f"mode=udp\nhost=127.0.0.1\nport={receiver.getsockname()[1]}"
        (stack,) = stacks_of(config("g:NFLOG,o:OPRINT", g="group=1", o=peer))
        stack.output.open()
        stack.deliver(batch_of(*[udp_message(mark=number) for number in range(7)]))
        datagrams = [receiver.recv(65536) for _ in range(7)]
        stack.close()
    found = [oprint_records(data.decode()) for data in datagrams]
    assert [[record["oob.mark"] for record in each] for each in found] == [[number] for number in range(7)]


def test_a_daemon_that_rotates(pair: Pair, tmp_path: Path) -> None:
    pair.fw.nft(log_rule(2))
    out, old = tmp_path / "out", tmp_path / "out.1"
    text = config(f"g:NFLOG,{FILTERS},o:OPRINT", g="group=2\nseq_local=1", o=f"file={out}\nsync=1")
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(499)
        wait_for(lambda: out.read_text().count(BOUNDARY) == 499, "the records are there", lambda: daemon.stderr)
        out.rename(old)
        daemon.reload()
        pair.send_udp(1)
        wait_for(lambda: out.read_text().count(BOUNDARY) == 1, "the record is there", lambda: daemon.stderr)
    found = oprint_records(old.read_text() + out.read_text())
    assert [record["oob.seq.local"] for record in found] == list(range(500))


def test_a_flow(tmp_path: Path) -> None:
    """As ulogd2 writes it, with right addresses: also its object `ct`, of which there is nothing to say."""
    path = tmp_path / "oprint"
    filters = IP2BIN("b", NoOptions()), IP2HBIN("h", NoOptions())
    deliver(flow_batch(SNAT, TCP6), *filters, OPRINT("o", OPRINTOptions(file=str(path))))
    four, six = path.read_text().removeprefix(BOUNDARY).split(BOUNDARY)
    assert four.startswith("orig.ip.saddr=10.0.0.5\norig.ip.daddr=203.0.113.9\norig.ip.protocol=6\n")
    assert "\noob.family=2\noob.protocol=0\nct=default\n" in four
    assert four.endswith(
        "\norig.ip.saddr.bin=default\norig.ip.daddr.bin=default\nreply.ip.saddr.bin=default\n"
        "reply.ip.daddr.bin=default\norig.ip.hsaddr=167772165\norig.ip.hdaddr=3405803785\n"
        "reply.ip.hsaddr=3405803785\nreply.ip.hdaddr=3325256711\n"
    )
    assert six.startswith("orig.ip.saddr=fd00::5\n")
    assert "hsaddr" not in six
