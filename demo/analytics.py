# SPDX-License-Identifier: GPL-2.0-or-later
"""The investigation of "an attack tool used in China", on real packets: from a histogram of windows to one attacker.

A firewall and its Internet live in two network namespaces of their own, which vanish with this program. Ordinary
clients, three scanners and a brute force of one of them meet the rules of examples/; the daemon writes them as JSON,
and sshd's log is kept beside it. Then the questions of the article are asked, and a report is made, with a picture of
it. The files stay, so that you can go on asking: in the directory that is named as the argument, or in a new one. Exit
status 0 only if every logged packet is a record, and the attacker, and nobody else, was found.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from internet import ATTACKER, BRUTE_WINDOW, FIREWALL, GATEWAY, GUESSES, SCAN_PORT, SCAN_WINDOW
from running import PATIENCE_SECS, ask, daemon, enter_namespaces, other_side, run, say, started_by_root, until

import nflowlevel as nfl
from nflowlevel.cli import main as nflowlevel

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
RULES = EXAMPLES / "nft" / "firewall.nft"
CONFIG = EXAMPLES / "text-and-capture.conf"
TABLE = "inet firewall"
#: The firewall's own servers. The rule stands first, and is counted with the accepted ones.
SERVERS = "tcp dport { 25, 80, 443 } ct state new counter name accepted log prefix Server group 1 accept"
#: The capture is to have what is accepted, too: systems are told by the TCP options, which JSON does not have.
STACK = "stack=log3:NFLOG,base1:BASE,pcap1:PCAP"
STACKS = f"{STACK}\n{STACK.replace('log3', 'log2')}"
#: Between scan and brute force; in the article it was minutes.
PAUSE_SECS = 3
#: A browser that takes longer shows nothing any more.
PICTURE_SECS = 60

#: What is typed: why, and what.
STEPS = (
    ("", 'log = nfl.read("ulogd.json")'),
    ("Systems choose few TCP windows for their SYNs. Which are there?", 'log.syn.count("tcp_window")'),
    ("16384 is none of a system of today. What do these packets want?", "odd = log.syn.where(tcp_window=16384)"),
    ("", 'odd.count("dest_port")'),
    ("From which countries do they come, and from which port?", 'odd.count("src_ip", geo="country")'),
    ("", 'odd.count("src_ip", "src_port", "ip_totlen", "ip_id")'),
    ("Source port 6000, 40 bytes and IP id 256, always: no system does that. The capture has the options of TCP: who "
     "uses which system, and who writes packets?", "from nflowlevel.analytics.systems import guess, of_packet"),
    ("", 'seen = [(packet.saddr, of_packet(bytes(packet.payload))) for packet in nfl.read_pcap("ulogd.pcap")]'),
    ("", "guesses = {address: guess(syn) for address, syn in reversed(seen) if syn}"),
    ("", 'for address, system in guesses.items():\n    print(f"{address:15} {system.kind:6} {system.name}")'),
    ("Its RST has another TTL than its SYN:", 'log.find("crafted_rst")'),
    ("Did one of them come back with another tool?", 'found = log.find("scan_then_brute", within="1h").dicts()'),
    ("", 'attacker = found[0]["src_ip"]'),
    ("All that is known of it, also by sshd: scan, pause, brute force.",
     'log.host(attacker, auth="auth.log", every="2s")'),
    ("", 'log.find("scan_then_brute", within="1h")'),
)  # fmt: skip


class SSH(NamedTuple):
    """What answers at port 22."""

    is_real: bool
    log: Path


def main() -> int:
    """Run the demo; the result is the exit status."""
    if len(sys.argv) > 1:
        directory = Path(sys.argv[1]).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise SystemExit(f"demo: {directory} must be empty: what is there would be asked, too")
    else:
        directory = Path(tempfile.mkdtemp(prefix="nflowlevel-analytics-"))
    enter_namespaces(__file__, str(directory))
    counted = _attacked(directory)
    with contextlib.chdir(directory):
        records = Path("ulogd.json").read_bytes().count(b"\n")
        names = _ask()
        page = _report()
        picture = _picture(page)
    return _verdict(counted, records, names, directory, page, picture)


# -- packets -----------------------------------------------------------------------------------------------------------


def _attacked(directory: Path) -> int:
    """Let all of it happen; return how many packets the rules logged."""
    with contextlib.ExitStack() as parts:
        internet = parts.enter_context(other_side("internet.py"))
        say("a firewall and its Internet, joined by a cable, each in its own network namespace")
        _connect(internet.pid)
        ask(internet, "go")
        say(f"the rules of {_shown(RULES)}, and its servers' ports: {SERVERS}")
        run("nft", "-f", str(RULES))
        run("nft", "insert", "rule", *TABLE.split(), "input", SERVERS)
        config = directory / "ulogd.conf"
        config.write_text(CONFIG.read_text().replace('"/var/log/', f'"{directory}/').replace(STACK, STACKS))
        ssh = parts.enter_context(_ssh(directory))
        process = parts.enter_context(daemon(config, directory))
        say(f"nflowlevel-daemon runs with {_shown(CONFIG)}, and captures all (process {process.pid})")
        say(f"clients of seven systems asked for {ask(internet, 'use')['made']} connections")
        say(f"three scanners sent {ask(internet, 'scan')['made']} packets")
        say(f"a pause of {PAUSE_SECS} seconds, for the article's minutes")
        time.sleep(PAUSE_SECS)
        guesses = ask(internet, "guess by ssh" if ssh.is_real else "guess plainly")["made"]
        say(f"one of the scanners came back and guessed root's password {guesses} times")
        until(lambda: ssh.log.read_text().count("Failed password") >= GUESSES, "sshd has logged the guesses")
        output = directory / "ulogd.json"
        until(lambda: output.exists() and output.read_bytes().count(b"\n") >= _counted(), "the lines are written")
        return _counted()


def _connect(internet: int) -> None:
    """Lay the cable, and give the firewall its addresses."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(internet))
    for address in FIREWALL:
        run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", GATEWAY)


