# SPDX-License-Identifier: GPL-2.0-or-later
"""GPRINT: what a line has, that it can be taken apart whatever a value holds, and its ways to a file."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nflowlevel.filters.ip2str import IP2STR
from nflowlevel.outputs.gprint import GPRINT, GPRINTOptions
from nflowlevel.plugin.contract import NoOptions
from nflowlevel.records.sums import SUM
from tests.corpus import by_name
from tests.fix_acct import sums_of
from tests.fix_daemon import FILTERS, Daemon, config, log_by_iptables, log_rule, wait_for
from tests.fix_netns import Pair
from tests.fix_plugins import batch_of, stacks_of, written
from tests.flows import TCP6, deliver, flow_batch
from tests.forms import gprint_records, unescaped
from tests.messages import message_of, udp_message

Rendered = Callable[..., str]


@pytest.fixture
def rendered(tmp_path: Path) -> Rendered:
    """Returns what a stack writes of messages, with options of GPRINT."""

    def render(*messages: bytes, filters: str = f"{FILTERS},", options: str = "") -> str:
        path = tmp_path / "rendered"
        text = config(f"g:NFLOG,{filters}o:GPRINT", g="group=1", o=f"file={path}\n{options}")
        return written(text, path, *messages).decode(errors="surrogateescape")

    return render


def test_a_line(rendered: Rendered) -> None:
    """Names and values, their order, and what stands there twice: as ulogd2 writes it."""
    assert rendered(udp_message()) == (
        "raw.pktlen=35,raw.pktcount=1,oob.prefix=pfx: ,oob.time.sec=1795460084,oob.time.usec=190524,oob.mark=0,"
        "oob.ifindex_in=1,oob.hook=1,raw.mac_len=14,oob.family=2,oob.protocol=2048,raw.label=7,raw.type=1,"
        "raw.mac.addrlen=6,"
        "ip.saddr=10.77.0.2,ip.daddr=10.77.0.1,ip.protocol=17,ip.tos=0,ip.ttl=64,ip.totlen=35,ip.ihl=5,ip.csum=26157,"
        "ip.id=1,ip.fragoff=0,udp.sport=5000,udp.dport=53,udp.len=15,udp.csum=6727,oob.protocol=2048,"
        "oob.in=lo,oob.out=,ip.saddr.str=10.77.0.2,ip.daddr.str=10.77.0.1,raw.type=1,oob.protocol=2048,"
        "mac.saddr.str=02:77:00:00:00:02,mac.daddr.str=02:77:00:00:00:01,"
        "mac.str=02:77:00:00:00:01:02:77:00:00:00:02:08:00\n"
    )


def test_ipv6_addresses_are_text(rendered: Rendered) -> None:
    """D-G03: ulogd2 writes the first four bytes as if they were an address."""
    assert "ip.saddr=fd77::2,ip.daddr=fd77::1," in rendered(message_of(by_name("udp6")))


def test_addresses_of_ip2hbin_are_numbers(rendered: Rendered) -> None:
    """ulogd2 writes them as addresses, in the order of bytes that its machine has: 2.0.77.10."""
    assert rendered(udp_message(), filters="b:BASE,n:IP2HBIN,").endswith(",ip.hsaddr=172818434,ip.hdaddr=172818433\n")
    both = rendered(message_of(by_name("udp6")), filters="b:BASE,n:IP2HBIN,")
    assert "hsaddr" not in both.splitlines()[1], "IPv6 has no such number"


def test_a_stack_without_base(rendered: Rendered) -> None:
    assert rendered(udp_message(), filters="") == (
        "raw.pktlen=35,raw.pktcount=1,oob.prefix=pfx: ,oob.time.sec=1795460084,oob.time.usec=190524,oob.mark=0,"
        "oob.ifindex_in=1,oob.hook=1,raw.mac_len=14,oob.family=2,oob.protocol=2048,raw.label=7,raw.type=1,"
        "raw.mac.addrlen=6\n"
    )


@pytest.mark.parametrize("zone", ["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "NST3:30"])
def test_the_timestamp_is_the_local_time_of_writing(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        before = time.strftime("%Y/%m/%d-%H:%M:%S")
        lines = rendered(udp_message(), udp_message(), options="timestamp=1").splitlines()
        after = time.strftime("%Y/%m/%d-%H:%M:%S")
    finally:
        monkeypatch.undo()
        time.tzset()
    for line in lines:
        found = re.match(r"timestamp=(\d{4}/\d\d/\d\d-\d\d:\d\d:\d\d),raw\.pktlen=", line)
        assert found
        assert before <= found[1] <= after


def test_the_timestamp_moves_on(rendered: Rendered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "out"
    (stack,) = stacks_of(config("g:NFLOG,o:GPRINT", g="group=1", o=f"file={path}\ntimestamp=1"))
    stack.output.open()
    seconds = (1_795_460_084, 1_795_460_085, 1_795_460_084)
    for second in seconds:
        monkeypatch.setattr(time, "time", lambda second=second: second + 0.5)
        stack.deliver(batch_of(udp_message()))
    stack.close()
    wanted = [time.strftime("%Y/%m/%d-%H:%M:%S", time.localtime(second)) for second in seconds]
    assert [line[len("timestamp=") :].split(",")[0] for line in path.read_text().splitlines()] == wanted


def test_any_prefix_is_one_value(rendered: Rendered) -> None:
    """D-G02: in ulogd2's lines, a comma or a newline in a prefix begins another item or line."""
    every = bytes(range(1, 256))
    prefixes = [
        every,
        every[::-1],
        b",oob.mark=7",
        b"\n",
        b"\\",
        b"\\\\n",
        b"a,b=c\\x2c",
        b"x" * 9 + b",",
        b"\r\n\t\x7f",
    ]
    text = rendered(*(udp_message(prefix=prefix) for prefix in prefixes), filters="")
    found = gprint_records(text)
    assert [os.fsencode(unescaped(record["oob.prefix"])) for record in found] == prefixes
    assert {record["oob.mark"] for record in found} == {0}
    assert not set(text) & {chr(number) for number in (*range(10), *range(11, 32), 127)}


