# SPDX-License-Identifier: GPL-2.0-or-later
"""A predicate compiled by bcc in a child process, and run over the corpus, before rules, on packets; and what fails."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nflowlevel.binding.bpf import VerifierError
from nflowlevel.errors import NflowError, NotSupported
from nflowlevel.prefilter import compiling
from nflowlevel.prefilter.compiling import code_of, compile_predicate
from nflowlevel.prefilter.predicate import Piece, PredicateError, translate
from nflowlevel.prefilter.prefilter import Prefilter
from tests.corpus import frames
from tests.fix_filters import CASES, packets
from tests.fix_group import collect, packets_in, run_python
from tests.fix_lines import wait_for
from tests.fix_netns import Pair
from tests.fix_prefilter import Packet, bpffs, dispatcher, needs_bpf, one_cpu, packet_of
from tests.prefilter.test_prefilter import runnable, syn

__all__ = ["bpffs", "one_cpu"]

pytestmark = [pytest.mark.kernel, needs_bpf]


def within(address: bytes, network: bytes) -> bool:
    return address.startswith(network)


def of(*protocols: int) -> Callable[[Packet], bool]:
    return lambda p: p.dport is not None and p.protocol in protocols


tcp, udp, sctp = of(6), of(17, 136), of(132)


def flag(packet: Packet, bit: int) -> bool:
    return packet.flags is not None and bool(packet.flags >> bit & 1)


def ip4(packet: Packet) -> bool:
    return len(packet.saddr) == 4


def ip6(packet: Packet) -> bool:
    return len(packet.saddr) == 16


#: Predicates, and what they mean for a packet as the oracle reads it.
MEANINGS: dict[str, Callable[[Any], bool]] = {
    "tcp.dport != 22 && ip.ttl >= 64": lambda p: tcp(p) and p.dport != 22 and ip4(p) and p.ttl >= 64,
    "!(tcp.dport < 1024) && ip6.hoplimit == 64 || sctp.sport % 2": lambda p: (
        (not (tcp(p) and p.dport < 1024) and ip6(p) and p.ttl == 64) or (sctp(p) and p.sport % 2 == 1)
    ),
    "(tcp.syn && !tcp.ack) || (tcp.res2 != 0) || tcp.urg + tcp.psh == 2 || tcp.rst || tcp.fin": lambda p: (
        (flag(p, 1) and not flag(p, 4))
        or (p.flags is not None and p.flags >> 6 != 0)
        or (flag(p, 5) and flag(p, 3))
        or flag(p, 2)
        or flag(p, 0)
    ),
    "icmp.type == 8 || icmp.code > 2 || (icmpv6.type & 0x7f) < 8 && icmpv6.code == 0": lambda p: (
        p.icmp is not None
        and ((ip4(p) and (p.icmp[0] == 8 or p.icmp[1] > 2)) or (ip6(p) and p.icmp[0] & 0x7F < 8 and p.icmp[1] == 0))
    ),
    "udp.sport > udp.dport || ip.protocol == 47 || tcp.sport == sctp.dport": lambda p: (
        (udp(p) and p.sport > p.dport) or p.protocol == 47
    ),
    "ip.saddr == 10.77.0.0/24 && raw.pktlen < 60 || ip.daddr == fd00::/8 && oob.family == 10": lambda p: (
        (ip4(p) and within(p.saddr, b"\x0a\x4d\0") and p.length < 60) or (ip6(p) and within(p.daddr, b"\xfd"))
    ),
    "ip.saddr != 10.77.0.2 || ip.saddr != fd77::2 && oob.family != 2 || ip.saddr - ip.daddr == 1": lambda p: (
        (ip4(p) and p.saddr != b"\x0a\x4d\0\x02")
        or (ip6(p) and p.saddr != b"\xfd\x77" + bytes(13) + b"\x02")
        or (ip4(p) and int.from_bytes(p.saddr, "big") - int.from_bytes(p.daddr, "big") == 1)
    ),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_meaning_over_the_corpus(text: str) -> None:
    """Each agrees with some frames and not with others, as the oracle says; all are counted, each once."""
    agreed = []
    with Prefilter.from_source(text) as pre, dispatcher(pre) as program:
        for frame in frames():
            wire = frame.wire()
            if runnable(wire):
                agreed.append(MEANINGS[text](packet_of(wire)))
                assert program.test_run(wire) == agreed[-1], frame.name
        counters = pre.counters()
    assert 2 < sum(agreed) < len(agreed)
    assert counters.logged == sum(agreed)
    assert counters.reasons["predicate"].packets == counters.filtered == len(agreed) - sum(agreed)
    assert counters.seen == len(agreed)


#: Of the table in tests/fix_filters.py; test_predicate.py has all of it in C that is not the kernel's.
CHOSEN = (
    "!(tcp.dport == 80)",
    "raw.pktlen - 100 > 0",
    "raw.pktlen * 0x7fffffff > 0x7fffffff0",
    "raw.pktlen / tcp.ack >= 40",
    "(tcp.sport ^ tcp.dport) % 16 == 0",
    "sport == 40000 || dest_port == 53",
    "tcp.dport not in {22, 81 - 90}",
    "ip.saddr in {10.77.0.0/16, fd00::/8, 192.0.2.1}",
    "ip.saddr not in {10.77.0.0/25, fc00::/7}",
    "ip.saddr - ip.daddr == 1",
)


@pytest.mark.parametrize("text", CHOSEN)
def test_some_of_the_table_of_cases(text: str) -> None:
    """In the kernel it holds for the same packets as over a batch and in SQL."""
    (case,) = (case for case in CASES if case.text == text)
    corpus, _, rows = packets()
    with Prefilter.from_source(text) as pre, dispatcher(pre) as program:
        tried = 0
        for frame, row in zip(corpus, rows, strict=True):
            # Frames of IP without tags, which a rule of their family sees as the program does.
            if frame.family in (2, 10) and not frame.tags and runnable(frame.wire()):
                assert program.test_run(frame.wire()) == bool(case.holds(row)), frame.name
                tried += 1
    assert tried > 300


def test_before_the_rules(one_cpu: None) -> None:
    """What the predicate refuses takes no token and is no tick of the sampling; the rules change behind it."""
    rules = Prefilter.from_source("tcp.dport != 23", dports="22, 23", sample=2, top=True)
    with rules as pre, dispatcher(pre) as program:
        answers = [program.test_run(syn(port)) for port in (22, 23, 22, 23, 22, 80)]
        assert answers == [1, 0, 0, 0, 1, 0]
        assert {name: count.packets for name, count in pre.counters().reasons.items() if count.packets} == {
            "logged": 2,
            "sampled_out": 1,
            "port": 1,
            "predicate": 2,
        }
        assert pre.counters().reasons["predicate"].bytes == 2 * (len(syn(23)) - 14)
        assert pre.top().ports == [("tcp", 22, 3)]
        pre.update(sample=1, dports=[80])
        assert [program.test_run(syn(port)) for port in (22, 23, 80)] == [0, 0, 1]
        pre.set_predicate(None)
        pre.update(dports=[23])
        assert program.test_run(syn(23)) == 1


def test_pinned_and_kept(bpffs: Path) -> None:
    with Prefilter.from_source("tcp.syn", name="mine", bpffs=bpffs, on_exit="keep") as pre:
        pre.pin()
    with Prefilter.open("mine", bpffs=bpffs) as pre, dispatcher(pre) as program:
        pre.update(dports=[22])
        assert [program.test_run(syn(22)), program.test_run(syn(22, flags=0)), program.test_run(syn(23))] == [1, 0, 0]
        assert pre.counters().reasons["predicate"].packets == 1
        pre.remove()


def test_real_packets(pair: Pair) -> None:
    pair.fw.nft("table inet t { counter c { }; chain c { type filter hook input priority 9; counter name c; }; }")
    from nflowlevel import Group

    with Prefilter.from_source("udp.dport == 9 && ip.saddr != 10.9.0.0/16") as pre:
        pre.attach(group=7, prefix="p", netns=pair.fw.path)
        with Group(7, netns=pair.fw.path) as group:
            pair.send_udp(count=23, port=9)
            pair.send_udp(count=17, port=19)
            collect(group, 23)
            group.stop()
            assert packets_in(group.batches()) == 0
        wait_for(lambda: pre.counters().protocols["udp"]["seen"].packets == 40)
        assert pre.counters().protocols["udp"]["logged"].packets == 23
        pre.detach()


def test_nothing_of_bcc_stays() -> None:
    code = """if True:
        import resource, sys
        from nflowlevel.prefilter.prefilter import Prefilter
        Prefilter("p").load().close()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Prefilter.from_source("tcp.syn").load().close()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert not [name for name in sys.modules if name.partition(".")[0] == "bcc"]
        assert grown < 16 << 10, grown
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("tcp.dport ==", 12, "a field, a number or an address is missing here"),
        ("tcp.dport == && 1", 12, "a field, a number or an address is missing here"),
        ("1 &&\n  tcp.dport 3 && tcp.syn", 17, "expected an operator before '3'"),
        ("() || 1", 1, "a field, a number or an address is missing here"),
        ("99999999999999999999999999 == tcp.dport", 0, "integer literal is too large"),
    ],
)
def test_what_is_refused(text: str, place: int, reason: str) -> None:
    with pytest.raises(PredicateError, match=reason.replace(")", r"\)")) as caught:
        compile_predicate(text)
    assert caught.value.position == place


