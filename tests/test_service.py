# SPDX-License-Identifier: GPL-2.0-or-later
"""The unit of examples/systemd under a real systemd: all outputs that it promises, restart, reload, and its limits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_machine import Machine, why_not

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_FILE = "/var/log/nflowlevel/packets.json"
_DATABASE = "/var/lib/nflowlevel/log.sqlite"
_AS_USER = ("setpriv", "--reuid=nflowlevel", "--regid=nflowlevel", "--clear-groups")
_USUAL = "b:BASE,i:IFINDEX,s:IP2STR,h:HWHDR"
_CONFIG = f"""[global]
stack=g:NFLOG,{_USUAL},j:JSON
stack=g:NFLOG,{_USUAL},d:SQLITE3
[g]
group=5
[j]
file={_FILE}
[d]
db={_DATABASE}
table=packets
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine with the unit as its comments say to install it, and a rule that logs."""
    if why_not():
        pytest.skip(why_not())
    with Machine(tmp_path, "systemd") as machine:
        unit = (_EXAMPLES / "systemd" / "nflowlevel.service").read_text()
        (useradd,) = (line for line in unit.splitlines() if line.startswith("#   useradd"))
        machine.run(*useradd.removeprefix("#").split())
        machine.write("/etc/systemd/system/nflowlevel.service", unit)
        machine.write("/etc/nflowlevel.conf", _CONFIG)
        machine.run("systemctl", "daemon-reload")
        machine.log_udp(5)
        yield machine


def lines(machine: Machine, path: str = _FILE) -> int:
    text = machine.read(path)
    assert all(json.loads(line)["oob.prefix"] == "there" for line in text.splitlines())
    return text.count("\n")


def rows(machine: Machine) -> int:
    program = (
        f"import sqlite3; print(*sqlite3.connect({_DATABASE!r}).execute('SELECT count(*) FROM packets').fetchone())"
    )
    return int(machine.run(*_AS_USER, "python3", "-c", program))


def test_files_and_databases_work_through_restart_and_reload(machine: Machine) -> None:
    machine.run("systemctl", "start", "nflowlevel")
    # The directory is the service's: its user makes the table there.
    owner = machine.run("stat", "-c", "%U %a", "/var/lib/nflowlevel", "/var/log/nflowlevel").split("\n")
    assert owner[:2] == ["nflowlevel 750", "nflowlevel 755"]
    machine.run(*_AS_USER, "/opt/nflowlevel/bin/nflowlevel", "sql", "init", "-c", "/etc/nflowlevel.conf")

    machine.send_udp(7)
    machine.until(lambda: (lines(machine), rows(machine)) == (7, 7), "7 records in both")

    machine.run("mv", _FILE, f"{_FILE}.1")
    machine.run("systemctl", "reload", "nflowlevel")
    machine.until(lambda: machine.path(_FILE).exists(), "the file is opened anew")
    machine.send_udp(11)
    machine.until(lambda: (lines(machine), rows(machine)) == (11, 18), "11 more records")
    assert lines(machine, f"{_FILE}.1") == 7

    first = machine.run("systemctl", "show", "-P", "MainPID", "nflowlevel")
    machine.run("systemctl", "restart", "nflowlevel")
    assert machine.run("systemctl", "show", "-P", "MainPID", "nflowlevel") != first
    machine.send_udp(13)
    machine.until(lambda: (lines(machine), rows(machine)) == (24, 31), "13 more records")

    machine.run("systemctl", "stop", "nflowlevel")
    assert machine.run("systemctl", "show", "-P", "Result", "nflowlevel") == "success\n"
    assert "cannot" not in machine.journal()
    assert machine.run("ls", "-A", "/var/lib/nflowlevel/spool/d").split()


def test_a_group_that_is_taken_is_told_with_the_process(machine: Machine) -> None:
    """ProtectProc= leaves that: as root's reader, whose descriptors the service may not see in any case."""
    reader = subprocess.Popen(
        machine.command("/opt/nflowlevel/bin/nflowlevel", "tail", "--group", "5"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        groups = "/proc/net/netfilter/nfnetlink_log"
        machine.until(lambda: machine.run("cat", groups).split()[:1] == ["5"], "the group is read")
        pid = machine.run("cat", groups).split()[1]
        assert machine.tried("systemctl", "start", "nflowlevel").returncode != 0
        assert f"group 5 is read by another process, probably process {pid};" in machine.journal()
    finally:
        reader.kill()
        reader.wait()


def test_a_wrong_configuration_is_not_started_again(machine: Machine) -> None:
    machine.write("/etc/nflowlevel.conf", _CONFIG.replace("group=5", "gruop=5"))
    assert machine.tried("systemctl", "start", "nflowlevel").returncode != 0
    assert "did you mean 'group'?" in machine.journal()
    shown = machine.run("systemctl", "show", "-P", "NRestarts", "-P", "ActiveState", "nflowlevel")
    assert sorted(shown.split()) == ["0", "failed"]


def test_it_reaches_private_networks_and_no_others(machine: Machine) -> None:
    for address in ("10.1.2.3", "198.51.100.7"):
        machine.run("ip", "address", "add", f"{address}/32", "dev", "lo")
    listen = (
        "import socket, sys\n"
        "for address in sys.argv[1:]:\n"
        "    s = socket.create_server((address, 5555)); s.listen()\n"
        "    globals()[address] = s\n"
        "print(socket.socket.accept(globals()[sys.argv[1]])[0].recv(20), flush=True)\n"
    )
    server = subprocess.Popen(
        machine.command("python3", "-c", listen, "10.1.2.3", "198.51.100.7"), stdout=subprocess.PIPE
    )
    try:
        text = "[global]\n" + "".join(f"stack=g:NFLOG,{_USUAL},{name}:JSON\n" for name in "pq") + "[g]\ngroup=5\n"
        text += "".join(
            f"[{name}]\nmode=tcp\nport=5555\nhost={host}\n"
            for name, host in zip("pq", ("10.1.2.3", "198.51.100.7"), strict=True)
        )
        machine.write("/etc/nflowlevel.conf", text)
        machine.run("systemctl", "start", "nflowlevel")
        machine.send_udp(1)
        assert server.stdout is not None
        assert b"timestamp" in server.stdout.readline()
        told = "connect to tcp 198.51.100.7:5555: Connection timed out"
        machine.until(lambda: told in machine.journal(), "what cannot be reached is told")
    finally:
        server.kill()
        server.communicate()
