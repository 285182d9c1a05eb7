# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as administrators and service managers meet it: options, status, pid file, signals, messages, load."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nflowlevel import __version__
from nflowlevel.binding import procfs
from tests import oracle
from tests.fix_daemon import FILTERS, Daemon, Flood, config, lines_of, log_rule, records, run, wait_for
from tests.fix_lines import small_disk
from tests.fix_netns import Netns, Pair
from tests.fix_nflog import SEQ, SEQ_GLOBAL, NflogReader, bound_groups

_CAP_NET_ADMIN = 1 << 12


def to_file(out: Path, group: int = 2, options: str = "", *stacks: str) -> str:
    """Return the usual configuration: one group to one JSON file."""
    return config(*stacks, f"g:NFLOG,{FILTERS},j:JSON", g=f"group={group}\n{options}", j=f"file={out}")


def grows_to(file: Path, size: int) -> None:
    """Wait until a file has that many bytes."""
    wait_for(lambda: file.exists() and file.stat().st_size >= size, f"{file} grows to {size} bytes")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The file records go to."""
    return tmp_path / "out.json"


# -- options ------------------------------------------------------------------------------------------------------


def test_version() -> None:
    done = run("-V")
    assert (done.returncode, done.stdout) == (0, f"nflowlevel-daemon {__version__}\n")


def test_help_names_all_of_ulogds_options() -> None:
    done = run("--help")
    assert done.returncode == 0
    for option in ("--configfile", "--pidfile", "--daemon", "--verbose", "--loglevel", "--uid", "--info", "--version"):
        assert option in done.stdout


@pytest.mark.parametrize("name", ["JSON", "/usr/lib/x86_64-linux-gnu/ulogd/ulogd_output_JSON.so"])
def test_info_describes_a_plugin(name: str) -> None:
    done = run("-i", name)
    assert done.returncode == 0
    assert "  boolean_label (bool, default '0')" in done.stdout


def test_info_about_an_unknown_plugin_names_the_nearest() -> None:
    done = run("-i", "JSOM")
    assert done.returncode == 0
    assert "did you mean 'JSON'?" in done.stderr


def test_unknown_option() -> None:
    done = run("--colour")
    assert done.returncode == 1
    assert "usage:" in done.stderr
    assert "--colour" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--confgfile", "x"), "unknown option '--confgfile' — did you mean '--configfile'?"),
        (("word", "--pdfile=x"), "unknown option '--pdfile' — did you mean '--pidfile'?"),
        (("-C", "x"), "unknown option '-C' — did you mean '-c'?"),
    ],
)
def test_a_misspelt_option_has_its_nearest(words: tuple[str, ...], says: str) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert done.stderr.endswith(f"nflowlevel-daemon: error: {says}\n")


def test_warnings_are_shown_beside_errors(tmp_path: Path) -> None:
    file = tmp_path / "ulogd.conf"
    file.write_text(config(f"g:NFLOG,{FILTERS},j:JSON", g="group=2\nrmem=5", j="fil=x"))
    done = run("--check-config", "-c", str(file))
    assert done.returncode == 78
    warning, error = done.stderr.splitlines()
    assert warning.startswith(f"warning: {file}:5: ")
    assert "rmem" in warning
    assert "unknown option 'fil' — did you mean 'file'?" in error


def test_unknown_user() -> None:
    done = run("-u", "nobody-of-that-name")
    assert done.returncode == 1
    assert "no such user 'nobody-of-that-name'" in done.stderr


def test_words_that_are_no_options_are_ignored_anywhere(tmp_path: Path) -> None:
    done = run("one", "-c", str(tmp_path / "missing.conf"), "two", "-l", "3", "three")
    assert done.returncode == 78  # the file's fault, not the words'


# -- the service manager ------------------------------------------------------------------------------------------


def test_ready_is_told_when_the_group_is_bound(netns: Netns, tmp_path: Path, out: Path) -> None:
    with Daemon(tmp_path, to_file(out), netns=netns) as daemon:
        assert bound_groups(netns) == {2: daemon.pid}
        state = daemon.notified[-1]
        assert state["READY"] == "1"
        assert state["STATUS"].startswith("1 of 1 stacks run; g: received 0, gap 0")
        daemon.stop()
        daemon.expect("STOPPING")
    assert bound_groups(netns) == {}


def test_the_watchdog_is_fed(netns: Netns, tmp_path: Path, out: Path) -> None:
    environment = {"WATCHDOG_USEC": "100000"}
    with Daemon(tmp_path, to_file(out), netns=netns, environment=environment) as daemon:
        for _ in range(3):
            daemon.expect("WATCHDOG")


def test_a_reload_is_told_with_its_time(netns: Netns, tmp_path: Path, out: Path) -> None:
    with Daemon(tmp_path, to_file(out), netns=netns) as daemon:
        daemon.send(signal.SIGHUP)
        assert int(daemon.expect("RELOADING")["MONOTONIC_USEC"]) > 0
        daemon.expect("READY")


# -- pid file -----------------------------------------------------------------------------------------------------


def _lock_holder(path: Path) -> int:
    """Return the process that holds a record lock of the file, 0 if none does; fcntl(2)."""
    with path.open() as file:
        layout = struct.Struct("hhqqi4x")
        answer = fcntl.fcntl(file, fcntl.F_GETLK, layout.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
        kind, _, _, _, pid = layout.unpack(answer)
        return 0 if kind == fcntl.F_UNLCK else int(pid)


def test_pidfile_is_filled_locked_and_removed(netns: Netns, tmp_path: Path, out: Path) -> None:
    pidfile = tmp_path / "pid"
    pidfile.write_text("4194303\nof a process that died\n")
    with Daemon(tmp_path, to_file(out), "-p", str(pidfile), netns=netns) as daemon:
        assert pidfile.read_text() == f"{daemon.pid}\n"
        assert pidfile.stat().st_mode & 0o777 == 0o644
        assert _lock_holder(pidfile) == daemon.pid
    assert not pidfile.exists()


def test_pidfile_of_a_living_process_is_respected(netns: Netns, tmp_path: Path, out: Path) -> None:
    pidfile = tmp_path / "pid"
    with Daemon(tmp_path, to_file(out), "-p", str(pidfile), netns=netns) as daemon:
        done = run("-c", str(daemon.config), "-p", str(pidfile), netns=netns)
        assert done.returncode == 1
        assert f"process {daemon.pid} is already running" in done.stderr
        assert pidfile.read_text() == f"{daemon.pid}\n"


def test_pidfile_is_removed_when_the_start_fails(netns: Netns, tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text(to_file(tmp_path / "missing/out.json"))
    done = run("-c", str(file), "-p", str(tmp_path / "pid"), netns=netns)
    assert done.returncode == 1
    assert not (tmp_path / "pid").exists()


# -- another user -------------------------------------------------------------------------------------------------


def _states(pid: int) -> Iterator[dict[str, str]]:
    """Yield what /proc/PID/status says of the privileges of each thread, the main thread first."""
    wanted = ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd", "NoNewPrivs")
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda task: int(task.name)):
        lines = (task / "status").read_text().splitlines()
        yield {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name in wanted}


def test_user_keeps_one_capability_and_nothing_else(netns: Netns, tmp_path: Path, out: Path) -> None:
    user = pwd.getpwnam("nobody")
    others = [entry.gr_gid for entry in grp.getgrall() if entry.gr_gid not in (0, user.pw_gid)][:2]
    with Daemon(tmp_path, to_file(out), "-u", "nobody", netns=netns, extra_groups=others) as daemon:
        (state,) = _states(daemon.pid)
    assert state["Uid"].split() == [str(user.pw_uid)] * 4
    assert state["Gid"].split() == [str(user.pw_gid)] * 4
    assert [int(gid) for gid in state["Groups"].split()] == os.getgrouplist("nobody", user.pw_gid)
    assert int(state["CapEff"], 16) == int(state["CapPrm"], 16) == _CAP_NET_ADMIN
    assert int(state["CapInh"], 16) == int(state["CapAmb"], 16) == int(state["CapBnd"], 16) == 0
    assert state["NoNewPrivs"] == "1"


def test_no_thread_of_an_ordinary_user_has_more(pair: Pair, tmp_path: Path, out: Path) -> None:
    """Also not one that starts after the change of the user, as the one that syncs a file does at its first line."""
    pair.fw.nft(log_rule(2))
    text = config(
        "g:NFLOG,b:BASE,j:JSON", "g:NFLOG,b:BASE,t:JSON", g="group=2", j=f"file={out}\nsync=1", t="mode=tcp\nhost=::1"
    )
    with Daemon(tmp_path, text, "-u", "nobody", netns=pair.fw) as daemon:
        pair.send_udp(23)
        records(out, 23)
        wait_for(lambda: len([*_states(daemon.pid)]) == 3, "a thread for the peer and one for the disk")
        # A new thread has to give up first what it inherits.
        wait_for(lambda: not any(int(state["CapPrm"], 16) for state in [*_states(daemon.pid)][1:]), "no capability")
        main, *others = _states(daemon.pid)
    assert int(main["CapEff"], 16) == _CAP_NET_ADMIN
    assert others
    for state in others:
        assert int(state["CapEff"], 16) == int(state["CapPrm"], 16) == int(state["CapBnd"], 16) == 0
        assert state["NoNewPrivs"] == "1"
        assert state["Uid"] == main["Uid"]


def _unread(place: Netns) -> int:
    """Return how many bytes wait in the sockets of Netfilter in a namespace."""
    with place.enter():
        return sum(port.queued_bytes for port in procfs.netfilter_ports().values())


def test_user_still_grows_the_socket_buffer_and_loses_nothing_at_stop(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2))
    # What anybody may ask for is granted twice over; the kernel gives more than that only to the privileged.
    size = int(Path("/proc/sys/net/core/rmem_max").read_text())
    small = f"netlink_socket_buffer_size={size}\nnetlink_socket_buffer_maxsize={8 * size}"
    with Daemon(tmp_path, to_file(out, 2, small), "-u", "nobody", netns=pair.fw) as daemon:
        daemon.send(signal.SIGSTOP)
        wait_for(lambda: procfs.is_stopped(daemon.pid), "that it stands still")
        pair.send_udp(4 * size // 1000, size=1200)
        daemon.send(signal.SIGCONT)
        daemon.says(f"grown from {2 * size} to {4 * size}")
        wait_for(lambda: not _unread(pair.fw), "room in the buffer, however busy the machine is")
        pair.send_udp(23)  # the next packet tells how much was lost
        daemon.stop()
    stats = re.search(r"g:NFLOG: received (\d+), gap (\d+)", daemon.stderr)
    assert stats
    assert "may be lost" not in daemon.stderr
    received, gap = map(int, stats.groups())
    assert gap > 0
    assert received + gap == pair.fw.counter("c")
    assert len(lines_of(out)) == received


def test_user_who_may_not_open_the_log_again(netns: Netns, tmp_path: Path) -> None:
    """D-C05: ulogd2 ends here."""
    tmp_path.chmod(0o755)
    log, out = tmp_path / "log", tmp_path / "out.json"
    text = to_file(out, 2, "", f"logfile={log}")
    with Daemon(tmp_path, text, "-u", "nobody", netns=netns) as daemon:
        log.chmod(0o600)
        tmp_path.chmod(0o777)  # root opens nothing here for it any more
        daemon.reload()
        daemon.says(f"reopen log file {log}: Permission denied; the old one stays in use", log)
        daemon.says(f"open {out}: Permission denied", log)
        daemon.stop()


# -- the daemon's own messages ------------------------------------------------------------------------------------


_LINE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 123]\d \d\d:\d\d:\d\d \d{4} "
    r"<[13578]> \w+\.py:\d+ .+"
)


def test_messages_go_to_standard_error_by_default_in_ulogds_layout(netns: Netns, tmp_path: Path, out: Path) -> None:
    with Daemon(tmp_path, to_file(out, 2, "", "loglevel=1"), netns=netns) as daemon:
        daemon.stop()
    lines = daemon.stderr.splitlines()
    assert all(map(_LINE.fullmatch, lines)), daemon.stderr
    assert any("<3> " in line and "runs" in line for line in lines)
    assert any("<5> " in line and "SIGTERM: stopping" in line for line in lines)
    assert daemon.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((), {"5"}), (("-l", "3"), {"3", "5"}), (("-l", "7"), set()), (("-l", "0"), {"5"}), (("-l", "much"), {"5"})],
)
def test_loglevel_of_the_command_line_wins(
    netns: Netns, tmp_path: Path, out: Path, arguments: tuple[str, ...], expected: set[str]
) -> None:
    with Daemon(tmp_path, to_file(out, 2, "", "loglevel=5"), *arguments, netns=netns) as daemon:
        daemon.stop()
    assert set(re.findall(r"<(\d)>", daemon.stderr)) == expected


def test_verbose_copies_to_standard_error(netns: Netns, tmp_path: Path, out: Path) -> None:
    log = tmp_path / "log"
    with Daemon(tmp_path, to_file(out, 2, "", f"logfile={log}"), "-v", netns=netns) as daemon:
        daemon.stop()
    assert "SIGTERM: stopping" in daemon.stderr
    assert daemon.stderr == log.read_text()


def test_a_log_file_gets_all_and_standard_error_nothing(netns: Netns, tmp_path: Path, out: Path) -> None:
    log = tmp_path / "log"
    with Daemon(tmp_path, to_file(out, 2, "", f"logfile={log}"), netns=netns) as daemon:
        daemon.stop()
    assert "SIGTERM: stopping" in log.read_text()
    assert daemon.stderr == ""


def test_logfile_stdout(netns: Netns, tmp_path: Path, out: Path) -> None:
    with Daemon(tmp_path, to_file(out, 2, "", "logfile=stdout"), netns=netns) as daemon:
        daemon.stop()
    assert "SIGTERM: stopping" in daemon.stdout
    assert daemon.stderr == ""


def test_logfile_that_cannot_be_opened(netns: Netns, tmp_path: Path, out: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text(to_file(out, 2, "", f"logfile={tmp_path}/missing/log"))
    done = run("-c", str(file), netns=netns)
    assert done.returncode == 2
    assert done.stderr == f"logfile={tmp_path}/missing/log: No such file or directory\n"


@pytest.fixture
def syslog(tmp_path: Path) -> Any:
    """A syslog daemon of the test's own: its socket, and what makes a program find it at /dev/log."""
    dev = tmp_path / "dev"
    dev.mkdir()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(20)
    home = os.getcwd()
    try:
        os.chdir(dev)  # the path may be too long for a socket
        sock.bind("log")
    finally:
        os.chdir(home)
    # A private /dev with the socket in it; mounts end with the process.
    script = (
        f"mount --bind {dev} /mnt && mount -t tmpfs none /dev && touch /dev/log && mount --bind /mnt/log /dev/log && "
        'mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9 && exec "$@"'
    )
    yield sock, ("unshare", "--mount", "sh", "-c", script, "sh")
    sock.close()


