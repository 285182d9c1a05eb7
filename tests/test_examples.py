# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples do what they say: rules load and log, the plugin is installed and used, the unit's limits are enough."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from nflowlevel.plugin.contract import check_plugin
from tests.fix_collectors import Nfacctd, Nfcapd
from tests.fix_daemon import Daemon, config, log_rule, records, wait_for
from tests.fix_netns import Netns, Pair
from tests.fix_sqlite import rows_of
from tests.fix_watched import Watched

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


# Rules


def load(netns: Netns, rules: str) -> None:
    """Load one of the example rulesets; iptables' for both families."""
    if rules == "nft":
        netns.run("nft", "-f", str(EXAMPLES / "nft" / "firewall.nft"))
    else:
        netns.run("iptables-restore", str(EXAMPLES / "iptables" / "rules.v4"))
        netns.run("ip6tables-restore", str(EXAMPLES / "iptables" / "rules.v6"))


def knock(pair: Pair) -> None:
    """From peer to fw, over IPv4 and IPv6: a connection to port 22, then a datagram to port 7."""
    program = """
import socket, sys
for family, target in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
    with socket.create_connection((target, 22), 10):
        pass
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"?", (target, 7))
"""
    listen = """
import socket, sys
server = socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True)
print(flush=True)
sys.stdin.read()
"""
    server = pair.fw.popen(sys.executable, "-c", listen, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    pair.peer.run(sys.executable, "-c", program, pair.FW4, pair.FW6)


@pytest.fixture(params=["nft", "iptables"])
def lines(request: pytest.FixtureRequest, pair: Pair, tmp_path: Path) -> list[str]:
    """What the example configuration writes of two accepted and two dropped packets under the example rules."""
    if request.param == "iptables" and not shutil.which("iptables-restore"):
        pytest.skip("iptables is not installed")
    load(pair.fw, request.param)
    out = tmp_path / "ulogd.json"
    text = re.sub("(?m)^file=.*$", f'file="{out}"', (EXAMPLES / "ulogd.conf").read_text())
    with Daemon(tmp_path, text, netns=pair.fw):
        knock(pair)
        records(out, 4)
    return out.read_text().splitlines()


def test_rules_and_configuration_tell_allowed_from_blocked(lines: list[str]) -> None:
    found = sorted(
        (record["action"], record["oob.prefix"], record["src_ip"], record["dest_port"])
        for record in map(json.loads, lines)
    )
    assert found == [
        ("allowed", "SSH Attempt", Pair.PEER4, 22),
        ("allowed", "SSH Attempt", Pair.PEER6, 22),
        ("blocked", "Input IPv4 Default DROP", Pair.PEER4, 7),
        ("blocked", "Input IPv6 Default DROP", Pair.PEER6, 7),
    ]


def test_splunk_finds_time_and_fields(lines: list[str]) -> None:
    props = configparser.RawConfigParser(interpolation=None)
    props.read(EXAMPLES / "splunk" / "props.conf")
    inputs = configparser.RawConfigParser(interpolation=None)
    inputs.read(EXAMPLES / "splunk" / "inputs.conf")
    sourcetype = inputs["monitor:///var/log/ulogd.json"]["sourcetype"]
    how = props[sourcetype]
    for line in lines:
        record = json.loads(line)
        prefix = re.search(how["TIME_PREFIX"], line)
        assert prefix
        text = line[prefix.end() :][: int(how["MAX_TIMESTAMP_LOOKAHEAD"])].split('"')[0]
        when = datetime.strptime(text, how["TIME_FORMAT"].replace("%6N", "%f"))
        assert when.timestamp() == pytest.approx(record["oob.time.sec"] + record["oob.time.usec"] / 1e6)
        aliases = how["FIELDALIAS-cim"].split()
        assert set(aliases[0::3]) <= record.keys()
        assert set(re.findall(r"'([^']+)'", how["EVAL-transport"])) <= record.keys()


def test_logstash_names_members_that_we_write(lines: list[str]) -> None:
    text = (EXAMPLES / "logstash" / "nflowlevel.conf").read_text()
    text = re.sub(r"#.*", "", text)
    assert text.count("{") == text.count("}") > 0
    (when,) = re.findall(r'match => \["(\w+)", "ISO8601"\]', text)
    (source,) = re.findall(r'source => "(\w+)"', text)
    for line in lines:
        record = json.loads(line)
        assert {when, source} <= record.keys()
        assert datetime.fromisoformat(record[when]).tzinfo


# The plugin


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plugin, installed as a third party's would be, in a directory of its own."""
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLES / "plugin", source)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", target, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def with_plugin(installed: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"}


