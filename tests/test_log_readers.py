# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that read the kernel's log read ours: psad, fwlogwatch, logwatch and fail2ban, as Debian has them.

A scan and some other packets are logged by both daemons with the same configuration. Each program finds in our lines
what it finds in ulogd2's, and that there was a scan. The packages are unpacked on a machine of the test's own.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.corpus import TCP, UDP, Frame, ipv4, tcp, udp
from tests.fix_debian import unpack
from tests.fix_machine import Machine, why_not
from tests.fix_mariadb import MariaDB
from tests.fix_netns import Pair
from tests.fix_postgres import Postgres
from tests.fix_server import shared
from tests.fix_tables import Servers
from tests.fix_world import NFLOWLEVEL, ULOGD2, Plan, Program, World, plan
from tests.ulogd2 import missing

_EXAMPLES = Path(__file__).parent.parent / "examples"
_PACKAGES = (
    *("psad", "fwlogwatch", "logwatch", "fail2ban"),
    # What psad needs of Perl.
    *("libunix-syslog-perl", "libnet-ip-perl", "libdate-calc-perl", "libdate-calc-xs-perl", "libbit-vector-perl"),
    *("libcarp-clan-perl", "libiptables-parse-perl", "libiptables-chainmgr-perl", "libnetaddr-ip-perl"),
)
_CONFIG = b"""[global]
logfile="/var/log/ulogd.log"
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,sys1:SYSLOG
[log1]
group=1
[emu1]
file="/var/log/ulog/syslogemu.log"
sync=1
[sys1]
facility=LOG_LOCAL2
"""
_ATTACKER = "198.51.100.77"
_PORTS = (*range(1, 120), 1433, 3389, 5900)
_LOG = "/var/log/ulog/syslogemu.log"


def _scan(needs: Plan) -> Plan:
    """Add a scan to the packets that come in."""
    source = socket.inet_aton(_ATTACKER)
    segments = [ipv4(TCP, tcp(dport=port), saddr=source) for port in _PORTS]
    datagrams = [ipv4(UDP, udp(dport=port), saddr=source) for port in range(1, 40)]
    wires = [Frame("scan", 2, 0x0800, packet).wire() for packet in (*segments, *datagrams)]
    return dataclasses.replace(needs, packets=(*wires, *needs.packets))


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of one kind that both daemons wrote."""

    ours: str
    theirs: str


@pytest.fixture(scope="module")
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lines]:
    """What both write: LOGEMU's file, and a file of SYSLOG's messages as a syslog daemon keeps them."""
    if why_not() or missing():
        pytest.skip(why_not() or missing())
    servers = Servers(lambda: shared(request.config, Postgres), lambda: shared(request.config, MariaDB))
    needs = _scan(plan(_CONFIG))
    pair = Pair()
    try:
        world = World(pair, tmp_path_factory.mktemp("w"), servers)
        theirs, ours = (_written(world, needs, program) for program in (ULOGD2, NFLOWLEVEL))
    finally:
        pair.close()
    return {kind: Lines(ours[kind], theirs[kind]) for kind in ("LOGEMU", "SYSLOG")}


def _written(world: World, needs: Plan, program: Program) -> dict[str, str]:
    outcome = world.run(_CONFIG, needs, program)
    found = {}
    for sink in needs.sinks:
        texts = [data.decode() for data in outcome.written[sink] if isinstance(data, bytes)]
        if sink.plugin == "SYSLOG":
            # rsyslog's traditional format: the time, the host, then what the program sent; the process is another.
            stamped = (
                re.fullmatch(r"<\d+>(\w{3} .\d [\d:]{8}) (\w+)\[\d+\](.*)", text.rstrip("\0\n")) for text in texts
            )
            texts = [f"{one[1]} fw {one[2]}[1]{one[3]}\n" for one in stamped if one and " OUT=" in one[3]]
        found[sink.plugin] = "".join(texts)
        assert found[sink.plugin].count("\n") == len(needs.packets) + 1
    return found


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine where the packages are unpacked and set to read LOGEMU's file."""
    if why_not():
        pytest.skip(why_not())
    with Machine(tmp_path_factory.mktemp("machine"), "none") as machine:
        unpack(request.config, machine, *_PACKAGES)
        machine.run("mkdir", "-p", "/var/log/ulog", "/var/log/psad", "/var/lib/psad", "/run/psad")
        for directory in ("filter.d", "jail.d"):
            shutil.copy(
                _EXAMPLES / "fail2ban" / directory / "nflowlevel.conf", machine.path(f"/etc/fail2ban/{directory}")
            )
        # psad wants to find programs that it does not need to look through a file.
        unneeded = "(whoisCmd|mailCmd|sendmailCmd|ifconfigCmd|netstatCmd|killallCmd)"
        machine.run("sed", "-i", "-E", rf"s#^{unneeded} +.*;#\1 /bin/true;#", "/etc/psad/psad.conf")
        machine.run("mkdir", "-p", "/etc/logwatch/conf/logfiles", "/etc/logwatch/conf/services")
        for name in ("logfiles/ulogd.conf", "services/iptables.conf"):
            shutil.copy(_EXAMPLES / "logwatch" / name, machine.path(f"/etc/logwatch/conf/{name}"))
        shutil.copy(_EXAMPLES / "psad" / "override.conf", machine.path("/etc/psad"))
        shutil.copy(_EXAMPLES / "fwlogwatch" / "nflowlevel.config", machine.path("/etc/fwlogwatch"))
        yield machine