def _syslog_lines(sock: socket.socket, until: str) -> list[str]:
    lines = [sock.recv(4096).decode()]
    while until not in lines[-1]:
        lines.append(sock.recv(4096).decode())
    return lines


def test_logfile_syslog(netns: Netns, tmp_path: Path, out: Path, syslog: Any) -> None:
    sock, wrapper = syslog
    text = to_file(out, 2, "", "logfile=syslog", "loglevel=3")
    with Daemon(tmp_path, text, netns=netns, wrapper=wrapper) as daemon:
        daemon.stop()
    lines = _syslog_lines(sock, "closed")
    # facility 3 (daemon) * 8 + 6 (info) or 5 (notice)
    assert re.fullmatch(rf"<30>.{{15}} nflowlevel\[{daemon.pid}\]: stack=.* runs\0?", lines[0])
    assert re.fullmatch(rf"<29>.{{15}} nflowlevel\[{daemon.pid}\]: 1 of 1 stacks run\0?", lines[1])
    assert re.fullmatch(rf"<29>.{{15}} nflowlevel\[{daemon.pid}\]: SIGTERM: stopping\0?", lines[2])
    assert daemon.stderr == ""


def test_background_without_logfile_writes_to_syslog(netns: Netns, tmp_path: Path, out: Path, syslog: Any) -> None:
    sock, wrapper = syslog
    daemon = Daemon(tmp_path, to_file(out), "-d", "-p", str(tmp_path / "pid"), netns=netns, wrapper=wrapper).start()
    try:
        assert daemon.wait() == 0
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        assert "SIGTERM: stopping" in _syslog_lines(sock, "SIGTERM")[-1]
        wait_for(lambda: not (tmp_path / "pid").exists(), "the daemon ends")
    finally:
        daemon.close()


