"""What a client may be given, and what it finds there."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import sync_tasks
from sync_tasks import Client, ControlError, UsageError
from sync_tasks.keyfile import service_key
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.settings import Settings
from sync_tasks.store import Store, migrate
from tests.unit.client.conftest import SOURCE, TARGET
from tests.unit.control.processes import PROCESSES, in_processes


def revision(state: Path, number: str) -> None:
    with create_engine(f"sqlite:///{state}/keyferry.db").begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :number"), {"number": number})


def test_a_fresh_state_directory_is_set_up_for_its_owner_alone(state: Path) -> None:
    with Client(state) as client:
        assert client.list() == []
        assert not (state / "secret.key").exists(), "who only looks on needs none"
        client.create(SOURCE, TARGET)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for path in state.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    with Client(str(state)) as again:
        assert len(again.list()) == 1


def test_a_directory_that_others_may_read_shows_them_no_database(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with Client(tmp_path) as client:
        client.create(SOURCE, TARGET)
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_workers_open_what_a_client_sealed(state: Path, client: Client) -> None:
    task = client.create(SOURCE, TARGET)
    settings = Settings(state_dir=state)
    store = Store(settings.database(), SecretBox(service_key(settings)))
    assert [end.url() for end in store.endpoints(task.id)] == [SOURCE, TARGET]
    store.dispose()


@pytest.mark.parametrize(("number", "code"), [("0001", "old-database"), ("9999", "newer-state")])
def test_another_version_is_named_with_what_to_do(state: Path, number: str, code: str) -> None:
    Client(state).close()
    revision(state, number)
    with pytest.raises(ControlError, match="version") as caught:
        Client(state)
    assert caught.value.code == code
    assert ("keyferry db upgrade" in caught.value.hint) == (code == "old-database")


def test_a_database_that_was_never_set_up_is_not_set_up_by_a_client(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no tables") as caught:
        Client(f"sqlite:///{tmp_path}/there.db")
    assert "keyferry db upgrade" in caught.value.hint


def test_a_database_that_others_share_needs_their_key_to_make_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/there.db"
    migrate(url)
    with Client(url) as client:
        assert client.list() == []
        with pytest.raises(ControlError) as caught:
            client.create(SOURCE, TARGET)
        assert (caught.value.code, client.list()) == ("secret-key", [])
    monkeypatch.setenv("KEYFERRY_SECRET_KEY", new_key().decode())
    with Client(url) as client:
        client.create(SOURCE, TARGET)


def test_without_an_argument_it_is_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client() as client:
        client.create(SOURCE, TARGET)
    assert (tmp_path / ".keyferry" / "keyferry.db").exists()
    url = f"sqlite:///{tmp_path}/there.db"
    migrate(url)
    monkeypatch.setenv("KEYFERRY_DATABASE_URL", url)
    with Client() as client:
        assert client.list() == []
    with Client(tmp_path / ".keyferry") as client:
        assert len(client.list()) == 1, "what is named counts more"


@pytest.mark.parametrize("url", ["mysql://u:hush@h/k", "x://u:hush@h", "postgresql://u:hush@/k?host=/nowhere"])
def test_a_database_that_cannot_be_used_is_not_repeated(url: str) -> None:
    with pytest.raises(ControlError) as caught:
        Client(url)
    assert caught.value.code == "database"
    assert "hush" not in caught.value.line()


def test_no_password_in_what_a_notebook_shows(state: Path) -> None:
    client = Client(state)
    assert str(state) in repr(client)
    client.create(SOURCE, TARGET)
    client._settings = Settings(database_url="postgresql://u:hush@h/k?password=s3cret")
    assert repr(client) == "Client(postgresql: h/k)"
    client.close()


def test_a_file_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match="state directory"):
        Client(tmp_path / "file" / "state")
    (tmp_path / "state" / "keyferry.db").mkdir(parents=True)
    with pytest.raises(ControlError):
        Client(tmp_path / "state")


def test_a_directory_without_room(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    state.mkdir()
    monkeypatch.setattr("sync_tasks.connect.os.open", full)
    monkeypatch.setattr("sync_tasks.connect.Directory.attach", lambda directory: directory)
    with pytest.raises(ControlError, match="No space left") as caught:
        Client(state)
    assert caught.value.code == "state-dir"


def test_a_wrong_setting_of_the_environment(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFERRY_FLOWER_PORT", "x")
    with pytest.raises(UsageError, match="flower_port"):
        Client(state)


def test_a_closed_client_opens_again(client: Client) -> None:
    client.close()
    assert client.list() == []


def test_from_several_threads(client: Client) -> None:
    threads = [
        threading.Thread(target=lambda: [client.create(SOURCE, TARGET) for _ in range(5)]) for _ in range(PROCESSES)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [task.id for task in client.list()] == list(range(1, 5 * PROCESSES + 1))


def test_after_a_fork(client: Client) -> None:
    client.create(SOURCE, TARGET)
    in_processes(lambda _: [client.create(SOURCE, TARGET).id for _ in range(3)])
    assert len(client.list()) == 1 + 3 * PROCESSES


@pytest.mark.long
def test_on_postgresql(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.control.conftest import created

    monkeypatch.setenv("KEYFERRY_SECRET_KEY", new_key().decode())
    with created(postgres) as url:
        migrate(url)
        with Client(url.replace("postgresql+psycopg://", "postgresql://")) as client:
            assert repr(client).startswith("Client(postgresql: ")
            task = client.create(SOURCE, TARGET, name="n")
            assert client.get("n") == task
            assert client.modify(task, extend_expiry_s=1).settings.extend_expiry_s == 1


def test_what_the_package_offers_is_there_and_costs_nothing_until_it_is_used() -> None:
    for name in sync_tasks.__all__:
        assert getattr(sync_tasks, name).__name__ in (name, "EventView")
        assert name in dir(sync_tasks)
    with pytest.raises(AttributeError, match="Klient"):
        sync_tasks.Klient  # noqa: B018
    code = "import sys, sync_tasks; sys.exit(' '.join({'sqlalchemy', 'pydantic', 'redis'} & set(sys.modules)) or None)"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
