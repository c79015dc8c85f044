"""Builds the compiled core: each workers/codec/*_cy.py in Cython's pure Python mode.

KEYFERRY_NO_COMPILE=1 leaves the core in plain Python; a failed build falls back to it (the command line says so).
KEYFERRY_SANITIZE=1 has it watched by AddressSanitizer (`make asan`).
"""

import os
from glob import glob

from setuptools import Extension, setup


def extensions() -> list[Extension]:
    if os.environ.get("KEYFERRY_NO_COMPILE") == "1":
        return []
    from Cython.Build import cythonize

    # Without debug information, which would take a third of the time and most of the bytes.
    flags, linked = ["-O2", "-g0"], []
    if os.environ.get("KEYFERRY_SANITIZE") == "1":
        flags, linked = ["-O1", "-g", "-fsanitize=address", "-fno-omit-frame-pointer"], ["-fsanitize=address"]
    modules = [
        Extension(path[:-3].replace("/", "."), [path], extra_compile_args=flags, extra_link_args=linked)
        for path in sorted(glob("workers/codec/*_cy.py"))
    ]
    made: list[Extension] = cythonize(modules, language_level=3, build_dir="build/cython", nthreads=2)
    for module in made:
        module.optional = True  # cythonize does not hand it on
    return made


setup(ext_modules=extensions(), options={"build_ext": {"parallel": 2}})
