"""Wrong options and settings files: refused before anything is made or asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.errors.command import refused, run

URLS = ("redis://127.0.0.1:1", "redis://127.0.0.1:2")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name = \n", "is not TOML"),
        ("\xff\xfe", "is not TOML"),
        ("nmae = 'x'\n", "did you mean name?"),
        ("[retry]\nconection_min = 20\n", "did you mean retry.connection_min?"),
        ("extend_expiry_s = -1\n", "extend_expiry_s = -1"),
        ("[retry]\nconnection_min = 5\n", "10..1440"),
        ("[retry]\nconnection_min = 20\nother_min = 20\n", "less than retry.connection_min"),
        ("conflict_mode = 'yes'\n", "ignore-and-proceed"),
        ("databases = { '0' = 300 }\n", "0..255"),
        ("databases = { '0' = 1, '2' = -1 }\n", "several may go to one"),
        ("reader = 'sacn'\n", '"psync", "scan" or "rdb"'),
    ],
)
def test_a_settings_file(text: str, part: str, tmp_path: Path) -> None:
    config = tmp_path / "orders.toml"
    config.write_bytes(text.encode("latin-1"))
    ended = run("sync", *URLS, "--state", str(tmp_path / "state"), "--config", str(config))
    refused(ended, "usage", part, "orders.toml")
    assert not (tmp_path / "state").exists()


def test_a_settings_file_that_is_not_there(tmp_path: Path) -> None:
    ended = run("sync", *URLS, "--state", str(tmp_path / "state"), "--config", str(tmp_path / "none.toml"))
    refused(ended, "usage", "none.toml", "No such file")


def test_a_target_database_without_a_source_database(tmp_path: Path) -> None:
    ended = run("sync", URLS[0], URLS[1] + "/3", "--state", str(tmp_path / "state"))
    refused(ended, "usage", "does not say which goes there")


@pytest.mark.parametrize(
    "arguments",
    [
        ("sync",),
        ("sync", URLS[0]),
        ("sync", *URLS, "--until", "tomorrow"),
        ("sync", *URLS, "--load-workers", "0"),
        ("sync", *URLS, "--load-workers", "many"),
        ("sync", *URLS, "--jsno"),
        ("snyc", *URLS),
    ],
)
def test_options(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refused(run(*arguments), "usage", "--help")


def test_a_password_in_a_misplaced_argument_is_not_repeated() -> None:
    ended = run("sync", "redis://:topsecret@127.0.0.1:1", "redis://127.0.0.1:2", "redis://:topsecret@127.0.0.1:3")
    refused(ended, "usage")
    assert "topsecret" not in ended.err + ended.out
