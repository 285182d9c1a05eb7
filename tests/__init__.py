# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests; `pytest -m kernel` are those that make network namespaces and read from the running kernel."""
