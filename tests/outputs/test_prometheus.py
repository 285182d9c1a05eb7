# SPDX-License-Identifier: GPL-2.0-or-later
"""What is scraped is valid OpenMetrics and says what was counted."""

from __future__ import annotations

import builtins
import json
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_old

from nflowlevel.errors import NotSupported, OutputError
from nflowlevel.inputs.nftcounter import NFTCOUNTER, NFTCOUNTEROptions
from nflowlevel.outputs import prometheus
from nflowlevel.outputs.prometheus import PROMETHEUS, PROMETHEUSOptions
from nflowlevel.prefilter.counters import PrefilterCounters
from nflowlevel.records.batch import Batch
from nflowlevel.stacks.stack import Stack
from nflowlevel.stats import GroupStats
from tests.fix_daemon import FILTERS, Daemon, config, log_rule, wait_for
from tests.fix_lines import check, no_descriptor_left
from tests.fix_netns import Pair
from tests.fix_plugins import batch_of, stacks_of
from tests.outputs.test_graphite import sums

Make = Callable[..., PROMETHEUS]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

PACKETS, BYTES = "nflowlevel_accounting_packets_total", "nflowlevel_accounting_bytes_total"


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that opens an output; they leave no descriptors."""
    outputs: list[PROMETHEUS] = []

    def opened(*, deltas: bool = False, **options: Any) -> PROMETHEUS:
        output = PROMETHEUS("p", PROMETHEUSOptions(port=0, **options))
        output.input = NFTCOUNTER("c", NFTCOUNTEROptions(pollinterval=1, zerocounter=deltas))
        output.open()
        outputs.append(output)
        return output

    with no_descriptor_left():
        yield opened
        for each in outputs:
            check(each.stats)
            each.close()


def url(output: PROMETHEUS) -> str:
    return output.state.removeprefix("serving ")


def scrape(address: str) -> Samples:
    """Return all samples; the parser refuses what is no OpenMetrics, and so does this what comes twice."""
    with urllib.request.urlopen(address, timeout=10) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        text = response.read().decode()
    return samples_of(text, parse_openmetrics)


def samples_of(text: str, parse: Any) -> Samples:
    found: Samples = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, /, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def total(samples: Samples, name: str) -> float:
    return sum(value for (each, _), value in samples.items() if each == name)


# Accounting objects


def test_totals_of_the_kernel_are_served_as_they_are(make: Make) -> None:
    output = make()
    output.write(sums({"ipv4.http": (23, 2300), "idle": (0, 0)}))
    output.write(sums({"ipv4.http": (25, 2500), "idle": (0, 0)}))
    samples = scrape(url(output))
    assert value(samples, PACKETS, name="ipv4.http") == 25
    assert value(samples, BYTES, name="ipv4.http") == 2500
    assert value(samples, PACKETS, name="idle") == 0
    assert output.stats.written == 4


def test_counts_since_the_last_poll_are_added_up(make: Make) -> None:
    output = make(deltas=True)
    for count in (23, 0, 101):
        output.write(sums({"a": (count, 10 * count)}))
    samples = scrape(url(output))
    assert (value(samples, PACKETS, name="a"), value(samples, BYTES, name="a")) == (124, 1240)


@pytest.mark.parametrize("deltas", [False, True])
def test_quotas(make: Make, deltas: bool) -> None:
    output = make(deltas=deltas)
    poll: dict[str, Any] = {"c": (1, 100), "q": (None, 7)}
    output.write(sums(poll, limits=[None, 1000]))
    output.write(sums(poll, limits=[None, 1000]))
    samples = scrape(url(output))
    assert value(samples, "nflowlevel_quota_used_bytes", name="q") == 7
    assert value(samples, "nflowlevel_quota_limit_bytes", name="q") == 1000
    assert value(samples, PACKETS, name="q") is None
    assert value(samples, BYTES, name="c") == (200 if deltas else 100)


def test_objects_beyond_max_series_are_counted(make: Make) -> None:
    output = make(max_series=10)
    for _ in range(2):
        output.write(sums({f"c{n}": (1, 1) for n in range(8)}))
    samples = scrape(url(output))
    assert sum(name in (PACKETS, BYTES) for name, _ in samples) == 10
    assert output.stats.dropped == {"series": 6}
    assert output.stats.written == 10


def test_objects_that_are_gone_are_forgotten(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(prometheus.time, "monotonic", lambda: now)
    output = make(forget_secs=60, max_series=4)
    output.write(sums({"stays": (1, 1), "goes": (1, 1)}))
    for later in (1030.0, 1059.0):
        now = later
        output.write(sums({"stays": (2, 2)}))
        assert value(scrape(url(output)), PACKETS, name="goes") == 1
    now = 1071.0
    output.write(sums({"stays": (3, 3), "new": (1, 1)}))
    samples = scrape(url(output))
    assert value(samples, PACKETS, name="goes") is None
    assert value(samples, PACKETS, name="new") == 1
    assert output.stats.dropped == {"series": 0}


def test_object_that_becomes_a_quota(make: Make) -> None:
    output = make()
    poll: dict[str, Any] = {"x": (1, 100)}
    output.write(sums(poll))
    output.write(sums({"x": (None, 5)}, limits=[10]))  # type: ignore[dict-item]
    samples = scrape(url(output))
    assert value(samples, PACKETS, name="x") is None
    assert value(samples, "nflowlevel_quota_used_bytes", name="x") == 5


names = st.binary(min_size=1, max_size=31).filter(lambda raw: 0 not in raw)


@given(st.lists(names | st.sampled_from([b"\\n", b"\n", b'"', b"\xff", b"\\xff", b"a\\"]), unique=True, min_size=1))
def test_any_name_makes_a_valid_label(raw_names: list[bytes]) -> None:
    output = PROMETHEUS("p", PROMETHEUSOptions())
    output.write(sums({raw.decode("utf-8", "surrogateescape"): (1, 2) for raw in raw_names}))
    for accept, parse in (("", parse_openmetrics), ("text/plain", parse_old)):
        samples = samples_of(output._answer(accept)[1].decode(), parse)
        labels = {dict(key)["name"] for name, key in samples if name == PACKETS}
        assert labels == {raw.decode("utf-8", "backslashreplace") for raw in raw_names}


def test_large_counts(make: Make) -> None:
    output = make()
    output.write(sums({"a": (2**53, 2**64 - 1)}))
    samples = scrape(url(output))
    assert (value(samples, PACKETS, name="a"), value(samples, BYTES, name="a")) == (2**53, float(2**64 - 1))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/openmetrics-text"),
        ("*/*", "application/openmetrics-text"),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
        ("text/plain;version=0.0.4", "text/plain"),
    ],
)
def test_format_is_the_one_asked_for(make: Make, accept: str, kind: str) -> None:
    output = make()
    output.write(sums({"a": (1, 2)}))
    request = urllib.request.Request(url(output), headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["Content-Type"].partition(";")[0] == kind
        text = response.read().decode()
    assert text.endswith("# EOF\n") == (kind != "text/plain")
    assert value(samples_of(text, parse_old if kind == "text/plain" else parse_openmetrics), PACKETS, name="a") == 1


# The daemon's own counters


class _View(NamedTuple):
    """What the daemon shows of itself; a `DaemonView`."""

    stacks: list[Stack]
    prefilters: Callable[[], Mapping[str, PrefilterCounters]] = dict


def test_counters_of_all_stacks(make: Make) -> None:
    stacks = stacks_of(
        "[global]\nstack=l:NFLOG,b:BASE,j:JSON\nstack=l:NFLOG,p:PROMETHEUS\n"
        "stack=l:NFLOG,p:PROMETHEUS\n[l]\ngroup=5\n[j]\nfile=-\n"
    )
    json, own, _ = (stack.output for stack in stacks)
    assert isinstance(own, PROMETHEUS)
    own.watch(_View(stacks))
    json.stats.records = 7  # type: ignore[attr-defined]
    json.stats.drop("full", 3)  # type: ignore[attr-defined]
    stacks[0].dropped = 5
    own.watch(SimpleNamespace(stacks=stacks, prefilters=dict))  # type: ignore[arg-type]
    own.write(batch_of(count=4))
    samples = samples_of(own._answer("")[1].decode(), parse_openmetrics)
    labels = {"stack": "l:NFLOG,b:BASE,j:JSON", "output": "j", "plugin": "JSON"}
    assert value(samples, "nflowlevel_output_records_total", **labels) == 7
    assert value(samples, "nflowlevel_output_dropped_records_total", reason="full", **labels) == 3
    assert value(samples, "nflowlevel_output_dropped_records_total", reason="stop", **labels) == 0
    assert value(samples, "nflowlevel_output_pending_records", **labels) == 0
    assert value(samples, "nflowlevel_output_errors_total", **labels) == 0
    assert value(samples, "nflowlevel_output_state_info", state=json.state, **labels) == 1
    assert value(samples, "nflowlevel_stack_dropped_records_total", stack=labels["stack"]) == 5
    assert value(samples, "nflowlevel_stack_up", stack="l:NFLOG,p:PROMETHEUS #2") == 0
    # An input that could not be opened has counted nothing.
    assert total(samples, "nflowlevel_input_gap_packets_total") == 0
    assert total(samples, "nflowlevel_output_records_total") == 7 + 4
    assert own.stats.written == 4


def test_used_alone_it_has_no_daemon(make: Make) -> None:
    samples = scrape(url(make()))
    assert {name for name, _ in samples} == {"nflowlevel_info"}


def test_dashboard_asks_for_what_is_served() -> None:
    example = Path(__file__).parent.parent.parent / "examples" / "grafana" / "prometheus.json"
    dashboard = json.loads(example.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [variable["query"]["query"] for variable in dashboard["templating"]["list"]]
    one, _ = stacks = stacks_of("[global]\nstack=l:NFLOG,p:PROMETHEUS\nstack=l:NFLOG,p:PROMETHEUS\n[l]\ngroup=5\n")
    assert isinstance(one.output, PROMETHEUS)
    one.output.watch(_View(stacks))
    one.output.write(sums({"c": (1, 1), "q": (None, 5)}, limits=[None, 10]))  # type: ignore[dict-item]
    one.source.is_open, one.source.input._group = True, SimpleNamespace(stats=GroupStats())  # type: ignore[attr-defined]
    served = {name for name, _ in samples_of(one.output._answer("")[1].decode(), parse_openmetrics)}
    asked = {name for query in queries for name in re.findall(r"nflowlevel_\w+", query)}
    assert asked <= served
    assert len(asked) > 12


# Life


def test_port_that_is_taken(make: Make) -> None:
    first = make()
    port = int(url(first).split(":")[2].split("/")[0])
    second = PROMETHEUS("p", PROMETHEUSOptions(port=port))
    with pytest.raises(OutputError, match="Address already in use"):
        second.open()
    assert second.state == "serving nothing"
    second.close()
    first.close()
    second.open()
    second.close()


def test_without_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(NotSupported, match=r"pip install 'nflowlevel\[prometheus\]'"):
        PROMETHEUS("p", PROMETHEUSOptions(port=0)).open()


def test_empty_batch(make: Make) -> None:
    output = make()
    output.write(Batch(None, 0))
    output.write(sums({}))
    assert output.stats.records == 0


def test_figures_are_the_packets_sent(pair: Pair, tmp_path: Any) -> None:
    """The daemon, its counters of packets and nftables' own, scraped while it runs."""
    pair.fw.nft(log_rule(1))
    text = config(
        f"g:NFLOG,{FILTERS},j:JSON",
        "c:NFTCOUNTER,p:PROMETHEUS",
        g="group=1",
        j=f"file={tmp_path}/out.json",
        c="pollinterval=1\nzerocounter=1",
    )
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        for sent in (23, 46):
            pair.send_udp(23)

            def scraped() -> Samples:
                with pair.fw.enter():
                    return scrape("http://127.0.0.1:9747/metrics")

            def all_counted(sent: int = sent) -> bool:
                samples = scraped()
                return (
                    total(samples, PACKETS) == sent
                    and total(samples, "nflowlevel_input_received_packets_total") == sent
                )

            wait_for(all_counted, f"{sent} packets are counted", lambda: f"{daemon.stderr}{scraped()}")
        samples = scraped()
        assert value(samples, PACKETS, name="inet.t.c") == 46
        assert value(samples, "nflowlevel_input_gap_packets_total", input="g", plugin="NFLOG") == 0
        listening = pair.fw.run("ss", "-Hltn").stdout.splitlines()
        assert [line.split()[3] for line in listening] == ["127.0.0.1:9747"]
        assert total(samples, "nflowlevel_stack_up") == 2
    assert "Traceback" not in daemon.stderr


def test_prometheus_client_is_imported_by_this_plugin_only() -> None:
    assert "prometheus_client" not in _modules_of("import nflowlevel.daemon.main, nflowlevel.outputs.prometheus")


def _modules_of(code: str) -> set[str]:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())
