# SPDX-License-Identifier: GPL-2.0-or-later
"""What a record is: its keys, batches of it, and how its values are read and rendered."""
