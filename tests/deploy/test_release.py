"""The release workflow: held to GitHub's schema, and to the files that it names. It has not run here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_compose import problems
from tests.deploy.tools import ROOT

FILE = ROOT / ".github" / "workflows" / "release.yml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def workflow() -> dict[str, Any]:
    loaded = yaml.safe_load(FILE.read_text())
    loaded["on"] = loaded.pop(True)  # YAML's own word
    assert isinstance(loaded, dict)
    return loaded


def test_github_would_take_it(workflow: dict[str, Any]) -> None:
    assert problems("github-workflows", workflow) == []
    workflow["jobs"]["wheels"]["step"] = []
    assert problems("github-workflows", workflow), "a misspelt word would not be found"


def test_nothing_is_published_unless_all_was_built(workflow: dict[str, Any]) -> None:
    jobs = workflow["jobs"]
    assert set(jobs) - {"publish", "version"} == set(jobs["publish"]["needs"])
    assert all(jobs[name]["needs"] == "version" for name in jobs["publish"]["needs"])
    assert jobs["publish"]["if"] == "github.event_name == 'push'"
    assert workflow["permissions"] == {"contents": "read"}
    writing = {name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()}
    assert writing == {"image", "publish"}


def test_what_it_names_is_there(workflow: dict[str, Any]) -> None:
    text = FILE.read_text()
    named = set(re.findall(r"deploy/[\w./-]+|\b[\w-]+\.(?:toml|md)\b", text))
    assert {"deploy/container/Dockerfile", "pyproject.toml", "CHANGELOG.md"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_wheels_are_for_each_version_that_runs() -> None:
    built = [name.partition("-")[0] for name in PROJECT["tool"]["cibuildwheel"]["build"]]
    assert built == ["cp311", "cp312", "cp313", "cp314"]
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert "require_core" in PROJECT["tool"]["cibuildwheel"]["test-command"]


def test_the_sdist_has_what_the_core_is_built_from(tmp_path: Path) -> None:
    env = {**os.environ, "KEYFERRY_NO_COMPILE": "1", "PYTHONPATH": ""}
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    command += ["sdist", "--dist-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(made) as packed:
        there = {name.partition("/")[2] for name in packed.getnames()}
    core = {path.relative_to(ROOT).as_posix() for path in (ROOT / "workers" / "codec").glob("*_cy.p*")}
    assert core
    rest = {"setup.py", "pyproject.toml", "README.md", "LICENSE", "sync_tasks/migrations/script.py.mako"}
    assert core | rest <= there
    assert not [name for name in there if name.startswith(("tests/", "docs/")) or name.endswith((".so", ".c"))]
