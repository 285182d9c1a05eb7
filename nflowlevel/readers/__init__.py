# SPDX-License-Identifier: GPL-2.0-or-later
"""What a program opens to read batches: log groups and files."""
