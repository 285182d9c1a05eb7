# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of `nflowlevel explore`: what it answers, whom it refuses, and how it is used in a real Chromium."""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
import json
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import duckdb
import pytest

import nflowlevel as nfl
from nflowlevel.analytics import explore
from nflowlevel.analytics.brief import Brief
from nflowlevel.analytics.explore import DAY_SECS, PANELS, SHOWN, Page, answer, briefs, selected
from nflowlevel.analytics.log import Log
from nflowlevel.analytics.store import WHOLE, Span
from nflowlevel.archive.compaction import Settings, compact
from nflowlevel.archive.journal import Journal
from nflowlevel.errors import NflowError
from tests.fix_chromium import Chromium, chromium
from tests.fix_lines import small_disk
from tests.fix_logs import START, log_file, parquet_file, record

__all__ = ["chromium"]

_HOURS = 4


def _records() -> list[dict[str, Any]]:
    """Return four hours: ordinary clients, a scanner with window 16384, and names that are no HTML."""
    dice = random.Random(7)
    found = [
        record(
            dice.randrange(3600 * _HOURS), src_ip=f"192.0.2.{dice.randrange(1, 20)}", tcp__window=64240,
            src_port=dice.randrange(32768, 61000), dest_port=dice.choice((80, 443)), raw__label=1,
        )
        for _ in range(400)
    ]  # fmt: skip
    found += [record(60 * number, src_ip=f"203.0.113.{number % 5}", dest_port=22) for number in range(_HOURS * 60)]
    found += [record(5, oob__prefix="<img src=x onerror=alert(1)>", src_ip="203.0.113.200", tcp__window=1)]
    return sorted(found, key=lambda each: each["oob.time.sec"])


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return nfl.read(log_file(tmp_path / "ulogd.json", _records()))


@pytest.fixture
def page(log: Log) -> Iterator[Page]:
    made = Page(log)
    yield made
    made.close()


# -- answers ----------------------------------------------------------------------------------------------------------


def test_all_of_it(log: Log) -> None:
    found = answer(log, [])
    records = _records()
    assert found["count"] == len(records)
    assert found["step"] == 300
    assert sum(sum(row[1:]) for row in found["time"]) == len(records)
    assert sum(row[1] for row in found["time"]) == 400
    panels = {panel["column"]: panel["rows"] for panel in found["panels"]}
    assert panels.keys() == set(PANELS)
    assert panels["tcp_window"] == [(64240, 400), (16384, 240), (1, 1)]
    assert found["columns"] == SHOWN
    assert found["records"] == log.sql(found["sql"]).rows()


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([("tcp_window", "16384")], 240),
        ([("!tcp_window", "16384")], 401),
        ([("tcp_window", "16384"), ("!src_ip", "203.0.113.1")], 192),
        ([("from", str(START)), ("to", str(START + 60)), ("tcp_window", "16384")], 1),
        ([("where", "tcp.dport == 22 && ip.ttl < 40")], 0),
        ([("oob_prefix", "<img src=x onerror=alert(1)>")], 1),
        ([("oob_prefix", "' OR 1=1 --")], 0),
        ([("icmp_type", "")], 641),
        ([("!icmp_type", "")], 0),
        ([("oob_in.empty", "")], 0),
        ([("!oob_in.empty", "")], 641),
    ],
)
def test_a_state_selects(log: Log, pairs: list[tuple[str, str]], wanted: int) -> None:
    assert selected(log, pairs).count().value() == wanted


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([("tcp_windo", "1")], "did you mean"),
        ([("tcp_window", "many")], "tcp_window is a number, not 'many'"),
        ([("from", "x")], "from must be seconds since 1970, not 'x'"),
        ([("where", "tcp.dport ==")], "filter"),
        ([("geo", "contry")], "did you mean 'country'"),
        ([("asn", "many")], "asn is a number, not 'many'"),
        ([("src_ip", "' OR 1=1 --")], "src_ip is an address"),
    ],
)
def test_a_state_that_cannot_be(page: Page, pairs: list[tuple[str, str]], said: str) -> None:
    from urllib.parse import urlencode

    status, body = _get(page, f"/{page.token}/answer?{urlencode(pairs)}")
    assert status == 200
    assert said in json.loads(body)["problem"]


