# SPDX-License-Identifier: GPL-2.0-or-later
"""nflowlevel in the place of Debian's ulogd: with the package's own init script, unit and logrotate file, as they are.

Each test has a machine of its own (tests/fix_machine.py), so the diversion is dpkg's real one.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nflowlevel import cli
from nflowlevel.cli import drop_in
from nflowlevel.errors import NflowError
from tests.fix_machine import Machine, why_not
from tests.fix_nobody import open_to_all, users

__all__ = ["open_to_all", "users"]

_INIT = "/etc/init.d/ulogd2"
_PID = "/run/ulog/ulogd.pid"
_LOG = "/var/log/ulog/packets.log"
_CONFIG = f"""[global]
logfile="syslog"
stack=log2:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,json1:JSON
[log2]
group=3
[json1]
file="{_LOG}"
"""
_SHIPPED = (_INIT, "/lib/systemd/system/ulogd2.service", "/etc/logrotate.d/ulogd2", "/usr/lib/tmpfiles.d/ulogd2.conf")


def needs_ulogd2() -> None:
    if why_not():
        pytest.skip(why_not())
    if not Path(_INIT).exists():
        pytest.skip("the package ulogd2 is not installed")


def sums(machine: Machine) -> str:
    return machine.run("md5sum", *_SHIPPED)


def prepared(machine: Machine) -> None:
    """Put a configuration there that we can run, and divert the program with the one command."""
    before = sums(machine)
    machine.write("/etc/ulogd.conf", _CONFIG)
    said = machine.run("/opt/nflowlevel/bin/nflowlevel", "drop-in", "install")
    assert said == f"/usr/sbin/ulogd is nflowlevel-daemon now; {drop_in._RESTART}\n"
    assert sums(machine) == before
    machine.log_udp(3)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Machine]:
    """A machine without systemd, where init scripts do their work themselves."""
    needs_ulogd2()
    with Machine(tmp_path, "none") as machine:
        prepared(machine)
        yield machine


def init(machine: Machine, action: str) -> subprocess.CompletedProcess[str]:
    return machine.tried(_INIT, action)


def pid(machine: Machine) -> str:
    return machine.read(_PID).strip()


def daemons(machine: Machine) -> list[str]:
    return machine.run("pgrep", "-x", "ulogd", check=False).split()


def arrive(machine: Machine, count: int, total: int) -> None:
    machine.send_udp(count)
    machine.until(lambda: machine.read(_LOG).count("\n") == total, f"{total} records")
    assert {json.loads(line)["oob.prefix"] for line in machine.read(_LOG).splitlines()} == {"there"}


def test_the_init_script_of_the_package(plain: Machine) -> None:
    """Start twice, status, reload, restart, stop: what start-stop-daemon and pidof see is the daemon."""
    assert init(plain, "status").returncode == 3
    assert init(plain, "start").returncode == 0
    first = pid(plain)
    assert daemons(plain) == [first]
    arrive(plain, 7, 7)

    assert init(plain, "start").returncode == 0, "the second start finds the first"
    assert daemons(plain) == [first]
    assert init(plain, "status").returncode == 0

    told = plain.tried("/opt/nflowlevel/bin/nflowlevel", "doctor", "--config", "/etc/ulogd.conf").stdout
    assert f"process {first}, " in told or f"process {first} " in told
    assert "cannot read group 3" not in told, "the reader is ours, whatever its name"

    plain.run("mv", _LOG, f"{_LOG}.1")
    assert init(plain, "reload").returncode == 0
    plain.until(lambda: plain.path(_LOG).exists(), "the file is opened anew")
    arrive(plain, 5, 5)
    assert pid(plain) == first

    assert init(plain, "restart").returncode == 0
    second = pid(plain)
    assert second != first
    assert daemons(plain) == [second]
    arrive(plain, 3, 8)

    assert init(plain, "stop").returncode == 0
    assert daemons(plain) == []
    assert pid(plain) == ""
    assert init(plain, "status").returncode == 3
    assert init(plain, "stop").returncode == 0


def rotate(machine: Machine) -> None:
    """Rotate as Debian's logrotate.conf does: that says how many are kept."""
    machine.write("/tmp/logrotate.conf", "rotate 4\ninclude /etc/logrotate.d/ulogd2\n")
    machine.run("logrotate", "--force", "/tmp/logrotate.conf")
    assert machine.read(f"{_LOG}.1").count("\n") == 7
    assert machine.run("stat", "-c", "%U %G %a", _LOG) == "ulog adm 640\n"


