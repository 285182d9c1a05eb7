# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated messages through the C code, built with sanitizers."""
