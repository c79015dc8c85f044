"""`keyferry config`, shell completion, and what a start imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from sync_tasks.cli.config_command import redacted
from sync_tasks.cli.main import VERBS

SECRETS = ("s3cret-key", "s3cret-user", "s3cret-flower")


def keyferry(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a home and settings of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-m", "sync_tasks.cli.main", *arguments],
        cwd=cwd,
        env={**clean, "HOME": str(cwd), "PYTHONPATH": path, **env},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_show_says_where_each_value_comes_from_and_hides_secrets(tmp_path: Path) -> None:
    (tmp_path / "keyferry.toml").write_text(
        'broker_url = "rediss://me:s3cret-user%2Fwith@at@b:1/0?ca=/x"\nflower_port = 7\n'
    )
    env = {"KEYFERRY_SECRET_KEY": "s3cret-key", "KEYFERRY_FLOWER_PASSWORD": "s3cret-flower", "KEYFERRY_HOST": "rack"}
    done = keyferry("config", "show", "--json", "--state", "there", cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["broker_url"] == {"value": "rediss://***@b:1/0?ca=/x", "from": "file keyferry.toml"}
    assert shown["flower_port"] == {"value": 7, "from": "file keyferry.toml"}
    assert shown["host"] == {"value": "rack", "from": "environment KEYFERRY_HOST"}
    assert shown["secret_key"] == {"value": "***", "from": "environment KEYFERRY_SECRET_KEY"}
    assert shown["state_dir"] == {"value": "there", "from": "option --state"}
    assert shown["database_url"] == {"value": None, "from": "default"}
    text = keyferry("config", "show", cwd=tmp_path, **env).stdout
    assert [line.split()[0] for line in text.splitlines()] == list(shown)
    for secret in SECRETS:
        assert secret not in done.stdout + text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:p@h", "redis://***@h"),
        ("postgresql+psycopg://u:p%40@h/d?sslmode=verify-full", "postgresql+psycopg://***@h/d?sslmode=verify-full"),
        ("postgresql://h/d?user=u&password=p", "postgresql://h/d?user=u&password=***"),
        ("rack-3", "rack-3"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_a_wrong_file_is_one_line_with_code_2(tmp_path: Path) -> None:
    (tmp_path / "keyferry.toml").write_text("flower_prt = 7\n")
    done = keyferry("config", "show", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "keyferry: usage: keyferry.toml: unknown setting flower_prt (did you mean flower_port?)\n"


def test_a_new_key_is_one_that_seals(tmp_path: Path) -> None:
    first, second = (keyferry("config", "new-key", cwd=tmp_path).stdout.strip() for _ in range(2))
    Fernet(first)
    assert first != second


@pytest.mark.parametrize("verb", ["config", "db"])
def test_a_group_without_a_verb_shows_its_help(verb: str, tmp_path: Path) -> None:
    done = keyferry(verb, cwd=tmp_path)
    assert done.returncode == 2
    assert f"keyferry {verb}" in done.stdout
    assert "Examples:" in done.stdout


WITH_HELP = ["sync", "verify", "up", "worker", "scheduler", "flower", "metrics", "db upgrade", "doctor"]


@pytest.mark.parametrize("verb", WITH_HELP)
def test_every_verb_has_help(verb: str, tmp_path: Path) -> None:
    done = keyferry(*verb.split(), "--help", cwd=tmp_path, COLUMNS="120")
    assert done.returncode == 0
    assert f"Usage: keyferry {verb}" in done.stdout
    assert "Replaced by" not in done.stdout
    assert "Examples:" in done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("keyferry sch", ["scheduler"]),
        ("keyferry up --fl", ["--flower"]),
        ("keyferry sync --unt", ["--until"]),
        ("keyferry config sh", ["show"]),
    ],
)
def test_completion_knows_verbs_and_options(words: str, offered: list[str], tmp_path: Path) -> None:
    at = str(len(words.split()) - 1)
    done = keyferry(cwd=tmp_path, COMP_WORDS=words, COMP_CWORD=at, _KEYFERRY_COMPLETE="complete_bash")
    assert (done.returncode, done.stdout.split()) == (0, offered)


def test_completion_can_be_installed(tmp_path: Path) -> None:
    # It would look which shell it was called from, and refuse that of `make`.
    done = keyferry("--install-completion", "bash", cwd=tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert "_KEYFERRY_COMPLETE" in (tmp_path / ".bash_completions" / "keyferry.sh").read_text()


def test_no_verb_imports_what_only_its_run_needs() -> None:
    """A start of `sync` has a second and a half; help and completion import every verb."""
    heavy = {"alembic", "celery", "cryptography", "flower", "kombu", "psutil", "redis", "sqlalchemy", "tornado"}
    heavy |= {"prometheus_client"}
    code = (
        "import sys; from sync_tasks.cli.main import build; build([]);"
        f"sys.exit(' '.join({heavy} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"up", "worker", "scheduler", "flower", "db", "config"} <= set(VERBS)