@pytest.mark.parametrize("where", ["stderr", "logfile"])
def test_a_log_that_nobody_reads_stops_nothing(pair: Pair, tmp_path: Path, out: Path, where: str) -> None:
    pair.fw.nft(log_rule(2))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader, writer = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, bytes(4096)):
                pass
        text = to_file(out, 2, "", "loglevel=1", *([f"logfile={fifo}"] if where == "logfile" else []))
        wrapper = ("sh", "-c", f'exec "$@" 2>{fifo}', "sh") if where == "stderr" else ()
        with Daemon(tmp_path, text, netns=pair.fw, wrapper=wrapper) as daemon:
            pair.send_udp(23)
            records(out, 23)
            for _ in range(5):
                daemon.send(signal.SIGUSR1)
                daemon.reload()
            pair.send_udp(29)
            records(out, 52)
            daemon.stop()
    finally:
        os.close(reader)
        os.close(writer)


# -- reload -------------------------------------------------------------------------------------------------------


def test_logrotate(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2))
    log = tmp_path / "log"
    with Daemon(tmp_path, to_file(out, 2, "", f"logfile={log}", "loglevel=3"), netns=pair.fw) as daemon:
        pair.send_udp(23)
        records(out, 23)
        out.rename(tmp_path / "out.json.1")
        log.rename(tmp_path / "log.1")
        daemon.reload()
        pair.send_udp(29)
        records(out, 29)
        daemon.stop()
    assert len(lines_of(tmp_path / "out.json.1")) == 23
    assert "runs" in (tmp_path / "log.1").read_text()
    assert "SIGHUP" in log.read_text()
    assert "SIGTERM: stopping" in log.read_text()


