# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m nflowlevel.daemon` is `nflowlevel-daemon`."""

import sys

from nflowlevel.daemon.start import main

sys.exit(main())
