"""`keyferry demo`: what a new user runs first ends well, and leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sync_tasks.cli.demo import parent
from tests.scenarios.errors.command import run


def test_it_ends_equal_and_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="kf-") as place:
        ended = run("demo", "--seconds", "1", timeout=120, env={**os.environ, "TMPDIR": place})

        assert ended.code == 0, ended
        assert ended.out.rstrip().endswith("keys compared: equal\nequal, key by key")
        assert "Traceback" not in ended.out + ended.err
        assert list(Path(place).iterdir()) == []


def test_a_temporary_directory_whose_name_is_too_long_for_sockets() -> None:
    assert parent("/tmp") == "/tmp"
    assert parent("/home/somebody/tmp") == "/home/somebody/tmp"
    assert parent("/" + "x" * 90) == "/tmp"
