# SPDX-License-Identifier: GPL-2.0-or-later
"""Real collectors of IPFIX for tests: nfcapd, nfacctd, python3-ipfix behind a file, openssl s_server, tshark.

with Nfcapd(tmp_path) as collector:
    ...                                  send to collector.port over UDP
collector.flows                          what nfdump reads from its files, after the block
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import pytest

from tests.fix_alone import unused_port
from tests.fix_daemon import wait_for
from tests.fix_debian import need
from tests.fix_netns import Netns

#: Debian's own Python has Debian's packages.
_SYSTEM_PYTHON = "/usr/bin/python3"
_READ = """
import sys, json, ipfix.reader, ipfix.ie
ipfix.ie.use_iana_default()
ipfix.ie.use_5103_default()
reader = ipfix.reader.from_stream(open(sys.argv[1], "rb"))
for record in reader.namedict_iterator():
    print(json.dumps(record, default=str))
"""


#: Behind what tcpdump has to see.
_LAST = b"the last packet of this test"


class _Program:
    """A program that runs for the block, and is ended by its pid once it has read what its port over UDP holds."""

    _end = signal.SIGTERM
    port = 0

    def __init__(
        self, directory: Path, command: list[str], netns: Netns | None = None, stdout: Path | None = None
    ) -> None:
        self.log = directory / f"{Path(command[0]).name}.log"
        self._command = netns.command(*command) if netns else command
        self._stdout = stdout
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log.open("ab") as log, (self._stdout or self.log).open("ab") as out:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=out, stderr=log)
        return self

    def says(self, text: str) -> None:
        wait_for(
            lambda: text in self.log.read_text(errors="replace"), text, lambda: self.log.read_text(errors="replace")
        )

    def _has_read(self) -> bool:
        """Tell whether the queues of its port over UDP are empty (proc_net_udp: local address, tx_queue:rx_queue)."""
        assert self._process
        sockets = [line.split() for line in Path(f"/proc/{self._process.pid}/net/udp").read_text().splitlines()[1:]]
        return all(each[4].endswith(":00000000") for each in sockets if each[1].endswith(f":{self.port:04X}"))

    def stop(self) -> None:
        if self._process:
            wait_for(self._has_read, "the collector reads what has come", lambda: self.log.read_text(errors="replace"))
            self._process.send_signal(self._end)
            self._process.communicate(timeout=20)
            self._process = None

    def __exit__(self, *_: object) -> None:
        self.stop()


class Nfcapd(_Program):
    """nfcapd; `flows` are what nfdump reads from its files once it has ended."""

    def __init__(self, directory: Path, netns: Netns | None = None) -> None:
        need("nfcapd", "nfdump")
        self.port = unused_port(socket.SOCK_DGRAM)
        self.directory = directory / "nfcapd"
        self.directory.mkdir(exist_ok=True)
        where = ["-w", str(self.directory), "-p", str(self.port), "-b", "127.0.0.1"]
        super().__init__(directory, ["nfcapd", *where, "-B", "8000000", "-t", "3600"], netns)

    def __enter__(self) -> Self:
        self.start()
        self.says("Startup")
        return self

    @property
    def flows(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            ["nfdump", "-R", str(self.directory), "-o", "json"], capture_output=True, text=True, check=True
        )
        return list(json.loads(done.stdout)) if done.stdout.strip() else []


class Nfacctd(_Program):
    """pmacct's nfacctd, which prints JSON to a file."""

    _end = signal.SIGINT

    def __init__(self, directory: Path, netns: Netns | None = None) -> None:
        need("nfacctd")
        self.port = unused_port(socket.SOCK_DGRAM)
        self._out = directory / "nfacctd.json"
        config = directory / "nfacctd.conf"
        keys = "src_host,dst_host,src_port,dst_port,proto,timestamp_start,timestamp_end,post_nat_src_host,nat_event"
        config.write_text(
            f"daemonize: false\nplugins: print[a]\nnfacctd_ip: 127.0.0.1\nnfacctd_port: {self.port}\n"
            f"aggregate[a]: {keys}\nprint_output[a]: json\nprint_output_file[a]: {self._out}\n"
            "print_refresh_time[a]: 1\nprint_output_file_append[a]: true\ntimestamps_since_epoch: true\n"
            "plugin_buffer_size: 1024000\nplugin_pipe_size: 102400000\n"
        )
        super().__init__(directory, ["/usr/sbin/nfacctd", "-f", str(config)], netns)

    def __enter__(self) -> Self:
        self.start()
        self.says("waiting for NetFlow/IPFIX data")
        return self

    def stop(self) -> None:
        time.sleep(2)  # nothing tells that its plugin has what it has read
        super().stop()

    @property
    def flows(self) -> list[dict[str, Any]]:
        """What it has printed so far, in whole lines."""
        text = self._out.read_text() if self._out.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Openssl(_Program):
    """`openssl s_server`; `stream` is what it has received."""

    def __init__(self, directory: Path, certificate: Path, *more: str, port: int = 0) -> None:
        need("openssl")
        self.port = port or unused_port(socket.SOCK_STREAM)
        self._out = directory / f"stream{port}"
        self._out.touch()
        server = ["s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", str(certificate), "-quiet", *more]
        super().__init__(directory, ["openssl", *server], stdout=self._out)

    def __enter__(self) -> Self:
        self.start()
        wait_for(self._listens, "openssl s_server listens", lambda: self.log.read_text())
        return self

    def _listens(self) -> bool:
        wanted = f"0100007F:{self.port:04X} 00000000:0000 0A"
        return wanted in Path("/proc/net/tcp").read_text()

    @property
    def stream(self) -> bytes:
        return self._out.read_bytes()


