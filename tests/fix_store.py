# SPDX-License-Identifier: GPL-2.0-or-later
"""An object store for tests: moto's S3 server in a process of its own on loopback, with what was asked of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.fix_alone import unused_port

_WAIT_SECS = 60
#: Not that of forms, which is what urllib says of itself.
_HEADERS = {"Content-Type": "application/octet-stream"}


class ObjectStore(NamedTuple):
    """A running server."""

    endpoint: str
    log: Path

    def put(self, key: str, data: bytes, acl: str = "private") -> None:
        """Store an object; `key` begins with its bucket. Anybody may, but not all may read what is private."""
        with urlopen(
            Request(f"{self.endpoint}/{quote(key)}", data=data, method="PUT", headers=_HEADERS | {"x-amz-acl": acl}),
            timeout=_WAIT_SECS,
        ) as answer:
            assert answer.status == 200

    def delete(self, key: str) -> None:
        """Remove an object that all may write."""
        with urlopen(Request(f"{self.endpoint}/{quote(key)}", method="DELETE"), timeout=_WAIT_SECS) as answer:
            assert answer.status == 204

    def copy(self, directory: Path, key: str) -> None:
        """Store the files of a directory, but for those that begin with a dot, as `aws s3 sync` would."""
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            if path.is_file() and not name.startswith("."):
                self.put(f"{key}/{name}", path.read_bytes())

    def asked(self) -> list[str]:
        """Return the requests until now: method and path."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text())  # it colours what is not 200
        return re.findall(r'"([A-Z]+ [^"]*) HTTP/1\.1"', plain)


@contextmanager
def object_store(directory: Path, bucket: str = "logs") -> Iterator[ObjectStore]:
    """Yield a server with an empty bucket; it ends with the block."""
    port = unused_port()
    log = directory / "moto.log"
    code = "from moto.server import main; main()"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)],
            env=os.environ | {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        end = time.monotonic() + _WAIT_SECS
        while "Running on" not in log.read_text(errors="replace"):
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        made = ObjectStore(f"http://127.0.0.1:{port}", log)
        made.put(bucket, b"")
        yield made
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)
