# SPDX-License-Identifier: GPL-2.0-or-later
"""The BPF prefilter: its conditions, program, pins and users."""
