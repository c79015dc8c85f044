"""One look at a real broker: who answers, and why it does not take us."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks.broker_url import read
from sync_tasks.cli.doctor_command import Item, State, examine
from sync_tasks.errors import ControlError, Retry, UsageError
from sync_tasks.secrets import new_key
from sync_tasks.settings import Settings
from sync_tasks.store import migrate
from sync_tasks.supervise import reach
from tests.sentinels import Sentinels
from tests.servers import Server, StartServer, free_port, start
from tests.unit.control.tls import Authority

KIND = "redis-7.0"  # Debian's, which speaks TLS


def refused(url: str) -> ControlError:
    with pytest.raises(ControlError) as caught:
        reach.look(read(url))
    return caught.value


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="module")
def broker(authority: Authority) -> Iterator[tuple[Server, str]]:
    """One with TLS and a user, and its address."""
    port = free_port()
    with start(KIND, config={**authority.config(clients=True), "tls-port": str(port)}) as server:
        server.client().execute_command("ACL", "SETUSER", "kf", "on", ">s3cret", "~kf:*", "&*", "+@all", "-@dangerous")
        yield server, f"127.0.0.1:{port}"


def test_it_answers_and_may_keep_its_version_to_itself(broker: tuple[Server, str], authority: Authority) -> None:
    server, address = broker
    files = f"ca={authority.ca}&cert={authority.cert}&key={authority.key}"
    assert reach.look(read(f"redis://127.0.0.1:{server.port}")).startswith("Redis 7.0.")
    assert reach.look(read(f"rediss://kf:s3cret@{address}?{files}")) == "Redis"


def test_certificates_and_names_are_verified(
    broker: tuple[Server, str], authority: Authority, tmp_path: Path
) -> None:
    server, address = broker
    files = f"cert={authority.cert}&key={authority.key}"
    for url in (
        f"rediss://{address}?{files}",
        f"rediss://{address}?ca={Authority(tmp_path).ca}&{files}",
        f"rediss://{address.replace('127.0.0.1', 'localhost')}?ca={authority.ca}&{files}",
        f"rediss://{address}?ca={authority.ca}",
    ):
        error = refused(url)
        assert (error.code, error.retry) == ("broker-tls", Retry.FATAL), (url, error.message)
    silent = refused(f"rediss://127.0.0.1:{server.port}?ca={authority.ca}")
    assert (silent.code, silent.retry) == ("broker-away", Retry.CONNECTION)
    assert "speaks TLS" in silent.hint
    with pytest.raises(UsageError, match="ca: /none: No such file"):
        reach.look(read(f"rediss://{address}?ca=/none"))


def test_a_user_that_is_not_let_in_is_final(broker: tuple[Server, str]) -> None:
    server, _ = broker
    for user in ("kf:hush-hush", "nobody:hush-hush"):
        error = refused(f"redis://{user}@127.0.0.1:{server.port}")
        assert (error.code, error.retry) == ("broker-credentials", Retry.FATAL)
        assert "docs/deploy.md" in error.hint
        assert "hush" not in error.line()


@pytest.mark.parametrize("words", [("worker", "--load", "1"), ("scheduler",), ("flower",), ("up",)])
def test_nothing_starts_with_a_password_that_is_wrong(
    words: tuple[str, ...], broker: tuple[Server, str], tmp_path: Path
) -> None:
    migrate(f"sqlite:///{tmp_path}/keyferry.db")
    env = {
        **os.environ, "KEYFERRY_STATE_DIR": str(tmp_path), "KEYFERRY_SECRET_KEY": new_key().decode(),
        "KEYFERRY_BROKER_URL": f"redis://kf:hush-hush@127.0.0.1:{broker[0].port}", "KEYFERRY_FLOWER_PORT": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "sync_tasks.cli.main", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5, done.stderr
    assert "keyferry: control: the broker, Redis at 127.0.0.1:" in done.stderr
    assert "check user and password" in done.stderr
    assert "hush" not in done.stderr


def test_a_rabbitmq_that_is_too_old() -> None:
    with pytest.raises(ControlError, match=r"is of version 3\.8\.9") as caught:
        reach._rabbitmq(read("amqp://h"), "3.8.9")
    assert caught.value.code == "broker-version"
    assert reach._rabbitmq(read("amqp://h"), "4.1.0") == "RabbitMQ 4.1.0"


def test_who_is_away_is_waited_for() -> None:
    said: list[str] = []
    for url in (f"redis://127.0.0.1:{free_port()}", f"amqp://127.0.0.1:{free_port()}", "redis+socket:///none/broker.sock"):
        error = refused(url)
        assert (error.code, error.retry) == ("broker-away", Retry.CONNECTION), url
        reach.at_start(Settings(broker_url=url), said.append)
    assert len(said) == 3
    assert all(line.startswith("waiting for the broker: control: ") for line in said)
    assert "name server" in refused("redis://no-such-host.invalid").hint


def test_who_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]
        assert refused(f"redis://127.0.0.1:{port}").retry is Retry.CONNECTION, "silence may end"


def test_a_database_that_is_not_there_is_final(server: StartServer) -> None:
    error = refused(f"redis://127.0.0.1:{server(KIND, config={'databases': '1'}).port}/3")
    assert (error.code, error.retry) == ("broker-refuses", Retry.FATAL)
    assert "out of range" in error.message


def test_sentinels_and_their_users(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs\n")
    (tmp_path / "wrong").write_text("hush-hush\n")
    rights = "user watcher on >theirs +ping +hello +client +sentinel|masters"
    with Sentinels(KIND, "queue", lines=(rights,)) as sentinels:
        where = sentinels.address()
        assert reach.look(read(f"redis+sentinel://{where}/queue")).startswith("Redis 7.0.")
        user = f"sentinel_username=watcher&sentinel_password_file={tmp_path}"
        assert reach.look(read(f"redis+sentinel://{where}/queue?{user}/theirs")).startswith("Redis 7.0.")
        wrong = refused(f"redis+sentinel://{where}/queue?{user}/wrong")
        assert (wrong.code, wrong.retry) == ("broker-credentials", Retry.FATAL)
        assert "hush" not in wrong.line()
        assert len(wrong.message) < 200
        other = refused(f"redis+sentinel://{where}/other")
        assert (other.code, other.retry) == ("broker-away", Retry.CONNECTION)
        assert "name of the master" in other.hint
        sentinels.kill(0)
        began = time.monotonic()
        assert reach.look(read(f"redis+sentinel://{where}/queue")).startswith("Redis 7.0."), "two are enough"
        assert time.monotonic() - began < 2.0


def test_the_doctor_says_what_it_is(server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server(KIND).port

    def item(url: str) -> Item:
        monkeypatch.setenv("KEYFERRY_BROKER_URL", url)
        return next(one for one in examine(tmp_path) if one.name == "broker_url")

    there = item(f"redis://127.0.0.1:{port}")
    assert there.state is State.OK
    assert f"Redis at 127.0.0.1:{port}" in there.found
    away = item(f"amqp://u:hush@127.0.0.1:{free_port()}")
    assert away.state is State.MISSING
    assert "RabbitMQ at 127.0.0.1" in away.found
    assert away.hint
    assert "hush" not in f"{away}"
    assert item("valkey://h").state is State.MISSING
