# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening for appending: torn ends, locks, FIFOs, standard output."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel.delivery.form import BlockForm, LineForm
from nflowlevel.delivery.openfile import OpenFile
from tests.fix_lines import descriptors_left, lines, no_descriptor_left

BLOCK = 64 << 10
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    with no_descriptor_left():
        yield


def opened(path: Path, begins: bytes = b"") -> bool:
    """Open and close; return whether the end was repaired."""
    file = OpenFile(str(path), form=BlockForm(begins[:-1]) if begins.endswith(b"\n") else LineForm(begins))
    file.close()
    return file.repaired


@pytest.mark.parametrize(
    ("content", "keep"),
    [
        (b"", 0),
        (b"one\n", 4),
        (b"one\ntwo\n", 8),
        (b"one\ntw", 4),
        (b"on", 0),
        (b"\ntwo", 1),
        (b"one\n" + b"x" * 200_000, 4),
        (b"x" * 200_000, 0),
        (b"x" * (BLOCK - 1) + b"\n" + b"y" * BLOCK, BLOCK),
        (b"x" * BLOCK + b"\n" + b"y" * (BLOCK - 1), BLOCK + 1),
        (b"x" * (BLOCK - 1) + b"\n" + b"y" * (BLOCK + 1), BLOCK),
        (b"one\ntw" + bytes(3 * MIB), 4),
        (b"one\n" + b"x" * (MIB - 4), 4),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)
def test_torn_end_is_cut_off(tmp_path: Path, content: bytes, keep: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    begins = content[keep : keep + 2] or b"two"
    assert opened(path, begins) == (keep != len(content))
    assert path.read_bytes() == content[:keep]
    assert not opened(path, begins)


@pytest.mark.parametrize(
    "tail", [b'{"timestamp": "2026', b'{"time', b"{", b"", b'{"timestamp": "\0\0\0', b"\0" * 70_000]
)
def test_what_begins_as_ours_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"whole\n" + tail)
    assert opened(path, b'{"timestamp": "') == bool(tail)
    assert path.read_bytes() == b"whole\n"


_BLOCK = b"==> one\na=1\nb.c=x y\n"


@pytest.mark.parametrize(
    ("content", "keep"),
    [
        (_BLOCK, len(_BLOCK)),
        (_BLOCK + b"==> o", len(_BLOCK)),
        (_BLOCK + b"==> one\n" + bytes(9), len(_BLOCK) + 8),
        (_BLOCK + b"==> one\na", len(_BLOCK)),
        (_BLOCK + b"==> one\na=1\nb.c=" + b"x" * 70_000, len(_BLOCK)),
        (_BLOCK + b"==> one\na=1\nb.c\0\0", len(_BLOCK)),
        (b"==> one\na=1\nb", 0),
        (b"some text\n==> one\na=1\nb", 10),
    ],
)
def test_a_record_of_several_lines_is_cut_off_whole(tmp_path: Path, content: bytes, keep: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    assert opened(path, b"==> one\n") == (keep != len(content))
    assert path.read_bytes() == content[:keep]


@pytest.mark.parametrize("tail", [b"hello world", b"=x", b"a b=c", b"==> two"])
def test_what_is_no_line_of_our_records_is_kept(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "log"
    for before in (_BLOCK, b"a text\n"):
        path.write_bytes(before + tail)
        assert opened(path, b"==> one\n")
        assert path.read_bytes() == before + tail + b"\n"
    path.write_bytes(b"a text\nname=value")
    assert opened(path, b"==> one\n")
    assert path.read_bytes() == b"a text\nname=value\n", "no record of ours is before it"


def test_a_torn_end_that_cannot_be_looked_at_now_is_not_written_to(tmp_path: Path) -> None:
    """The file is opened, and then there is no descriptor to read its end with."""
    path = tmp_path / "log"
    path.write_bytes(b"whole\n{torn")
    with descriptors_left(1), pytest.raises(OSError, match="Too many open files"):
        opened(path, b"{")
    assert path.read_bytes() == b"whole\n{torn"
    assert opened(path, b"{")
    assert path.read_bytes() == b"whole\n"


@pytest.mark.parametrize(
    "content",
    [b"x" * 70_000, b"a text\nwhose last line has no newline", b'[1,\n{"other": 1}', bytes(70_000), b'{"timestamp": 5'],
    ids=["no newline at all", "a text", "other JSON", "zeros", "nearly ours"],
)
def test_what_others_left_is_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "somebody's"
    path.write_bytes(content)
    assert opened(path, b'{"timestamp": "')
    assert path.read_bytes() == content + b"\n"
    path.write_bytes(content)
    assert opened(path)
    assert path.read_bytes() == content + b"\n", "without a beginning nothing is ours"


def test_the_end_of_a_file_full_of_zeros_is_not_looked_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can make a sparse file of terabytes: the receive loop would read it all."""
    path = tmp_path / "somebody's"
    path.write_bytes(b"one\n")
    os.truncate(path, 1 << 30)
    read = 0

    def counted(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = pread(fd, size, offset)
        read += len(data)
        return data

    pread = os.pread
    monkeypatch.setattr(os, "pread", counted)
    assert opened(path, b"{")
    assert read < 32 * MIB
    assert path.stat().st_size == (1 << 30) + 1
    assert not opened(path, b"{")


def test_an_end_too_long_to_be_a_line_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "somebody's database"
    path.write_bytes(b"one\n" + b"x" * 2 * MIB)
    assert opened(path)
    assert path.read_bytes() == b"one\n" + b"x" * 2 * MIB + b"\n"


def test_append_only_file_gets_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    if subprocess.run(["chattr", "+a", path], capture_output=True).returncode:
        pytest.skip("chattr +a: not supported here, or not root")
    try:
        assert opened(path)
        assert path.read_bytes() == b"one\ntw\n"
    finally:
        subprocess.run(["chattr", "-a", path], check=True)


def test_file_that_another_writer_has_open_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    first = OpenFile(str(path))
    first.write(b"one\ntw")
    assert not opened(path, b"two")
    assert path.read_bytes() == b"one\ntw"
    first.close()
    assert opened(path, b"two")
    assert path.read_bytes() == b"one\n"


def test_file_that_grows_while_it_is_looked_at_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that knows nothing of the lock finishes its line."""
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    real = os.pread
    grown: list[int] = []

    def pread(fd: int, size: int, position: int) -> bytes:
        data = real(fd, size, position)
        if not grown:
            with path.open("ab") as other:
                grown.append(other.write(b"o\n"))
        return data

    monkeypatch.setattr(os, "pread", pread)
    assert not opened(path, b"two")
    assert path.read_bytes() == b"one\ntwo\n"


def test_repairing_process_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            OpenFile(str(path))
        OpenFile(str(path), unlocked=True).close()
    opened(path)


def test_cut_takes_back_what_was_written_last(tmp_path: Path) -> None:
    file = OpenFile(str(tmp_path / "log"))
    file.write(b"one\ntw")
    assert file.cut(2)
    file.write(b"three\n")
    assert (tmp_path / "log").read_bytes() == b"one\nthree\n"
    file.close()


def test_cut_spares_what_another_writer_appended(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    one, other = OpenFile(path), OpenFile(path)
    one.write(b"one\ntw")
    other.write(b"other\n")
    assert one.cut(2)
    assert Path(path).read_bytes() == b"one\ntwother\n"
    one.close()
    other.close()


def test_deleted_is_noticed_and_renamed_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = OpenFile(str(path))
    assert not file.deleted
    path.rename(tmp_path / "log.1")
    assert not file.deleted
    (tmp_path / "log.1").unlink()
    assert file.deleted
    file.close()


def test_fifo_without_reader_is_enxio(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device") as caught:
        OpenFile(str(tmp_path / "fifo"))
    assert caught.value.errno == errno.ENXIO


def test_fifo_never_blocks_and_holds_a_batch(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    file = OpenFile(str(tmp_path / "fifo"))
    assert file.write(b"x" * 2 * MIB) == MIB
    with pytest.raises(BlockingIOError):
        file.write(b"x")
    assert not file.wait_writable(0)
    assert not file.cut(1)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        file.write(b"x")
    assert not file.wait_writable(10)
    file.close()


def test_fifo_of_another_user_in_a_sticky_directory(tmp_path: Path) -> None:
    """Where fs.protected_fifos is on, the kernel refuses O_CREAT there."""
    if os.geteuid() != 0:
        pytest.skip("making a file of another user needs root")
    tmp_path.chmod(0o1777)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    os.chown(fifo, 65534, 65534)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    OpenFile(str(fifo)).close()
    os.close(reader)


def test_close_twice(tmp_path: Path) -> None:
    file = OpenFile(str(tmp_path / "log"))
    file.close()
    file.close()


_WRITE_STDOUT = """
import sys
from nflowlevel.delivery.openfile import OpenFile
file = OpenFile("-")
data, done, most = sys.stdin.buffer.read(), 0, 0
while done < len(data):
    try:
        taken = file.write(memoryview(data)[done:])
        done, most = done + taken, max(most, taken)
    except BlockingIOError:
        print("not ready", file=sys.stderr, flush=True)
        file.wait_writable(10)
file.close()
print(most, file=sys.stderr)
"""


def write_stdout(data: bytes, stdout: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITE_STDOUT], stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE
    )
    assert child.stdin
    child.stdin.write(data)
    child.stdin.close()
    return child


def was_refused(child: subprocess.Popen[bytes]) -> bool:
    """Wait until the child found standard output full (and was not blocked by that), or ended."""
    assert child.stderr
    return child.stderr.readline() == b"not ready\n"


def finish(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child's end; return the most it could write at once."""
    assert child.stderr
    said = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 0, said
    return int(said.splitlines()[-1])


def read_all(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(fd, MIB)):
        data += more
    return data


def test_standard_output_is_a_pipe() -> None:
    data = lines(0, 300, pad=10_000)
    reader, writer = os.pipe()
    child = write_stdout(data, writer)
    assert was_refused(child)
    assert read_all(reader, len(data)) == data
    assert finish(child) > 4096
    assert os.get_blocking(writer), "others who share it must not be surprised"
    os.close(reader)
    os.close(writer)


def test_standard_output_is_a_socket_that_cannot_be_opened_again() -> None:
    data = lines(0, 300, pad=10_000)
    reader, writer = socket.socketpair()
    with reader, writer:
        child = write_stdout(data, writer.fileno())
        assert was_refused(child)
        assert read_all(reader.fileno(), len(data)) == data
        finish(child)
        assert os.get_blocking(writer.fileno())


def test_standard_output_is_a_file_that_others_write_too(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        out.write(b"before\n")
        out.flush()
        finish(write_stdout(b"ours\n", out.fileno()))
        out.write(b"after\n")
    assert (tmp_path / "out").read_bytes() == b"before\nours\nafter\n"
