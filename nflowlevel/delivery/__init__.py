# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes on their way out: to files, sockets and HTTP clients.

A peer's connection, TCP or unix, is made, kept alive and made again in `peer.py`; what one open connection has not yet
delivered is known in `connection.py`. `appendfile.py` writes to files, FIFOs and standard output, `endpoint.py` answers
HTTP clients. Nothing here knows what a record means.
"""
