# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks: one file per question, nflowlevel beside ulogd2 and others on the same rule, traffic and file system.

`python -m bench` asks all of them and prints one table; `python -m bench.<question>` asks one. What is measured is
process time, because other programs share the machine; contenders take turns within a round, and ratios are taken
within a round.
"""
