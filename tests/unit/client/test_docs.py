"""docs/client.md, held to the code."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from sync_tasks import Client, Event, Precheck, Problem, Task
from sync_tasks.errors import DATABASE
from sync_tasks.store.verbs import FOR_GOOD

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "client.md").read_text()
NOT_VERBS = {"close", "reading", "readings"}


def written(name: str, function: Any) -> str:
    """A verb as the table writes it."""
    parts, keyword = [], False
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            parts.append("*")
            keyword = True
        default = parameter.default
        text = f"{default:g}" if isinstance(default, float) else repr(default)
        star = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        parts.append(f"{star}{parameter.name}" + ("" if default is parameter.empty else f"={text}"))
    return f"{name}({', '.join(parts)})"


def test_the_verbs_in_the_docs_are_those_of_the_client() -> None:
    table = TEXT.partition("## Verbs")[2].partition("## ")[0]
    verbs = {name: value for name, value in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_"}
    there = {written(name, value) for name, value in verbs.items() if name not in NOT_VERBS}
    assert set(re.findall(r"`(\w+\([^`]*\))`", table)) == there


def test_every_field_is_named() -> None:
    section = TEXT.partition("## What comes back")[2]
    for kind in (Task, Precheck, Event, Problem):
        line = re.search(rf"`{'Event' if kind is Event else kind.__name__}`: (.*?)(?=\n- |\n\n)", section, re.DOTALL)
        assert line is not None, kind
        for field in fields(kind):
            assert f"`{field.name}`" in line[1], (kind, field.name)


def test_every_code_that_is_named_can_be_raised() -> None:
    """And those that the client makes itself are named."""
    table = TEXT.partition("| `code` of a ControlError")[2].partition("\n\n")[0]
    named = {
        code for row in re.findall(r"^\| (`[^|]+)\|", table, re.MULTILINE) for code in re.findall("`([^`]+)`", row)
    }
    source = "".join(path.read_text() for of in ("sync_tasks", "workers") for path in (ROOT / of).rglob("*.py"))
    raised = {*re.findall(r'code="([a-z-]+)"', source), DATABASE}
    assert named <= raised
    assert "code=DATABASE" in source
    own = "".join((ROOT / "sync_tasks" / name).read_text() for name in ("waiting.py", "store/verbs.py", "store/ops.py"))
    assert set(re.findall(r'code="([a-z-]+)"', own)) - {"failed", "no-op", "revoked"} <= named
    for code in FOR_GOOD:
        assert f"`{code}`" in TEXT


def test_the_example_is_python_that_runs_as_far_as_servers_are_not_needed(client: Client) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    making = next(line for line in code.splitlines() if "client.create" in line)
    scope: dict[str, Any] = {"client": client}
    exec(making.strip(), scope)
    assert [task.name for task in scope["tasks"]] == ["orders-0", "orders-1", "orders-2"]
    compile(code, "client.md", "exec")
