# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the messages that decode_fuzz mutates to standard output: length (32 bits, native), then bytes, of each."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from tests import oracle
from tests.corpus import frames
from tests.messages import FULL, egress_message_of, message_of


def seeds() -> Iterator[bytes]:
    """Yield each corpus frame as its family sees it, as a bridge does with all attributes, and at egress."""
    for frame in frames():
        yield message_of(frame)
        yield message_of(frame, oracle.BRIDGE, **FULL)
        yield egress_message_of(frame)


def main() -> None:
    """Write them."""
    for message in seeds():
        sys.stdout.buffer.write(struct.pack("=I", len(message)) + message)


if __name__ == "__main__":
    main()
