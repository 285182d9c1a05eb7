# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows that wait, in memory and on disk, in order, each counted once; knows no SQL."""
