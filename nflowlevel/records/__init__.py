# SPDX-License-Identifier: GPL-2.0-or-later
"""What a record is: its types, keys and batches, and how values are read, rendered and filtered."""
