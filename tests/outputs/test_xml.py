# SPDX-License-Identifier: GPL-2.0-or-later
"""XML: what elements have, that every document is well-formed, and where documents begin and end."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import signal
import stat
import xml.dom.minidom
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.outputs.xml import XML, XMLOptions
from nflowlevel.records.batch import Batch
from nflowlevel.records.keys import published_by
from tests.corpus import by_name, ipv4
from tests.fix_acct import sums_of
from tests.fix_daemon import FILTERS, Daemon, config, log_rule, wait_for
from tests.fix_netns import Pair
from tests.fix_nobody import NOBODY
from tests.fix_plugins import batch_of, run_stack, stacks_of
from tests.fix_reports import full, received, report
from tests.fix_zone import zone
from tests.flows import ALL, DNAT, GRE, ICMP, NEW, NOW, TCP, UDP, FlowOf, deliver, flow_batch
from tests.messages import message_of

__all__ = ["zone"]

_TIME = (1_795_460_084, 190_524)  # 2026-11-23 18:54:44 UTC

Rendered = Callable[..., str]


def documents(directory: Path) -> list[Path]:
    """Return the documents, in the order in which they were begun; fail where a name is none of ulogd2's."""
    found = []
    for path in directory.iterdir():
        name = re.fullmatch(r"ulogd-(?:pkt|flow|sum)-(\d\d)(\d\d)(\d{4})-(\d{6})(?:-(\d+))?\.xml", path.name)
        assert name, path.name
        day, month, year, clock, number = name.groups(default="0")
        found.append((year, month, day, clock, int(number), path))
    return [path for *_, path in sorted(found)]


def elements(directory: Path) -> list[ET.Element]:
    """Return the elements of all documents, each of which has to be whole."""
    return [element for path in documents(directory) for element in ET.fromstring(path.read_bytes())]


@pytest.fixture
def rendered(tmp_path: Path, zone: object) -> Rendered:
    """Returns the document that a stack writes of messages."""

    def render(*messages: bytes, filters: str = "") -> str:
        directory = tmp_path / "documents"
        directory.mkdir(exist_ok=True)
        run_stack(config(f"g:NFLOG,{filters}x:XML", g="group=1", x=f"directory={directory}"), *messages)
        (path,) = documents(directory)
        text = path.read_text(encoding="utf-8")
        path.unlink()
        return text

    return render


def udp_message(**more: Any) -> bytes:
    """Return a logged UDP packet."""
    return message_of(by_name("udp4"), **{"prefix": b"pfx: ", "time": _TIME, **more})


_WHEN = "<hour>18</hour><min>54</min><sec>44</sec><wday>2</wday><day>23</day><month>11</month><year>2026</year>"


@pytest.mark.parametrize("filters", ["", f"{FILTERS},"])
def test_a_packet(rendered: Rendered, filters: str) -> None:
    """As ulogd2 writes it, whether BASE is there or not."""
    message = udp_message(indev=2, outdev=3, physindev=4, physoutdev=5, mark=7)
    assert rendered(message, filters=filters) == (
        '<?xml version="1.0" encoding="utf-8"?>\n<packet>\n'
        f"<log><when>{_WHEN}</when><prefix>pfx: </prefix><hook>1</hook>"
        "<hw><proto>0800</proto><src>027700000002</src></hw><mark>7</mark><indev>2</indev><outdev>3</outdev>"
        "<physindev>4</physindev><physoutdev>5</physoutdev><payload>"
        f"{by_name('udp4').payload.hex()}</payload></log>\n</packet>\n"
    )


def test_what_a_packet_lacks_is_left_out(rendered: Rendered) -> None:
    text = rendered(message_of(by_name("udp4"), prefix=None, hwaddr=None, time=_TIME))
    assert "<when>" in text
    assert (
        f"</when><hook>1</hook><hw><proto>0800</proto></hw><payload>{by_name('udp4').payload.hex()}</payload>" in text
    )


def test_the_type_is_the_kernel_s_not_hwhdr_s(rendered: Rendered) -> None:
    message = udp_message(hwheader=bytes(12) + b"\x08\x06")
    assert "<proto>0800</proto>" in rendered(message, filters=f"{FILTERS},")


def test_sums(tmp_path: Path, zone: Callable[[str], None]) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    (stack,) = stacks_of(config("a:NFACCT,x:XML", a="pollinterval=1", x=f"directory={tmp_path}"))
    stack.output.open()
    stack.deliver(sums_of((b"web in", 7, 2**64 - 1), (b"a<b&c>\xff", 0, 10**19), stamp=False))
    stack.close()
    (path,) = documents(tmp_path)
    assert path.name.startswith("ulogd-sum-")
    when = _WHEN.replace("<hour>18", "<hour>19")
    assert path.read_text() == (
        '<?xml version="1.0" encoding="utf-8"?>\n<sum>\n'
        f"<obj><name>web in</name><pkts>00000000000000000007</pkts><bytes>18446744073709551615</bytes>{when}</obj>\n"
        "<obj><name>a&lt;b&amp;c>\ufffd</name><pkts>00000000000000000000</pkts><bytes>10000000000000000000</bytes>"
        f"{when}</obj>\n</sum>\n"
    )


