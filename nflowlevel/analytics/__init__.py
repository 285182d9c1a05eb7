# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions to what was logged: reading it, detectors, reports. Nothing of it is imported by the daemon."""
