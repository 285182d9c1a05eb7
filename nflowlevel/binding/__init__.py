# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects that own kernel handles and receive buffers: sockets, namespaces, maps. No policy."""