def _counted() -> int:
    """Return how many packets the rules counted where they log them."""
    listed = json.loads(run("nft", "-j", "list", "counters", "table", *TABLE.split()))["nftables"]
    return sum(item["counter"]["packets"] for item in listed if "counter" in item)


# -- sshd --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ssh(directory: Path) -> Iterator[SSH]:
    """Run sshd, or what plays it; its log is written as syslog would."""
    log = directory / "auth.log"
    log.touch()
    with contextlib.ExitStack() as parts:
        own = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="nflowlevel-demo-")))
        program = _sshd(own) if started_by_root() and shutil.which("ssh") else None
        parts.enter_context(_real(program, own, log) if program else _fake(log))
        if program:
            say(f"a real sshd listens: {program}")
        else:
            say("THIS SSHD IS NOT REAL: a few lines play it, and write its log in sshd's form. The real one needs root")
            say("    on the machine, and its program: apt install openssh-server")
        yield SSH(bool(program), log)


def _sshd(own: Path) -> str | None:
    """Return the program: installed, or of a package that apt has fetched and not installed."""
    if installed := shutil.which("sshd"):
        return installed
    fetched = sorted(Path("/var/cache/apt/archives").glob("openssh-server_*.deb"))
    if not fetched or not shutil.which("dpkg-deb"):
        return None
    run("dpkg-deb", "-x", str(fetched[-1]), str(own / "package"))
    program = str(own / "package" / "usr" / "sbin" / "sshd")
    # Without its libraries the loader says 127.
    return program if subprocess.run([program, "-V"], capture_output=True).returncode != 127 else None


