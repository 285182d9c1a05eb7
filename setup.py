# SPDX-License-Identifier: GPL-2.0-or-later
"""Build what is not Python; the rest: pyproject.toml.

The C part, the BPF object where there is a clang, and the program ulogd where Python can be linked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

_SOURCE = Path("bpf/prefilter.bpf.c")
_OBJECT = Path("nflowlevel/prefilter/prefilter.bpf.o")
# v3: atomic compare and exchange, Linux 5.12. No -g: nothing is relocated by type information, so none is shipped.
_FLAGS = ("-O2", "-mcpu=v3", "-target", "bpf", "-Wall", "-Wextra", "-Werror")


#: For /usr/sbin/ulogd: `nflowlevel drop-in`.
_PROGRAM_SOURCE = Path("nflowlevel/daemon/ulogd.c")
_PROGRAM = Path("nflowlevel/daemon/ulogd")


class BuildAll(build_ext):
    """The extension, then what lies beside it. What cannot be built is left out, and who needs it says so."""

    def run(self) -> None:
        """Build all."""
        super().run()
        self._object(self._place(_OBJECT))
        self._program(self._place(_PROGRAM))

    def _place(self, path: Path) -> Path:
        target = path if self.inplace else Path(self.build_lib, path)
        target.unlink(missing_ok=True)
        return target

    def _program(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        include, library = sysconfig.get_paths()["include"], sysconfig.get_config_var("LIBDIR")
        command = [
            os.environ.get("CC") or "cc",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{include}",
            "-o",
            str(target),
        ]
        command += [str(_PROGRAM_SOURCE), f"-L{library}", f"-lpython{sysconfig.get_config_var('LDVERSION')}"]
        if not shutil.which(command[0]) or subprocess.run(command).returncode:
            print(f"cannot link Python: installed without {_PROGRAM}, for `nflowlevel drop-in`", file=sys.stderr)

    def _object(self, target: Path) -> None:
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
        built = [Path(self.build_lib, path) for path in (_OBJECT, _PROGRAM)]
        return [*super().get_outputs(), *(str(path) for path in built if path.exists())]


setup(cffi_modules=["nflowlevel/_cdefs/build.py:ffibuilder"], cmdclass={"build_ext": BuildAll})
