"""The wall clock of a machine, as far as the processes that are started with it can see: it can be set while they run.

    clock = Clock(tmp_path)
    ferry(source, target, env=clock.env)
    clock.set(hours=-12)

libfaketime would do the same, but Python's sleep fails below it once it leaves the monotonic clock alone. `clock.c` is
what is needed of it.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

import pytest

CODE = Path(__file__).with_name("clock.c")


@cache
def compiler() -> str | None:
    """A C compiler, if there is one."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def needs_compiler() -> str:
    """Its path. Skips the calling test when there is none; in CI fails it instead."""
    found = compiler()
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("no C compiler here", pytrace=False)
    if found is None:
        pytest.skip("no C compiler here")
    return found


class Clock:
    """One clock, right at first.

    Args:
        directory: where its two files are put.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        library, self._file = directory / "clock.so", directory / "clock"
        subprocess.run([needs_compiler(), "-O1", "-shared", "-fPIC", "-o", library, CODE], check=True)
        self._file.write_bytes(struct.pack("q", 0))
        self.env = {"LD_PRELOAD": str(library), "KEYFERRY_TEST_CLOCK": str(self._file)}

    def set(self, *, hours: float) -> None:
        """So far ahead of the right time, for all its processes at once."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", int(hours * 3600)))