def test_plugin_is_described(installed: Path) -> None:
    command = [sys.executable, "-m", "nflowlevel", "describe", "BIGTCP"]
    done = subprocess.run(command, env={**os.environ, **with_plugin(installed)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "BIGTCP: adds `tcp.big`" in done.stdout
    assert "  tcp.big (uint8): 1 for TCP packets of more than 1000 bytes, 0 for smaller ones.\n" in done.stdout


def test_plugin_keeps_the_contract(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    check_plugin(__import__("bigtcp").BIGTCP)
    check_plugin(__import__("csvlog").CSVLOG)


def test_plugin_adds_its_member_to_real_packets(pair: Pair, installed: Path, tmp_path: Path) -> None:
    out = tmp_path / "big.json"
    text = config("g:NFLOG,b:BASE,x:BIGTCP,j:JSON", g="group=2", j=f"file={out}")
    pair.fw.nft(log_rule(2).replace("udp dport 9", "meta l4proto { tcp, udp }"))
    with Daemon(tmp_path, text, netns=pair.fw, environment=with_plugin(installed)):
        pair.inject([tcp_frame(pair, size) for size in (0, 1200)])
        pair.send_udp(1)
        found = records(out, 3)
    assert [record.get("tcp.big") for record in found] == [0, 1, None]


def test_output_of_lines_writes_real_packets(pair: Pair, installed: Path, tmp_path: Path) -> None:
    out = tmp_path / "packets.csv"
    text = config("g:NFLOG,b:BASE,i:IP2STR,c:CSVLOG", g="group=2", c=f'file={out}\ndelimiter=";"')
    pair.fw.nft(log_rule(2).replace("udp dport 9", "meta l4proto { tcp, udp }"))
    with Daemon(tmp_path, text, netns=pair.fw, environment=with_plugin(installed)):
        pair.inject([tcp_frame(pair, 0)])
        pair.send_udp(1)
        wait_for(lambda: out.read_text().count("\n") == 2, "two lines")
    first, second = (line.split(";") for line in out.read_text().splitlines())
    assert first[2:] == [pair.PEER4, pair.FW4, "22"]
    assert second[2:] == [pair.PEER4, pair.FW4, ""]


def tcp_frame(pair: Pair, size: int) -> bytes:
    """An Ethernet frame with `size` bytes of TCP payload; nobody looks at its checksums."""
    source, target = (bytes(map(int, address.split("."))) for address in (pair.PEER4, pair.FW4))
    tcp = bytes.fromhex("c350 0016 00000001 00000000 5010 ffff 0000 0000") + bytes(size)
    ip = bytes([0x45, 0]) + (20 + len(tcp)).to_bytes(2, "big") + bytes([0, 1, 0, 0, 64, 6, 0, 0]) + source + target
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + (~total & 0xFFFF).to_bytes(2, "big") + ip[12:]
    macs = (bytes.fromhex(mac.replace(":", "")) for mac in (pair.FW_MAC, pair.PEER_MAC))
    return b"".join(macs) + b"\x08\x00" + ip + tcp


# The service


def unit() -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    text = (EXAMPLES / "systemd" / "nflowlevel.service").read_text()
    # What is taken from a list stands in a line of its own, which is no mistake.
    parsed.read_string(re.sub("(?m)^SystemCallFilter=~.*$", "", text))
    return parsed


def test_units_of_the_archive_are_understood_by_systemd(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    program = "/opt/nflowlevel/bin/nflowlevel"
    for kind in ("service", "timer"):
        name = f"nflowlevel-compact.{kind}"
        (tmp_path / name).write_text((EXAMPLES / "systemd" / name).read_text().replace(program, "/bin/true"))
        done = subprocess.run(["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), name


def test_unit_is_understood_by_systemd(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / "nflowlevel.service"
    program = unit()["Service"]["ExecStart"].split()[0]
    # The one thing it would rightly miss here is the installed program.
    copy.write_text((EXAMPLES / "systemd" / "nflowlevel.service").read_text().replace(program, "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    about_us = [line for line in done.stderr.splitlines() if "nflowlevel" in line]
    assert not about_us
    assert done.returncode == 0, done.stderr


def test_unit_gives_enough_rights(pair: Pair, tmp_path: Path) -> None:
    """Its capability and its ban on new privileges leave the daemon all it needs: the group, and the large buffer."""
    service = unit()["Service"]
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"] == "CAP_NET_ADMIN"
    assert (service["NoNewPrivileges"], service["Type"]) == ("yes", "notify")
    rights = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin", "--no-new-privs", "--")
    out = tmp_path / "out.json"
    text = config("g:NFLOG,b:BASE,i:IFINDEX,j:JSON", "loglevel=3", g="group=2", j=f"file={out}")
    pair.fw.nft(log_rule(2))
    with Daemon(tmp_path, text, netns=pair.fw, wrapper=rights, environment={"WATCHDOG_USEC": "200000"}) as daemon:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert re.search(r"^CapEff:\s*0*1000$", status, re.MULTILINE), "CAP_NET_ADMIN alone"
        assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)
        daemon.expect("WATCHDOG")
        pair.send_udp(23)
        assert {record["oob.in"] for record in records(out, 23)} == {"va"}


def test_unit_exposes_little() -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    file = str(EXAMPLES / "systemd" / "nflowlevel.service")
    # Tenths: 16 is 1.6.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=16", "--no-pager", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_unit_does_not_start_a_wrong_configuration_again() -> None:
    from nflowlevel.daemon.main import EXIT_CONFIG

    assert unit()["Service"]["RestartPreventExitStatus"] == str(EXIT_CONFIG)


# Collectors of flows


@pytest.mark.parametrize("name", ["nfdump", "pmacct"])
def test_collectors_of_flows(name: str, watched: Watched, tmp_path: Path) -> None:
    """The configurations for nfcapd and nfacctd run, and the collectors count what conntrack counts."""
    watched.fw.nft(
        "table inet r {\nchain i {\ntype filter hook prerouting priority -300;\niif lo notrack\n}\n"
        "chain o {\ntype filter hook output priority -300;\noif lo notrack\n}\n}\n"
    )
    collector = Nfcapd(tmp_path, watched.fw) if name == "nfdump" else Nfacctd(tmp_path, watched.fw)
    text = (EXAMPLES / name / "nflowlevel.conf").read_text()
    text = re.sub("(?m)^port=.*$", f"port={collector.port}\nspool_directory={tmp_path / 'spool'}", text)
    text = re.sub("(?m)^logfile=.*$", "", text)
    with collector, Daemon(tmp_path, text, netns=watched.fw):
        watched.udp_flows(range(5000, 5100), packets=3)
        watched.flush()
    key = "in_packets" if name == "nfdump" else "packets"
    assert sum(each[key] for each in collector.flows) == watched.seen().packets == 300


def test_the_configuration_of_nfacctd() -> None:
    """It is for the port of the configuration beside it."""
    theirs = (EXAMPLES / "pmacct" / "nfacctd.conf").read_text()
    (port,) = re.findall(r"nfacctd_port: (\d+)", theirs)
    assert f"\nport={port}\n" in (EXAMPLES / "pmacct" / "nflowlevel.conf").read_text()


# The log of translations


def test_the_log_of_translations(pair: Pair, tmp_path: Path) -> None:
    """Rules and configuration together: a subscriber's flow out, and one in to a forwarded port, with times."""
    for line in (EXAMPLES / "nat-audit" / "conntrack.conf").read_text().splitlines():
        if not line.startswith("#"):
            name, _, value = line.partition(" = ")
            pair.fw.sysctl(name, value)
    rules = (EXAMPLES / "nat-audit" / "nat.nft").read_text().replace('"wan0"', '"va"')
    pair.fw.nft(rules)
    pair.fw.ip("address add 100.64.0.10/32 dev lo\naddress add 198.51.100.8/29 dev va")
    pair.peer.ip("route add 198.51.100.8/29 dev vb")
    text = (EXAMPLES / "nat-audit" / "ulogd.conf").read_text()
    text = re.sub(r'"/var/(log|lib/ulogd)/', f'"{tmp_path}/', text)
    with pair.fw.enter():
        subscriber = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with Daemon(tmp_path, text, netns=pair.fw) as daemon, subscriber:
        subscriber.bind(("100.64.0.10", 5054))
        subscriber.sendto(b"hello", (Pair.PEER4, 9))
        pair.fw.run("conntrack", "-D", "-p", "udp", "--orig-port-src", "5054")
        wait_for(lambda: (tmp_path / "nat.log").exists() and (tmp_path / "nat.log").read_text(), "there is a line")
        daemon.stop()
    found = re.fullmatch(
        r"\w{3} [ \d]\d [\d:]{8} \S+ \[DESTROY\] PROTO=UDP SRC=100\.64\.0\.10 SPT=5054 NATSRC=(198\.51\.100\.\d+) "
        r"NATSPT=(\d+) DST=10\.77\.0\.2 DPT=9 START=([\d-]+T[\d:]+Z) END=([\d-]+T[\d:]+Z) \n",
        (tmp_path / "nat.log").read_text(),
    )
    assert found, (tmp_path / "nat.log").read_text()
    (record,) = map(json.loads, (tmp_path / "nat.json").read_text().splitlines())
    assert (record["nat.saddr.str"], record["nat.sport"]) == (found[1], int(found[2]))
    assert (record["src_ip"], record["src_port"], record["transport"]) == ("100.64.0.10", 5054, "udp")
    assert re.fullmatch(r"1:.{27}=", record["community_id"])
    assert "print" not in record
    assert rows_of(tmp_path / "nat.db", "SELECT nat_saddr_str, nat_event FROM flows") == [(found[1], 5)]


# A node of Kubernetes


def test_the_flows_of_a_node(pair: Pair, tmp_path: Path) -> None:
    """A pod asks a service: the record says who, which service, which pod it is; the node's own flows are left out."""
    for name in ("acct", "timestamp", "events"):
        pair.fw.sysctl(f"net.netfilter.nf_conntrack_{name}", 1)
    pair.fw.nft(
        "table ip proxy {\nchain services {\ntype nat hook output priority -100\n"
        f"ip daddr 10.96.0.10 udp dport 53 dnat to {Pair.PEER4}:5353\n}}\n}}\n"
    )
    pair.fw.ip("address add 10.244.1.5/32 dev lo\nroute add 10.96.0.0/12 dev va")
    text = (EXAMPLES / "kubernetes" / "nflowlevel.conf").read_text()
    assert text.isascii()
    text = re.sub(r'"/var/(log|lib/nflowlevel)/', f'"{tmp_path}/', text)
    with Daemon(tmp_path, text, netns=pair.fw) as daemon:
        for source in ("10.244.1.5", Pair.FW4):
            with pair.fw.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind((source, 4000))
                client.sendto(b"who is it?", ("10.96.0.10", 53))
        daemon.stop()
    (record,) = map(json.loads, (tmp_path / "flows.json").read_text().splitlines())
    assert (record["src_ip"], record["dest_ip"], record["dest_port"]) == ("10.244.1.5", "10.96.0.10", 53)
    assert (record["nat.daddr.str"], record["nat.dport"]) == (Pair.PEER4, 5353)
    assert (record["packets_out"], record["bytes_out"], record["packets_in"], record["transport"]) == (1, 38, 0, "udp")
    assert (record["flow.number"], record["flow.last"]) == (1, 0)
    assert re.fullmatch(r"1:.{27}=", record["community_id"])
    assert (tmp_path / "ct1.flows").exists()
