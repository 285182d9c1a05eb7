# SPDX-License-Identifier: GPL-2.0-or-later
"""What a record is: its types, keys and batches, and how values are read, rendered and filtered.

Every key of every type of record is declared in `keys.py`: of packets, of accounting objects, and of what comes later,
such as flows. How one type lies in memory is declared by a `RecordType` (`types.py`): `PACKET` in `packet.py`, `SUM` in
`sums.py`.
"""