def test_countries_of_sources(tmp_path: Path) -> None:
    sources = ["193.0.6.139", "193.0.6.140", "8.8.8.8", "10.0.0.1"]
    log = nfl.read(log_file(tmp_path / "a.json", [record(at, src_ip=source) for at, source in enumerate(sources)]))
    found = answer(log, [("geo", "country")])
    assert found["panels"][0] == {"column": "country", "rows": [("NL", 2), ("US", 1), (None, 1)]}
    pairs = (("country", "NL"), ("!country", "NL"), ("country", ""))
    assert [answer(log, [pair])["count"] for pair in pairs] == [2, 2, 1]
    assert log.sql(answer(log, [("country", "NL")])["sql"]).rows() == log.placed(
        "src_ip", geo="country", value="NL"
    ).records(*SHOWN).rows()  # fmt: skip


def test_a_log_without_records(tmp_path: Path) -> None:
    found = answer(nfl.read(log_file(tmp_path / "empty.json", [])), [])
    assert (found["count"], found["time"], found["records"]) == (0, [], [])


# -- who may look -----------------------------------------------------------------------------------------------------


def _get(page: Page, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_the_token_is_needed(page: Page) -> None:
    assert _get(page, f"/{page.token}/")[0] == 200
    for path in ("/", "/answer", "/x/answer", f"/{page.token[:-1]}/", f"/{page.token}x/", "/%00/"):
        assert _get(page, path)[0] == 403, path


@pytest.mark.parametrize("name", ["nothing", "../log.py", "%2e%2e/log.py", "explore.html/x", "page/explore.js"])
def test_there_is_nothing_else(page: Page, name: str) -> None:
    assert _get(page, f"/{page.token}/{name}")[0] == 404


def test_another_host_or_origin_is_refused(page: Page) -> None:
    path = f"/{page.token}/answer"
    assert _get(page, path, Host="evil.example")[0] == 403
    assert _get(page, path, Host=f"evil.example:{page.port}")[0] == 403
    assert _get(page, path, Host=f"127.0.0.1:{page.port + 1}")[0] == 403
    assert _get(page, path, Origin="http://evil.example")[0] == 403
    assert _get(page, path, Origin="null")[0] == 403
    assert _get(page, path, Sec_Fetch_Site="cross-site")[0] == 403
    assert _get(page, path, Host=f"localhost:{page.port}", Origin=f"http://localhost:{page.port}")[0] == 200


def test_only_reading(page: Page) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.request("POST", f"/{page.token}/answer", body="x")
    assert connection.getresponse().status == 501
    connection.close()


def test_what_is_too_long(page: Page) -> None:
    assert _get(page, f"/{page.token}/answer?where={'x' * 20_000}")[0] == 414


def test_a_port_that_is_taken(page: Page, log: Log) -> None:
    with pytest.raises(NflowError, match=rf"127.0.0.1:{page.port}: Address already in use; choose another --port"):
        Page(log, page.port)


def test_files_of_the_selection(page: Page, tmp_path: Path) -> None:
    status, text = _get(page, f"/{page.token}/records.csv?tcp_window=16384")
    assert status == 200
    assert len(text.splitlines()) == 241
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.request("GET", f"/{page.token}/records.parquet?tcp_window=16384")
    (tmp_path / "part.parquet").write_bytes(connection.getresponse().read())
    connection.close()
    assert nfl.read(tmp_path / "part.parquet").count().value() == 240
    assert _get(page, f"/{page.token}/records.csv?nothing=1")[0] == 400


def test_no_spreadsheet_obeys_a_text(tmp_path: Path) -> None:
    texts = ["=cmd|' /C calc'!A1", "+1", "-1", "@SUM(1)", "\t=1", "\uff1d1", "a=b", "", "1-1"]
    lines = [record(place, oob__prefix=text) for place, text in enumerate(texts)]
    made = Page(nfl.read(log_file(tmp_path / "ulogd.json", lines)))
    try:
        status, body = _get(made, f"/{made.token}/records.csv")
        rows = list(csv.DictReader(io.StringIO(body, newline="")))
        assert status == 200
        assert [row["oob_prefix"] for row in rows] == [*(f"'{text}" for text in texts[:6]), *texts[6:]]
        assert {row["dest_port"] for row in rows} == {"22"}
    finally:
        made.close()


def test_queries_reach_no_other_file(page: Page, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a\n1\n")
    name = f"'{tmp_path}/other.csv'"
    for text in (f"SELECT * FROM read_csv({name})", f"COPY (SELECT 1) TO '{tmp_path}/made'", f"ATTACH '{tmp_path}/db'"):
        with pytest.raises(duckdb.PermissionException):
            page.log.sql(text).rows()
    with pytest.raises(duckdb.Error, match="locked"):
        page.log.sql("SET enable_external_access = true").rows()


def test_an_archive_is_looked_into_and_one_that_goes_is_told(tmp_path: Path) -> None:
    archive = tmp_path / "it's [1] *?\\"
    source = log_file(tmp_path / "u.json", [record(1)])
    with Journal(str(archive)) as journal:
        compact(journal, str(source), Settings(min_age=0))
    made = Page(nfl.read(archive))
    try:
        path = f"/{made.token}/"
        assert json.loads(_get(made, path + "answer")[1])["count"] == 1
        assert _get(made, path + "records.csv")[0] == 200
        shutil.rmtree(archive)
        assert "DuckDB: " in json.loads(_get(made, path + "answer")[1])["problem"]
        assert _get(made, path + "records.csv")[0] == 500
    finally:
        made.close()


def test_who_says_nothing_keeps_nobody_out(page: Page) -> None:
    """Any user of the machine can connect, and hold a thread and a descriptor for each connection."""
    before = threading.active_count()
    known = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    known.request("GET", f"/{page.token}/newest")
    assert known.getresponse().read()
    silent = [socket.create_connection(("127.0.0.1", page.port), timeout=30) for _ in range(150)]
    try:
        assert _get(page, f"/{page.token}/newest")[0] == 200
        assert silent[0].recv(1) == b""
        assert threading.active_count() - before < 100
        known.request("GET", f"/{page.token}/newest")
        assert known.getresponse().status == 200
    finally:
        known.close()
        for each in silent:
            each.close()


def test_who_has_no_token_is_hung_up_on(page: Page) -> None:
    with socket.create_connection(("127.0.0.1", page.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while piece := connection.recv(65536):
            got += piece
    assert got.count(b"HTTP/1.1 403") == 1


def _ask(page: Page, query: str = "") -> socket.socket:
    """Ask for an answer, and do not wait for it."""
    made = socket.create_connection(("127.0.0.1", page.port), timeout=30)
    made.sendall(f"GET /{page.token}/answer{query} HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n\r\n".encode())
    return made


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_many_requests_take_turns(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred at once took gigabytes, and all ended late. Who went away meanwhile is not answered."""
    _made(page)
    running: list[str] = []
    most: list[int] = []
    answered: list[str] = []
    go_on = threading.Event()

    def noted(log: Log, pairs: Sequence[tuple[str, str]], *_: Brief) -> dict[str, Any]:
        running.append(pairs[0][1])
        most.append(len(running))
        assert go_on.wait(30)
        answered.append(running.pop(0))
        return {"count": pairs[0][1]}

    monkeypatch.setattr(explore, "answer", noted)
    asking = []
    for number in range(30):
        asking.append(_ask(page, f"?from={number}"))
        _until(lambda: len(page._asking) == len(asking))
    _until(lambda: len(running) == 2)
    assert running == ["0", "1"], "who came first"
    for each in asking[10:20]:
        each.close()
    _until(lambda: len(page._asking) == 20)
    go_on.set()
    for number, each in enumerate(asking):
        if not 10 <= number < 20:
            with each, each.makefile("rb") as stream:
                size = next(int(line.split()[1]) for line in stream if line.startswith(b"Content-Length:"))
                assert b"\r\n" in stream, "the end of the headers"
                assert json.loads(stream.read(size)) == {"count": str(number)}
    assert max(most) == 2
    assert sorted(map(int, answered)) == [*range(10), *range(20, 30)]


def test_the_end_ends_those_who_wait_for_their_turn(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    monkeypatch.setattr(explore, "answer", lambda log, *_: {"rows": log.sql(_LONG).rows()})
    made = Page(log)
    asking = [_ask(made) for _ in range(12)]
    _until(lambda: len(made._asking) == 12)
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < explore._CLOSING_SECS
    assert set(threading.enumerate()) <= before
    for each in asking:
        each.close()


@pytest.mark.parametrize("name", ["records.csv", "records.parquet"])
def test_a_download_that_is_broken_off_leaves_nothing(tmp_path: Path, name: str) -> None:
    """The file is larger than what the kernel keeps for a connection."""
    path = log_file(tmp_path / "x.json", [record(n, community_id=os.urandom(500).hex()) for n in range(12_000)])
    with nfl.read(path) as log:
        page = Page(log)
        try:
            _made(page)
            before = threading.active_count(), sorted(page.log.directory.iterdir())
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", page.port), timeout=30) as made:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    head = f"GET /{page.token}/{name} HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n\r\n"
                    made.sendall(head.encode())
                    assert made.recv(15) == b"HTTP/1.1 200 OK"
            _until(lambda: (threading.active_count(), sorted(page.log.directory.iterdir())) == before)
            assert not [fd for fd in os.listdir("/proc/self/fd") if "page-" in _name_of(fd)]
        finally:
            page.close()


def _name_of(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


def _same(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("count", "panels", "records", "time", "sql")}


@pytest.mark.parametrize("way", ["asked", "held"])
def test_short_memory_changes_no_answer(page: Page, log: Log, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A brief, and a table in memory, are only the faster ways."""
    made = _made(page)
    state = [("where", "tcp.dport == 443 || ip.ttl < 60")]
    wanted = answer(log, state, made)
    assert wanted["note"] == ""
    tried = []

    def short(log: Log, *_: object) -> Log:
        tried.append(way)
        raise duckdb.OutOfMemoryException("Out of Memory Error: no room")

    monkeypatch.setattr(Log, way, short)
    if way == "held":
        monkeypatch.setattr(Brief, "engine", lambda *_: None)
    found = answer(log, state, made)
    assert _same(found) == _same(wanted)
    assert found["note"] == (explore.SHORT if way == "held" else "")
    assert tried

    def broken(log: Log, *_: object) -> Log:
        raise duckdb.IOException("IO Error: it is damaged")

    monkeypatch.setattr(Log, way, broken)
    with pytest.raises(duckdb.IOException, match="it is damaged"):
        answer(log, state, made)


def test_what_has_no_room_for_a_brief_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log_file(tmp_path / "x.json", _records())
    wanted = _same(answer(nfl.read(path), []))
    with small_disk(tmp_path / "small", "16M") as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        monkeypatch.setattr(explore, "_SLOW_MILLISECONDS", 0)
        with nfl.read(path) as log:
            with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(1 << 12)):
                    pass
            full = Page(log)
            full._maker.join(60)
            found = json.loads(_get(full, f"/{full.token}/answer")[1])
            full.close()
    monkeypatch.undo()
    assert _same(found) == json.loads(json.dumps(wanted, default=str))
    assert found["note"] == explore.SHORT
    monkeypatch.setattr("nflowlevel.analytics.log.PACKET_BYTES", 1 << 40)
    monkeypatch.setattr(explore, "_SLOW_MILLISECONDS", 0)
    with nfl.read(path) as log:
        small = Page(log)
        small._maker.join(60)
        found = json.loads(_get(small, f"/{small.token}/answer")[1])
        small.close()
    assert (_same(found), found["note"]) == (json.loads(json.dumps(wanted, default=str)), explore.SHORT)
    empty = Page(nfl.read(log_file(tmp_path / "empty.json", [])))
    empty._maker.join(60)
    assert json.loads(_get(empty, f"/{empty.token}/answer")[1])["note"] == ""
    empty.close()


def test_several_browsers_at_once_get_what_each_one_asked_for(log: Log) -> None:
    """Also while the brief is made, and behind it."""
    states: list[list[tuple[str, str]]] = [
        [], [("tcp_window", "16384")], [("!tcp_window", "16384")], [("where", "tcp.dport == 443 || ip.ttl < 60")],
        [("dest_port", "22"), ("src_ip", "203.0.113.3")], [("from", str(START + 3600)), ("to", str(START + 7200))],
    ]  # fmt: skip
    wanted = [answer(log, state) for state in states]
    page = Page(log)
    wrong: list[object] = []

    def browse(first: int) -> None:
        try:
            for number in range(first, first + 2 * len(states)):
                state = number % len(states)
                got = json.loads(_get(page, f"/{page.token}/answer?{urlencode(states[state])}")[1])
                for name in ("count", "panels", "records", "time"):
                    if got[name] != json.loads(json.dumps(wanted[state][name], default=str)):
                        wrong.append((states[state], name, got[name]))
        except Exception as error:
            wrong.append(error)

    try:
        browsers = [threading.Thread(target=browse, args=(first,)) for first in range(4)]
        for each in browsers:
            each.start()
        for each in browsers:
            each.join(120)
        assert wrong == []
        page._maker.join(60)
        assert page._briefs
    finally:
        page.close()


# -- the brief, and the end --------------------------------------------------------------------------------------------


def _made(page: Page) -> Brief:
    page._maker.join(30)
    (brief,) = page._briefs
    return brief


def test_a_brief_answers_what_it_can(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = _made(page)
    asked: list[bool] = []
    engine = Brief.engine

    def noted(brief: Brief, conditions: Sequence[str], span: Span) -> Any:
        found = engine(brief, conditions, span)
        asked.append(found is not None)
        return found

    monkeypatch.setattr(Brief, "engine", noted)
    wanted = [answer(page.log, state) for state in ([], [("tcp_window", "16384")], [("icmp_type", "")])]
    paths = [f"/{page.token}/answer{query}" for query in ("", "?tcp_window=16384", "?icmp_type=")]
    for path, whole in zip(paths, wanted, strict=True):
        found = json.loads(_get(page, path)[1])
        assert found == json.loads(json.dumps(whole)) | {"milliseconds": found["milliseconds"]}
    assert asked == [True, True, False]
    assert page._briefs == (brief,)


def test_the_last_day_is_made_first_and_answers_for_itself(tmp_path: Path) -> None:
    hours = [record(3600 * hour, src_ip=f"192.0.2.{hour}") for hour in range(90)]
    with nfl.read(parquet_file(tmp_path / "a.parquet", hours[:80]), log_file(tmp_path / "b.json", hours[80:])) as log:
        day, whole = made = list(briefs(log))
        first = START + 3600 * 89 + 1 - DAY_SECS
        assert (day.span, whole.span) == (Span(first * 10**6, None), WHOLE)
        day_state = [("from", str(first)), ("to", str(first + DAY_SECS))]
        for state, able in (
            ([], [whole]),
            (day_state, [day, whole]),
            ([("from", str(first - 1))], [whole]),
            ([("from", str(first + 7200)), ("!src_ip", "192.0.2.80")], [day, whole]),
            ([*day_state, ("geo", "country"), ("country", "")], [day, whole]),
            ([("to", str(first))], [whole]),
        ):
            wanted, found = answer(log, state), answer(log, state, *made)
            del wanted["milliseconds"], found["milliseconds"]
            assert found == wanted
            assert found["count"] > 0
            chosen = selected(log, state)
            assert [each for each in made if chosen.asked(each) is not chosen] == able
            assert answer(log, state, day)["count"] == found["count"]
    with nfl.read(log_file(tmp_path / "day.json", hours[:10])) as short:
        assert [each.span for each in briefs(short)] == [WHOLE]
    with nfl.read(log_file(tmp_path / "none.json", [])) as none:
        assert list(briefs(none)) == []


#: Takes hours.
_LONG = "SELECT SUM(a.range * b.range) AS n FROM range(10000000) AS a, range(10000000) AS b"


def test_the_end_ends_what_runs(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is still in DuckDB when Python ends brings the process down."""
    before, began = set(threading.enumerate()), threading.Event()

    def endless(log: Log, *_: object) -> dict[str, Any]:
        began.set()
        return {"rows": log.sql(_LONG).rows(), "value": log.sql(_LONG).value()}

    monkeypatch.setattr(explore, "answer", endless)
    monkeypatch.setattr(Log, "brief", lambda log, *_, **__: log.sql(_LONG).value())
    made = Page(log)
    with socket.create_connection(("127.0.0.1", made.port), timeout=30) as asking:
        head = f"GET /{made.token}/answer HTTP/1.1\r\nHost: 127.0.0.1:{made.port}\r\n\r\n"
        asking.sendall(head.encode())
        silent = socket.create_connection(("127.0.0.1", made.port), timeout=30)
        assert began.wait(30)
        made.close()
        silent.close()
    assert set(threading.enumerate()) <= before


# -- in a browser -----------------------------------------------------------------------------------------------------


def _settled(browser: Chromium, fragment: str) -> None:
    """Wait until the page shows a state whose query holds `fragment`."""
    drawn = "document.body.dataset.drawn !== undefined && document.body.getAttribute('aria-busy') === 'false'"
    holds = f"(document.body.dataset.drawn || '').includes({json.dumps(fragment)})"
    state = "new URLSearchParams([...new URLSearchParams(location.hash.slice(1))]).toString()"
    same = f"document.body.dataset.drawn === {state}"
    browser.until(lambda: bool(browser.run(f"{drawn} && {holds} && {same}")), f"{fragment} is shown")


def _button(column: str, value: object) -> str:
    return f'document.querySelector(\'[data-column="{column}"][data-value="{value}"]\')'


def _table(browser: Chromium) -> list[list[str]]:
    rows = "[...document.querySelectorAll('#records tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    found: list[list[str]] = browser.run(rows)
    return found


def _time(secs: int) -> str:
    return datetime.fromtimestamp(secs, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _count(browser: Chromium) -> int:
    text: str = browser.run("document.getElementById('count').textContent")
    return int(text.split()[0].replace(",", ""))


def test_an_investigation_by_mouse(chromium: Chromium, page: Page, log: Log, tmp_path: Path) -> None:
    chromium.open(page.url)
    _settled(chromium, "")
    assert _count(chromium) == 641
    chromium.click(_button("tcp_window", 16384))
    _settled(chromium, "tcp_window=16384")
    assert _count(chromium) == 240
    # The second of four hours.
    chromium.drag("document.getElementById('time')", 0.25, 0.5)
    _settled(chromium, "from=")
    chromium.click(_button("src_ip", "203.0.113.1"), shift=True)
    _settled(chromium, "%21src_ip=203.0.113.1")
    count = _count(chromium)
    assert 40 <= count <= 56
    shown_sql = chromium.run("document.getElementById('sql').textContent")
    wanted = [["" if each is None else str(each) for each in row] for row in log.sql(shown_sql).rows()]
    for row in wanted:
        row[0] = _time(int(row[0]))
    assert _table(chromium) == wanted
    assert len(wanted) == min(count, 50)
    assert {row[SHOWN.index("tcp_window")] for row in wanted} == {"16384"}
    assert "203.0.113.1" not in {row[SHOWN.index("src_ip")] for row in wanted}
    # A link holds the state.
    link = chromium.run("location.href")
    chromium.open("about:blank")
    chromium.open(link)
    _settled(chromium, "%21src_ip=203.0.113.1")
    assert _table(chromium) == wanted
    assert chromium.picture(tmp_path / "explore.png").stat().st_size > 10_000
    assert (chromium.violations, chromium.errors) == ([], [])
    assert {url.split("#")[0].startswith((page.url, "about:", "data:")) for url in chromium.requests} == {True}


def test_countries_by_mouse(chromium: Chromium, tmp_path: Path) -> None:
    sources = ["193.0.6.139", "193.0.6.140", "8.8.8.8"]
    log = nfl.read(log_file(tmp_path / "a.json", [record(at, src_ip=source) for at, source in enumerate(sources)]))
    page = Page(log)
    try:
        chromium.open(page.url)
        _settled(chromium, "")
        chromium.click("document.querySelector('#geo [data-place=country]')")
        _settled(chromium, "geo=country")
        assert chromium.run("document.querySelectorAll('#geo button').length") == 0
        chromium.click(_button("country", "NL"), shift=True)
        _settled(chromium, "%21country=NL")
        assert (_count(chromium), [row[SHOWN.index("src_ip")] for row in _table(chromium)]) == (1, ["8.8.8.8"])
        assert (chromium.violations, chromium.errors) == ([], [])
    finally:
        page.close()


def test_by_keyboard(chromium: Chromium, page: Page) -> None:
    chromium.open(page.url)
    _settled(chromium, "")
    chromium.run(f"{_button('dest_port', 22)}.focus()")
    chromium.press("Enter")
    _settled(chromium, "dest_port=22")
    assert _count(chromium) == 241
    chromium.run(f"{_button('tcp_window', 1)}.focus()")
    chromium.press("Enter", shift=True)
    _settled(chromium, "%21tcp_window=1")
    assert _count(chromium) == 240
    # A filter is taken away with its button.
    chromium.run("document.querySelector('#filters button').focus()")
    chromium.press("Enter")
    chromium.until(lambda: _count(chromium) == 640, "the filter is gone")


def _not(column: str, value: object) -> str:
    return _button(column, value).replace("'[", "'.not[")


def test_by_touch(chromium: Chromium, page: Page, tmp_path: Path) -> None:
    """A finger filters and excludes; what it touches is large enough, and nothing is beside the screen."""
    for width in (360, 320):
        chromium.phone(width)
        chromium.open("about:blank")
        chromium.open(page.url)
        _settled(chromium, "")
        assert chromium.run("document.documentElement.scrollWidth <= innerWidth"), width
        assert chromium.run("visualViewport.scale") == 1
        # An address of the longest kind of IPv4 is seen whole.
        address = "(e => (e.textContent = '198.151.200.199', e.scrollWidth <= e.clientWidth))"
        assert chromium.run(f"{address}(document.querySelector('[data-column=src_ip] .value'))")
        for button in (_button("tcp_window", 16384), _not("tcp_window", 16384)):
            _, _, wide, high = chromium.place(button)
            assert min(wide, high) >= 40
        chromium.tap(_button("tcp_window", 16384))
        _settled(chromium, "tcp_window=16384")
        chromium.tap(_not("src_ip", "203.0.113.1"))
        _settled(chromium, "%21src_ip=203.0.113.1")
        assert _count(chromium) == 192
        assert "src_ip ≠ 203.0.113.1" in chromium.run("document.getElementById('filters').textContent")
        chromium.swipe("document.getElementById('time')", 0.25, 0.5)
        _settled(chromium, "from=")
        assert 40 <= _count(chromium) <= 56
    assert chromium.picture(tmp_path / "phone.png").stat().st_size > 10_000
    assert (chromium.violations, chromium.errors) == ([], [])


def test_what_excludes_is_a_button_of_its_own(chromium: Chromium, page: Page) -> None:
    """A screen reader names it; Tab reaches it, and who excluded one value goes on from there."""
    chromium.open(page.url)
    _settled(chromium, "")
    nodes = chromium.call("Accessibility.getFullAXTree")["nodes"]
    names = [
        node["name"]["value"] for node in nodes if not node["ignored"] and node["role"]["value"] == "button"
    ]  # fmt: skip
    assert "Exclude tcp_window 16384" in names
    chromium.run(f"{_button('src_ip', '203.0.113.1')}.focus()")
    chromium.press("Tab")
    assert chromium.run("document.activeElement.getAttribute('aria-label')") == "Exclude src_ip 203.0.113.1"
    chromium.press("Enter")
    _settled(chromium, "%21src_ip=203.0.113.1")
    assert _count(chromium) == 593
    assert chromium.run("document.activeElement.getAttribute('aria-label')").startswith("Exclude src_ip ")


def test_the_focus_stays_where_one_works(chromium: Chromium, page: Page) -> None:
    """Whoever takes filters away by key goes on with the next, and behind the last one with the count."""
    chromium.open(f"{page.url}#dest_port=22&tcp_window=16384&!src_port=7")
    _settled(chromium, "dest_port=22")
    chromium.run("document.querySelector('#filters button').focus()")
    for left, focused in (
        ("tcp_window=16384&%21src_port=7", "tcp_window = 16384 ✕"),
        ("%21src_port=7", "src_port ≠ 7 ✕"),
        ("", "641 packets"),
    ):
        chromium.press("Enter")
        chromium.until(lambda left=left: chromium.run("document.body.dataset.drawn") == left, f"{left} is left")
        assert chromium.run("document.activeElement.textContent") == focused
    chromium.run("document.querySelector('#geo button').focus()")
    chromium.press("Enter")
    _settled(chromium, "geo=country")
    assert chromium.run("document.activeElement.textContent") == "641 packets"


def test_a_filter_as_text_and_what_is_wrong_with_one(chromium: Chromium, page: Page) -> None:
    chromium.open(page.url)
    _settled(chromium, "")
    for text in ("tcp.dport == 22", "tcp.dprt == 22"):
        chromium.run(f"document.getElementById('text').value = {json.dumps(text)}")
        chromium.run("document.querySelector('#add').requestSubmit()")
        chromium.until(lambda: bool(chromium.run("document.body.getAttribute('aria-busy') === 'false'")), "it is shown")
    chromium.until(lambda: not chromium.run("document.getElementById('problem').hidden"), "the problem is told")
    assert "did you mean 'tcp.dport'" in chromium.run("document.getElementById('problem').textContent")


def test_an_empty_text_is_a_value_of_its_own(chromium: Chromium, tmp_path: Path) -> None:
    # A rule without a prefix, and a packet of this machine's own: both have an empty text. One has no prefix at all.
    found = [record(second, oob__prefix="" if second < 3 else f"rule {second}") for second in range(5)]
    found.append({name: value for name, value in record(5).items() if name != "oob.prefix"})
    page = Page(nfl.read(log_file(tmp_path / "ulogd.json", found)))
    try:
        chromium.open(page.url)
        _settled(chromium, "")
        chromium.click(_button("oob_prefix.empty", ""))
        _settled(chromium, "oob_prefix.empty=")
        assert _count(chromium) == 3
        assert "oob_prefix = (empty)" in chromium.run("document.getElementById('filters').textContent")
        chromium.click(_button("oob_prefix.empty", ""), shift=True)
        _settled(chromium, "%21oob_prefix.empty=")
        assert _count(chromium) == 0
        chromium.open(page.url + "#oob_prefix=")
        _settled(chromium, "oob_prefix=")
        assert _count(chromium) == 1
    finally:
        page.close()


def test_the_sql_is_copied_and_an_archive_is_asked_it_in_duckdb(chromium: Chromium, tmp_path: Path) -> None:
    source = log_file(tmp_path / "ulogd.json", _records())
    with Journal(str(tmp_path / "archive")) as journal:
        compact(journal, str(source), Settings(min_age=0))
    page = Page(nfl.read(tmp_path / "archive"))
    try:
        chromium.open(page.url + f"#tcp_window=16384&from={START + 61}&to={START + 600}")
        _settled(chromium, "tcp_window=16384")
        assert chromium.run("document.getElementById('from').value") == _time(START + 61).replace(" ", "T")
        chromium.run("navigator.clipboard.writeText = async text => { window.copied = text; }")
        chromium.click("document.getElementById('copy')")
        chromium.until(lambda: bool(chromium.run("document.getElementById('copied').textContent")), "it is copied")
        view = chromium.run("document.getElementById('view').textContent").replace("archive/", f"{tmp_path}/archive/")
        database = duckdb.connect()
        database.execute(view)
        rows = database.execute(chromium.run("window.copied")).fetchall()
        assert len(rows) == 8
        assert [[_time(row[0]), *map(str, row[4:6])] for row in rows] == [
            [row[0], *row[4:6]] for row in _table(chromium)
        ]
        assert (chromium.violations, chromium.errors) == ([], [])
    finally:
        page.close()


def test_names_of_others_are_text(chromium: Chromium, page: Page) -> None:
    chromium.open(page.url + "#tcp_window=1")
    _settled(chromium, "tcp_window=1")
    assert _count(chromium) == 1
    assert "<img src=x onerror=alert(1)>" in chromium.run("document.body.textContent")
    assert chromium.run("document.querySelectorAll('img').length") == 0


def test_it_says_what_it_shows(chromium: Chromium, page: Page) -> None:
    """To a screen reader: every button and field has a name, and the count is told when it changes."""
    chromium.open(page.url)
    _settled(chromium, "")
    nodes = chromium.call("Accessibility.getFullAXTree")["nodes"]
    kinds = ("button", "textbox", "link", "table", "image")
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node.get("role", {}).get("value") in kinds
    ]
    assert len(named) > 30
    assert all(name for _, name in named), named
    assert chromium.run("document.getElementById('count').getAttribute('aria-live')") == "polite"
    assert chromium.run("document.documentElement.lang") == "en"


@pytest.mark.parametrize("name", ["records.csv", "records.parquet"])
def test_an_export_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It says what to do, leaves nothing behind, and works again when there is room."""
    path = log_file(tmp_path / "x.json", [record(n, community_id=os.urandom(60).hex()) for n in range(5000)])
    with small_disk(tmp_path / "small", "16M") as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with nfl.read(path) as log:
            page = Page(log)
            try:
                page._maker.join(60)
                with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                    while file.write(bytes(1 << 12)):
                        pass
                before = sorted(disk.rglob("*"))
                status, told = _get(page, f"/{page.token}/{name}?")
                assert (status, told.count("\n")) == (500, 1)
                assert "No space left on device; make room there, or set TMPDIR" in told
                assert sorted(disk.rglob("*")) == before
                assert json.loads(_get(page, f"/{page.token}/answer")[1])["count"] == 5000
                (disk / "filler").unlink()
                found = page.reply(name, "")
                assert found
                assert not isinstance(found[1], bytes)
                with found[1] as exported:
                    assert len(exported.read()) > 5000
            finally:
                page.close()
