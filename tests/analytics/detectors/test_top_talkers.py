# SPDX-License-Identifier: GPL-2.0-or-later
"""top_talkers: the model, and that it never shows more than it says."""

from __future__ import annotations

from tests.fix_detectors import BALANCER, Record, Row, agrees, findings, grouped, packet, row


def model(records: list[Record]) -> list[Row]:
    sized = [r for r in records if r["ip_totlen"] is not None]
    rows = [
        row(group, src=source, dest=dest, bytes=sum(r["ip_totlen"] for r in group))
        for (source, dest), group in grouped(sized, "src_ip", "dest_ip").items()
    ]
    return sorted(rows, key=lambda each: (-each["bytes"], each["src_ip"], each["dest_ip"]))[:3]


def test_it_agrees_with_the_model_on_random_logs() -> None:
    agrees("top_talkers", model, top=3)


def test_bytes_count_not_packets() -> None:
    """Bound: it suspects nobody, and shows twenty pairs."""
    assert findings("top_talkers")[0]["src_ip"] == BALANCER
    large = [packet(n, "198.18.0.1", "10.0.1.1", 80, tcp_syn=0, tcp_ack=1, ip_totlen=65_000) for n in range(20)]
    found = findings("top_talkers", large)
    assert (found[0]["src_ip"], found[0]["bytes"], found[0]["count"]) == ("198.18.0.1", 1_300_000, 20)
    assert len(found) == 20
