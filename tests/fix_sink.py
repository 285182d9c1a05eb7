# SPDX-License-Identifier: GPL-2.0-or-later
"""Sinks that are no database: a journal of JSON lines, in this process or behind a socket, and the output JOURNAL.

    store = Store(tmp_path / "journal.jsonl")         what outlives processes and connections
    sink = LineSink(LinePlace(store))                 in this process, with faults at every call
    with JournalServer(tmp_path) as server:           a process that can be stopped, paused and killed
        SocketSink(server.address)

A journal is a file; each line is a write: which writer, up to which number, which rows. So the line is the transaction,
and the ledger is the last line of each writer. Run as a program this module is the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from nflowlevel.plugin.spooled import SpooledOutput
from nflowlevel.spool.options import SpoolOptions
from nflowlevel.spool.sink import Moved, Refused, Sink, Unavailable

if TYPE_CHECKING:
    from nflowlevel.records.batch import Batch
    from nflowlevel.spool.rows import Layout, Rows

#: Each row is one JSON object; before anything is known of the journal, one with a key that it does not keep.
LAYOUT: Layout = ("json",)
WIDE: Layout = ("json", "with", "all")

#: The server refuses a row with this in its object.
REFUSE = "refuse"


def objects(rows: Rows) -> list[dict[str, Any]]:
    """Return the rows' objects."""
    return [json.loads(line) for line in rows.data.splitlines()]


def narrow(rows: Rows) -> Rows:
    """Return rows without the key that the journal does not keep."""
    lines = [json.dumps({name: value for name, value in row.items() if name != "all"}) for row in objects(rows)]
    return type(rows)(LAYOUT, rows.first, rows.count, "".join(line + "\n" for line in lines).encode())


class Store:
    """The journal's file. One process has it at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger: dict[str, int] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:  # of a process that died in the middle of a line
            os.truncate(path, len(whole))
        for line in whole.splitlines():
            entry = json.loads(line)
            self.ledger[entry["writer"]] = entry["to"]

    def append(self, writer: str, to: int, rows: Sequence[Mapping[str, object]]) -> None:
        """Add a write, all or nothing."""
        line = json.dumps({"writer": writer, "to": to, "rows": rows}) + "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
        self.ledger[writer] = to

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows, in the order in which they came."""
        return rows_of(self.path)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a journal that another process may be writing."""
    data = path.read_bytes() if path.exists() else b""
    return [row for line in data[: data.rfind(b"\n") + 1].splitlines() for row in json.loads(line)["rows"]]


# -- in this process, with faults -------------------------------------------------------------------------------------


class LineOptions(SpoolOptions, frozen=True, kw_only=True):
    """Options with as many rows of a backlog at once as a test wants."""

    backlog: int = 10_000

    @property
    def backlog_rows(self) -> int:
        """How many rows are written at once while the backlog is replayed."""
        return self.backlog


class Place:
    """What outlives a connection, and what goes wrong with it: what a server cannot be made to do at a moment."""

    #: The calls of a connection from its beginning, before the first write.
    opening: ClassVar[tuple[str, ...]]
    #: The layout of rows when all is known.
    layout: ClassVar[Layout]

    def __init__(self) -> None:
        self.has_ledger = True
        self.calls: list[str] = []
        #: Called with the name of a call before it does anything; what it raises, the call raises.
        self.before: Callable[[str], None] = lambda call: None
        #: The same, after a transaction is in.
        self.after_commit: Callable[[], None] = lambda: None
        self.refuses: Callable[[int], bool] = lambda mark: False
        self.largest = 0
        self.aborted = threading.Event()
        #: Held while a transaction is done.
        self.lock = threading.Lock()

    def call(self, name: str) -> None:
        """Note that something is called, and fail where the test says so."""
        self.calls.append(name)
        self.before(name)


class LinePlace(Place):
    """A journal's place. Rows have a mark each, as those of the scripted database have."""

    opening: ClassVar[tuple[str, ...]] = ("connect", "prepare", "ledger", "tend")
    layout = LAYOUT

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    @property
    def rows(self) -> list[int]:
        """The marks of the rows that are in."""
        return [row["mark"] for row in self.store.rows()]

    def options(self, **given: Any) -> SpoolOptions:
        """Return what a writer is told."""
        return LineOptions(**given)

    def sink(self) -> Sink:
        """Return a connection."""
        return LineSink(self)

    def text(self, *marks: int) -> bytes:
        """Return rows with these marks, in the layout of `layout`."""
        return "".join(json.dumps({"mark": mark}) + "\n" for mark in marks).encode()

    def arrive(self, writer: str, to: int, *marks: int) -> None:
        """Have a write of an earlier connection arrive."""
        self.store.append(writer, to, [{"mark": mark} for mark in marks])

    def mark_of(self, values: Mapping[str, Any]) -> int:
        """Return the mark of a row in the dead-letter file."""
        return int(values["mark"])


