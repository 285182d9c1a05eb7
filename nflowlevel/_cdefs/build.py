# SPDX-License-Identifier: GPL-2.0-or-later
"""Build the compiled module `nflowlevel._clib` (cffi, API mode). setup.py calls it; nothing imports it at run time."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
PACKAGE_ROOT = HERE.parent.parent

#: One fragment per library and one per C file of ours, in an order in which each knows the types it needs.
FRAGMENTS = (
    "process.h",
    "descriptor.h",
    "mnl.h",
    "nflog.h",
    "nfacct.h",
    "record.h",
    "packet.h",
    "capture.h",
    "capturewrite.h",
    "report.h",
    "counter.h",
    "flow.h",
    "flowtable.h",
    "render.h",
    "flowtext.h",
    "communityid.h",
    "print.h",
    "ipfix.h",
    "arrowstream.h",
    "jsonscan.h",
    "logscan.h",
    "linux_bpf.h",
    "bpf.h",
    "../../bpf/prefilter.h",
)
SOURCES = (
    "descriptor.c",
    "packet.c",
    "capture.c",
    "capturewrite.c",
    "report.c",
    "counter.c",
    "flow.c",
    "flowtable.c",
    "render.c",
    "flowtext.c",
    "communityid.c",
    "print.c",
    "ipfix.c",
    "arrowstream.c",
    "jsonscan.c",
    "logscan.c",
    "bpf.c",
)

ffibuilder = FFI()
for fragment in FRAGMENTS:
    ffibuilder.cdef((HERE / fragment).read_text())

ffibuilder.set_source(
    "nflowlevel._clib",
    """
    #include <stdint.h>
    #include <sys/mman.h>
    #include <sys/mount.h>
    #include <sys/prctl.h>
    #include <sys/socket.h>
    #include <linux/bpf.h>
    #include <linux/capability.h>
    #include <libmnl/libmnl.h>
    #include <linux/netfilter/nfnetlink.h>
    #include <linux/netfilter/nfnetlink_log.h>
    #include <linux/netfilter/nfnetlink_acct.h>
    #include <libnetfilter_log/libnetfilter_log.h>
    #include <libnetfilter_acct/libnetfilter_acct.h>
    #include "descriptor.h"
    #include "record.h"
    #include "packet.h"
    #include "capture.h"
    #include "capturewrite.h"
    #include "report.h"
    #include "counter.h"
    #include "flow.h"
    #include "flowtable.h"
    #include "render.h"
    #include "flowtext.h"
    #include "communityid.h"
    #include "print.h"
    #include "ipfix.h"
    #include "arrowstream.h"
    #include "jsonscan.h"
    #include "logscan.h"
    #include "bpf.h"
    #include "bpf/prefilter.h"

    /* In the C library, but declared only by libcap's header. */
    int capset(struct __user_cap_header_struct *header, const struct __user_cap_data_struct *data);
    """,
    sources=[str((HERE / name).relative_to(PACKAGE_ROOT)) for name in SOURCES],
    include_dirs=[str(HERE.relative_to(PACKAGE_ROOT)), "."],
    libraries=["mnl", "netfilter_log", "netfilter_acct"],
    # -falign…: else a change in one function moves the loops of another, which were seen to take 10% longer by that.
    # -Wno-missing-field-initializers: for the code that cffi generates, in the same compilation.
    extra_compile_args=[
        "-O2",
        "-falign-functions=64",
        "-falign-loops=32",
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-missing-field-initializers",
    ],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