def test_sums_that_are_no_records(tmp_path: Path, zone: object) -> None:
    """Such as NFTCOUNTER's; a quota counts no packets."""
    output = XML("x", XMLOptions(directory=str(tmp_path)))
    output.bind(tuple((key.name, key) for key in published_by("NFTCOUNTER")))
    output.open()
    columns = {"sum.name": ["inet.t.c", "inet.t.q"], "sum.pkts": [7, None], "sum.bytes": [2**64 - 1, 0]}
    output.write(Batch.of_columns(columns, time=_TIME))
    output.close()
    first, second = elements(tmp_path)
    assert [child.tag for child in first[:3]] == ["name", "pkts", "bytes"]
    assert [child.text for child in first[:3]] == ["inet.t.c", f"{7:020}", f"{2**64 - 1:020}"]
    assert [child.text for child in second[:2]] == ["inet.t.q", "0" * 20]


def test_every_prefix_is_text_of_a_document(rendered: Rendered) -> None:
    """D-X01: what XML reserves is written as references, what it cannot hold becomes U+FFFD."""
    chance = random.Random(1)
    prefixes = [bytes(range(1, 256)), b"a<b&c>d\"e'f", b"]]>", b"x]]>]]>y", b"]>", b"<log>", b"\n\r\t", b"12345]]>",
                "\ufffe\uffff\ufffd\ud7ff\ue000\U0010ffff\x7f\x85\u2028".encode(), b"\xed\xa0\x80"]  # fmt: skip
    prefixes += [bytes(chance.choice(b"<>&]\n\r\t\1\xef\xbf\xbe\xbd aZ") for _ in range(40)) for _ in range(200)]
    prefixes += [bytes(chance.randrange(1, 256) for _ in range(chance.randrange(127))) for _ in range(500)]
    text = rendered(*(udp_message(prefix=prefix) for prefix in prefixes))
    assert text.count("\n") == len(prefixes) + 3
    found = [element.text or "" for element in ET.fromstring(text.encode()).iter("prefix")]
    assert found == [_readable(prefix) for prefix in prefixes]
    assert xml.dom.minidom.parseString(text.encode()).documentElement.tagName == "packet"


def _readable(prefix: bytes) -> str:
    text = prefix.decode("utf-8", "replace")
    return "".join(c if c >= " " or c in "\t\n\r" else "\ufffd" for c in text).translate(
        {0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}
    )


def test_what_needs_no_reference_has_none(rendered: Rendered) -> None:
    plain = "in->out \"x\" 'y' grün ]] > \t\x7f"
    assert f"<prefix>{plain}</prefix>" in rendered(udp_message(prefix=plain.encode()))


@pytest.mark.parametrize("size", [1_900, 4_096, 60_000])
def test_packets_of_any_size(rendered: Rendered, size: int) -> None:
    """D-X02: ulogd2 loses what gives more than 4,095 bytes of text."""
    payload = ipv4(17, bytes(size))
    message = message_of(dataclasses.replace(by_name("udp4"), payload=payload), time=_TIME)
    found = ET.fromstring(rendered(message, udp_message()).encode())
    assert [element.text for element in found.iter("payload")] == [payload.hex(), by_name("udp4").payload.hex()]


def test_a_section_of_two_kinds(tmp_path: Path) -> None:
    """Packets of two stacks are in one document, sums in another: ulogd2 has one for each stack."""
    sections = {"g": "group=1", "k": "group=2", "a": "pollinterval=1", "x": f"directory={tmp_path}"}
    stacks = stacks_of(config("g:NFLOG,x:XML", f"k:NFLOG,{FILTERS},x:XML", "a:NFACCT,x:XML", **sections))
    for stack in stacks:
        stack.destination.open(stack.share)
        for plugin in stack.filters:
            plugin.open()
    for _ in range(2):
        stacks[0].deliver(batch_of(udp_message()))
        stacks[1].deliver(batch_of(udp_message()))
        stacks[2].deliver(sums_of((b"a", 1, 2)))
    for stack in stacks:
        stack.close()
    assert [path.name[:10] for path in documents(tmp_path)].count("ulogd-pkt-") == 1
    assert sorted(element.tag for element in elements(tmp_path)) == ["log"] * 4 + ["obj"] * 2
    assert [stack.output.stats.written for stack in stacks] == [4, 4, 2]


