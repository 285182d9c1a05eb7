# SPDX-License-Identifier: GPL-2.0-or-later
"""brute_force: One source opens many connections to a login service of one host.

Found is a source with at least `attempts` SYNs from at least `ports` distinct source ports to one port in `logins` of
one host in a window of `within` that slides by its fifth part.

Limits: the firewall does not see whether a login failed; sshd's log does. Guesses over one long connection are not
found, nor slow ones.

Confuses: programs that log in again and again, such as backup or configuration by ssh, monitoring that checks a login
port every few seconds, and a NAT gateway with many users: one finding for each of them, host and port. A check a
minute is not found.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from nflowlevel.analytics.detector import Count, Ports, Sliding, Window, detector, sliding

_LOGIN = "{syn} AND dest_port IN ({logins})"


class _Parameters(Sliding, frozen=True, kw_only=True):
    hops: ClassVar[int] = 5
    attempts: Annotated[Count, Meta(description="At least so many SYNs.")] = 20
    ports: Annotated[Count, Meta(description="At least so many distinct source ports.")] = 10
    logins: Annotated[Ports, Meta(description="Ports where users log in.")] = "21,22,23,3389,5900"
    within: Annotated[Window, Meta(description="Length of the window.")] = 300


DETECTOR = detector(
    __name__,
    __doc__,
    severity="high",
    parameters=_Parameters,
    text=sliding(
        "brute_force",
        "high",
        by=("src_ip", "dest_ip", "dest_port"),
        distinct="src_port",
        called="ports",
        where=_LOGIN,
        having=" AND COUNT(*) >= {attempts}",
        dense=True,
    ),
    behind=f"{_LOGIN} AND src_ip = {{row.src_ip}} AND dest_ip = {{row.dest_ip}} AND dest_port = {{row.dest_port}}",
    culprit=True,
)
