# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects that own kernel handles: netlink sockets, receive buffers, namespaces. Nothing here is policy."""