def test_the_configuration_is_not_read_again(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, to_file(out), netns=pair.fw) as daemon:
        daemon.config.write_text("nonsense\n")
        daemon.reload()
        pair.send_udp(23)
        records(out, 23)


def test_a_log_directory_that_vanished(netns: Netns, tmp_path: Path, out: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    with Daemon(tmp_path, to_file(out, 2, "", f"logfile={directory}/log"), netns=netns) as daemon:
        directory.rename(tmp_path / "gone")
        daemon.reload()
        daemon.says("the old one stays in use", tmp_path / "gone/log")
        directory.mkdir()
        daemon.reload()
        daemon.says("SIGHUP", directory / "log")
        assert daemon.stderr == ""  # which was for the start


def test_a_full_disk_under_the_log_does_not_end_the_daemon(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2))
    with small_disk(tmp_path / "disk", "64k") as disk:
        with Daemon(tmp_path, to_file(out, 2, "", f"logfile={disk}/log"), netns=pair.fw) as daemon:
            (disk / "rest").write_bytes(bytes(_free(disk)))
            for _ in range(100):  # more than the buffer of the stream holds
                daemon.send(signal.SIGUSR1)
                daemon.reload()
            pair.send_udp(23)
            records(out, 23)
            (disk / "rest").unlink()
            daemon.reload()
            daemon.stop()
        assert "SIGTERM: stopping" in (disk / "log").read_text()