@pytest.mark.slow
def test_the_logrotate_file_of_the_package(plain: Machine) -> None:
    assert init(plain, "start").returncode == 0
    arrive(plain, 7, 7)
    rotate(plain)
    arrive(plain, 5, 5)
    assert init(plain, "stop").returncode == 0


@pytest.mark.slow
def test_the_unit_of_the_package(tmp_path: Path) -> None:
    needs_ulogd2()
    with Machine(tmp_path, "systemd") as machine:
        prepared(machine)
        machine.run("systemctl", "start", "ulogd2")
        first = machine.run("systemctl", "show", "-P", "MainPID", "ulogd2").strip()
        assert pid(machine) == first
        arrive(machine, 7, 7)
        # With systemd the init script asks it, too.
        assert machine.tried(_INIT, "status").returncode == 0
        rotate(machine)
        arrive(machine, 5, 5)
        machine.run("systemctl", "restart", "ulogd2")
        arrive(machine, 3, 8)
        assert daemons(machine) == [pid(machine)]
        machine.run("systemctl", "stop", "ulogd2")
        assert machine.run("systemctl", "show", "-P", "Result", "ulogd2") == "success\n"
        assert daemons(machine) == []


@pytest.mark.slow
def test_it_is_undone_and_survives_the_packages_upgrade(plain: Machine) -> None:
    nflowlevel = "/opt/nflowlevel/bin/nflowlevel"
    ours = f"/usr/sbin/ulogd is nflowlevel-daemon (/opt/nflowlevel/bin/ulogd); ulogd2's is {drop_in.ASIDE}\n"
    assert plain.run(nflowlevel, "drop-in") == ours
    assert plain.run(nflowlevel, "drop-in", "install") == "/usr/sbin/ulogd is nflowlevel-daemon already\n"
    assert plain.run("dpkg-divert", "--truename", "/usr/sbin/ulogd") == f"{drop_in.ASIDE}\n"
    theirs = Path("/usr/sbin/ulogd").read_bytes()
    assert plain.path(str(drop_in.ASIDE)).read_bytes() == theirs

    # What dpkg unpacks of a newer package goes aside.
    plain.run("mkdir", "-p", "/tmp/deb/DEBIAN", "/tmp/deb/usr/sbin")
    control = "Package: ulogd2\nVersion: 9\nArchitecture: all\nMaintainer: nobody\nDescription: newer\n"
    plain.write("/tmp/deb/DEBIAN/control", control)
    plain.write("/tmp/deb/usr/sbin/ulogd", "newer\n")
    plain.run("dpkg-deb", "--build", "/tmp/deb", "/tmp/ulogd2.deb")
    plain.run("dpkg", "--force-depends", "--install", "/tmp/ulogd2.deb")
    assert plain.read(str(drop_in.ASIDE)) == "newer\n"
    assert plain.run(nflowlevel, "drop-in") == ours

    assert plain.run(nflowlevel, "drop-in", "remove").startswith("/usr/sbin/ulogd is ulogd2's again; ")
    assert plain.read("/usr/sbin/ulogd") == "newer\n"
    assert not plain.path(str(drop_in.ASIDE)).exists()
    assert not plain.path("/opt/nflowlevel/bin/ulogd").exists()
    assert "ulogd" not in plain.run("dpkg-divert", "--list")
    again = plain.tried(nflowlevel, "drop-in", "remove")
    assert (again.returncode, "nothing to undo" in again.stdout) == (1, True)


