# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's accounting objects: read, change and save them."""
