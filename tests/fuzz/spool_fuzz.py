# SPDX-License-Identifier: GPL-2.0-or-later
"""Change the files of a spool, start on them, and see that intact rows arrive once and nothing fails or hangs.

    python -m tests.fuzz.spool_fuzz COUNT SEED

The same arguments give the same files; those of a case that fails are kept. The files are segments, those by which the
ledger's names and numbers outlive the process (id, numbers, position, runs), and the dead-letter file.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from nflowlevel.spool.claim import BLOCK
from nflowlevel.spool.deadletter import DeadLetters
from nflowlevel.spool.feed import Feed, SpoolStats
from nflowlevel.spool.ring import Ring
from nflowlevel.spool.rows import Rows
from nflowlevel.spool.segment import record
from nflowlevel.spool.sink import Refused
from nflowlevel.spool.spool import Spool

_LAYOUT = ("n", "text")
_MANY = 1 << 30
_LETTERS = "refused.jsonl"
_REFUSED = Refused("no", "22003")
#: What takes longer than this hangs.
_PATIENCE_SECS = 20

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.rows")
_HEAD_BYTES = 32


def rows(first: int, count: int) -> Rows:
    """Return rows that say their numbers."""
    return Rows(_LAYOUT, first, count, b"".join(b"%d\tx\n" % number for number in range(first, first + count)))


def letters(directory: Path) -> DeadLetters:
    """Return the dead-letter file of a directory."""
    return DeadLetters(directory / _LETTERS, "me", lambda some: [{"n": number} for number in range(some.count)])


def seed_files() -> dict[str, bytes]:
    """Return the files of a spool that had three runs, with segments of one and of several records."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for sizes in ([3], [5, 1, 7], [2, 4, 4]):
            spool = Spool(directory, _MANY)
            spool.open()
            for size in sizes:
                spool.append(rows(spool.number(size), size))
            spool.number(5)
            spool.append(rows(spool.number(6), 6))
            spool.close()
        dead = letters(directory)
        dead.write(rows(BLOCK, 2), _REFUSED, "t")
        dead.close()
        return {path.name: path.read_bytes() for path in directory.iterdir()}