def _free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bfree * state.f_bsize


# -- other signals ------------------------------------------------------------------------------------------------


def test_signals_that_do_not_end_it(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, to_file(out), netns=pair.fw) as daemon:
        pair.send_udp(23)
        records(out, 23)
        daemon.send(signal.SIGUSR1)
        daemon.says("g:NFLOG: received 23, gap 0")
        daemon.says("records 23, written 23, pending 0")
        for number in (signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE):
            daemon.send(number)
        daemon.reload()  # signals are acted on in their order: it has lived through the others
        pair.send_udp(6)
        records(out, 29)


def test_interrupt_ends_it_in_order(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, to_file(out), netns=pair.fw) as daemon:
        pair.send_udp(23)
        daemon.stop(signal.SIGINT)
    assert len(lines_of(out)) == 23


# -- load ---------------------------------------------------------------------------------------------------------


def test_stop_loses_nothing_that_the_kernel_holds(pair: Pair, tmp_path: Path, out: Path) -> None:
    """Everything is in the socket, and the last packets in the kernel's own queue, when it is told to end."""
    pair.fw.nft(log_rule(2))
    options = "netlink_qthreshold=1000\nnetlink_qtimeout=6000"
    with Daemon(tmp_path, to_file(out, 2, options), netns=pair.fw) as daemon:
        daemon.send(signal.SIGSTOP)
        pair.send_udp(4999)
        daemon.send(signal.SIGTERM)
        daemon.send(signal.SIGCONT)
        assert daemon.wait() == 0
    assert pair.fw.counter("c") == 4999
    assert len(lines_of(out)) == 4999


