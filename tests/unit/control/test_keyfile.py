"""Secrets that an installation makes for itself."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from sync_tasks import keyfile
from sync_tasks.errors import ControlError
from sync_tasks.keyfile import flower_password, kept, service_key
from sync_tasks.settings import Settings


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    key = service_key(settings)
    Fernet(key)
    path = tmp_path / "state" / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert service_key(settings) == key
    assert [found.name for found in path.parent.iterdir()] == ["secret.key"]


def test_a_key_that_is_given_counts_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("filed\n")
    settings = Settings(state_dir=tmp_path / "state", database_url="postgresql+psycopg://db/k")
    assert service_key(settings.model_copy(update={"secret_key_file": tmp_path / "key"})) == b"filed"
    assert not (tmp_path / "state").exists()


def test_a_database_that_may_be_shared_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="secret key must be given") as caught:
        service_key(Settings(state_dir=tmp_path, database_url="postgresql+psycopg://db/k"))
    assert caught.value.code == "secret-key"
    assert "keyferry config new-key" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_processes_that_come_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(8), context.Queue()

    def make() -> None:
        barrier.wait()
        found.put(service_key(Settings(state_dir=tmp_path)))

    processes = [context.Process(target=make) for _ in range(8)]
    for process in processes:
        process.start()
    keys = {found.get(timeout=20) for _ in processes}
    for process in processes:
        process.join()
    assert len(keys) == 1


def test_one_who_comes_later_does_not_replace_it(tmp_path: Path) -> None:
    """Made by another between our look and our own making."""
    path = tmp_path / "secret"

    def make() -> bytes:
        path.write_bytes(b"theirs\n")
        return b"ours"

    assert kept(path, make) == b"theirs"
    assert path.read_bytes() == b"theirs\n"


def test_flowers_password_is_long_and_kept(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    password = flower_password(settings)
    assert len(password) >= 20
    assert flower_password(settings) == password
    assert stat.S_IMODE((tmp_path / keyfile.FLOWER_FILE).stat().st_mode) == 0o600
    assert flower_password(Settings(state_dir=tmp_path / "other", flower_password="given")) == "given"
    assert not (tmp_path / "other").exists()


def test_a_place_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match="cannot keep a secret") as caught:
        service_key(Settings(state_dir=tmp_path / "file"))
    assert "--state" in caught.value.hint
