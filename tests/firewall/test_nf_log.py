# SPDX-License-Identifier: GPL-2.0-or-later
"""nf_log: families and back ends, the switches, and what the kernel says when it refuses, on the real kernel."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from nflowlevel.errors import KernelError
from nflowlevel.firewall import nf_log
from tests.fix_netns import Netns
from tests.fix_nflog import NflogReader
from tests.fix_nobody import CLONE_NEWNET, enter_network_namespace, enter_user_namespace, run_as_nobody

_SYN_FIN = 0x03


def _udp(netns: Netns, port: int) -> None:
    with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"x", ("127.0.0.1", port))


def test_families_have_names_and_back_ends(netns: Netns) -> None:
    families = nf_log.families(netns.name)
    assert {name: families[name].number for name in nf_log.FAMILIES} == nf_log.FAMILIES
    for name in ("ipv4", "arp", "netdev", "bridge", "ipv6"):
        assert "nfnetlink_log" in families[name].available
    # A namespace begins with the kernel log's back end, as far as the kernel has one.
    if "nf_log_ipv4" in families["ipv4"].available:
        assert families["ipv4"].active == "nf_log_ipv4"
    assert families["inet"].active is None


@pytest.mark.parametrize("family", ["ipv4", "ip6", "bridge", "netdev", "arp", 2])
def test_select_and_none(netns: Netns, family: str | int) -> None:
    name = {"ip6": "ipv6", 2: "ipv4"}.get(family, str(family))
    nf_log.select(family, "nfnetlink_log", netns=netns.name)
    assert nf_log.families(netns.name)[name].active == "nfnetlink_log"
    others = [other for other in nf_log.families(netns.name).values() if other.name != name]
    assert all(other.active != "nfnetlink_log" for other in others)
    nf_log.select(family, None, netns=netns.name)
    assert nf_log.families(netns.name)[name].active is None


def test_none_is_a_word_too(netns: Netns) -> None:
    nf_log.select("ipv4", "none", netns=netns.path)
    assert nf_log.families(netns.path)["ipv4"].active is None


def test_namespaces_are_apart(netns: Netns) -> None:
    before = nf_log.families()
    nf_log.select("ipv4", None if before["ipv4"].active else "nfnetlink_log", netns=netns.name)
    assert nf_log.families() == before


@pytest.mark.parametrize(
    ("family", "backend", "says"),
    [
        ("ipv4", "ipt_LOG", "ipt_LOG is now called nf_log_ipv4"),
        ("ipv4", "nf_log_ipv6", "no such back end is loaded for ipv4; available:"),
        ("ipv4", "nonsense", "nfnetlink_log"),
        (4, "nf_log_4", "modprobe nf_log_syslog"),
    ],
)
def test_back_end_that_is_not_loaded(netns: Netns, family: str | int, backend: str, says: str) -> None:
    with pytest.raises(KernelError, match=says) as caught:
        nf_log.select(family, backend, netns=netns.name)
    assert caught.value.errno == errno.ENOENT


def test_family_unknown_to_the_kernel(netns: Netns) -> None:
    with pytest.raises(KernelError, match=r"this kernel does not know this family; available: .*ipv4") as caught:
        nf_log.select(200, "nfnetlink_log", netns=netns.name)
    assert caught.value.errno == errno.ENOENT


def test_misspelt_family() -> None:
    with pytest.raises(ValueError, match="did you mean 'bridge'"):
        nf_log.select("brige", "nfnetlink_log")


def test_unknown_namespace() -> None:
    with pytest.raises(KernelError, match="ip netns"):
        nf_log.families("nfltest-no-such-namespace")


@pytest.mark.parametrize(
    ("given", "number", "shown"),
    [("tcp", 6, "tcp"), ("ALL", 255, "all"), (255, 255, "all"), ("17", 17, "udp"), (99, 99, "99"), ("off", 0, "off")],
)
def test_log_invalid(netns: Netns, given: str | int, number: int, shown: str) -> None:
    nf_log.set_log_invalid(1, netns=netns.name)
    nf_log.set_log_invalid(given, netns=netns.name)
    assert netns.run("cat", "/proc/sys/net/netfilter/nf_conntrack_log_invalid").stdout == f"{number}\n"
    assert nf_log.log_invalid(netns.name) == shown


@pytest.mark.parametrize("wrong", [256, "-1", "tcpp"])
def test_log_invalid_of_no_protocol(wrong: str | int) -> None:
    with pytest.raises(ValueError, match="unknown protocol"):
        nf_log.set_log_invalid(wrong)


def test_all_netns(netns: Netns, all_netns: bool | None) -> None:
    assert nf_log.is_initial_netns()
    assert all_netns is not None
    nf_log.set_all_netns(not all_netns)
    assert nf_log.all_netns() is not all_netns
    with netns.enter():
        assert not nf_log.is_initial_netns()
        # Whether the way to the initial namespace is open depends on who process 1 is.
        assert nf_log.all_netns() in (not all_netns, None)
    nf_log.set_all_netns(all_netns)
    assert nf_log.all_netns() is all_netns


def _refusal(question: object) -> int:
    """Print the KernelError of a call, for `run_as_nobody`."""
    try:
        question()  # type: ignore[operator]
    except KernelError as error:
        print(error)
        return error.errno or 0
    return 0


@pytest.mark.kernel
@pytest.mark.parametrize(
    "call",
    [
        lambda: nf_log.select("ipv4", "nfnetlink_log"),
        lambda: nf_log.set_log_invalid("all"),
        lambda: nf_log.set_all_netns(True),
    ],
)
def test_without_the_capability(call: object) -> None:
    status, output = run_as_nobody(lambda: _refusal(call))
    assert status == errno.EACCES
    assert "not allowed in this namespace: CAP_NET_ADMIN is missing\n" in output


@pytest.mark.kernel
def test_in_a_user_namespace_that_does_not_own_the_network() -> None:
    def function() -> int:
        enter_user_namespace()
        return _refusal(lambda: nf_log.select("ipv4", "nfnetlink_log"))

    status, output = run_as_nobody(function)
    assert status == errno.EACCES
    assert "missing in the user namespace that owns this network namespace" in output


@pytest.mark.kernel
@pytest.mark.parametrize("at_once", [True, False])
def test_without_root_in_namespaces_of_ones_own(at_once: bool) -> None:
    def function() -> int:
        enter_user_namespace(also=CLONE_NEWNET if at_once else 0)
        if not at_once:
            enter_network_namespace()
        nf_log.select("ipv6", "nfnetlink_log")
        nf_log.set_log_invalid("udp")
        print(nf_log.families()["ipv6"].active, nf_log.log_invalid())
        print(_refusal(lambda: nf_log.set_all_netns(True)))
        return 0

    status, output = run_as_nobody(function)
    assert status == 0, output
    assert output.startswith("nfnetlink_log udp\n")
    assert "only possible in the initial network namespace" in output


@pytest.mark.parametrize("backend", ["nf_log_ipv4", "nfnetlink_log", None])
def test_switch_does_not_decide_where_rules_log(netns: Netns, backend: str | None) -> None:
    """A rule with a group reaches its reader whatever is selected; one without never reaches group 0."""
    netns.nft("""
        table ip t {
            chain c {
                type filter hook input priority 0
                udp dport 9 log prefix "without group"
                udp dport 9 log prefix "with group" group 0
            }
        }""")
    nf_log.select("ipv4", backend, netns=netns.name)
    with NflogReader(netns, 0) as reader:
        _udp(netns, 9)
        messages = reader.rest()
    assert len(messages) == 1
    assert b"with group\0" in messages[0]


@pytest.mark.parametrize(("backend", "invalid", "count"), [("nfnetlink_log", "tcp", 2), ("nfnetlink_log", "udp", 0),
                                                           ("nf_log_ipv4", "tcp", 0), (None, "all", 0)])  # fmt: skip
def test_switches_decide_about_conntracks_messages(netns: Netns, backend: str | None, invalid: str, count: int) -> None:
    netns.nft("table ip t { chain c { type filter hook input priority 0; ct state invalid counter; }; }")
    netns.sysctl("net.netfilter.nf_conntrack_checksum", 0)
    nf_log.select("ipv4", backend, netns=netns.name)
    nf_log.set_log_invalid(invalid, netns=netns.name)
    segment = struct.pack(">HHIIBBHHH", 1, 2, 3, 4, 5 << 4, _SYN_FIN, 1024, 0, 0)
    with NflogReader(netns, 0) as reader:
        with netns.enter(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as tcp:
            tcp.sendto(segment, ("127.0.0.1", 0))
        messages = reader.rest()
    # Over the loopback interface it is seen twice: leaving and arriving.
    assert len(messages) == count
    assert all(b"invalid tcp flag combination" in message for message in messages)