class Case:
    """A directory with some files changed."""

    def __init__(self, chance: random.Random, files: dict[str, bytes], directory: Path) -> None:
        self.chance, self.directory = chance, directory
        self.files = dict(files)
        #: Segments as they were, so that each of their rows has to arrive.
        self.intact = {name for name in files if name.endswith(".rows")}
        #: Whether rows were forged: then they may be taken for others.
        self.forged = False
        changes: list[Callable[[str], None]] = [
            self._bytes,
            self._cut,
            self._zeros,
            self._name,
            self._twice,
            self._thing,
        ]
        if chance.random() < 0.3:
            changes += [self._forge, self._number]
        self.things: dict[str, Callable[[Path], None]] = {}
        for _ in range(chance.randint(1, 4)):
            chance.choice(changes)(chance.choice(sorted(self.files)))

    def write(self) -> None:
        """Make the directory."""
        self.directory.mkdir()
        for name, data in self.files.items():
            (self.directory / name).write_bytes(data)
        for name, make in self.things.items():
            make(self.directory / name)

    def _touch(self, name: str) -> bytearray:
        self.intact.discard(name)
        return bytearray(self.files[name])

    def _place(self, data: bytearray) -> int:
        """Return where something is changed; often in a head."""
        return self.chance.randrange(min(len(data), 64) if self.chance.random() < 0.5 else len(data))

    def _bytes(self, name: str) -> None:
        data = self._touch(name)
        for _ in range(self.chance.randint(1, 3) if data else 0):
            data[self._place(data)] = self.chance.choice([0, 1, 10, 34, 127, 255, self.chance.randrange(256)])
        self.files[name] = bytes(data)

    def _cut(self, name: str) -> None:
        data = self._touch(name)
        if data and self.chance.random() < 0.7:
            del data[self._place(data) :]
        else:
            data += self.chance.choice([b"NFR1", b"\0" * 100, b"x" * 50, b"\n", b'{"time": "', bytes(data)])
        self.files[name] = bytes(data)

    def _zeros(self, name: str) -> None:
        data = self._touch(name)
        if data:
            place = self._place(data)
            size = self.chance.randint(1, len(data) - place)
            data[place : place + size] = bytes(size)
        self.files[name] = bytes(data)

    def _some_name(self) -> str:
        segments = [found for found in map(_NAME.fullmatch, self.files) if found]
        ends = [int(each[part], 16) for each in segments for part in (1, 2)]
        extremes = [0, 1, BLOCK, 5 * BLOCK, 1 << 61, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1]
        first, last = (
            self.chance.choice(ends or extremes) + self.chance.randint(-3, 3)
            if self.chance.random() < 0.7
            else self.chance.choice(extremes)
            for _ in range(2)
        )
        name = f"{max(0, first) % (1 << 64):016x}"
        if self.chance.random() < 0.8:
            name += f"-{max(0, last) % (1 << 64):016x}"
        return name + ".rows" if self.chance.random() < 0.95 else "odd.rows"

    def _near(self, name: str) -> str:
        """Return a name that says a little more or less."""
        found = _NAME.fullmatch(name)
        if not found:
            return self._some_name()
        first, last = (
            int(each, 16) + self.chance.choice([0, 0, self.chance.randint(-8, 14)]) for each in found.groups()
        )
        return f"{first:016x}-{last:016x}.rows" if 0 < first < 1 << 64 and 0 < last < 1 << 64 else "odd.rows"

    def _name(self, name: str) -> None:
        if name.endswith(".rows"):
            new = self._near(name) if self.chance.random() < 0.7 else self._some_name()
            self._touch(name)
            self.intact.discard(new)
            self.files[new] = self.files.pop(name)

    def _twice(self, name: str) -> None:
        if name.endswith(".rows"):
            new = self._near(name) if self.chance.random() < 0.5 else self._some_name()
            self.intact.discard(new)
            self.files[new] = self.files[name]

    def _thing(self, name: str) -> None:
        new = name if self.chance.random() < 0.5 else self._some_name()
        self.intact.discard(new)
        self.files.pop(new, None)
        if not self.files:
            self.files["id"] = b""
        make: list[Callable[[Path], None]] = [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("lock")]
        self.things[new] = self.chance.choice(make)

    def _forge(self, name: str) -> None:
        """Add a record that has good checksums and does not keep what else holds."""
        chance = self.chance
        if not name.endswith(".rows"):
            return
        data = self._touch(name)
        self.forged = True
        some = rows(chance.choice([1, BLOCK, 2 * BLOCK + 1, 1 << 50, 1 << 61, (1 << 64) - 9]), chance.randint(1, 5))
        layout = chance.choice([_LAYOUT, (), ("a",) * 3])
        text = chance.choice([some.data, b"", b"\n" * 7, b"no end", b"\xff\xfe\n"])
        made = bytearray(b"".join(record(Rows(layout, some.first, chance.choice([some.count, 0, 1 << 31]), text))))
        if chance.random() < 0.3:
            made[16:20] = chance.choice([0, 1, 1 << 31]).to_bytes(4, "little")
            made[4:8] = zlib.crc32(made[8:_HEAD_BYTES]).to_bytes(4, "little")
        if chance.random() < 0.2:  # a layout that is none
            made = bytearray(b"".join(record(some)))
            size = len(made) - _HEAD_BYTES - len(some.data)
            made[_HEAD_BYTES : _HEAD_BYTES + size] = chance.choice([b"[", b"{", b"1", b"\xff"]) * size
            made[8:12] = zlib.crc32(made[_HEAD_BYTES:]).to_bytes(4, "little")
            made[4:8] = zlib.crc32(made[8:_HEAD_BYTES]).to_bytes(4, "little")
        self.files[name] = bytes(data + made if chance.random() < 0.5 else made + data)

    def _number(self, _: str) -> None:
        """Have a file of numbers say something else, with a good checksum."""
        name = self.chance.choice(["numbers", "position", "runs"])
        if name not in self.files or len(self.files[name]) < 1024:
            return
        data = bytearray(self.files[name])
        place, size = (64 * self.chance.randrange(4), 36) if name == "runs" else (512 * self.chance.randrange(2), 12)
        value = self.chance.choice([0, 1, BLOCK + 3, 2 * BLOCK, 9 * BLOCK, 1 << 61, 1 << 62, (1 << 64) - 1])
        data[place : place + 8] = value.to_bytes(8, "little")
        data[place + size - 4 : place + size] = zlib.crc32(data[place : place + size - 4], 1).to_bytes(4, "little")
        self.files[name] = bytes(data)
        if name == "position" and value < BLOCK * 4:
            self.intact.clear()  # what is said to be done is done

    def expected(self) -> set[int]:
        """Return the numbers of the rows that have to arrive."""
        found = (_NAME.fullmatch(name) for name in self.intact)
        ranges = [range(int(each[1], 16), int(each[2], 16) + 1) for each in found if each]
        return set() if self.forged else {number for numbers in ranges for number in numbers}


