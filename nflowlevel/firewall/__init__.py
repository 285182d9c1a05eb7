# SPDX-License-Identifier: GPL-2.0-or-later
"""The firewall as it is: rules that log, and the logging back ends of the kernel."""
