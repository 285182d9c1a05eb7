# SPDX-License-Identifier: GPL-2.0-or-later
"""Build what is not Python: the C part, and the BPF object where there is a clang. The rest: pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

_SOURCE = Path("bpf/prefilter.bpf.c")
_OBJECT = Path("nflowlevel/prefilter/prefilter.bpf.o")
# v3: atomic compare and exchange, Linux 5.12. No -g: nothing is relocated by type information, so none is shipped.
_FLAGS = ("-O2", "-mcpu=v3", "-target", "bpf", "-Wall", "-Wextra", "-Werror")


class BuildAll(build_ext):
    """The extension, then the object beside it. Without the object all works but the prefilter, which says so."""

    def run(self) -> None:
        """Build both."""
        super().run()
        target = _OBJECT if self.inplace else Path(self.build_lib, _OBJECT)
        target.unlink(missing_ok=True)
        clang = os.environ.get("CLANG") or shutil.which("clang")
        if not clang:
            print("no clang: installed without the BPF prefilter (Debian's package: clang)", file=sys.stderr)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run([clang, *_FLAGS, "-c", str(_SOURCE), "-o", str(target)])
        if made.returncode:
            print(f"{clang} refused {_SOURCE}: installed without the BPF prefilter", file=sys.stderr)

    def get_outputs(self) -> list[str]:
        """Return what is built, for those who install or remove it."""
        target = Path(self.build_lib, _OBJECT)
        return [*super().get_outputs(), *([str(target)] if target.exists() else [])]


setup(cffi_modules=["nflowlevel/_cdefs/build.py:ffibuilder"], cmdclass={"build_ext": BuildAll})
