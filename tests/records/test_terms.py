# SPDX-License-Identifier: GPL-2.0-or-later
"""Terms of packets: each stands for a key, and no name stands for two."""

from __future__ import annotations

from nflowlevel.records.keys import BY_NAME, CATALOGUE
from nflowlevel.records.packet import PACKET
from nflowlevel.records.terms import TERMS


def test_each_term_stands_for_a_key() -> None:
    assert {TERMS[term] for term in TERMS} <= {*BY_NAME, *PACKET.names.joined}
    assert PACKET.names.find("saddr") == "ip.saddr"
    assert PACKET.names.keys_of("sport") == ("tcp.sport", "udp.sport", "sctp.sport")
    assert PACKET.names.keys_of("src_ip") == ("ip.saddr.str",)


def test_no_name_stands_for_two() -> None:
    attributes = [name.replace(".", "_") for name in BY_NAME]
    names = [*BY_NAME, *PACKET.names.joined, *TERMS, *(a for a in attributes if a not in BY_NAME)]
    assert len(names) == len(set(names)) == len(list(PACKET.names))


def test_every_name_of_json_is_known() -> None:
    assert {key.cim for key in CATALOGUE if key.cim} == set(PACKET.names.joined)
