# SPDX-License-Identifier: GPL-2.0-or-later
"""Form: what a form says is what stands in the file, whoever else writes it, and whatever becomes of the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nflowlevel.delivery.appendfile import AppendFile
from nflowlevel.delivery.form import Form
from nflowlevel.delivery.framing import LINES, Framing
from nflowlevel.delivery.openfile import OpenFile
from nflowlevel.logs import Limited
from nflowlevel.stats import OutputStats
from tests.fix_lines import check, small_disk


class Numbered:
    """Lines behind a line that says how many words are explained, and an explanation of each."""

    framing: Framing = LINES
    has_one_writer = False

    def __init__(self, words: int = 0) -> None:
        self.described = words

    def prelude(self, described: int, *, is_empty: bool) -> bytes:
        head = b"#head\n" if described < 0 and is_empty else b""
        return head + b"".join(b"#%d\n" % number for number in range(max(0, described), self.described))

    def whole(self, reader: int, size: int) -> int:
        if os.pread(reader, 1, 0) != b"#":
            raise OSError(22, "it has no head; move it away")
        return os.pread(reader, size, 0).rfind(b"\n") + 1


def appended(path: Path, form: Form) -> AppendFile:
    file = AppendFile(str(path), form=form, stats=OutputStats(), limited=Limited())
    file.open()
    return file


def test_it_stands_before_the_first_record_once(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        file = appended(tmp_path / "f", Numbered())
        assert (tmp_path / "f").read_bytes().startswith(b"#head\n"), "the head waits for a record"
        file.write(text, 1)
        file.close(1)
    assert (tmp_path / "f").read_bytes() == b"#head\none\ntwo\n"


def test_what_is_new_stands_before_the_record_that_needs_it(tmp_path: Path) -> None:
    form = Numbered(1)
    file = appended(tmp_path / "f", form)
    file.write(b"a\n", 1)
    form.described = 3
    file.write(b"b\n", 1)
    file.write(b"c\n", 1)
    file.close(1)
    assert (tmp_path / "f").read_bytes() == b"#head\n#0\na\n#1\n#2\nb\nc\n"
    assert file.stats.bytes == 6
    check(file.stats)


def test_another_file_is_told_all_of_it(tmp_path: Path) -> None:
    form = Numbered(2)
    file = appended(tmp_path / "f", form)
    file.write(b"a\n", 1)
    (tmp_path / "f").rename(tmp_path / "old")
    file.reopen()
    file.write(b"b\n", 1)
    file.close(1)
    assert (tmp_path / "old").read_bytes() == b"#head\n#0\n#1\na\n"
    assert (tmp_path / "f").read_bytes() == b"#head\n#0\n#1\nb\n"


def test_two_writers_of_a_new_file_write_one_head(tmp_path: Path) -> None:
    one, other = appended(tmp_path / "f", Numbered()), appended(tmp_path / "f", Numbered())
    one.write(b"one\n", 1)
    other.write(b"other\n", 1)
    one.close(1)
    other.close(1)
    assert (tmp_path / "f").read_bytes() == b"#head\none\nother\n"


def test_who_opens_an_empty_file_keeps_others_out_until_the_head_is_written(tmp_path: Path) -> None:
    first = OpenFile(str(tmp_path / "f"), form=Numbered())
    with pytest.raises(BlockingIOError):
        OpenFile(str(tmp_path / "f"), form=Numbered())
    first.introduce()
    OpenFile(str(tmp_path / "f"), form=Numbered()).close()
    first.close()


def test_where_only_one_may_write_the_second_is_refused(tmp_path: Path) -> None:
    form = Numbered()
    form.has_one_writer = True
    first = OpenFile(str(tmp_path / "f"), form=form)
    first.introduce()
    with pytest.raises(OSError, match="another program or another section writes it; name a file of its own"):
        OpenFile(str(tmp_path / "f"), form=form)
    first.close()
    OpenFile(str(tmp_path / "f"), form=form).close()


def test_a_file_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a letter to my aunt")
    with pytest.raises(OSError, match="it has no head; move it away"):
        OpenFile(str(tmp_path / "f"), form=Numbered())
    assert (tmp_path / "f").read_bytes() == b"a letter to my aunt"


def test_a_torn_end_is_cut_off_unless_somebody_writes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"#head\none\ntw")
    with open(tmp_path / "f", "ab") as writer:
        import fcntl

        fcntl.flock(writer, fcntl.LOCK_SH)
        file = OpenFile(str(tmp_path / "f"), form=Numbered())
        assert not file.repaired
        file.close()
    file = OpenFile(str(tmp_path / "f"), form=Numbered())
    assert file.repaired
    file.introduce()
    file.close()
    assert (tmp_path / "f").read_bytes() == b"#head\none\n"


def test_a_full_disk_gets_no_part_of_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(64 << 10))
        form = Numbered()
        file = appended(disk / "f", form)
        file.write(b"one\n", 1)
        assert (disk / "f").read_bytes() == b""
        assert file.stats.pending == 1
        filler.unlink()
        file.retry()
        file.close(1)
        assert (disk / "f").read_bytes() == b"#head\none\n"
        check(file.stats)


def test_each_reader_of_a_fifo_is_told_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    first = os.open(tmp_path / "f", os.O_RDONLY | os.O_NONBLOCK)
    file = appended(tmp_path / "f", Numbered(1))
    file.write(b"one\n", 1)
    assert os.read(first, 100) == b"#head\n#0\none\n"
    os.close(first)
    file.write(b"two\n", 1)
    assert file.stats.pending == 1
    second = os.open(tmp_path / "f", os.O_RDONLY | os.O_NONBLOCK)
    while file.stats.pending:
        file.retry()
    assert os.read(second, 100) == b"#head\n#0\ntwo\n"
    file.close(1)
    os.close(second)
