"""What makes the same task again: the command, and the Python code. No password is in either."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.spec import TaskSpec

End = Endpoint | str
"""A server, or `instance://NAME`, as whoever makes the task writes it."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Both."""

    command: str  # for a shell
    python: str

    @classmethod
    def of(cls, source: End, target: End, spec: TaskSpec) -> Preview:
        """Of a task with these ends and settings."""
        return cls(command(source, target, spec), python(source, target, spec))


def given(spec: TaskSpec) -> dict[str, Any]:
    """The settings that differ from what they are when left out."""
    return spec.model_dump(exclude_defaults=True)


def command(source: End, target: End, spec: TaskSpec) -> str:
    """The line for a shell."""
    settings = given(spec)
    words = ["keyferry", "task", "create"]
    if name := settings.pop("name", None):
        words += ["--name", name]
    for setting, value in _flat(settings):
        words += ["--set", f"{setting}={_toml(value)}"]
    words += [_bare(source), _bare(target)]
    given_by = [end for end in (source, target) if isinstance(end, Endpoint) and end.password]
    secrets = [f"KEYFERRY_{end.side.value.upper()}_PASSWORD=..." for end in given_by]
    return " ".join([*secrets, shlex.join(words)])


def python(source: End, target: End, spec: TaskSpec) -> str:
    """The code of a program."""
    arguments = [repr(_bare(source)), repr(_bare(target))]
    arguments += [f"{name}={value!r}" for name, value in given(spec).items()]
    return "\n".join(
        [
            "from sync_tasks import Client",
            "",
            "with Client() as client:",
            "    task = client.create(",
            *(f"        {argument}," for argument in arguments),
            "    )",
            "    client.start(task)",
        ]
    )


def _bare(end: End) -> str:
    return end if isinstance(end, str) else end.bare()


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict) and name != "databases":
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _toml(value: Any) -> str:
    """As FILE.toml has it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_toml(inner)}' for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