# -- the daemon -------------------------------------------------------------------------------------------------------


def logged(directory: Path) -> int:
    """Return how many packets the documents have so far."""
    return sum(path.read_bytes().count(b"</log>\n") for path in documents(directory))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "documents"
    path.mkdir()
    return path


def test_hup_completes_a_document(pair: Pair, tmp_path: Path, directory: Path) -> None:
    pair.fw.nft(log_rule(2))
    text = config("g:NFLOG,x:XML", g="group=2", x=f"directory={directory}/\nsync=1")
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(23)
        wait_for(lambda: documents(directory)[0].read_bytes().count(b"</log>\n") == 23, "all are there")
        daemon.reload()
        first, second = documents(directory)
        assert len(ET.fromstring(first.read_bytes())) == 23
        assert second.read_bytes().endswith(b"<packet>\n")
        pair.send_udp(6)
        wait_for(lambda: second.read_bytes().count(b"</log>\n") == 6, "all are there")
        daemon.reload()
        pair.send_udp(1)
    assert [len(ET.fromstring(path.read_bytes())) for path in documents(directory)] == [23, 6, 1]


def test_hup_leaves_standard_output(pair: Pair, tmp_path: Path, directory: Path) -> None:
    """D-X03: ulogd2 goes on in a file."""
    pair.fw.nft(log_rule(2))
    text = config("g:NFLOG,x:XML", g="group=2", x=f"directory={directory}\nstdout=1")
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(23)
        daemon.reload()
        pair.send_udp(6)
    assert len(ET.fromstring(daemon.stdout.encode())) == 29
    assert not list(directory.iterdir())


def test_a_killed_daemon(pair: Pair, tmp_path: Path, directory: Path) -> None:
    """D-X04: the document that it left is completed by the next one."""
    pair.fw.nft(log_rule(2))
    text = config("g:NFLOG,x:XML", g="group=2", x=f"directory={directory}")
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        pair.send_udp(23)
        wait_for(lambda: documents(directory)[0].read_bytes().count(b"</log>\n") == 23, "all are there")
        daemon.send(signal.SIGKILL)
        daemon.process.wait()
    (left,) = documents(directory)
    assert not left.read_bytes().endswith(b"</packet>\n")
    with left.open("ab") as file:
        file.write(b"<log><when><hour>1")
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        daemon.says(f"{left} had no end (a crash?)")
        pair.send_udp(6)
    assert [len(ET.fromstring(path.read_bytes())) for path in documents(directory)] == [23, 6]


@pytest.mark.parametrize("whose", ["root's", "the user's"])
def test_as_another_user(pair: Pair, tmp_path: Path, open_to_all: Path, users: Path, whose: str) -> None:
    """In a directory that only root can change, root makes the documents, after SIGHUP too."""
    pair.fw.nft(log_rule(2))
    directory = users
    if whose == "root's":
        directory = open_to_all / "roots"
        directory.mkdir(0o755)
    text = config("g:NFLOG,x:XML", g="group=2", x=f"directory={directory}")
    for _ in range(2):
        with Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw) as daemon:
            pair.send_udp(23)
            wait_for(lambda: logged(directory) % 29 == 23, "all are there", lambda: daemon.stderr)
            daemon.reload()
            pair.send_udp(6)
            wait_for(lambda: logged(directory) % 29 == 0, "all are there", lambda: daemon.stderr)
            daemon.send(signal.SIGKILL)
            daemon.process.wait()
        owner = 0 if whose == "root's" else NOBODY
        assert {path.stat().st_uid for path in documents(directory)} == {owner}
        assert {stat.S_IMODE(path.stat().st_mode) for path in documents(directory)} == {0o644}
    with Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw):
        pass
    assert [len(ET.fromstring(path.read_bytes())) for path in documents(directory)] == [23, 6, 23, 6, 0]


def test_what_a_user_planted_is_not_followed(pair: Pair, tmp_path: Path, open_to_all: Path, users: Path) -> None:
    """The user whose directory it is leads the name to a directory of root's: root makes nothing there."""
    roots = open_to_all / "roots"
    roots.mkdir(0o755)
    (users / "log").symlink_to(roots)
    text = config("g:NFLOG,x:XML", g="group=2", x=f"directory={users}/log")
    daemon = Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw).start()
    try:
        assert daemon.wait() == 1
        assert f"open {users}/log: Permission denied" in daemon.stderr
        assert not list(roots.iterdir())
    finally:
        daemon.close()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    output = XML("x", XMLOptions(directory=str(tmp_path / "no")))
    (finding,) = output.needs()
    assert finding.status == "problem"
    assert finding.remedy == f"mkdir -p {tmp_path}/no"
    assert not list(XML("x", XMLOptions(stdout=True)).needs())
    assert os.listdir(tmp_path) == []


