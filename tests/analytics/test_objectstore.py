# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives in an object store: a real server on loopback, asked by DuckDB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

import nflowlevel as nfl
from nflowlevel import cli
from nflowlevel.analytics import objectstore
from nflowlevel.analytics.objectstore import StoreURL, _answers, _File, store_url
from nflowlevel.archive.compaction import Settings, compact
from nflowlevel.archive.journal import Journal
from nflowlevel.errors import NflowError, NotSupported
from tests.fix_alone import unused_port
from tests.fix_logs import START, log_file, record
from tests.fix_store import ObjectStore, object_store

#: Of each firewall: its name, the hour of its records, and what they have in common.
FIREWALLS = (
    ("fw1", 0, {}),
    ("007", 0, {"oob.prefix": "accept"}),
    ("it's fw/2 é", 30, {"tcp.window": 1024}),
)
_HOUR = 3600


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of three firewalls; the files of one have fewer columns."""
    directory = tmp_path_factory.mktemp("archive")
    for number, (dvc, hour, members) in enumerate(FIREWALLS):
        records = [
            record(hour * _HOUR + n, dvc=dvc, **{"dest_port": 20 + n, **members}) | {"src_ip": f"192.0.2.{number}"}
            for n in range(100)
        ]
        path = log_file(directory / f"{number}.json.1", records)
        with Journal(str(directory / "a")) as journal:
            compact(journal, str(path), Settings(min_age=0))
    fewer = next((directory / "a").glob("kind=packets/dvc=007/*/*.parquet"))
    pq.write_table(pq.read_table(fewer).drop_columns(["dvc", "tcp_window", "icmp_type"]), fewer)
    return directory / "a"


@pytest.fixture(scope="module")
def server(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store with the archive in it, a copy with a cut file, and files that are no archive."""
    with object_store(tmp_path_factory.mktemp("store")) as store:
        store.copy(archive, "logs/fire walls/[a]")
        store.copy(archive, "logs/torn")
        path = next(archive.glob("kind=packets/dvc=fw1/*/*.parquet"))
        name = path.relative_to(archive).as_posix().replace("fw1", "fw3")
        store.put(f"logs/torn/{name}", path.read_bytes()[:-9])
        store.put("logs/plain/x.parquet", path.read_bytes())
        store.put("logs/plain/.hidden/x.parquet", path.read_bytes())
        store.put("logs/plain/readme.txt", b"no records")
        store.put("logs/public/x.parquet", path.read_bytes(), acl="public-read")
        yield store


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of whoever runs the tests goes anywhere, and no machine is asked for its role."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


URL = "s3://logs/fire walls/[a]"

QUESTIONS = (
    "SELECT * FROM packets ORDER BY us, dvc",
    "SELECT dvc, tcp_window, oob_prefix, COUNT(*) AS n FROM packets GROUP BY ALL ORDER BY ALL",
    "SELECT COUNT(*) AS n FROM flows",
)


