# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel find`: what it asks, prints and refuses; what is found is in tests/analytics/detectors/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nflowlevel import cli
from nflowlevel.analytics.detector import COLUMNS
from nflowlevel.analytics.registry import all_detectors, names
from nflowlevel.cli.find import written
from tests.fix_logs import START, lines, log_file, parquet_file, record

_SCANNER, _GUESSER = "198.18.0.1", "198.18.0.2"
_SCAN = [record(n // 4, src_ip=_SCANNER, src_port=40_000, dest_port=1 + n) for n in range(120)]
_GUESSES = [record(90_000 + n, src_ip=_GUESSER, src_port=40_000 + n, dest_port=22) for n in range(40)]
_RECORDS = [*_SCAN, *_GUESSES]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return log_file(tmp_path / "ulogd.json", _RECORDS)


def find(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> tuple[str, str]:
    """Return what the command prints, and what it says."""
    assert cli.main(["find", *map(str, arguments)]) == status
    captured = capsys.readouterr()
    return captured.out, captured.err


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_without_a_name_the_detectors_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = find(capsys)
    assert [line.split()[0] for line in out.splitlines()] == list(names())


def test_json_is_an_object_a_line(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, said = find(capsys, "port_scan", log, "--json")
    (found,) = objects(out)
    assert tuple(found)[: len(COLUMNS)] == COLUMNS
    assert (found["finding"], found["severity"], found["src_ip"], found["dest_port"]) == (
        "port_scan", "medium", _SCANNER, None
    )  # fmt: skip
    assert (found["first"], found["last"], found["ports"]) == (
        "2026-11-24T08:30:00.000250Z",
        "2026-11-24T08:30:29.000250Z",
        120,
    )
    assert said == ""


def test_all_asks_all(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = find(capsys, "all", log, "--json")
    found = {each["finding"] for each in objects(out)}
    assert {"port_scan", "brute_force", "slow_scan", "windows", "top_sources"} <= found
    out, _ = find(capsys, "all", log, "--json", "--severity", "high")
    assert {each["finding"] for each in objects(out)} == {"brute_force"}


def test_all_begins_with_what_is_urgent_and_ends_with_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = log_file(tmp_path / "a.json", [*_RECORDS, *(record(n, src_ip=f"192.0.2.{n}") for n in range(30))])
    found = find(capsys, "all", log)[0].splitlines()
    heads = [line for line in found if line[:1].isalpha()]
    assert heads[0].startswith("brute_force (high): ")
    assert heads[-5].startswith("windows (info): ")
    severities, counts = zip(*(line.split(None, 1) for line in heads[-4:]), strict=True)
    assert severities == ("high", "medium", "low", "info")
    assert counts[:2] == ("brute_force 1", "port_scan 1")
    assert "top_sources 20" in counts[3]
    # A table does not bury what was found; alone, it is whole.
    assert "  … and 15 more; nflowlevel find top_sources shows more, --json prints all" in found
    assert len(find(capsys, "top_sources", log)[0].splitlines()) == 23


def test_a_filter(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(find(capsys, "port_scan", log, "-F", f"ip.saddr == {_SCANNER}")[0].splitlines()) == 4
    assert find(capsys, "port_scan", log, "-F", "tcp.dport < 10")[0] == "nothing found\n"


def test_the_status_is_0_if_nothing_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = log_file(tmp_path / "a.json", [record()])
    assert find(capsys, "beacon", log) == ("nothing found\n", "")
    assert find(capsys, "beacon", log, "--json") == ("", "")


def test_files_may_stand_behind_options_and_may_be_several(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = log_file(tmp_path / "half.json", _SCAN[:60])
    other = parquet_file(tmp_path / "other.parquet", _SCAN[60:])
    for words in (
        ["port_scan", half, other, "--json"],
        ["port_scan", "--json", half, other],
        ["port_scan", half, "--json", other],
    ):
        assert [each["ports"] for each in objects(find(capsys, *words)[0])] == [120]


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        (["--since", "24h"], {"brute_force"}),
        (["--since", "7d"], {"port_scan", "brute_force"}),
        (["--since", "2026-11-25"], {"brute_force"}),
        (["--until", "2026-11-25T00:00Z"], {"port_scan"}),
        (["--since", "1h", "--until", "2026-11-24T09:00"], {"port_scan"}),
    ],
)
def test_time_counts_back_from_the_newest_record(
    log: Path, bounds: list[str], found: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        each for name in ("port_scan", "brute_force") for each in objects(find(capsys, name, log, "--json", *bounds)[0])
    ]
    assert {each["finding"] for each in rows} == found


def test_parameters(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find(capsys, "port_scan", log, "-p", "ports=121")[0] == "nothing found\n"
    assert _SCANNER in find(capsys, "port_scan", log, "-p", "ports=30", "-p", "within=10s")[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("scan_then_brute", "--within", "3h"), "'--within': it is a parameter of scan_then_brute, given as -p "),
        (("--within", "3h", "scan_then_brute", "LOG"), "it is a parameter of scan_then_brute, given as -p within=3h"),
        (("port_scan", "LOG", "--ports=30"), "'--ports': it is a parameter of port_scan, given as -p ports=30"),
        (("port_scan", "LOG", "-within", "3h"), "it is a parameter of port_scan, given as -p within=3h"),
        (("port_scan", "--within", "--json"), "it is a parameter of port_scan, given as -p within=VALUE"),
        (("port_scan", "--withn", "3h"), "'--withn' — did you mean 'within'?; parameters of port_scan are given as -p"),
        (("port_scan", "--jsn"), "unknown option '--jsn' — did you mean '--json'?"),
        (("all", "--within", "3h"), "unknown option '--within'"),
    ],
)  # fmt: skip
def test_a_parameter_as_an_option_is_told_how_it_is_given(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        find(capsys, *words)
    assert told in " ".join(capsys.readouterr().err.split())


def test_each_parameter_is_known_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    for detector in all_detectors():
        for name in detector.names:
            with pytest.raises(SystemExit, match="2"):
                find(capsys, detector.name, f"--{name}", "7")
            assert f"given as -p {name}=7" in " ".join(capsys.readouterr().err.split())


def test_a_person_is_shown_a_table(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = find(capsys, "brute_force", log)
    head, columns, row, empty = out.split("\n")[:4]
    assert head == "brute_force (high): One source opens many connections to a login service of one host."
    assert columns.split() == ["src_ip", "dest_ip", "dest_port", "first", "last", "count", "ports"]
    assert row.split() == [_GUESSER, "198.51.100.7", "22", "2026-11-25T09:30:00Z", "2026-11-25T09:30:39Z", "40", "40"]
    assert not empty


def test_many_findings_are_cut_for_a_person_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = log_file(
        tmp_path / "a.json", [record(n, src_ip=f"198.18.0.{n}", src_port=6000) for n in range(50) for _ in range(10)]
    )
    out, _ = find(capsys, "fixed_port", log)
    assert "  … and 10 more; --json prints all" in out
    assert len(objects(find(capsys, "fixed_port", log, "--json")[0])) == 50


def test_the_evidence_is_a_query_that_gives_the_records(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nflowlevel.analytics.reading import read

    (found,) = objects(find(capsys, "brute_force", log, "--json", "--evidence")[0])
    with read(log) as opened:
        assert len(opened.sql(found["evidence"]).rows()) == 40
    assert found["evidence"] in find(capsys, "brute_force", log, "--evidence")[0]


def test_no_query_is_made_of_what_is_no_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "'; DROP TABLE x; --\x1b[2J"
    log = log_file(tmp_path / "a.json", [each | {"src_ip": hostile} for each in _SCAN])
    (found,) = objects(find(capsys, "port_scan", log, "--json", "--evidence")[0])
    assert (found["src_ip"], found["evidence"]) == (hostile, None)


def test_nft_gets_a_suggestion(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = find(capsys, "all", log, "--nft")
    assert f"\t\t\t{_SCANNER}, # port_scan\n" in out
    assert f"\t\t\t{_GUESSER}, # brute_force\n" in out


def test_nft_with_evidence_has_the_queries_too(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = objects(find(capsys, "brute_force", log, "--json", "--evidence")[0])
    out, _ = find(capsys, "brute_force", log, "--nft", "--evidence")
    assert f"\t\t\t{_GUESSER}, # brute_force\n" in out
    assert out.endswith(f"\n# brute_force, {_GUESSER}: {' '.join(found['evidence'].split())}\n")


def test_where_nothing_is_found_a_time_that_may_help_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log spans 25 hours; only the times of a detector that look at less are told, and only to a person."""
    out, said = find(capsys, "scan_then_brute", log)
    assert out == "nothing found\n"
    assert " ".join(said.split()) == (
        "nflowlevel find: scan_then_brute: within is 1h, and the log spans 25h: -p within=4h may find what is slower"
    )
    assert find(capsys, "scan_then_brute", log, "-p", "within=2d") == ("nothing found\n", "")
    assert find(capsys, "scan_then_brute", log, "--since", "30m") == ("nothing found\n", "")
    assert find(capsys, "beacon", log) == ("nothing found\n", "")
    assert find(capsys, "scan_then_brute", log, "--json") == ("", "")
    assert find(capsys, "scan_then_brute", log, "--nft")[1] == ""
    assert find(capsys, "port_scan", log)[1] == ""
    assert find(capsys, "all", log)[1] == ""


def test_the_time_that_is_told_finds_what_is_slow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = log_file(tmp_path / "slow.json", [record(2 * n, src_ip=_SCANNER, dest_port=1 + n) for n in range(120)])
    said = find(capsys, "port_scan", log)[1]
    assert "-p within=4m may find" in said
    assert _SCANNER in find(capsys, "port_scan", log, "-p", "within=4m")[0]


def test_damaged_lines_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(lines(_SCAN) + b'{"src_ip": 7\n')
    out, said = find(capsys, "port_scan", path, "--json")
    assert len(objects(out)) == 1
    wanted = f"nflowlevel find: 1 line or file without a record, left out; the first: {path}:121: "
    assert said.replace("\n", " ").startswith(wanted)


@pytest.mark.parametrize("arguments", [("all",), ("port_scan", "--json"), ("all", "--nft")])
def test_that_there_was_nothing_to_look_at_is_told(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    said = find(capsys, arguments[0], log, *arguments[1:], "--since", "2030-01-01")[1]
    assert said == (
        "nflowlevel find: no packet or flow is in this part of the log; its newest record is of "
        "2026-11-25 09:30:39.000250 UTC\n"
    )
    empty = tmp_path / "empty.json"
    empty.touch()
    assert find(capsys, arguments[0], empty, *arguments[1:])[1] == "nflowlevel find: the log has no record\n"


@pytest.mark.parametrize(
    ("words", "status", "refusal"),
    [
        (["beakon"], 2, "unknown detector 'beakon' — did you mean 'beacon'?"),
        (["port_scan", "-p", "port=3"], 2, "port_scan: unknown option 'port' — did you mean 'ports'?"),
        (["port_scan", "-p", "ports"], 2, "-p 'ports': write NAME=VALUE"),
        (
            ["port_scan", "-p", "within=x"],
            2,
            "within must be seconds, or a duration such as 90s, 5m, 1h or 7d, not 'x'",
        ),
        (["all", "-p", "ports=3"], 2, "-p is for one detector, not for all"),
        (["all", "--severity", "huge"], 2, "--severity must be info, low, medium or high, not 'huge'"),
        (["port_scan", "within=3h"], 2, "'within=3h' is no file; a parameter is given as -p within=3h"),
        (["LOG"], 2, "name a detector, or all, before the file LOG"),
        (["beacon", "LOG", "--since", "2026-13-01"], 2, "--since must be a time such as 24h, 7d"),
        (["beacon", "LOG", "--since", "3y"], 2, "--since must be a time such as 24h, 7d"),
        (["beacon", "LOG.gone"], 1, "LOG.gone: No such file or directory"),
        (["beacon", "LOG", "--spark", "local[1]"], 1, "asking a log by Spark is not available"),
    ],
)
def test_what_is_wrong_is_said(
    log: Path, words: list[str], status: int, refusal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, said = find(capsys, *(word.replace("LOG", str(log)) for word in words), status=status)
    assert out == ""
    told = " ".join(said.split())
    assert told.startswith(f"nflowlevel find: {refusal.replace('LOG', str(log))}")


def test_times_are_written_in_utc() -> None:
    assert written("first", START * 10**6 + 5) == "2026-11-24T08:30:00.000005Z"
    assert written("day", START) == "2026-11-24T08:30:00Z"
    assert written("first", None) is None
    assert written("count", 5) == 5


def test_what_an_engine_refuses_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + b"\xff" * 40 + b"PAR1")
    # A damaged file is left out, as a damaged line is; a database that cannot be asked is an error.
    assert cli.main(["find", "port_scan", str(tmp_path / "x.parquet")]) == 0
    told = capsys.readouterr().err
    assert told.startswith("nflowlevel find: ")
    assert "x.parquet" in told
    assert cli.main(["find", "port_scan", "postgresql://u:secret@127.0.0.1:1/logs"]) == 1
    told = capsys.readouterr().err
    assert "127.0.0.1" in told
    assert "secret" not in told
