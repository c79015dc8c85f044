"""Databases of other versions."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Side
from sync_tasks.migrations import HEAD, KNOWN
from sync_tasks.models import Base
from sync_tasks.store import migrate
from tests.unit.control.conftest import only_sqlite
from tests.unit.control.databases import Emptied
from tests.unit.control.processes import PROCESSES, in_processes


def revision(url: str) -> str | None:
    with create_engine(url).connect() as connection:
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return found


def stamp(url: str, value: str | None) -> None:
    with create_engine(url).begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        if value is not None:
            connection.execute(text("INSERT INTO alembic_version VALUES (:v)"), {"v": value})


def schema(url: str) -> dict[str, object]:
    """What each table consists of."""
    found = inspect(create_engine(url))
    return {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"], bool(c["default"])) for c in found.get_columns(table)),
            found.get_pk_constraint(table),
            sorted(map(str, found.get_foreign_keys(table))),
            sorted(map(str, found.get_indexes(table))),
            sorted(map(str, found.get_unique_constraints(table))),
        )
        for table in found.get_table_names()
    }


def test_a_fresh_database_is_of_this_version(url: str) -> None:
    migrate(url)
    assert revision(url) == HEAD
    migrate(url)
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_migrations_lead_to_the_same_tables_as_the_models(url: str, rows: Emptied) -> None:
    """A database from before the first revision, upgraded step by step, against one made at once."""
    with create_engine(url).begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
                " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        )
    migrate(url)
    assert revision(url) == HEAD
    assert len(schema(url)) == len(Base.metadata.tables) + 1
    assert schema(url) == schema(rows.url)
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_windows_and_servers_survive_the_upgrade_from_revision_2(url: str) -> None:
    """A deadline stays where it was, and running tasks learn which servers they share."""
    migrate(url)
    source = Endpoint.parse("redis://u:hush@H:7000/3", Side.SOURCE)
    with create_engine(url).begin() as connection:
        config = Config()
        config.set_main_option("script_location", "sync_tasks:migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        task = (
            "INSERT INTO task"
            " (id, uid, name, state, source, target, source_safe, target_safe, spec, created_at, finishing)"
            " VALUES (:id, :uid, 'n', :state, :sealed, :sealed, :safe, 'unix:///t', '{}', :at, :no)"
        )
        rest = {"sealed": b"x", "at": datetime(2026, 1, 1, tzinfo=UTC), "no": False}
        rows = [(1, "retrying", source.safe()), (2, "suspended", "odd"), (3, "released", source.safe())]
        for number, state, safe in rows:
            connection.execute(text(task), {"id": number, "uid": str(number), "state": state, "safe": safe, **rest})
        connection.execute(
            text(
                "INSERT INTO retry_window"
                " (id, task_id, kind, side, origin, attempts, opened_at, deadline, length_s, seen_s, error)"
                " VALUES (1, 1, 'other', 'target', 'load', 7, :at, 1800000600.5, 600.0, 33.0, '{}')"
            ),
            {"at": rest["at"]},
        )
    migrate(url)
    with create_engine(url).connect() as connection:
        window = connection.execute(text("SELECT wall_from, seen_s, attempts FROM retry_window")).one()
        servers = connection.execute(text("SELECT source_server, target_server FROM task ORDER BY id")).all()
    assert tuple(window) == (1_800_000_000.5, 33.0, 7)
    there = Endpoint.parse("unix:///t", Side.TARGET).identity()
    assert [tuple(row) for row in servers] == [(source.identity(), there), (None, there), (None, None)]


def test_streams_that_are_only_received_stop_in_the_version_before(url: str) -> None:
    """It knows nothing of that, and would apply them."""
    migrate(url)
    with create_engine(url).begin() as connection:
        config = Config()
        config.set_main_option("script_location", "sync_tasks:migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        task = (
            "INSERT INTO task"
            " (id, uid, name, state, source, target, source_safe, target_safe, spec, created_at, finishing)"
            " VALUES (1, 'u', 'n', 'suspended', :sealed, :sealed, 's', 't', '{}', :at, :no)"
        )
        connection.execute(text(task), {"sealed": b"x", "at": datetime(2026, 1, 1, tzinfo=UTC), "no": False})
        node = (
            "INSERT INTO node"
            " (id, task_id, number, wanted, fresh, begun, gen, stream_db, snapshot_done, in_sync, settled)"
            " VALUES (:id, 1, :id, :yes, :yes, :yes, 1, 0, :yes, :yes, :yes)"
        )
        for number in (1, 2):
            connection.execute(text(node), {"id": number, "yes": True})
    migrate(url)
    asked = "SELECT wanted, receive_bytes, resting FROM node ORDER BY id"
    with create_engine(url).begin() as connection:
        assert [tuple(row) for row in connection.execute(text(asked))] == [(True, None, False)] * 2
        connection.execute(text("UPDATE node SET receive_bytes = 5000000000 WHERE id = 2"))
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        assert connection.execute(text("SELECT wanted FROM node ORDER BY id")).scalars().all() == [True, False]


def test_of_several_that_start_at_once_one_makes_the_tables(url: str) -> None:
    assert in_processes(lambda _: migrate(url)) == [None] * PROCESSES
    assert len(schema(url)) == len(Base.metadata.tables) + 1


def test_a_newer_database_is_left_alone(url: str) -> None:
    migrate(url)
    stamp(url, "9999")
    with pytest.raises(ControlError, match="newer version") as caught:
        migrate(url)
    assert caught.value.exit_code == 5
    assert "9999" in caught.value.message
    assert revision(url) == "9999"


def test_the_list_of_revisions_is_alembics() -> None:
    script = ScriptDirectory(str(sys.modules["sync_tasks.migrations"].__path__[0]))
    assert tuple(reversed([found.revision for found in script.walk_revisions()])) == KNOWN


@only_sqlite
def test_the_usual_start_imports_neither_alembic_nor_celery(url: str) -> None:
    """A third of a second that a foreground start does not have."""
    code = (
        "import sys; from sync_tasks.store import migrate;"
        f"migrate({url!r}); migrate({url!r});"
        "sys.exit(' '.join({'alembic', 'celery', 'redis', 'kombu'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_is_no_database(tmp_path: object) -> None:
    from pathlib import Path

    (Path(str(tmp_path)) / "x.db").write_bytes(b"no database at all, but long enough to look at" * 10)
    with pytest.raises(ControlError, match="not a database"):
        migrate(f"sqlite:///{tmp_path}/x.db")
