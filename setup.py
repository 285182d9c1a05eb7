# SPDX-License-Identifier: GPL-2.0-or-later
"""Build step of the C part; everything else about the package is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["nflowlevel/_cdefs/build.py:ffibuilder"])
