# SPDX-License-Identifier: GPL-2.0-or-later
"""Columns on disk: the archive of what was logged, its writer and its reader."""
