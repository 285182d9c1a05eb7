# SPDX-License-Identifier: GPL-2.0-or-later
"""Where bytes go: files, peers, an HTTP page."""