class BarePlace(LinePlace):
    """A journal that keeps no account of its writers."""

    opening = ("connect", "prepare", "tend")

    def sink(self) -> Sink:
        """Return a connection."""
        return BareSink(self)


class BareSink(Sink):
    """Appends to a journal; whether something is in already nobody can tell."""

    shown = "a journal"
    into = "journal.jsonl"

    def __init__(self, place: LinePlace) -> None:
        self.place = place
        self.layout = WIDE

    def connect(self) -> None:
        self.place.call("connect")

    def prepare(self) -> None:
        self.place.call("prepare")
        self.layout = LAYOUT

    def fit(self, rows: Rows) -> Rows:
        return narrow(rows)

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        place = self.place
        place.call("write")
        assert rows.layout == LAYOUT
        with place.lock:
            if before is not None and place.store.ledger.get(writer, 0) != before:
                raise Moved("the journal has moved")
            place.largest = max(place.largest, rows.count)
            values = objects(rows)
            if any(place.refuses(row["mark"]) for row in values):
                raise Refused("out of range", "22003")
            place.store.append(writer, rows.last, values)
        place.after_commit()

    def tend(self) -> None:
        self.place.call("tend")

    def describe(self, rows: Rows) -> Sequence[Mapping[str, object]]:
        return objects(rows)

    def abort(self) -> None:
        self.place.aborted.set()

    def close(self) -> None:
        self.place.calls.append("close")


class LineSink(BareSink):
    """Appends to a journal that keeps account."""

    def last(self, writer: str) -> int | None:
        self.place.call("ledger")
        return self.place.store.ledger.get(writer, 0) if self.place.has_ledger else None

    def skip(self, number: int, writer: str, before: int) -> None:
        self.place.call("skip")
        with self.place.lock:
            if self.place.store.ledger.get(writer, 0) != before:
                raise Moved("the journal has moved")
            self.place.store.append(writer, number, [])


# -- behind a socket --------------------------------------------------------------------------------------------------


class SocketSink(Sink):
    """Asks a `JournalServer`; a request and an answer are a line each."""

    layout = LAYOUT
    into = "journal.jsonl"

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        self.address, self.timeout = address, timeout
        self._sock: socket.socket | None = None

    @property
    def shown(self) -> str:
        return f"journal at {self.address}"

    def connect(self) -> None:
        self.close()
        sock = self._sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self.address)
        except OSError as error:
            raise Unavailable(f"connect to {self.shown}: {error}") from error

    def prepare(self) -> None:
        """There is one layout."""

    def _ask(self, **request: object) -> dict[str, Any]:
        assert self._sock
        try:
            self._sock.sendall(json.dumps(request).encode() + b"\n")
            with self._sock.makefile("rb") as file:
                answer = file.readline()
        except OSError as error:
            raise Unavailable(f"{self.shown}: {error}") from error
        if not answer.endswith(b"\n"):
            raise Unavailable(f"{self.shown}: closed the connection")
        said: dict[str, Any] = json.loads(answer)
        if "refused" in said:
            raise Refused(said["refused"], "no")
        if "moved" in said:
            raise Moved(f"{self.shown} is at {said['moved']}")
        return said

    def last(self, writer: str) -> int | None:
        return int(self._ask(last=writer)["last"])

    def fit(self, rows: Rows) -> Rows:
        raise AssertionError("there is one layout")

    def write(self, rows: Rows, writer: str, before: int | None) -> None:
        self._ask(writer=writer, before=before, to=rows.last, rows=objects(rows))

    def skip(self, number: int, writer: str, before: int) -> None:
        self._ask(writer=writer, before=before, to=number, rows=[])

    def describe(self, rows: Rows) -> Sequence[Mapping[str, object]]:
        return objects(rows)

    def abort(self) -> None:
        if self._sock:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock:
            sock.close()


