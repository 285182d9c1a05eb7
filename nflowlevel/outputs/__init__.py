# SPDX-License-Identifier: GPL-2.0-or-later
"""The built-in outputs, one file per plugin, with its name in lower case."""

NAMES = ("JSON", "GRAPHITE", "PROMETHEUS", "PGSQL", "MYSQL", "SQLITE3", "DBI")
