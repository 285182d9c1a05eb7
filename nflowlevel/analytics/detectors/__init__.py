# SPDX-License-Identifier: GPL-2.0-or-later
"""The detectors: a file each, with the constant `DETECTOR`; the docstring is its page in docs/detectors.md."""
