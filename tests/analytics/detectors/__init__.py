# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of nflowlevel/analytics/detectors/: models written from the docstrings, attacks and what looks like them."""