@pytest.mark.parametrize("profile", ["default", "latency"])
def test_stop_in_a_flood(pair: Pair, tmp_path: Path, out: Path, profile: str) -> None:
    """D-C01: a source shared by two stacks. The kernel numbers the packets of all groups that ask for it in one series,
    so the file and another reader together must have each number once, up to the moment the group was given up.
    """
    pair.fw.nft(log_rule(2, 3))
    out2 = tmp_path / "out2.json"
    text = config(
        f"g:NFLOG,{FILTERS},j:JSON", f"g:NFLOG,{FILTERS},k:JSON",
        g=f"group=2\nseq_global=1\nprofile={profile}", j=f"file={out}", k=f"file={out2}",
    )  # fmt: skip
    with (
        Daemon(tmp_path, text, netns=pair.fw) as daemon,
        NflogReader(pair.fw, 3, copy_range=64, qthreshold=100, flags=SEQ | SEQ_GLOBAL) as reader,
        Flood(pair, 6000) as flood,
    ):
        wait_for(
            lambda: out.exists() and out.stat().st_size > 2_000_000, "the flood is in the file", lambda: daemon.stderr
        )
        sent = flood.sent
        daemon.stop()
        wait_for(lambda: flood.sent > sent + 1000, "the flood goes on")
        others = [oracle.decode(message) or {} for message in reader.rest()]
    numbers = [record["oob.seq.global"] for record in lines_of(out)]
    assert numbers == [record["oob.seq.global"] for record in lines_of(out2)]
    series = sorted([*numbers, *(other["oob.seq.global"] for other in others)])
    assert series == list(range(series[0], series[0] + len(series)))
    assert re.search(rf"g:NFLOG: received {len(numbers)}, gap 0", daemon.stderr)


def test_kill_in_a_flood_and_restart(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2))
    with Flood(pair, 6000):
        for _ in range(3):
            size = out.stat().st_size if out.exists() else 0
            with Daemon(tmp_path, to_file(out), netns=pair.fw) as daemon:
                grows_to(out, size + 500_000)
                daemon.process.kill()
                daemon.wait()
        # What a kill in the middle of a write leaves behind.
        with out.open("ab") as file:
            file.write(b'{"timestamp": "2026-')
        with Daemon(tmp_path, to_file(out), netns=pair.fw) as daemon:
            daemon.says("ended in a torn line")
            daemon.stop()
    assert lines_of(out)


# -- stacks that fail ---------------------------------------------------------------------------------------------


def test_a_missing_directory_stops_its_own_stack_only(pair: Pair, tmp_path: Path, out: Path) -> None:
    """D-C02: packets for the failed stack's group do no harm, and it starts when the directory is there."""
    pair.fw.nft(log_rule(2, 3))
    late = tmp_path / "missing/out.json"
    text = config(
        f"g:NFLOG,{FILTERS},j:JSON", f"f:NFLOG,{FILTERS},k:JSON",
        g="group=2", j=f"file={out}", f="group=3", k=f"file={late}",
    )  # fmt: skip
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        assert "1 of 2 stacks run" in daemon.notified[-1]["STATUS"]
        assert f"open {late}: No such file or directory — create the directory" in daemon.stderr
        pair.send_udp(23)
        records(out, 23)
        late.parent.mkdir()
        daemon.reload()
        assert "2 of 2 stacks run" in daemon.notified[-1]["STATUS"]
        pair.send_udp(6)
        records(out, 29)
        records(late, 6)


