"""`keyferry demo`: what a new user runs first ends well, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

from tests.scenarios.errors.command import run


def test_it_ends_equal_and_leaves_nothing(tmp_path: Path) -> None:
    ended = run("demo", "--seconds", "1", timeout=120, env={**os.environ, "TMPDIR": str(tmp_path)})

    assert ended.code == 0, ended
    assert ended.out.rstrip().endswith("keys compared: equal\nequal, key by key")
    assert "Traceback" not in ended.out + ended.err
    assert list(tmp_path.iterdir()) == []
