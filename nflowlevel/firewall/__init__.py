# SPDX-License-Identifier: GPL-2.0-or-later
"""The firewall as it stands: rules that log, back ends of the kernel log."""
