# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes on their way out: to files, sockets and HTTP clients."""
