"""Databases of other versions."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from sync_tasks.errors import ControlError
from sync_tasks.migrations import HEAD, KNOWN
from sync_tasks.models import Base
from sync_tasks.store import migrate


def revision(url: str) -> str | None:
    with create_engine(url).connect() as connection:
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return found


def stamp(url: str, value: str | None) -> None:
    with create_engine(url).begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        if value is not None:
            connection.execute(text("INSERT INTO alembic_version VALUES (:v)"), {"v": value})


def schema(url: str) -> set[tuple[str, str]]:
    with create_engine(url).connect() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
    return {(name, " ".join(sql.replace('"', "").split())) for name, sql in rows}


def test_a_fresh_database_is_of_this_version(url: str) -> None:
    migrate(url)
    assert revision(url) == HEAD
    migrate(url)
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_migrations_lead_to_the_same_tables_as_the_models(url: str, tmp_path: object) -> None:
    """A database from before the first revision, upgraded step by step, against one made at once."""
    older = f"sqlite:///{tmp_path}/older.db"
    with create_engine(older).begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
                " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        )
    migrate(older)
    migrate(url)
    assert revision(older) == HEAD
    assert schema(older) == schema(url)
    with create_engine(older).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_newer_database_is_left_alone(url: str) -> None:
    migrate(url)
    stamp(url, "9999")
    with pytest.raises(ControlError, match="newer version") as caught:
        migrate(url)
    assert caught.value.exit_code == 5
    assert "9999" in caught.value.message
    assert revision(url) == "9999"


def test_the_list_of_revisions_is_alembics(url: str) -> None:
    script = ScriptDirectory(str(sys.modules["sync_tasks.migrations"].__path__[0]))
    assert tuple(reversed([found.revision for found in script.walk_revisions()])) == KNOWN


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
