# SPDX-License-Identifier: GPL-2.0-or-later
"""Which part of which files is meant by subcommands that ask a log."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from nflowlevel.cli import logfiles
from nflowlevel.cli.logfiles import add_files, opened
from nflowlevel.cli.status import WrongArgument
from nflowlevel.errors import NflowError
from tests.fix_logs import log_file, record


def _options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_files(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(log_file(tmp_path / "ulogd.json", [record(number * 3600, dest_port=number) for number in range(48)]))


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 48),
        (["--since", "24h"], 24),
        (["--filter", "tcp.dport < 10"], 10),
        (["--since", "24h", "-F", "tcp.dport < 30"], 6),
    ],
)
def test_the_part_that_is_meant(log: str, arguments: list[str], count: int) -> None:
    assert opened(_options(log, *arguments)).count().value() == count


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--since", "soon"], "--since must be a time such as 24h, 7d .* or 2026-11-24T08:30, not 'soon'"),
        (["--since", "24"], "--since must be a time such as 24h, .*, not '24'"),
        (["--since", ""], "--since must be"),
        (["--until", "24h"], "--until must be a time such as 2026-11-24T08:30, not '24h'"),
        (["--filter", "tcp.dprt == 22"], "did you mean 'tcp.dport'"),
        (["--filter", ""], "filter"),
    ],
)
def test_what_cannot_be_is_told_before_the_log_is_read(arguments: list[str], told: str) -> None:
    with pytest.raises(WrongArgument, match=told):
        opened(_options("there is no such file", *arguments))


@pytest.mark.parametrize("url", ["postgresql://me:word@127.0.0.1:1/x", "mysql://me:word@127.0.0.1:1/x"])
def test_a_database_that_is_away_is_told_in_one_line(url: str) -> None:
    with pytest.raises(NflowError, match=r"^read a database: .") as caught:
        opened(_options(url))
    assert "word" not in str(caught.value)


def test_a_file_of_sqlite_that_cannot_be_is_named() -> None:
    with pytest.raises(NotADirectoryError, match=r"/dev/null/x\.db"):
        opened(_options("sqlite:///dev/null/x.db"))


def test_names_of_networks(log: str, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("192.0.2.0/24,guests\n")
    read = opened(_options(log, "--networks", str(tmp_path / "names.csv")))
    assert read.count("src_ip", geo="network").rows() == [("guests", 48, 1)]


def test_names_that_cannot_be_are_told_before_the_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("192.0.2.0/24,guests\nnonsense\n")
    with pytest.raises(NflowError, match=r"names\.csv:2: must be network,name"):
        opened(_options("there is no such file", "--networks", str(tmp_path / "names.csv")))
    with pytest.raises(OSError, match=r"none\.csv"):
        opened(_options("there is no such file", "--networks", str(tmp_path / "none.csv")))
    with pytest.raises((OSError, NflowError), match=r"names\.csv"):
        opened(_options("there is no such file", "--mmdb", str(tmp_path / "names.csv")))


def test_what_is_named_twice_is_told(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(Path(log).parent)
    for files, said in (
        ([log, log], f"nflowlevel: {log} was given before: it is read once\n"),
        ([directory, log], f"nflowlevel: {log} was given before: it is read once\n"),
        ([log, f"{directory}/./ulogd.json", log],
         f"nflowlevel: {directory}/./ulogd.json was given before, as {log}: it is read once; 1 more name too\n"),
        ([log], ""),
    ):  # fmt: skip
        assert opened(_options(*files)).count().value() == 48
        assert capsys.readouterr().err == said


def test_without_a_file(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "DEFAULT_FILE", log)
    assert opened(_options()).count().value() == 48
