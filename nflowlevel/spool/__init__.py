# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows that wait, in memory and on disk, in order, each counted once. Knows no SQL.

The target is a `Sink` (`sink.py`): a database has one in `sql/sink.py`, a broker such as Kafka would have another.
"""
