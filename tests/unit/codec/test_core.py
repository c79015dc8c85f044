from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import workers.codec as codec
from sync_tasks.errors import ControlError


def _fake(tmp_path: Path, **suffixes: str) -> dict[str, Path]:
    """Files of modules: each source, and where the suffix says so a compiled file."""
    found = {}
    for name, suffix in suffixes.items():
        (tmp_path / f"{name}.py").touch()
        found[name] = tmp_path / f"{name}{suffix}"
        found[name].touch()
    return found


def test_an_edited_source_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = _fake(tmp_path, a_cy=".so", b_cy=".so", c_cy=".py")
    monkeypatch.setattr(codec, "_modules", lambda: modules)
    assert codec.stale() == []
    later = modules["b_cy"].stat().st_mtime + 60
    os.utime(tmp_path / "b_cy.py", (later, later))
    assert codec.stale() == ["b_cy"]


def test_an_edited_declaration_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = _fake(tmp_path, a_cy=".so")
    monkeypatch.setattr(codec, "_modules", lambda: modules)
    (tmp_path / "a_cy.pxd").touch()
    later = modules["a_cy"].stat().st_mtime + 60
    os.utime(tmp_path / "a_cy.pxd", (later, later))
    assert codec.stale() == ["a_cy"]


def test_the_core_is_compiled_only_if_all_of_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = _fake(tmp_path, a_cy=".so", b_cy=".so")
    monkeypatch.setattr(codec, "_modules", lambda: modules)
    assert codec.core() == "compiled"
    codec.require_core()
    modules["b_cy"] = tmp_path / "b_cy.py"
    assert codec.core() == "python"
    with pytest.raises(ControlError, match="b_cy run as plain Python") as caught:
        codec.require_core()
    assert caught.value.hint
    assert caught.value.code == "core-missing"


def test_a_required_core_may_not_be_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = _fake(tmp_path, a_cy=".so")
    monkeypatch.setattr(codec, "_modules", lambda: modules)
    os.utime(modules["a_cy"], (0, 0))
    with pytest.raises(ControlError, match="older than its source: a_cy"):
        codec.require_core()


def test_a_core_half_compiled_says_so(tmp_path: Path) -> None:
    modules = _fake(tmp_path, **dict.fromkeys(codec._LINKED, ".so"))
    codec._whole(modules)
    modules["walk_cy"] = tmp_path / "walk_cy.py"
    with pytest.raises(ControlError, match="incomplete: walk_cy"):
        codec._whole(modules)
    codec._whole({name: tmp_path / f"{name}.py" for name in modules})


def test_the_whole_package_runs_without_any_compiled_file(tmp_path: Path) -> None:
    """The fallback, as an installation without a compiler has it."""
    import subprocess
    import sys

    root = Path(codec.__file__).parents[2]
    for name in ("sync_tasks", "workers"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = "import workers.codec as c; print(c.core(), c.crc64(b'123456789'), c.stale(), c.Framer(2).next())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["python", str(0xE9C6D914C4B8D9CA), "[]", "None"]
