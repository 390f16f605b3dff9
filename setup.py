"""Build: every .pyx below iip/ is one extension, all with one set of directives.

    python setup.py build_ext --inplace        # incremental, on all cores (-jN for fewer)

Environment:
    IIP_DEBUG=1         bounds, None and memoryview checks, -O0 -g
    IIP_DPDK=1          also the driver for DPDK, whose development files have to be there; see docs/drivers.md
    IIP_ONLY=a,b        only modules whose dotted name starts with one of these (iip.wire,iip.memory.pool)
    IIP_CFLAGS          more compiler flags, after ours (-march=native, -Werror, -O1)
    IIP_LDFLAGS         more linker flags
    IIP_SANITIZE=a,b    compile and link with -fsanitize=a,b (address,undefined); see ci/sanitize
    IIP_ANNOTATE=1      Cython's annotated HTML beside the generated C

Generated C lies below build/, in a directory named after the directives and Cython's version, so that
switching back and forth mixes nothing up and repeats nothing.
"""
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("IIP_DEBUG") == "1"
ANNOTATE = os.environ.get("IIP_ANNOTATE") == "1"
ONLY = tuple(name.strip() for name in os.environ.get("IIP_ONLY", "").split(",") if name.strip())
SANITIZE = os.environ.get("IIP_SANITIZE", "")
DPDK = os.environ.get("IIP_DPDK", "") not in ("", "0")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "nonecheck": DEBUG,
    "overflowcheck": False,
    "binding": True,
    "embedsignature": True,
    "freethreading_compatible": True,
}

WARNINGS = ["-Wall", "-Wextra"]    # what Cython 3.3 generates is clean under both: nothing has to be silenced


def compile_flags():
    if DEBUG:
        flags = ["-O0", "-g"]
    elif SANITIZE:
        flags = ["-O1", "-g1"]
    else:
        flags = ["-O3", "-g0"]
    if SANITIZE:
        flags += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    return flags + WARNINGS + shlex.split(os.environ.get("IIP_CFLAGS", ""))


def link_flags():
    flags = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
    return flags + shlex.split(os.environ.get("IIP_LDFLAGS", ""))


def dpdk_flags():
    """Flags for compiler and linker, as pkg-config knows them."""
    try:
        return [shlex.split(subprocess.run(["pkg-config", option, "libdpdk"], capture_output=True, text=True, check=True).stdout)
                for option in ("--cflags", "--libs")]
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        raise SystemExit(f"setup.py: IIP_DPDK={os.environ['IIP_DPDK']}, but DPDK's development files are not found: {said}\n"
                         "Install them (Debian, Ubuntu: apt install libdpdk-dev pkgconf; Fedora: dnf install dpdk-devel), tell "
                         "PKG_CONFIG_PATH where they are, or leave IIP_DPDK out") from None


def extensions():
    found = []
    dpdk = dpdk_flags() if DPDK else None
    for path in sorted(Path("iip").rglob("*.pyx")):
        name = ".".join(path.with_suffix("").parts)
        if ONLY and not any(name == only or name.startswith(only + ".") for only in ONLY):
            continue
        cflags, libs = [], []
        if path.parent.name == "dpdk":
            if dpdk is None:
                continue
            cflags, libs = dpdk
        found.append(Extension(name, [path.as_posix()], extra_compile_args=cflags + compile_flags(),
                               extra_link_args=link_flags() + libs))
    if ONLY and not found:
        raise SystemExit(f"setup.py: IIP_ONLY={','.join(ONLY)} names no module below iip/")
    return found


def digest(*values):
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


class BuildExt(build_ext):
    """Cython in parallel, then the C compiler in parallel; what is up to date is left alone."""

    def initialize_options(self):
        super().initialize_options()
        self.parallel = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def finalize_options(self):
        super().finalize_options()
        if self.inplace:    # pip's editable build has a temporary directory for this: keep what it compiles
            self.build_lib = f"build/inplace-{sys.implementation.cache_tag}"

    def run(self):
        # Here and not at import: metadata and sdist need no C, and an sdist must not pick it up.
        compiled = cythonize(self.extensions, compiler_directives=DIRECTIVES, annotate=ANNOTATE,
                             build_dir=f"build/c-{digest(DIRECTIVES, Cython.__version__)}",
                             nthreads=self.parallel or 0, quiet=True, force=self.force)
        sources = {ext.name: ext.sources for ext in compiled}
        stamp = self.flags_stamp()
        for ext in self.extensions:
            ext.sources = sources[ext.name]
            ext.depends = [*ext.depends, stamp]
        super().run()

    def flags_stamp(self):
        """A file that is touched when the flags change, so that the objects built with others are renewed."""
        meaningful = [flag for flag in compile_flags() if flag != "-Werror"]
        flags = repr((meaningful, link_flags(), [os.environ.get(v) for v in ("CC", "CFLAGS", "LDFLAGS")]))
        stamp = Path(f"{self.build_lib}.flags")
        stamp.parent.mkdir(parents=True, exist_ok=True)
        if not stamp.exists() or stamp.read_text() != flags:
            stamp.write_text(flags)
        return str(stamp)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
