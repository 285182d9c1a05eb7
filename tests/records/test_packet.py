# SPDX-License-Identifier: GPL-2.0-or-later
"""records/packet.py: the record type of packets."""

from __future__ import annotations

from nflowlevel.records.keys import CATALOGUE, PacketCondition
from nflowlevel.records.packet import PACKET
from nflowlevel.records.packetrow import Packet
from tests.fix_group import run_python


def test_a_row_is_a_packet() -> None:
    assert PACKET.row is Packet


def test_the_type_comes_without_its_rows_class() -> None:
    code = "import sys, nflowlevel.records.batch; print('nflowlevel.records.packetrow' in sys.modules)"
    assert run_python(code).stdout == "False\n"


def test_it_has_every_key_of_packets() -> None:
    assert set(PACKET.by_name) == {key.name for key in CATALOGUE if isinstance(key.valid, PacketCondition)}
