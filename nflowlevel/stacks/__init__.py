# SPDX-License-Identifier: GPL-2.0-or-later
"""A configuration becomes stacks: grammar, registry of plugins, wiring."""
