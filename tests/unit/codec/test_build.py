"""Without a compiler the package is set up all the same: the core stays in plain Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("compiler", ["cc", "/bin/false"])
def test_the_core_is_optional(tmp_path: Path, compiler: str) -> None:
    """Tried on its smallest module alone."""
    if shutil.which(compiler) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"there is no {compiler} here, and CI must not skip this")
        pytest.skip(f"there is no {compiler} here")
    core = tmp_path / "workers" / "codec"
    core.mkdir(parents=True)
    shutil.copy(ROOT / "setup.py", tmp_path)
    for name in ("slots_cy.py", "slots_cy.pxd"):
        shutil.copy(ROOT / "workers" / "codec" / name, core)
    for folder in (core, core.parent):
        (folder / "__init__.py").touch()
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CC": compiler}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert bool(list(core.glob("slots_cy.*.so"))) == (compiler == "cc")