def certificate(directory: Path, name: str, *alternatives: str) -> Path:
    """Make a certificate that signs itself, with its key in the same file."""
    need("openssl")
    key, cert, both = (directory / f"{name}.{end}" for end in ("key", "crt", "pem"))
    names = ",".join(alternatives or ("IP:127.0.0.1", "DNS:localhost"))
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    files = ["-keyout", str(key), "-out", str(cert), "-addext", f"subjectAltName={names}"]
    subprocess.run(["openssl", *request, *files], check=True, capture_output=True)
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    return both


def read_by_python_ipfix(stream: bytes, directory: Path) -> list[dict[str, Any]]:
    """Return what Debian's python3-ipfix reads from a stream of messages, by the names of elements."""
    if subprocess.run([_SYSTEM_PYTHON, "-c", "import ipfix"], capture_output=True, check=False).returncode:
        pytest.skip("python3-ipfix is not installed (scripts/install-packages test)")
    path = directory / "messages"
    path.write_bytes(stream)
    done = subprocess.run([_SYSTEM_PYTHON, "-c", _READ, str(path)], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class Wire:
    """tcpdump on the loopback interface of a namespace; tshark reads it afterwards."""

    def __init__(self, netns: Netns, directory: Path) -> None:
        need("tcpdump", "tshark")
        self._file = directory / "wire.pcap"
        self._netns = netns

    def __enter__(self) -> Self:
        # As a cable has them: the kernel splits before it shows, not behind.
        self._netns.run("ip", "link", "set", "lo", "gso_max_segs", "1")
        self._process = self._netns.popen(
            "tcpdump", "--immediate-mode", "-Z", "root", "-i", "lo", "-U", "-B", "32768", "-w", str(self._file),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: self._file.exists() and self._file.stat().st_size >= 24, "tcpdump writes")
        return self

    def __exit__(self, *_: object) -> None:
        with self._netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(_LAST, ("127.0.0.1", 9))
        wait_for(lambda: _LAST in self._file.read_bytes(), "tcpdump writes what it has seen")
        self._process.terminate()
        self._process.wait(20)

    def tshark(self, port: int, transport: str, *fields: str, filter_: str = "cflow") -> list[list[str]]:
        """Return fields of packets with flows, as tshark reads them."""
        shown = [item for field in fields for item in ("-e", field)]
        command = ["tshark", "-n", "-r", str(self._file), "-d", f"{transport}.port=={port},cflow", "-Y", filter_]
        done = subprocess.run([*command, "-T", "fields", *shown], capture_output=True, text=True, check=True)
        return [line.split("\t") for line in done.stdout.splitlines()]
