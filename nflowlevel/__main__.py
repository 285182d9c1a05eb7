# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m nflowlevel` is the command `nflowlevel`."""

import sys

from nflowlevel.cli import main

sys.exit(main())
