# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel prefilter try`: counters that move, packets that are logged, and nothing that is left."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys

import pytest

from nflowlevel import Group
from nflowlevel.binding import nftmatch
from nflowlevel.binding.bpf import VerifierError
from nflowlevel.cli import prefilter_try
from nflowlevel.errors import NflowError
from nflowlevel.prefilter.prefilter import Prefilter
from tests.fix_group import collect, packets_in
from tests.fix_netns import Netns, Pair
from tests.fix_prefilter import needs_bpf

pytestmark = [pytest.mark.kernel, needs_bpf]

_RUN = """if True:
    import argparse, sys
    from nflowlevel.cli import prefilter_try
    parser = argparse.ArgumentParser()
    prefilter_try.configure(parser)
    sys.exit(prefilter_try.run(parser.parse_args()))
"""


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    prefilter_try.configure(parser)
    return parser.parse_args(arguments)


class Trial:
    """The command in a process of its own, attached."""

    def __init__(self, pair: Pair, *arguments: str) -> None:
        self._pair = pair
        self.child = subprocess.Popen(
            [sys.executable, "-c", _RUN, *arguments, "--netns", pair.fw.path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert self.child.stderr
        self.says = self.child.stderr.readline()

    def agreed(self, count: int) -> None:
        """Wait until it has shown so many packets that agreed."""
        assert self.child.stdout
        for line in self.child.stdout:
            if f", matching {count} (" in line:
                return
        raise AssertionError("it has ended")

    def end(self, number: signal.Signals) -> str:
        """End it, and return what it says in the end; nothing may be left."""
        self.child.send_signal(number)
        output, errors = self.child.communicate(timeout=20)
        assert (self.child.returncode, errors) == (0, "")
        assert nftmatch.tables(self._pair.fw.path) == []
        return output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_counts_only(pair: Pair, number: signal.Signals) -> None:
    """No packet is logged, nor its mark changed."""
    pair.fw.nft("""table inet t {
        counter marked { }
        chain early { type filter hook prerouting priority -300; udp dport 9 meta mark set 0xdeadbeef; }
        chain c { type filter hook input priority 0; udp dport 9 meta mark 0xdeadbeef counter name marked; }
    }""")
    trial = Trial(pair, "udp.dport == 9")
    assert trial.says == f"watching at input in network namespace {pair.fw.path}, for 60 s; stop with Ctrl-C\n"
    pair.send_udp(count=23)
    trial.agreed(23)
    pair.send_udp(count=7, port=19)
    pair.send_udp(count=2)
    trial.agreed(25)
    last = trial.end(number).splitlines()[-1]
    assert re.fullmatch(r"in all: seen \d+, logged 25, .*\(logged 25, predicate \d+\)", last)
    assert pair.fw.counter("marked") == 25


def test_logs_to_a_group(pair: Pair) -> None:
    trial = Trial(pair, "udp.dport == 9", "--group", "7", "--prefix", "mine: ")
    where = f"at input in network namespace {pair.fw.path}, to group 7"
    assert trial.says == f"watching {where}, for 60 s; stop with Ctrl-C\n"
    with Group(7, netns=pair.fw.path) as group:
        pair.send_udp(count=5, port=19)
        pair.send_udp(count=23)
        batches = collect(group, 23)
        group.stop()
        assert packets_in(group.batches()) == 0
    assert {prefix for batch in batches for prefix in batch.values("oob.prefix")} == {"mine: "}
    trial.end(signal.SIGINT)


@pytest.mark.parametrize("option", ["--for", "--seconds"])
def test_ends_by_itself(pair: Pair, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert prefilter_try.run(parsed("tcp.syn", option, "0", "--netns", pair.fw.path)) == 0
    output, errors = capsys.readouterr()
    assert output.startswith("in all: seen ")
    assert errors == f"watching at input in network namespace {pair.fw.path}, for 0 s; stop with Ctrl-C\n"
    assert nftmatch.tables(pair.fw.path) == []
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ends_by_itself_in_any_case() -> None:
    assert parsed("tcp.syn").seconds == 60


def test_its_own_namespace_is_called_by_its_name(netns: Netns, capsys: pytest.CaptureFixture[str]) -> None:
    with netns.enter():
        assert prefilter_try.run(parsed("tcp.syn", "--for", "0")) == 0
    assert f" in network namespace {netns.name}, for 0 s" in capsys.readouterr().err


def test_a_namespace_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefilter_try, "name_of_own", lambda: "")
    monkeypatch.setattr(prefilter_try.nf_log, "is_initial_netns", lambda: True)
    assert prefilter_try._called(None) == "the initial network namespace"
    monkeypatch.setattr(prefilter_try.nf_log, "is_initial_netns", lambda: False)
    assert re.fullmatch(r"network namespace net:\[\d+\]", prefilter_try._called(None))
    assert prefilter_try._called("a\nb") == r"network namespace a\nb"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tcp.sny"], "^filter: unknown field 'tcp.sny' — did you mean 'tcp.syn'"),
    ],
)
def test_what_is_wrong(arguments: list[str], says: str) -> None:
    with pytest.raises(NflowError, match=says):
        prefilter_try.run(parsed(*arguments))


@pytest.mark.parametrize("wanted", [True, False])
def test_verifier_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wanted: bool) -> None:
    def refuse(*_: object, **__: object) -> Prefilter:
        raise VerifierError("load it", 13, "first\nback-edge\n")

    monkeypatch.setattr(Prefilter, "from_source", refuse)
    with pytest.raises(VerifierError, match="the verifier says: back-edge"):
        prefilter_try.run(parsed("1", *["--verifier-log"] * wanted))
    assert capsys.readouterr().err == ("first\nback-edge\n" if wanted else "")
