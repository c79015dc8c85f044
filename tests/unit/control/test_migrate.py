"""Databases of other versions."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from sync_tasks.errors import ControlError
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