def test_a_group_that_is_taken_is_waited_for(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2, 3))
    other = tmp_path / "other.json"
    text = config(
        f"g:NFLOG,{FILTERS},j:JSON", f"f:NFLOG,{FILTERS},k:JSON",
        g="group=2", j=f"file={out}", f="group=3", k=f"file={other}",
    )  # fmt: skip
    with NflogReader(pair.fw, 3), Daemon(tmp_path, text, netns=pair.fw) as daemon:
        holder = bound_groups(pair.fw)[3]
        assert f"group 3 is read by netlink port {holder} (process {os.getpid()}, " in daemon.stderr
        pair.send_udp(23)
        records(out, 23)
        assert lines_of(other) == []
    with NflogReader(pair.fw, 3) as reader, Daemon(tmp_path, text, netns=pair.fw) as daemon:
        reader.close()
        daemon.reload()
        assert "2 of 2 stacks run" in daemon.notified[-1]["STATUS"]
        pair.send_udp(6)
        records(other, 6)
        daemon.send(signal.SIGUSR1)
        daemon.says("k:JSON of stack")
        assert "dropped 0" in daemon.stderr.splitlines()[-1]


def test_all_stacks_failing_is_a_failed_start(netns: Netns, tmp_path: Path, out: Path) -> None:
    with NflogReader(netns, 2):
        file = tmp_path / "my.conf"
        file.write_text(to_file(out))
        done = run("-c", str(file), netns=netns)
    assert done.returncode == 1
    assert "bind group 2: Operation not permitted — group 2 is read by" in done.stderr
    assert "no stack could be started" in done.stderr


# -- configurations of ulogd2 -------------------------------------------------------------------------------------

#: As an administrator of Debian writes it: modules named one by one, sections for stacks that are not in use, remarks
#: behind values, and the JSON stack of two labelled groups switched on.
_ULOGD_CONF = """\
# Example configuration for ulogd

[global]
######################################################################
# GLOBAL OPTIONS
######################################################################

# logfile for status messages
logfile="{dir}/ulogd.log"

# loglevel: debug(1), info(3), notice(5), error(7) or fatal(8) (default 5)
loglevel=3

plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_inppkt_NFLOG.so"
#plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_inpflow_NFCT.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_filter_IFINDEX.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_filter_IP2STR.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_filter_HWHDR.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_filter_MARK.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_raw2packet_BASE.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_output_LOGEMU.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_output_JSON.so"

# this is a stack for packet-based logging via LOGEMU
#stack=log2:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU

# these are stacks for JSON formatted output
stack=log2:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,json1:JSON
stack=log3:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,json1:JSON

[ct1]
#netlink_socket_buffer_size=217088
event_mask=0x00000001
hash_enable=0

[log1]
# netlink multicast group (the same as the iptables --nflog-group param)
# Group O is used by the kernel to log connection tracking invalid message
group=0

[log2]
group=1 # Group has to be different from the one use in log1
netlink_socket_buffer_size=217088
netlink_socket_buffer_maxsize=1085440
netlink_qthreshold=1
# set the delay before flushing packet in the queue inside kernel (in 10ms)
#netlink_qtimeout=1000

[log3]
group=2 # Group has to be different from the one use in log1/log2
numeric_label=1 # you can label the log info based on the packet verdict
bind = 0

[emu1]
file="/var/log/ulog/syslogemu.log"
sync=1

[json1]
sync=1
file="{dir}/ulogd.json"
#timestamp=0
# device name to be used in JSON message
device="My awesome Netfilter firewall"
# If boolean_label is set to 1 then the numeric_label put on packet
# by the input plugin is coding the action on packet: if 0, then
# packet has been blocked and if non null it has been accepted.
boolean_label=1
# Uncomment the following line to use JSON v1 event format that
# can provide better compatility with some JSON file reader.
#eventv1=1

[mark1]
mark = 1
"""


