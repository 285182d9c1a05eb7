# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon in ulogd's place."""