class BareSocketSink(SocketSink):
    """The same, but it does not ask what is in."""

    def last(self, writer: str) -> int | None:
        return None


class JournalServer:
    """The process that has a journal; it is started when the `with` block begins."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "journal.jsonl"
        self.address = str(directory / "journal.sock")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> JournalServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        if self._process:
            return
        command = [sys.executable, "-m", "tests.fix_sink", self.address, str(self.journal)]
        root = str(Path(__file__).parents[1])
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}, cwd=root
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the process, at once and wherever it is."""
        process, self._process = self._process, None
        if process:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            process.wait()
            assert process.stdout
            process.stdout.close()

    def pause(self) -> None:
        """Let it hang: connections stay, and nobody answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the journal."""
        return rows_of(self.journal)


def serve(address: str, journal: str) -> None:
    """Answer requests until the process is killed, each connection in a thread."""
    store, lock = Store(Path(journal)), threading.Lock()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(address)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_answer, args=(sock, store, lock), daemon=True).start()


def _answer(sock: socket.socket, store: Store, lock: threading.Lock) -> None:
    with sock, sock.makefile("rb") as requests, contextlib.suppress(OSError):
        for line in requests:
            if not line.endswith(b"\n"):
                break  # a connection that broke within a request
            request = json.loads(line)
            with lock:
                answer = _done(request, store)
            sock.sendall(json.dumps(answer).encode() + b"\n")


def _done(request: dict[str, Any], store: Store) -> dict[str, Any]:
    if "last" in request:
        return {"last": store.ledger.get(request["last"], 0)}
    writer, before = request["writer"], request["before"]
    if before is not None and store.ledger.get(writer, 0) != before:
        return {"moved": store.ledger.get(writer, 0)}
    if any(REFUSE in row for row in request["rows"]):
        return {"refused": "a row that nobody wants"}
    store.append(writer, request["to"], request["rows"])
    return {}


# -- as an output of the daemon ---------------------------------------------------------------------------------------


class JOURNALOptions(SpoolOptions, frozen=True, kw_only=True):
    """Options of JOURNAL."""

    socket: Annotated[str, Meta(description="Where the journal's server listens.")]
    ledger: Annotated[bool, Meta(description="Ask what is in.")] = True
    refuse: Annotated[int, Meta(description="Every so many-th packet is one that is refused; 0: none.")] = 0


class JOURNAL(SpooledOutput[JOURNALOptions]):
    """JOURNAL: packets into a journal, for tests."""

    name = "JOURNAL"
    Options = JOURNALOptions

    def sink(self) -> Sink:
        """Return a connection to the server."""
        return (SocketSink if self.options.ledger else BareSocketSink)(self.options.socket)

    def render(self, batch: Batch, layout: Layout) -> Iterable[tuple[bytes, int]]:
        """Yield an object for each packet."""
        every, lines = self.options.refuse, []
        for (number,) in batch.rows("oob.seq.local"):
            row = {"n": number}
            if every and number % every == 7:
                row[REFUSE] = 1
            lines.append(json.dumps(row) + "\n")
        yield "".join(lines).encode(), len(lines)


if __name__ == "__main__":
    serve(*sys.argv[1:])
