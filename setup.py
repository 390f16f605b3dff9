"""Build: every .pyx below iip/ is one extension, all with one set of directives."""
import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("IIP_DEBUG") == "1"

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
CFLAGS = ["-O0", "-g"] if DEBUG else ["-O3"]


def extensions():
    return [
        Extension(str(path.with_suffix("")).replace(os.sep, "."), [str(path)],
                  extra_compile_args=CFLAGS + os.environ.get("IIP_CFLAGS", "").split())
        for path in sorted(Path("iip").rglob("*.pyx"))
    ]


setup(ext_modules=cythonize(extensions(), compiler_directives=DIRECTIVES,
                            nthreads=os.cpu_count() or 1))
