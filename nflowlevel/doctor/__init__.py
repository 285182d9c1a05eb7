# SPDX-License-Identifier: GPL-2.0-or-later
"""Why no packets arrive: facts about the system, and what they mean."""