def test_reported_packets(tmp_path: Path, zone: object) -> None:
    """ulogd2 has no element for them: its elements are what libnetfilter_log makes of a packet of NFLOG's."""
    (stack,) = stacks_of(
        config("u:UNIXSOCK,b:BASE,x:XML", u=f"socket_path={tmp_path}/s", x=f"directory={tmp_path / 'documents'}")
    )
    (tmp_path / "documents").mkdir()
    packet = by_name("udp4").payload
    output = stack.output
    output.open()
    output.write(received(full(packet, prefix="<&> ") + report(packet)))
    output.close()
    one, bare = elements(tmp_path / "documents")
    assert {element.tag for element in one} == {"when", "prefix", "hw", "payload"}
    assert one.findtext("prefix") == "<&> "
    assert one.findtext("payload") == bare.findtext("payload") == packet.hex()
    when = {element.tag: int(element.text or "") for element in one.iter() if element.tag in ("hour", "min", "year")}
    assert when == {"hour": 22, "min": 13, "year": 2023}
    assert {element.tag for element in bare} == {"when", "hw", "payload"}


# -- flows ------------------------------------------------------------------------------------------------------------


def document_of(directory: Path, *flows: FlowOf) -> str:
    """Return the document of flows."""
    directory.mkdir(exist_ok=True)
    deliver(flow_batch(*flows), XML("x", XMLOptions(directory=str(directory))))
    (path,) = documents(directory)
    assert path.name.startswith("ulogd-flow-")
    return path.read_text()


def _meta(way: str, saddr: str, daddr: str, layer4: str, packets: int, size: int) -> str:
    return (
        f'<meta direction="{way}"><layer3 protonum="2" protoname="ipv4"><src>{saddr}</src><dst>{daddr}</dst></layer3>'
        f"<layer4 {layer4}</layer4><counters><packets>{packets}</packets><bytes>{size}</bytes></counters></meta>"
    )


_CLIENT, _SERVER = "10.0.0.5", "203.0.113.9"


def test_the_element_of_a_flow(tmp_path: Path, zone: object) -> None:
    """As libnetfilter_conntrack writes it for ulogd2."""
    text = document_of(tmp_path / "d", dataclasses.replace(UDP, timeout=29, status=0x300))
    assert text == (
        '<?xml version="1.0" encoding="utf-8"?>\n<conntrack>\n<flow>'
        + _meta("original", _CLIENT, _SERVER,
                'protonum="17" protoname="udp"><sport>5353</sport><dport>53</dport>', 1, 30)
        + _meta("reply", _SERVER, _CLIENT,
                'protonum="17" protoname="udp"><sport>53</sport><dport>5353</dport>', 0, 0)
        + '<meta direction="independent"><timeout>29</timeout><id>305419896</id><unreplied/><deltatime>7</deltatime>'
        f"</meta><when>{_WHEN}</when></flow>\n</conntrack>\n"
    )  # fmt: skip


def test_what_else_an_element_has(tmp_path: Path, zone: object) -> None:
    """State, mark, zone, what is assured, the helper; keys of GRE; ICMP has nothing within layer 4."""
    tcp = dataclasses.replace(DNAT, tcp_state=8, timeout=120, helper="a<b")
    text = document_of(tmp_path / "d", tcp, GRE, ICMP, dataclasses.replace(TCP, tcp_state=77, times=(0, 0)))
    dnat, gre, icmp, odd = text.splitlines()[2:-1]
    independent = '<meta direction="independent">'
    assert (
        f"{independent}<state>CLOSE</state><timeout>120</timeout><mark>7</mark><zone>3</zone><id>305419896</id>"
        f"<assured/><deltatime>7</deltatime></meta><when>{_WHEN}</when><helper>a&lt;b</helper></flow>"
    ) in dnat
    assert '<layer4 protonum="47" protoname="gre"><srckey>0xbeef</srckey><dstkey>0x10</dstkey></layer4>' in gre
    assert '<layer4 protonum="1" protoname="icmp"></layer4>' in icmp
    assert f"{independent}<state>NONE</state><id>305419896</id><assured/></meta>" in odd


def test_a_new_flow_has_no_counters_and_lasts_until_now(tmp_path: Path, zone: object) -> None:
    text = document_of(tmp_path / "d", dataclasses.replace(UDP, event=NEW, times=((NOW - 5) * 10**9, 0)))
    assert "<counters>" not in text
    assert "<deltatime>5</deltatime>" in text


def test_many_flows_make_one_document(tmp_path: Path) -> None:
    text = document_of(tmp_path / "d", *(ALL * 400))
    root = ET.fromstring(text)
    assert len(root) == 400 * len(ALL)
    assert [each.findtext("meta/layer3/src") for each in root][: len(ALL)] == [flow.source.address for flow in ALL]