def _psad(machine: Machine) -> str:
    machine.run("rm", "-rf", "/var/log/psad/ipt_analysis")
    told = machine.run("psad", "--Analyze-msgs", "-O", "/etc/psad/override.conf")
    # Of ports that were hit equally often it shows some, in an order of the day.
    top, _, rest = told.partition("[+] Top 20 scanned ports:")
    return "\n".join(sorted(f"{top}{rest[rest.index('Total protocol packet counters') :]}".splitlines()))


def _fwlogwatch(machine: Machine) -> str:
    told = machine.run("fwlogwatch", "-c", "/etc/fwlogwatch/nflowlevel.config")
    told = re.sub(r"Generated .*|First packet log entry: .*|\w{3} \d\d \d\d:\d\d:\d\d", "", told)
    return "\n".join(sorted(told.splitlines()))


def _logwatch(machine: Machine) -> str:
    told = machine.run("logwatch", "--service", "iptables", "--range", "all", "--detail", "high")
    return re.sub(r"Processing Initiated: .*", "", told)


def _fail2ban(machine: Machine) -> str:
    told = machine.run("fail2ban-regex", "--out", "ip", _LOG, 'nflowlevel[prefix="corpus"]')
    return "\n".join(told.splitlines())


_READERS: dict[str, tuple[Callable[[Machine], str], tuple[str, ...]]] = {
    "psad": (
        _psad,
        (
            f"{_ATTACKER}   DL: 3, Packets: {len(_PORTS) + 39}, Sig count: 3",
            "Scanned ports: TCP 1-5900, Pkts: 122, Chain: INPUT, Intf: va",
            '"MISC VNC communication attempt" (tcp),  Count: 1',
        ),
    ),
    "fwlogwatch": (_fwlogwatch, (f"tcp packet from {_ATTACKER}", f"udp packet from {_ATTACKER}")),
    "logwatch": (_logwatch, (f"From {_ATTACKER} - {len(_PORTS) + 39} packets", "Service: 5900")),
    "fail2ban": (_fail2ban, ("\n".join([_ATTACKER] * (len(_PORTS) + 39)),)),
}


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LOGEMU", "SYSLOG"])
@pytest.mark.parametrize("reader", _READERS)
def test_it_finds_what_it_finds_in_ulogd2s(reader: str, kind: str, machine: Machine, logged: dict[str, Lines]) -> None:
    look, wanted = _READERS[reader]
    found = []
    for lines in (logged[kind].theirs, logged[kind].ours):
        machine.write(_LOG, lines)
        found.append(look(machine))
    for words in wanted:
        assert words in found[1]
    assert found[1] == found[0]
