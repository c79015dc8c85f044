"""The environment enters here and nowhere else."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sync_tasks import config_file
from sync_tasks.errors import ControlError, Side, UsageError
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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no configuration file of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config_file, "SYSTEM", tmp_path / "system.toml")
    monkeypatch.delenv("KEYFERRY_CONFIG", raising=False)
    return tmp_path


def test_the_environment_counts_more_than_the_file_and_an_argument_more_than_both(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "keyferry.toml").write_text('flower_port = 1\nflower_user = "filed"\nhost = "filed"\nspool_shared = true\n')
    monkeypatch.setenv("KEYFERRY_FLOWER_PORT", "2")
    monkeypatch.setenv("KEYFERRY_HOST", "named")
    monkeypatch.setenv("KEYFERRY_FLOWER_USER", "")
    settings = Settings(host="given")
    assert (settings.flower_port, settings.flower_user, settings.host) == (2, "filed", "given")
    assert settings.spool_shared is True
    origins = Settings.origins()
    assert origins["flower_port"] == "environment KEYFERRY_FLOWER_PORT"
    assert origins["flower_user"] == "file keyferry.toml", "an empty variable counts as none"
    assert origins["state_dir"] == "default"


def test_the_file_that_is_named_counts_before_the_one_here_and_that_before_the_machines(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "system.toml").write_text("flower_port = 1\n")
    assert Settings().flower_port == 1
    (here / "keyferry.toml").write_text("flower_port = 2\n")
    assert Settings().flower_port == 2
    (here / "named.toml").write_text("flower_port = 3\n")
    monkeypatch.setenv("KEYFERRY_CONFIG", "named.toml")
    assert Settings().flower_port == 3


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("brokr_url = 'redis://b'", "unknown setting brokr_url", "did you mean broker_url?"),
        ("extend_expiry_s = 1", "unknown setting extend_expiry_s", "a setting of a task"),
        ("qqqqqqqq = 1", "unknown setting qqqqqqqq", "known are: account, broker_url"),
        ("flower_port =", "is not TOML", ""),
        ("flower_port = 99999", "the setting flower_port (file keyferry.toml)", "correct it there"),
        ("host = 'a:b'", "the setting host (file keyferry.toml)", ""),
        ("stream_shift_s = 0", "the setting stream_shift_s (file keyferry.toml)", ""),
    ],
)
def test_a_wrong_file_is_an_error_that_helps(here: Path, text: str, message: str, hint: str) -> None:
    (here / "keyferry.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        Settings()
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_named_file_that_is_not_there_is_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFERRY_CONFIG", str(here / "none.toml"))
    with pytest.raises(UsageError, match="is not there"):
        Settings()


def test_a_wrong_variable_is_named_and_its_value_is_not_shown(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFERRY_FLOWER_PORT", "hush")
    with pytest.raises(UsageError, match=r"flower_port \(environment KEYFERRY_FLOWER_PORT\)") as caught:
        Settings()
    assert "hush" not in caught.value.line()


def test_the_key_is_the_one_given_or_that_of_its_file(here: Path) -> None:
    (here / "key").write_text("filed\n")
    assert Settings().key() is None
    assert Settings(secret_key_file=here / "key").key() == b"filed"
    assert Settings(secret_key_file=here / "key", secret_key="given").key() == b"given"
    with pytest.raises(ControlError, match="cannot read the secret key file") as caught:
        Settings(secret_key_file=here / "none").key()
    assert caught.value.code == "secret-key"


def test_the_spool_and_the_host_have_places_of_their_own(here: Path) -> None:
    assert Settings(spool_dir=Path("elsewhere")).spool == here / "elsewhere"
    assert Settings().hostname == socket.gethostname()
    assert Settings(host="rack-3").hostname == "rack-3"


def test_a_suspended_stream_may_take_so_much_unless_more_or_less_is_asked_for() -> None:
    settings = Settings(suspend_bytes=5 << 20)
    assert settings.suspend_limit(True, None) == 5 << 20
    assert settings.suspend_limit(True, 6 << 20) == 6 << 20
    assert settings.suspend_limit(False, None) is None


@pytest.mark.parametrize("url", ["valkey://h:1", "amqp:h", "nonsense", "http://h"])
def test_a_broker_that_is_none_is_named_at_once(url: str) -> None:
    with pytest.raises(UsageError, match=r"broker_url.*must begin with redis://"):
        Settings(broker_url=url)