@pytest.mark.slow
def test_nothing_is_changed_where_it_cannot_work(plain: Machine) -> None:
    nflowlevel = "/opt/nflowlevel/bin/nflowlevel"
    plain.run(nflowlevel, "drop-in", "remove")

    plain.run("chmod", "o+w", "/opt/nflowlevel/bin")
    refused = plain.tried(nflowlevel, "drop-in", "install")
    assert (refused.returncode, "can be changed by others than root" in refused.stdout) == (1, True)
    plain.run("chmod", "o-w", "/opt/nflowlevel/bin")

    # Python's library is away: the program does not start.
    plain.run("sh", "-c", "mv /usr/lib/*/libpython3.*.so.1.0 /root")
    refused = plain.tried(nflowlevel, "drop-in", "install")
    assert (refused.returncode, "nothing was changed" in refused.stdout) == (1, True)
    assert "ulogd" not in plain.run("dpkg-divert", "--list")
    plain.run("sh", "-c", "mv /root/libpython3.*.so.1.0 /usr/lib/$(uname -m)-linux-gnu/")

    # A configuration that we cannot run is said.
    plain.write("/etc/ulogd.conf", _CONFIG.replace("json1:JSON", "json1:JSONN"))
    done = plain.tried(nflowlevel, "drop-in", "install")
    assert done.returncode == 0
    assert "the service cannot start with this /etc/ulogd.conf" in done.stdout
    assert "unknown plugin 'JSONN' — did you mean 'JSON'?" in done.stdout


def test_only_root_may(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(drop_in, "is_installed", lambda: False)
    assert cli.main(["drop-in", "install"]) == 1
    assert capsys.readouterr().err == "nflowlevel drop-in: changing /usr/sbin/ulogd needs root\n"


def test_an_installation_without_the_program_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(drop_in, "is_installed", lambda: False)
    monkeypatch.setattr(drop_in, "_need_root", lambda: None)
    monkeypatch.setattr(drop_in, "_BUILT", tmp_path / "ulogd")
    assert cli.main(["drop-in", "install"]) == 1
    assert "install python3-dev and a C compiler" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("has_command", "remedy"),
    [(True, "{}/nflowlevel drop-in remove"), (False, "rm {}/place; dpkg-divert --local --rename --remove {}/place")],
)
def test_the_link_of_another_installation_is_not_called_ulogd2s(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    has_command: bool,
    remedy: str,
) -> None:
    monkeypatch.setattr(drop_in, "PLACE", tmp_path / "place")
    drop_in.PLACE.symlink_to(tmp_path / "ulogd")
    if has_command:
        (tmp_path / "nflowlevel").touch()
    said = f"{tmp_path}/place leads to {tmp_path}/ulogd, not to {drop_in.program()}; undo that with: "
    said += remedy.replace("{}", str(tmp_path)) + "\n"
    assert cli.main(["drop-in"]) == 0
    assert capsys.readouterr().out == said
    assert cli.main(["drop-in", "remove"]) == 1
    assert capsys.readouterr().err == f"nflowlevel drop-in: {said}"
    assert drop_in.PLACE.is_symlink()


@pytest.mark.parametrize("planted", ["link", "directory", "sticky"])
def test_a_path_that_others_can_change_is_refused(
    open_to_all: Path, users: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    """The link in /usr/sbin would lead where a user wants, also where the directory at its end is root's."""
    real = open_to_all / "real"
    real.mkdir()
    (real / "built").touch()
    place = {"link": users / "link", "directory": users / "bin", "sticky": open_to_all / "sticky"}[planted]
    if planted == "link":
        place.symlink_to(real)
    else:
        place.mkdir()
        place.chmod(0o1777 if planted == "sticky" else 0o755)
    monkeypatch.setattr(drop_in, "_BUILT", real / "built")
    monkeypatch.setattr(drop_in, "program", lambda: place / "ulogd")
    with pytest.raises(NflowError, match="can be changed by others than root"):
        drop_in._place_program()
    assert not (place / "ulogd").exists()
    assert not (place / "ulogd.new").exists()
