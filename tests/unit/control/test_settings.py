"""The environment enters here and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sync_tasks
from sync_tasks.errors import Side
from sync_tasks.settings import Settings


def test_everything_is_in_the_state_directory_by_default(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    assert settings.database() == f"sqlite:///{tmp_path}/keyferry.db"
    assert settings.broker() == f"redis+socket://{tmp_path}/broker.sock"
    assert settings.spool == tmp_path / "spool"


def test_a_relative_state_directory_does_not_follow_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(state_dir=Path("here")).database() == f"sqlite:///{tmp_path}/here/keyferry.db"


def test_the_environment_is_read_and_passwords_stay_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFERRY_SOURCE_PASSWORD", "hush")
    monkeypatch.setenv("KEYFERRY_DATABASE_URL", "postgresql+psycopg://localhost/k")
    settings = Settings()
    assert settings.password(Side.SOURCE) == "hush"
    assert settings.password(Side.TARGET) is None
    assert settings.database() == "postgresql+psycopg://localhost/k"
    assert "hush" not in repr(settings)


def test_no_other_file_reads_the_environment() -> None:
    root = Path(sync_tasks.__file__).parent
    reading = re.compile(r"os\.(environ|getenv)")
    control = [*root.glob("*.py"), *root.glob("store/*.py"), *(root.parent / "scheduler").glob("*.py")]
    assert [path.name for path in control if reading.search(path.read_text())] == []