@pytest.mark.parametrize("text", QUESTIONS)
def test_the_same_rows_as_of_files_here(
    archive: Path, server: ObjectStore, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with nfl.read(archive) as here, nfl.read(f"{URL}/") as there:
        rows = there.sql(text).rows()
        assert rows == here.sql(text).rows()
        assert there.newest == here.newest
        assert rows
        assert there.damaged.count == 0


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n"])
def test_a_store_that_the_url_names(server: ObjectStore, scheme: str) -> None:
    url = f"{scheme}://logs/plain?endpoint={server.endpoint}&region=eu-west-1"
    with nfl.read(url) as log:
        assert log.count("src_ip").rows() == [("192.0.2.0", 100)]
        log.seal()
        assert log.where(dest_port=27).count().value() == 1
        with pytest.raises(duckdb.Error, match="disabled by configuration"):
            log.sql("SELECT * FROM 's3://logs/torn/x.parquet'").rows()


def test_without_keys_only_what_all_may_read(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    url = "s3://logs/{}?anonymous=true&endpoint=" + server.endpoint
    with nfl.read(url.format("public")) as log:
        assert log.count().value() == 100
    with nfl.read(url.format("plain")) as log, pytest.raises(NflowError, match=r"ACCESS_DENIED.*; set AWS_ACCESS_KEY"):
        log.count().value()


def test_a_single_file_and_a_log_beside_it(server: ObjectStore, tmp_path: Path) -> None:
    here = log_file(tmp_path / "u.json", [record(src_ip="198.51.100.1")])
    with nfl.read(f"s3://logs/plain/x.parquet?endpoint={server.endpoint}", here) as log:
        assert log.count("src_ip").rows() == [("192.0.2.0", 100), ("198.51.100.1", 1)]


def test_only_what_a_question_needs_is_read(server: ObjectStore) -> None:
    with nfl.read(f"{URL}?endpoint={server.endpoint}") as log:
        # It would keep parts of files that are older than ten seconds.
        log._store._connection.execute("SET enable_external_file_cache = false")
        begin = len(server.asked())
        log.sql("SELECT 1 AS a").rows()  # the store is listed
        opened = [line.split()[0] for line in server.asked()[begin:] if "/kind=" in line]
        # Each of the three, and then one of those with all columns, one of those with fewer: for their types, and for
        # the view. What was read counts only if the file is still the same one: another HEAD for each part.
        assert opened.count("HEAD") == 2 * 3 + 2 * (1 + 2 + 1 + 1)
        before = len(server.asked())
        assert log.between("2026-11-25", "2026-11-26").count("tcp_window").rows() == [(1024, 100)]
        asked = {line for line in server.asked()[before:] if "/kind=" in line}
    assert asked
    assert {line for line in asked if "day=2026-11-25" not in line} == set()


def test_a_part_of_an_archive(server: ObjectStore) -> None:
    with nfl.read(f"{URL}/kind=packets/dvc=007?endpoint={server.endpoint}") as log:
        assert log.count("src_ip", "oob_prefix").rows() == [("192.0.2.1", "accept", 100)]
        assert log.between("2026-11-25", "2026-11-26").count().value() == 0


def test_a_cut_file_is_told(server: ObjectStore) -> None:
    with nfl.read(f"s3://logs/torn?endpoint={server.endpoint}") as log:
        assert log.count().value() == 300
        (line,) = log.damaged
        assert "/dvc=fw3/" in line.source
        assert line.reason == "a Parquet file without its end: it was copied before it was whole, or is cut"


def test_what_is_damaged_or_of_others_breaks_no_question(server: ObjectStore, archive: Path, tmp_path: Path) -> None:
    server.copy(archive, "logs/odd")
    good = next(archive.glob("kind=packets/dvc=fw1/*/*.parquet"))
    name, data = good.relative_to(archive).as_posix(), good.read_bytes()
    length = int.from_bytes(data[-8:-4], "little") + 8
    rows = pq.read_table(good)
    pq.write_table(rows.drop_columns(["sec"]), tmp_path / "untimed")
    place_of_port = rows.column_names.index("dest_port")
    pq.write_table(rows.set_column(place_of_port, "dest_port", [["ssh"] * 100]), tmp_path / "text")
    pq.write_table(pa.table({}), tmp_path / "empty")
    odd = {
        "x1": (data[:-length] + b"\xff" * (length - 8) + data[-8:], "a Parquet file that cannot be read: Couldn't "),
        "x2": (data[:-8] + b"\xff\xff\xff\x7fPAR1", "a Parquet file without its end"),
        "x3": ((tmp_path / "untimed").read_bytes(), "a Parquet file without a column sec"),
        "x4": ((tmp_path / "text").read_bytes(), "a Parquet file whose dest_port is VARCHAR, with values"),
        "x5": (b"", "a Parquet file without its end"),
        "x6": ((tmp_path / "empty").read_bytes(), "a Parquet file without columns"),
    }
    for dvc, (found, _) in odd.items():
        server.put(f"logs/odd/{name.replace('fw1', dvc)}", found)
    with nfl.read(f"s3://logs/odd?endpoint={server.endpoint}") as log:
        assert log.count("dest_port", top=1).rows() == [(20, 3)]
        assert log.count().value() == 300
        told = {line.source.split("dvc=")[1][:2]: line.reason for line in log.damaged}
    assert told.keys() == odd.keys()
    for dvc, (_, reason) in odd.items():
        assert told[dvc].startswith(reason)


def test_a_long_end_is_read_whole(server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectstore, "_END_BYTES", 100)
    test_a_single_file_and_a_log_beside_it(server, tmp_path)


def test_a_store_that_fails_once_is_asked_again(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with nfl.read(f"s3://logs/torn?endpoint={server.endpoint}") as log:
        with monkeypatch.context() as failing:
            failing.setattr(_File, "read", lambda *_: (_ for _ in ()).throw(OSError("read: no answer")))
            with pytest.raises(duckdb.Error, match="no answer"):
                log.count().value()
        assert log.count().value() == 300
        assert log.damaged.count == 1


def _packets(number: int, rows: int = 3000) -> bytes:
    """Return a Parquet file with a number in all its texts; each of these files has the same length."""
    table = pa.table(
        {
            "sec": pa.array([START] * rows, pa.int64()),
            "us": pa.array([START * 1_000_000] * rows, pa.int64()),
            "dvc": [f"fw{number}"] * rows,
            "oob_prefix": [f"{number}{place:x>30}" for place in range(rows)],
            "oob_in": [f"{number}{place:y>30}" for place in range(rows)],
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=500, compression="none", use_dictionary=False)
    found: bytes = sink.getvalue().to_pybytes()
    return found


@pytest.mark.parametrize("reads", [0, 1, 3])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_no_answer_is_made_of_two_versions_of_a_file(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch, reads: int, *, is_deleted: bool
) -> None:
    """It changes between two questions, or behind so many openings of it for a part."""
    first, second = _packets(1), _packets(2)
    assert len(first) == len(second)
    key = f"logs/changing/{reads}.parquet"
    server.put(key, first, acl="public-read-write")
    plain, count = _File._opened, 0

    def change() -> None:
        server.delete(key) if is_deleted else server.put(key, second, acl="public-read-write")

    def changing(file: _File) -> Any:
        nonlocal count
        opened, count = plain(file), count + 1
        if count == reads:
            change()
        return opened

    monkeypatch.setattr(_File, "_opened", changing)
    told = "it was replaced since it was listed; read the log again" if not is_deleted else rf"read s3://{key}: .*"
    columns = "left(dvc, 3), left(oob_prefix, 1), left(oob_in, 1)"
    with nfl.read(f"s3://{key}?endpoint={server.endpoint}") as log:
        if not reads:
            assert log.sql("SELECT left(dvc, 3) AS a, COUNT(*) AS n FROM packets GROUP BY a").rows() == [("fw1", 3000)]
            change()
        with pytest.raises((duckdb.Error, NflowError), match=told):
            log.sql(f"SELECT {columns}, COUNT(*) AS n FROM packets GROUP BY ALL").rows()


def test_commands(server: ObjectStore, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{URL}?endpoint={server.endpoint}"
    found = []
    for name in (url, str(archive)):
        assert cli.main(["find", "port_scan", name, "--json", "--since", "2d", "-p", "ports=50"]) == 0
        found.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert found[0] == found[1]
    assert len(found[0]) == 3
    assert cli.main(["report", url, "--since", "24h", "-o", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "s3://logs/fire walls/[a]" in page
    assert "endpoint=" not in page


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://logs/nowhere", "the store has no Parquet files there; name the directory of an archive"),
        ("s3://none/archive", "the store has no bucket 'none'; name the directory of an archive"),
    ],
)
def test_what_is_not_there(
    server: ObjectStore, url: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    with nfl.read(url) as log, pytest.raises(NflowError, match=f"^read {url}: {told}"):
        log.count().value()
    assert cli.main(["find", "port_scan", url]) == 1
    assert f"nflowlevel find: read {url}: " in capsys.readouterr().err


def test_a_store_that_does_not_answer() -> None:
    url = f"s3://logs/archive?endpoint=http://127.0.0.1:{unused_port()}"
    with nfl.read(url) as log, pytest.raises(NflowError, match=r"^read s3://logs/archive: .*AWS_ENDPOINT_URL_S3 or"):
        log.count().value()


def test_buckets_of_one_name_in_two_stores(server: ObjectStore) -> None:
    urls = [f"{URL}?endpoint={server.endpoint}", "s3://logs/b?endpoint=http://127.0.0.1:9"]
    with nfl.read(*urls) as log, pytest.raises(NflowError, match="the bucket 'logs' of another store is read, too"):
        log.count().value()


@pytest.mark.parametrize("module", ["pyarrow", "fsspec"])
def test_without_a_package(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        nfl.read("s3://logs/archive") as log,
        pytest.raises(NotSupported, match=rf"no {module}; needed: pip install 'nflowlevel\[analytics,s3\]'"),
    ):
        log.count().value()


def test_threads_read_one_file(tmp_path: Path) -> None:
    """A thread that seeks must not move another one that is about to read."""
    data = bytes(number >> 8 * place & 0xFF for number in range(1 << 16) for place in (0, 1))
    (tmp_path / "x").write_bytes(data)
    filesystem = fs.LocalFileSystem()
    file = _File(filesystem, filesystem.get_file_info(str(tmp_path / "x")))
    together = Barrier(2)

    def pieces(half: int) -> list[bytes]:
        found = []
        for number in range(half, 200, 2):
            file.seek(500 * number)
            together.wait(60)  # both have sought, and neither has read
            found.append(file.read(500))
            assert file.tell() == 500 * (number + 1)
        return found

    with ThreadPoolExecutor(2) as pool:
        for half, found in enumerate(pool.map(pieces, (0, 1))):
            assert found == [data[500 * number : 500 * (number + 1)] for number in range(half, 200, 2)]
    assert file.seek(-3, os.SEEK_END) == len(data) - 3
    assert file.read() == data[-3:]
    assert file.seek(0, os.SEEK_CUR) == len(data)
    assert file.read(9) == b""
    file.close()


def test_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_url("s3://b/x/y/") == StoreURL("b", "x/y", None, None, False)
    assert store_url("s3a://b") == StoreURL("b", "", None, None, False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://x")
    assert store_url("s3://b/x") == StoreURL("b", "x", "http://x", "eu-west-1", False)
    assert store_url("s3://b/x?region=r&endpoint=h:9&anonymous=true") == StoreURL("b", "x", "h:9", "r", True)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3:///x", "name a bucket and a path, such as s3://bucket/archive"),
        ("s3://b/x?endpont=h", "unknown option 'endpont'; available: anonymous, endpoint, region"),
        ("s3://b/x?anonymous=1", "anonymous must be true or false, not '1'"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_read(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^read s3://") as caught:
        nfl.read(url)
    assert str(caught.value).endswith(told)


def test_keys_in_a_url_are_refused_and_not_shown() -> None:
    with pytest.raises(NotSupported, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as caught:
        nfl.read("s3://KEY:secret@b/x")
    assert "KEY:" not in str(caught.value)


#: What a store does with a request: says nothing, or sends a byte now and then.
_SLOW = {
    "nothing": "None",
    "a byte": "(connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 99999\\r\\n\\r\\n'), drip(connection))",
}

_SLOW_STORE = """if True:
    import signal, socket, sys, threading, time
    import nflowlevel as nfl
    from nflowlevel.analytics import objectstore

    def drip(connection):
        while True:
            connection.sendall(b" ")
            time.sleep(0.1)

    def serve(server, kept=[]):
        while True:
            connection, _ = server.accept()
            kept.append(connection)
            connection.recv(65536)
            asked.set()
            threading.Thread(target=lambda: ACTION, daemon=True).start()

    asked = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    objectstore._MOST_LIST_SECS = LIMIT
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background ignores it
    if LIMIT > 100:
        main = threading.main_thread().ident
        threading.Thread(target=lambda: (asked.wait(), signal.pthread_kill(main, signal.SIGINT)), daemon=True).start()
    with nfl.read(f"s3://b/a?endpoint=http://127.0.0.1:{server.getsockname()[1]}&region=x") as log:
        try:
            log.count().value()
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
    sys.exit(5)
"""


@pytest.mark.parametrize("action", _SLOW)
@pytest.mark.parametrize(
    ("secs", "told"),
    [
        (0.5, "NflowError read s3://b/a: the store has not answered for 0.5 s"),
        (1000, "KeyboardInterrupt "),
    ],
)
def test_a_store_that_hangs(action: str, secs: float, told: str) -> None:
    """It is given up, Ctrl-C ends the waiting for it, and Python ends as it would without it."""
    code = _SLOW_STORE.replace("ACTION", _SLOW[action]).replace("LIMIT", str(secs))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as running:
        ending = threading.Timer(50, running.kill)
        ending.start()
        assert running.stdout
        try:
            assert running.stdout.readline() == f"{told}\n"
            assert running.wait(30) == 5
        finally:
            ending.cancel()
            running.kill()


def test_answers_come_in_order_and_the_first_error_ends_them() -> None:
    asked: list[int] = []

    def call(number: int) -> int:
        asked.append(number)
        time.sleep(0.001 * (number % 3))
        if number == 400:
            raise OSError("gone")
        return number

    assert _answers([partial(call, number) for number in range(100)], 60) == [*range(100)]
    with pytest.raises(OSError, match="gone"):
        _answers([partial(call, number) for number in range(400, 5000)], 60)
    assert len(asked) < 4000
    assert _answers([], 60) == []
