"""`keyferry config`: the settings of this installation, and where each comes from."""

from __future__ import annotations

import json as json_format
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sync_tasks.settings import Settings

EXAMPLES = """
Settings, and where each comes from.

\b
Each is KEYFERRY_<NAME> in the environment, or a line of a TOML file: the one that KEYFERRY_CONFIG names, else
./keyferry.toml, else /etc/keyferry/keyferry.toml. The environment counts more than the file. A whole file:

\b
  database_url = "postgresql+psycopg://keyferry@db.example/keyferry"
  broker_url = "redis://broker.example:6379/0"
  secret_key_file = "/etc/keyferry/secret.key"
  spool_dir = "/mnt/keyferry/spool"    # chunks and logs; left out: in the state directory
  spool_shared = true                  # only if every host sees the same files under that path

\b
Examples:
  keyferry config show
  keyferry config show --state /var/lib/keyferry --json
  keyferry config new-key > /etc/keyferry/secret.key
"""

SHOW = """
Show every setting, its value and where that comes from. Passwords and keys are not shown.

\b
Examples:
  keyferry config show
  KEYFERRY_CONFIG=/etc/keyferry/test.toml keyferry config show --json
"""

NEW_KEY = """
Print a new secret key: it seals the addresses of all tasks. Every process of an installation needs the same.

\b
Examples:
  keyferry config new-key > /etc/keyferry/secret.key
"""

HIDDEN = "***"
_USER = re.compile(r"(?<=://).*@")
_IN_QUERY = re.compile(r"(?i)((?:pass|pwd|secret|token)[a-z_]*=)[^&\s]*")

config = typer.Typer(help=EXAMPLES)


@config.command("show")
def show(
    state: Annotated[Path | None, typer.Option("--state", metavar="DIR", help="the state directory")] = None,
    json: Annotated[bool, typer.Option("--json", help="one object on stdout")] = False,
) -> int:
    """Replaced by SHOW: the docstring of a command is its help."""
    from sync_tasks.settings import Settings

    settings = Settings() if state is None else Settings(state_dir=state)
    rows = table(settings, Settings.origins() | ({} if state is None else {"state_dir": "option --state"}))
    if json:
        typer.echo(json_format.dumps({name: {"value": value, "from": place} for name, value, place in rows}))
        return 0
    width = max(len(_text(value)) for _, value, _ in rows)
    for name, value, place in rows:
        typer.echo(f"{name:16} {_text(value):{width}} {place}")
    return 0


show.__doc__ = SHOW


@config.command("new-key")
def new_key() -> int:
    """Replaced by NEW_KEY: the docstring of a command is its help."""
    from sync_tasks.secrets import new_key

    typer.echo(new_key().decode())
    return 0


new_key.__doc__ = NEW_KEY


def table(settings: Settings, origins: dict[str, str]) -> list[tuple[str, Any, str]]:
    """Name, value as it may be shown, and origin of each setting."""
    from pydantic import SecretStr

    rows: list[tuple[str, Any, str]] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = HIDDEN
        elif isinstance(value, Path):
            value = str(value)
        elif isinstance(value, str):
            value = redacted(value)
        rows.append((name, value, origins[name]))
    return rows


def redacted(url: str) -> str:
    """A URL without its user part and the passwords of its query."""
    return _IN_QUERY.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", url))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else str(value)