def test_what_needs_no_escape_has_none(rendered: Rendered) -> None:
    plain = bytes(number for number in range(32, 256) if number not in b",\\\x7f")
    (record,) = gprint_records(rendered(udp_message(prefix=plain), filters=""))
    assert os.fsencode(record["oob.prefix"]) == plain


@pytest.mark.parametrize("length", [4096, 60_000])
def test_lines_of_any_length(rendered: Rendered, length: int) -> None:
    """D-G01: with 4,095 bytes ulogd2 writes beyond its buffer."""
    first, second = gprint_records(rendered(udp_message(prefix=b"\x01" * length), udp_message()))
    assert first["oob.prefix"] == "\\x01" * length
    assert second["oob.prefix"] == "pfx: "


def test_sums(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (stack,) = stacks_of(config("a:NFACCT,o:GPRINT", a="pollinterval=1\ntimestamp=1", o=f"file={path}"))
    stack.output.open()
    batch = sums_of((b"web,in", 7, 2**64 - 1), (b"b", 0, 0))
    assert batch.type is SUM
    stack.deliver(batch)
    stack.close()
    assert path.read_text() == (
        f"sum.name=web\\x2cin,sum.pkts=7,sum.bytes={2**64 - 1},oob.time.sec=1795460084,oob.time.usec=190524\n"
        "sum.name=b,sum.pkts=0,sum.bytes=0,oob.time.sec=1795460084,oob.time.usec=190524\n"
    )


def test_a_torn_line_of_ours_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for options, torn, kept in (
        ("", b"raw.pktlen=35,raw.pktc", b""),
        ("", b"raw.pktcount=1,oob.pr", b""),
        ("", b"somebody else's", b"somebody else's\n"),
        ("timestamp=1", b"timestamp=2026/11", b""),
    ):
        path.write_bytes(b"raw.pktlen=1\n" + torn)
        (stack,) = stacks_of(config("g:NFLOG,o:GPRINT", g="group=1", o=f"file={path}\n{options}"))
        stack.output.open()
        stack.close()
        assert path.read_bytes() == b"raw.pktlen=1\n" + kept


def test_two_stacks_in_one_file(pair: Pair, tmp_path: Path) -> None:
    """A raw and a decoded one: each record has what its own stack publishes, and none is torn, across a rotation."""
    pair.fw.nft(log_rule(2, 3))
    out, old = tmp_path / "out", tmp_path / "out.1"
    text = config(
        f"g:NFLOG,{FILTERS},o:GPRINT", "f:NFLOG,o:GPRINT",
        g="group=2", f="group=3\nnumeric_label=1", o=f"file={out}",
    )  # fmt: skip
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(499)
        wait_for(lambda: out.read_text().count("\n") == 998, "the lines are there", lambda: daemon.stderr)
        out.rename(old)
        daemon.reload()
        pair.send_udp(1)
        wait_for(lambda: out.read_text().count("\n") == 2, "the lines are there", lambda: daemon.stderr)
    found = gprint_records(old.read_text() + out.read_text())
    assert len(found) == 1000
    assert ["dest_port" in record for record in found] == [record["raw.label"] == 0 for record in found]
    assert sum(record["raw.label"] for record in found) == 500


def test_a_prefix_of_the_kernel_s(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    log_by_iptables(pair.fw, 2, b"a,b\\c=\xff: ")
    with Daemon(tmp_path, config("g:NFLOG,o:GPRINT", g="group=2", o=f"file={out}"), netns=pair.fw) as daemon:
        pair.send_udp(1)
        wait_for(lambda: out.read_bytes().endswith(b"\n"), "the line is there", lambda: daemon.stderr)
    (record,) = gprint_records(out.read_bytes().decode(errors="surrogateescape"))
    assert record["oob.prefix"] == "a\\x2cb\\\\c=\udcff: "


def test_a_flow(tmp_path: Path) -> None:
    """Items and order as ulogd2 writes them, with whole addresses of IPv6 (D-G03)."""
    path = tmp_path / "gprint"
    deliver(flow_batch(TCP6), IP2STR("i", NoOptions()), GPRINT("g", GPRINTOptions(file=str(path))))
    line = path.read_text()
    assert line.startswith(
        "orig.ip.saddr=fd00::5,orig.ip.daddr=2001:db8::9,orig.ip.protocol=6,orig.l4.sport=40000,orig.l4.dport=22,"
        "orig.raw.pktlen=500,orig.raw.pktcount=5,reply.ip.saddr=2001:db8::9,reply.ip.daddr=fd00::5,"
        "reply.ip.protocol=6,reply.l4.sport=22,reply.l4.dport=40000,reply.raw.pktlen=1099511627776,"
        "reply.raw.pktcount=4,ct.mark=0,ct.id=305419896,ct.event=4,flow.start.sec=1795460074,flow.start.usec=250000,"
        "flow.end.sec=1795460081,flow.end.usec=750000,oob.family=10,oob.protocol=0,"
    )
    assert line.endswith(
        ",orig.ip.saddr.str=fd00::5,orig.ip.daddr.str=2001:db8::9,reply.ip.saddr.str=2001:db8::9,"
        "reply.ip.daddr.str=fd00::5\n"
    )