@contextlib.contextmanager
def _real(program: str, own: Path, log: Path) -> Iterator[None]:
    """Run sshd with a key, users and a configuration of its own, which only it sees: nothing of the machine's is used.

    No password of root's is right: `prohibit-password`, and there is none.
    """
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own / "key"))
    (own / "passwd").write_text("root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
    (own / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    (own / "config").write_text(
        f"HostKey {own}/key\nListenAddress 0.0.0.0\nUsePAM no\nUseDNS no\nPidFile none\nMaxStartups 100\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication yes\n"
    )
    script = """cd "$1" && mount --bind passwd /etc/passwd && mount --bind shadow /etc/shadow &&
        mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec "$2" -D -e -f "$1/config" """
    command = ["unshare", "--mount", "--", "sh", "-c", script, "sh", str(own), program]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    listening = threading.Event()

    def keep() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            _write(log, process.pid, line.rstrip())
            if line.startswith("Server listening"):
                listening.set()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        if not listening.wait(PATIENCE_SECS):
            raise SystemExit(f"demo: sshd does not listen: {log.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECS)
        keeper.join(PATIENCE_SECS)


@contextlib.contextmanager
def _fake(log: Path) -> Iterator[None]:
    """Answer at the port of sshd, and write a line for each who connects and says something."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is closed at the end
            while True:
                connected, (address, port) = listener.accept()
                with connected:
                    connected.settimeout(PATIENCE_SECS)
                    if connected.recv(100):
                        _write(log, port, f"Failed password for root from {address} port {port} ssh2")
                        connected.sendall(b"SSH-2.0-Demo\r\n")

    with socket.create_server(("0.0.0.0", 22)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield


def _write(log: Path, process: int, what: str) -> None:
    with log.open("a") as file:
        file.write(f"{datetime.now(UTC).isoformat(timespec='microseconds')} firewall sshd[{process}]: {what}\n")


# -- questions ---------------------------------------------------------------------------------------------------------


def _ask() -> dict[str, Any]:
    """Type the steps, and show what each answers; return the names that they made."""
    names: dict[str, Any] = {"nfl": nfl}
    print("\n>>> import nflowlevel as nfl")
    for why, typed in STEPS:
        if why:
            print(f"\n# {why}")
        print(">>>", typed.replace("\n", "\n... "), flush=True)
        # As the interpreter does: an expression is printed.
        exec(compile(f"{typed}\n", "<typed>", "single"), names)
        sys.stdout.flush()
        if names.get("found") == []:
            print("\n(Nothing was found: there is nobody to go on with.)")
            break
    return names


def _report() -> Path:
    command = ["report", "ulogd.json", "-o", "report.html"]
    print(f"\n$ nflowlevel {' '.join(command)}", flush=True)
    if nflowlevel(command):
        raise SystemExit("demo: there is no report; see above")
    return Path("report.html").resolve()


def _picture(page: Path) -> Path | None:
    """Return a picture of the report, as a browser shows it; None where there is no Chromium, or it makes none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        return None
    picture = page.with_suffix(".png")
    with tempfile.TemporaryDirectory(prefix="nflowlevel-demo-") as own:
        # Its own home, and no request to anywhere. Its sandbox is none of root's, and the page is ours.
        command = [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={own}", "--window-size=1150,1800",
            f"--screenshot={picture}", page.as_uri(),
        ]  # fmt: skip
        print(f"\n$ chromium --headless --screenshot={picture.name} {page.name}", flush=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, env={**os.environ, "HOME": own}, capture_output=True, timeout=PICTURE_SECS)
    return picture if picture.exists() else None


def _verdict(
    counted: int, records: int, names: dict[str, Any], directory: Path, page: Path, picture: Path | None
) -> int:
    """Print what came of it; 0 if nothing is missing and the attacker, and nobody else, was found."""
    found, log = names["found"], names["log"]
    failed = [login for login in log.logins(directory / "auth.log").dicts() if login["what"] == "failed"]
    log.close()
    print(f"\nThe report: {page}")
    print(f"Its picture: {picture or 'none, as there is no Chromium that makes one (apt install chromium)'}")
    print(f"Go on asking: ulogd.json, auth.log and ulogd.pcap are in {directory}")
    print(f"packets: counted by the rules {counted}, logged {records}")
    print(f"guesses: made {GUESSES}, logged by sshd {len(failed)}")
    wanted = {"src_ip": ATTACKER, "dest_ip": FIREWALL[0], "dest_port": 22, "count": GUESSES, "scan_port": SCAN_PORT,
              "scan_window": SCAN_WINDOW, "brute_window": BRUTE_WINDOW}  # fmt: skip
    right = len(found) == 1 and {name: found[0][name] for name in wanted} == wanted
    print(f"the attacker, and nobody else, was found: {ATTACKER}" if right else "the attacker was not found")
    joined = len(failed) == GUESSES and {login["src_ip"] for login in failed} == {ATTACKER}
    return 0 if right and joined and counted == records and page.stat().st_size else 1


def _shown(path: Path) -> str:
    return str(path.relative_to(HERE.parent))


if __name__ == "__main__":
    sys.exit(main())
