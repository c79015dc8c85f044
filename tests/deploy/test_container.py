"""deploy/container: its steps, run without Docker as far as they can be."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from sync_tasks.settings import PREFIX, Settings
from tests.deploy.tools import ROOT, missing, program
from tests.servers import StartServer, die_with_parent
from tests.waiting import until

DOCKERFILE = ROOT / "deploy" / "container" / "Dockerfile"
LOCK = ROOT / "deploy" / "container" / "requirements.txt"
EXTRAS = ("flower", "objects", "postgresql", "s3")


def instructions() -> list[tuple[str, str]]:
    """Word and the rest of each, continued lines in one."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], " ".join(line.split(None, 1)[1].split())) for line in text.splitlines()]


def first_stage() -> list[tuple[str, str]]:
    found = instructions()
    begins = [at for at, (word, _) in enumerate(found) if word == "FROM"]
    return found[begins[0] : begins[1]]


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run(
        [program("hadolint", Path(sys.executable).parent), DOCKERFILE], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_there_and_sent() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in first_stage():
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in sent, f"{source} is not sent to Docker"
    assert not [name for name in sent if not (ROOT / name).exists()]


def test_its_environment_is_of_settings() -> None:
    text = " ".join(rest for word, rest in instructions() if word == "ENV")
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", text))
    assert "KEYFERRY_REQUIRE_CORE" in named
    assert named <= known


def test_it_does_not_run_as_root() -> None:
    found = instructions()
    assert found[-1][0] == "CMD"
    assert [rest for word, rest in found if word == "USER"] == ["10001:10001"]
    assert [rest for word, rest in found if word == "ENTRYPOINT"] == ['["keyferry"]']


def locked() -> dict[str, Version]:
    found = re.findall(r"^([a-z0-9.-]+)==(\S+)", LOCK.read_text(), re.MULTILINE)
    return {name: Version(version) for name, version in found}


def test_the_lock_is_of_what_is_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    there = locked()
    for text in wanted:
        one = Requirement(text)
        assert one.name in there, f"make lock: {one.name}"
        assert one.specifier.contains(there[one.name]), f"make lock: {one}"
    entries = LOCK.read_text().split("\n\n")[0]
    assert entries.count("--hash=sha256:") > len(there), "each with its hashes"


@pytest.fixture
def built() -> Iterator[Path]:
    """The first stage, in a directory that others may enter: `opt` in the place of /opt/keyferry."""
    place = Path(tempfile.mkdtemp(prefix="keyferry-image-"))
    place.chmod(0o755)
    source, made = place / "src", place / "opt"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.c")
    env = {**os.environ, "PATH": f"{made}/bin:{Path(_base()).parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
    for word, rest in first_stage():
        if word == "COPY":
            *names, target = rest.split()
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, source / target, ignore=ignored)
                else:
                    shutil.copy(ROOT / name, source / target)
        elif word == "RUN" and "apt-get" not in rest:
            step = rest.replace("/opt/keyferry", str(made)).replace("python -m venv", f"{_base()} -m venv")
            done = subprocess.run(["sh", "-ec", step], cwd=source, env=env, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"{step}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    yield place
    shutil.rmtree(place, ignore_errors=True)


@cache
def _base() -> str:
    """A Python that others than its owner may run: this one may lie in a home that is closed to them."""
    for path in (Path(sys.executable).resolve(), Path("/usr/bin/python3").resolve()):
        if path.exists() and all(place.stat().st_mode & 0o001 for place in path.parents):
            return str(path)
    missing("Python that any user may run")
    raise AssertionError


def _nobody() -> dict[str, int | list[int]]:
    """Arguments of Popen; without root it is we who run it, and the files are ours."""
    if os.getuid() != 0:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@pytest.mark.long
@pytest.mark.rare
@pytest.mark.timeout(1800)
def test_its_first_stage_makes_what_runs_without_rights(built: Path, server: StartServer) -> None:
    """Everything but the base image: wheels by hash, the core compiled, a worker that may write to its state alone."""
    command = [str(built / "opt" / "bin" / "keyferry")]
    assert not list((built / "opt" / "bin").glob("pip*"))
    for path in (built / "opt").rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222 | 0o444)
    state = built / "state"
    state.mkdir()
    broker = server("valkey-9.1")
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("KEYFERRY_", "PYTHON"))}
    env = {
        **bare,
        "HOME": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
        "KEYFERRY_REQUIRE_CORE": "1",
        "KEYFERRY_STATE_DIR": str(state),
        "KEYFERRY_BROKER_URL": f"redis://127.0.0.1:{broker.port}/0",
    }
    nobody = _nobody()
    if nobody:
        os.chown(state, int(nobody["user"]), int(nobody["group"]))  # type: ignore[arg-type]

    def keyferry(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words], cwd=state, env=env, capture_output=True, text=True, timeout=60, **nobody
        )  # type: ignore[call-overload, no-any-return]

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert keyferry("--version").stdout == f"keyferry {project['version']}\n"
    said = keyferry("doctor", "--state", str(state)).stdout
    assert re.search(r"^ok +core +compiled$", said, re.MULTILINE), said
    assert re.search(r"^ok +postgresql ", said, re.MULTILINE), said
    assert keyferry("db", "upgrade").returncode == 0
    worker = subprocess.Popen(
        [*command, "worker", "--load", "1"], cwd=state, env=env, preexec_fn=die_with_parent, **nobody
    )  # type: ignore[call-overload]
    try:
        until(lambda: keyferry("health", "--ready").returncode == 0, "the worker is ready")
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        print(f"ended in {time.monotonic() - began:.1f} s")
    finally:
        worker.kill()
    assert keyferry("health").returncode == 5
