# SPDX-License-Identifier: GPL-2.0-or-later
"""What one opens to read records: log groups of the kernel, capture files."""
