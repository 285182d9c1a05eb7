# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m nflowlevel.daemon` is `nflowlevel-daemon`."""

import sys

from nflowlevel.daemon.hold import hold


def main() -> int:
    """Run the daemon; the result is the exit status."""
    hold()
    from nflowlevel.daemon.main import main  # late: signals are held back while it is imported

    return main()


if __name__ == "__main__":
    sys.exit(main())