@pytest.mark.parametrize(("code", "place"), [("nothing", 11), ("==", 11), ("(1", 23)])
def test_what_the_compiler_refuses(monkeypatch: pytest.MonkeyPatch, code: str, place: int) -> None:
    """It is shown in the predicate. No predicate is known that the compiler refuses: a piece is spoilt here."""
    text = "tcp.syn ||\ntcp.ack\n|| 1"

    def spoilt(text: str) -> list[Piece]:
        pieces = translate(text)
        spoilt_one = next(number for number, piece in enumerate(pieces) if ">> 4" in piece.code)
        return [*pieces[:spoilt_one], Piece(code, pieces[spoilt_one].at), *pieces[spoilt_one + 1 :]]

    monkeypatch.setattr(compiling, "translate", spoilt)
    with pytest.raises(PredicateError, match=r"expected|undeclared") as caught:
        compile_predicate(text)
    assert caught.value.position == place


def test_unknown_field_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_PYTHONS", ())
    with pytest.raises(PredicateError, match=r"did you mean 'ip\.ttl'"):
        Prefilter.from_source("ip.tll < 40")


def test_rules_are_checked_before_the_compiler_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_PYTHONS", ())
    with pytest.raises(TypeError, match="did you mean 'sample'"):
        Prefilter.from_source("1", smaple=2)


