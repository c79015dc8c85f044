"""An installation without a compiler: the core runs as plain Python, slowly, and just as exactly."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import pytest

import workers
from tests.dataset import fill
from tests.scenarios.errors.command import Ended, run
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic

PACKAGES = ("sync_tasks", "workers", "scheduler")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A directory with the packages as they are written, nothing of them compiled."""
    place = tmp_path / "packages"
    for name in PACKAGES:
        source = Path(workers.__file__).parents[1] / name
        shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return place


def test_load_and_stream_without_a_compiled_core(plain: Path, server: StartServer, tmp_path: Path) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    fill(source.client(), 300)
    env = {**os.environ, "PYTHONPATH": str(plain), "KEYFERRY_REQUIRE_CORE": "0"}

    def keyferry(*words: str, **more: str) -> Ended:
        return run(*words, "--state", str(tmp_path / "state"), timeout=120, env={**env, **more}, cwd=plain)

    def sync(**more: str) -> Ended:
        return keyferry("sync", source.url(), target.url(), "--until", "in-sync", **more)

    first = sync()
    assert first.code == 0, first
    assert "the core runs in plain Python: exact, but slow" in first.err
    for start in (sync, partial(keyferry, "up"), partial(keyferry, "worker", "--load", "1")):
        refused = start(KEYFERRY_REQUIRE_CORE="1")
        assert (refused.code, "the compiled core is missing" in refused.err) == (5, True), refused
    with Traffic(source, clients=2, rate=1000) as traffic:
        second = sync()
    third = sync()
    assert (second.code, third.code) == (0, 0), (second, third)

    assert traffic.written > 1000
    equal(source, target)
    assert snapshots(source) == 1