def start(case: Case) -> int:
    """Start a spool on the files, and take everything; return how many rows that was."""
    stats = SpoolStats()
    feed = Feed(Ring(10), Spool(case.directory, _MANY), "spool", stats)
    feed.open()
    arrived: list[int] = []
    while some := feed.take(_MANY, _MANY, 0):
        assert some.count == some.data.count(b"\n"), "rows and lines do not agree"
        if not case.forged:
            assert some.data == rows(some.first, some.count).data, f"these are not the rows {some.first} to {some.last}"
        arrived += range(some.first, some.last + 1)
        feed.done(some.last)
    assert arrived == sorted(set(arrived)), "rows come twice, or not in order"
    assert case.expected() <= set(arrived), f"rows are missing: {sorted(case.expected() - set(arrived))}"
    feed.put(_LAYOUT, 2, b"1\tx\n2\tx\n")
    some = feed.take(_MANY, _MANY, 0)
    assert some
    assert some.data == b"1\tx\n2\tx\n", "new rows do not pass"
    assert not arrived or some.first > arrived[-1], "a number is used twice"
    assert feed.done(some.last) == 2
    feed.close()
    assert stats.records == stats.written + stats.pending + sum(stats.dropped.values()), str(stats)
    assert not stats.pending, str(stats)
    assert min(stats.dropped.values()) >= 0, str(stats)
    assert stats.written == len(arrived) + 2, str(stats)
    return len(arrived)


def bury(case: Case) -> None:
    """Write to the dead-letter file; what is not ours stays."""
    path = case.directory / _LETTERS
    if _LETTERS in case.things:
        return
    before = path.read_bytes() if path.exists() else b""
    dead = letters(case.directory)
    dead.write(rows(BLOCK + 7, 1), _REFUSED, "t")
    dead.close()
    after = path.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    kept = after[: after.rstrip(b"\n").rfind(b"\n") + 1]
    torn = before[len(whole) :].rstrip(b"\0")
    is_ours = b'{"time": "'.startswith(torn[:10]) if torn else bool(whole)
    assert kept == whole if is_ours else kept == before + (b"" if before == whole else b"\n"), (
        "somebody's line was changed"
    )
    assert json.loads(after[len(kept) :])["row"] == BLOCK + 7


def main(count: int, seed: int) -> None:
    """Try `count` cases."""
    logging.disable(logging.CRITICAL)
    began, files, total = time.monotonic(), seed_files(), 0
    room = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # so many files need no disk

    def hangs(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    signal.signal(signal.SIGALRM, hangs)
    base = Path(tempfile.mkdtemp(dir=room, prefix="spool_fuzz"))
    for number in range(count):
        case = Case(random.Random(f"{seed} {number}"), files, base / "spool")
        signal.alarm(_PATIENCE_SECS)
        try:
            case.write()
            bury(case)
            total += start(case)
            case.intact.clear()
            assert start(case) == 0, "rows come again at the next start"
        except BaseException:
            case.directory.rename(base / "found")
            print(f"spool_fuzz: case {number}: changed files: {base / 'found'} (after the start)", file=sys.stderr)
            raise
        signal.alarm(0)
        shutil.rmtree(case.directory)
    shutil.rmtree(base)
    print(f"{count} changed spools, {total} rows, {time.monotonic() - began:.1f} seconds")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
