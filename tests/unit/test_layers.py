"""The shape of the house, checked on its files."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("sync_tasks", "workers", "scheduler")
LONGEST = 400  # lines of a file
CORE_LONGEST = 800  # of a file of the compiled core: one state machine


def sources() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def users(*libraries: str) -> set[str]:
    """Files that import one of them, anywhere in the file."""
    return {name(p) for p in sources() if any(i.split(".")[0] in libraries for i in imports(p))}


def test_imports_follow_the_layers() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_only_the_doors_know_celery() -> None:
    allowed = {"workers/tasks.py", "sync_tasks/app.py", "sync_tasks/transport.py"}
    allowed |= {"sync_tasks/supervise/worker.py", "sync_tasks/supervise/sparing.py"}
    assert users("celery", "kombu", "billiard") <= allowed


def test_the_data_plane_does_not_know_the_database() -> None:
    assert {user for user in users("sqlalchemy", "alembic") if user.startswith("workers/")} == set()
    store = ("sync_tasks.store", "sync_tasks.models")
    found = {name(p) for p in sources() if any(i.startswith(store) for i in imports(p))}
    assert {user for user in found if user.startswith("workers/")} <= {"workers/tasks.py"}


def test_only_settings_reads_the_environment() -> None:
    reading = re.compile(r"os\.(environ|getenv)|environ\[|getenv\(")
    found = {name(p) for p in sources() if reading.search(p.read_text())}
    assert found <= {"sync_tasks/settings.py"}


def test_no_file_is_a_heap() -> None:
    long = {}
    for path in sources():
        lines = len(path.read_text().splitlines())
        if lines > (CORE_LONGEST if path.stem.endswith("_cy") else LONGEST):
            long[name(path)] = lines
    assert long == {}


def test_nothing_names_this_machine() -> None:
    files = [*sources(), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    here = re.compile(r"/root/|/home/\w+/")
    assert {name(p) for p in files if here.search(p.read_text())} == set()


def test_every_dependency_has_its_line_of_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    asked += [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    packages = {re.split(r"[^\w-]", one)[0] for one in asked}
    said = (ROOT / "docs" / "architecture.md").read_text().partition("## Dependencies")[2]
    assert len(packages) > 40
    assert {one for one in packages if not re.search(rf"(?<![\w-]){one}(?![\w-])", said)} == set()


@pytest.mark.skipif(os.environ.get("KEYFERRY_REQUIRE_CORE") != "1", reason="the core may be plain here")
def test_the_compiled_core_is_the_one_that_runs() -> None:
    from workers import codec

    codec.require_core()
    assert codec.core() == "compiled"


def test_readme_names_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^make (\w+)", text, re.MULTILINE))
    assert {"sync", "test"} <= targets
    defined = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= defined


def test_links_in_the_docs_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / link).exists():
                broken.append(f"{name(page)}: {link}")
    assert broken == []