def test_the_verifier_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A loop without an end, which no predicate can have: the frame has it here."""
    frame = compiling._frame().replace("parse(skb, &p, mine->zero);", "parse(skb, &p, mine->zero); for (;;) key++;")
    (tmp_path / "frame.c").write_text(frame.replace("key++;", "*(volatile uint32_t *)&only += 1;"))
    monkeypatch.setattr(compiling, "_FRAME", tmp_path / "frame.c")
    refused = Prefilter.from_source("tcp.syn")
    with pytest.raises(
        VerifierError, match=r"load the BPF program 'nfl_predicate': .* the verifier says: .+"
    ) as caught:
        refused.load()
    assert caught.value.reason in caught.value.log
    assert len(caught.value.log) > len(caught.value.reason)
    with pytest.raises(ValueError, match="is not loaded"):
        refused.counters()


def test_no_bcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without = tmp_path / "python"
    without.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -S "$@"\n')
    without.chmod(0o755)
    monkeypatch.setattr(compiling, "_PYTHONS", (str(without), str(tmp_path / "none")))
    with pytest.raises(NotSupported, match=r"No module named 'bcc', .*/none: not installed; .*python3-bpfcc") as caught:
        compile_predicate("tcp.syn")
    assert caught.value.feature == "compiling a predicate"


def test_the_distributions_python_comes_to_help(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiling, "_PYTHONS", (str(tmp_path / "none"), *compiling._PYTHONS))
    assert compile_predicate("tcp.syn").references


@pytest.mark.parametrize(
    ("directory", "found"), [("none", "no such directory: .*/none .BCC_KERNEL_SOURCE"), ("", "headers that lack one")]
)
def test_headers_that_are_named_and_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: str, found: str
) -> None:
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path / directory))
    with pytest.raises(NotSupported, match=found) as caught:
        compile_predicate("tcp.syn")
    assert f"linux-headers-{os.uname().release}" in caught.value.needed
    assert "BCC_KERNEL_SOURCE=DIRECTORY" in caught.value.needed


def test_no_headers_at_all() -> None:
    code = """if True:
        from nflowlevel.prefilter.compiling import compile_predicate
        from nflowlevel.errors import NotSupported
        try:
            compile_predicate("tcp.syn")
        except NotSupported as error:
            print(error)
    """
    script = 'mount -t tmpfs none /lib/modules && exec "$@"'
    done = run_python(code, "unshare", "-m", "sh", "-c", script, "sh")
    assert "and no build directory of another kernel; needed: headers of any kernel" in done.stdout, done.stderr


def test_a_compiler_that_takes_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    monkeypatch.setattr(compiling, "_CHILD", child)
    with pytest.raises(NflowError, match=r"bcc was stopped after 1\.5 s"):
        compile_predicate("tcp.syn", timeout_secs=1.5)
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_compiler_that_dies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "import os, signal, sys\nsys.stderr.write('oh\\nno\\n')\nsys.stderr.flush()\nos.kill(0, 0) or os.abort()\n"
    )
    monkeypatch.setattr(compiling, "_CHILD", child)
    with pytest.raises(NflowError, match="bcc ended with status -6: no"):
        compile_predicate("tcp.syn")


def test_an_installation_without_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiling, "_FRAME", tmp_path / "none")
    with pytest.raises(NotSupported, match="installed with its BPF sources"):
        compile_predicate("tcp.syn")


def test_references() -> None:
    load, move = struct.pack("=BBhi", 0x18, 0x11, 0, 0x6E666C01), struct.pack("=BBhi", 0xB7, 0, 0, 0)
    constant = struct.pack("=BBhi", 0x18, 0x02, 0, 0x6E666C01)
    # Of an instruction of 16 bytes the second half is no instruction.
    code = code_of(move + constant + load + load + bytes(8))
    assert [(each.instruction, each.map) for each in code.references] == [(3, "slots")]