def test_an_ulogd_conf_runs_unchanged(pair: Pair, tmp_path: Path) -> None:
    pair.fw.nft(log_rule(1, 2))
    with Daemon(tmp_path, _ULOGD_CONF.format(dir=tmp_path), netns=pair.fw) as daemon:
        assert daemon.stderr.endswith(": no stack uses these sections: [ct1], [log1], [mark1]\n")
        assert daemon.stderr.count("\n") == 1
        pair.send_udp(23)
        found = records(tmp_path / "ulogd.json", 46)
    assert {record["dvc"] for record in found} == {"My awesome Netfilter firewall"}
    assert sorted(record["action"] for record in found) == ["allowed"] * 23 + ["blocked"] * 23
    assert "SIGTERM: stopping" in (tmp_path / "ulogd.log").read_text()


def test_the_network_namespace_option(pair: Pair, tmp_path: Path, out: Path) -> None:
    """The daemon's own namespace is another one than that of the group."""
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, to_file(out, 2, f"network_namespace_path={pair.fw.path}")):
        pair.send_udp(23)
        assert {record["oob.in"] for record in records(out, 23)} == {"va"}


def test_a_namespace_that_is_not_there(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text(to_file(out, 2, "network_namespace_path=nfltest-none"))
    done = run("-c", str(file))
    assert done.returncode == 1
    assert f"nfltest-none (/run/netns/nfltest-none): {os.strerror(errno.ENOENT)}" in done.stderr


def test_a_deadline_farther_than_epoll_counts_does_not_stop_it(netns: Netns, tmp_path: Path, out: Path) -> None:
    """epoll takes 24 days at most. Without a service manager to be told, this is the only deadline."""
    text = to_file(out, 2, "", "status_secs=99999999")
    daemon = Daemon(tmp_path, text, netns=netns, environment={"NOTIFY_SOCKET": ""}).start()
    try:
        daemon.says("1 of 1 stacks run")
        daemon.send(signal.SIGUSR1)
        daemon.says("g:NFLOG: received 0")
        daemon.stop()
    finally:
        daemon.close()


# -- standard descriptors that are closed -----------------------------------------------------------------------------


def _closed(*redirections: str) -> tuple[str, ...]:
    """Return a wrapper that starts the daemon with some of its standard descriptors closed."""
    return ("sh", "-c", f'exec "$@" {" ".join(redirections)}', "sh")


def test_in_the_background_with_all_three_closed(pair: Pair, tmp_path: Path, out: Path) -> None:
    pair.fw.nft(log_rule(2))
    messages, pidfile = tmp_path / "log", tmp_path / "pid"
    text = to_file(out, 2, "", f"logfile={messages}")
    wrapper = _closed("<&-", ">&-", "2>&-")
    daemon = Daemon(tmp_path, text, "-d", "-p", str(pidfile), netns=pair.fw, wrapper=wrapper).start()
    try:
        assert daemon.wait() == 0
        pid = int(pidfile.read_text())
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        pair.send_udp(23)
        records(out, 23)
        os.kill(pid, signal.SIGTERM)
        daemon.says("SIGTERM: stopping", messages)
    finally:
        daemon.close()
    assert "closed at the start, so what is written there is lost: stdin, stdout, stderr" in messages.read_text()
    wait_for(lambda: not pidfile.exists(), "the end")


def test_records_to_a_standard_output_that_is_closed(pair: Pair, tmp_path: Path) -> None:
    """They went into the pipe by which signals wake the loop: each newline, 10, was SIGUSR1."""
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, to_file(Path("-")), netns=pair.fw, wrapper=_closed("<&-", ">&-")) as daemon:
        pair.send_udp(23)
        wait_for(lambda: pair.fw.counter("c") == 23, "23 packets")
        daemon.reload()
        assert "received 23" not in daemon.stderr  # nobody asked for the statistics
        daemon.says("closed at the start, so what is written there is lost: stdin, stdout")
    assert "records 23, written 23" in daemon.stderr
