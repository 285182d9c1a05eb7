# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon that replaces ulogd: start, receive loop, signals, service manager."""
