# SPDX-License-Identifier: GPL-2.0-or-later
"""The report: what it says of a log, as HTML that asks for nothing and as text; looked at in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pytest

import nflowlevel as nfl
from nflowlevel.analytics import report as module
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.report import MOST_ROWS, Report, make, to_html, to_text
from nflowlevel.errors import NotSupported
from tests.fix_chromium import Chromium, chromium
from tests.fix_logs import START, log_file, record

__all__ = ["chromium"]

_HOSTILE = "<script>alert(1)</script> \x1b[31m"


def _log(tmp_path: Path) -> Log:
    """Return ordinary packets, twelve port scans, a pause, and a prefix that is HTML and moves cursors."""
    found = [
        record(number, src_ip=f"192.0.2.{number % 9}", dest_port=443, tcp__window=64240, raw__label=1,
               src_port=40000 + number)
        for number in range(1200)
    ]  # fmt: skip
    for scanner in range(12):
        found += [record(100 + port // 8, src_ip=f"203.0.113.{scanner}", dest_port=port) for port in range(1, 160)]
    found += [record(5000 + number, oob__prefix=_HOSTILE, dest_port=22) for number in range(3)]
    return nfl.read(log_file(tmp_path / "ulogd.json", sorted(found, key=lambda each: each["oob.time.sec"])))


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return make(_log(tmp_path), "ulogd.json")


def test_what_it_says(report: Report) -> None:
    assert (report.packets, report.blocked) == (1200 + 12 * 159 + 3, 12 * 159 + 3)
    assert report.addresses == 9 + 12 + 1
    assert sum(row[1] for row in report.traffic) == 1200
    assert dict(report.charts)["TCP windows of SYN packets"] == [(16384, 12 * 159 + 3), (64240, 1200)]
    found = {each.detector.name: each for each in report.findings}
    assert found["port_scan"].count == 12
    assert len(found["port_scan"].rows) == MOST_ROWS
    assert [after - before for before, after in report.gaps] == [3801]


def test_packets_are_held_where_memory_has_room_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Report] = []
    calls: list[tuple[str, ...]] = []
    numbered = Log.numbered

    def counted(log: Log, *names: str) -> Log:
        calls.append(names)
        return numbered(log, *names)

    monkeypatch.setattr(Log, "numbered", counted)
    for bytes_of_row in (module._ROW_BYTES, 1 << 50):
        monkeypatch.setattr(module, "_ROW_BYTES", bytes_of_row)
        made.append(make(_log(tmp_path).last("2h")))
    assert made[0] == made[1]
    assert made[0].findings
    assert len(calls) == 1


def test_files_of_others_may_have_no_times(tmp_path: Path) -> None:
    found = "SELECT NULL::BIGINT AS sec, NULL::BIGINT AS us, '192.0.2.66' AS src_ip"
    duckdb.connect().execute(f"COPY ({found}) TO '{tmp_path / 'x.parquet'}' (FORMAT parquet)")
    made = make(nfl.read(tmp_path / "x.parquet"))
    assert (made.packets, made.first, made.traffic, made.gaps) == (1, None, [], [])
    assert "192.0.2.66" in to_html(made)
    assert "1 packet\n" in to_text(made)


def test_one_of_each_is_no_plural(tmp_path: Path) -> None:
    path = log_file(tmp_path / "a.json", [record()])
    with path.open("a") as file:
        file.write("{}\n")
    page = make(nfl.read(path))
    found = to_text(page)
    assert [line.split(None, 1)[1] for line in found.splitlines()[2:6]] == [
        "packet", "blocked", "source", "damaged line, left out",
    ]  # fmt: skip
    assert "<b>1</b>packet<" in to_html(page)


def test_the_most_urgent_comes_first_and_times_are_short(tmp_path: Path) -> None:
    found = [record(port // 8, src_ip="203.0.113.1", src_port=40000, dest_port=port) for port in range(1, 160)]
    found += [record(90_000 + n, src_ip="203.0.113.2", src_port=40000 + n) for n in range(40)]
    made = make(nfl.read(log_file(tmp_path / "a.json", found)))
    severities = [each.detector.severity for each in made.findings]
    assert severities == sorted(severities, key=("high", "medium", "low").index)
    assert len(set(severities)) >= 2
    # The records have microseconds.
    assert "2026-11-24 08:30:00 " in to_text(made)
    assert ".000250" not in to_text(made)


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)


def test_the_page_has_no_script_and_asks_for_nothing(report: Report) -> None:
    page = to_html(report)
    checker = _Checker()
    checker.feed(page)
    assert not {"script", "iframe", "object", "form", "img"} & set(checker.tags)
    assert checker.urls == ["data:,"]
    assert "&lt;script&gt;alert(1)" in page
    assert "url(" not in page
    assert "@import" not in page
    assert "\x1b" not in page
    assert len(page.encode()) < 400_000


def test_the_text(report: Report) -> None:
    text = to_text(report)
    assert "port_scan" in text
    assert re.search(r"^\s+3,111 packets$", text, re.MULTILINE)
    assert "nothing for 3801 seconds" in text
    assert "\x1b" not in text
    assert all(line.isprintable() for line in text.splitlines())


def test_a_log_without_packets(tmp_path: Path) -> None:
    empty = make(nfl.read(log_file(tmp_path / "empty.json", [])))
    assert "no packets" in to_html(empty)
    assert "no packets" in to_text(empty)


def test_in_a_browser(chromium: Chromium, report: Report, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(to_html(report))
    chromium.open(page.as_uri())
    assert chromium.run("document.querySelectorAll('svg[role=img]').length") >= 5
    wide = chromium.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert wide
    for width, dark in ((400, False), (1200, True)):
        chromium.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        chromium.call("Emulation.setEmulatedMedia", features=scheme)
        assert chromium.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width
        paper = chromium.run("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(18, 24, 31)" if dark else "rgb(255, 255, 255)")
    # On paper nothing scrolls: tables are as wide as the sheet at most.
    chromium.call("Emulation.setDeviceMetricsOverride", width=700, height=900, deviceScaleFactor=1, mobile=False)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    tables = "[...document.querySelectorAll('table')].every(t => t.offsetWidth <= document.body.offsetWidth)"
    assert chromium.run(tables)
    assert len(chromium.call("Page.printToPDF")["data"]) > 10_000
    assert (chromium.violations, chromium.errors) == ([], [])
    assert [url for url in chromium.requests if not url.startswith(("file:", "data:"))] == []


#: Of each text of a picture that is seen: its size on the screen, and the text if not all of it is within the picture.
_TEXTS = """[...document.querySelectorAll('svg text')].filter(text => text.getClientRects().length).map(text => {
  const box = text.getBoundingClientRect(), figure = text.closest('figure').getBoundingClientRect();
  const within = box.left >= figure.left && box.right <= figure.right && box.bottom <= figure.bottom;
  return [parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a, within ? "" : text.textContent];
})"""
#: Whether no two labels of the axis of time overlap.
_APART = """(boxes => boxes.every((box, at) => !at || boxes[at - 1].right <= box.left))(
  [...document.querySelectorAll('.date')].filter(text => text.getClientRects().length)
    .map(text => text.getBoundingClientRect()))"""


@pytest.mark.parametrize("hours", [1, 23, 24 * 12, 24 * 400])
def test_texts_of_pictures_can_be_read_on_a_phone(
    chromium: Chromium, report: Report, tmp_path: Path, hours: int
) -> None:
    """Long names, large counts, and axes of all kinds: nothing is small, cut or over another."""
    names = [("2001:db8:1234:5678:9abc:def0:1234:5678", 98_765_432), ("198.51.100.7", 1), ("DROP forward to dmz: ", 0)]
    traffic = [(START, 12_345, 0, 0), (START + hours * 3600 - 600, 98_765_000, 0, 7)]
    page = tmp_path / "report.html"
    page.write_text(to_html(replace(report, charts=[("Sources", names)] * 2, traffic=traffic, step=600)))
    for width, least, media in ((320, 9, ""), (360, 9, ""), (400, 9, ""), (1200, 11, ""), (718, 9, "print")):
        chromium.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                      mobile=width < 600)  # fmt: skip
        chromium.call("Emulation.setEmulatedMedia", media=media)
        chromium.open(page.as_uri())
        assert chromium.run("innerWidth") == width
        assert chromium.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width
        found = chromium.run(_TEXTS)
        assert len(found) >= 3 + 2 * 6 + (hours > 1)
        assert min(size for size, _ in found) >= least, width
        assert [cut for _, cut in found if cut] == [], width
        assert chromium.run(_APART), width
    assert (chromium.violations, chromium.errors) == ([], [])


def test_countries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where addresses are registered; without a table of that, the report has no such picture."""
    sources = ("8.8.8.8", "8.8.4.4", "218.2.22.118", "10.0.0.1")
    log = nfl.read(log_file(tmp_path / "who.json", [record(n, src_ip=ip) for n, ip in enumerate(sources)]))
    assert dict(make(log).charts)["Countries of sources"] == [("US", 2), ("CN", 1), (None, 1)]
    (tmp_path / "names.csv").write_text("10.0.0.0/8,office\n")
    with nfl.read(tmp_path / "who.json", networks=str(tmp_path / "names.csv")) as named:
        assert dict(make(named).charts)["Your names of sources"] == [(None, 3), ("office", 1)]

    def without_table(log: Log, addresses: object) -> Any:
        raise NotSupported("countries", found="no Python module iptocc", needed="pip install 'nflowlevel[geo]'")

    monkeypatch.setattr(Log, "places_of", without_table)
    assert "Countries of sources" not in dict(make(log).charts)


@pytest.mark.parametrize("seconds", [range(1, 2**32, 2**32 // 3000), [7, *range(START, START + 3000), 2**32 - 1]])
def test_a_report_over_decades_is_small(tmp_path: Path, seconds: Iterable[int]) -> None:
    """Records of all times, and an ordinary hour with two wrong clocks."""
    records = [record(src_ip=f"192.0.2.{second % 200}", oob__time__sec=second) for second in seconds]
    made = make(nfl.read(log_file(tmp_path / "x.json", records)))
    page = to_html(made)
    assert len(page) < 100_000
    assert len(made.traffic) <= 200
    assert 2 <= page.count('class="date"') <= 14
    assert "1970-01-01 00:00:0" in page
    if made.gaps:
        assert re.findall(r"nothing for (.*)", to_text(made)) == ["56 years", "79 years"]
