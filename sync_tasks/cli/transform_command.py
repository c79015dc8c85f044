"""`keyferry transform`: scripts, before a task has them."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sync_tasks.transform.sample import Sample
    from sync_tasks.transform.script import Command, Script

EXAMPLES = """
Scripts that see each command before it travels.

A script defines transform(db, argv), and returns nothing (the command travels as it is), false (it is dropped), one
command or a list of them. docs/transforms.md has recipes.

\b
Examples:
  keyferry transform check rename.lua
  keyferry transform check rename.lua --sample redis://:PASSWORD@old:6379 --count 20
"""
SHOWN = 200
"""Characters of a command."""

transform = typer.Typer(help=EXAMPLES)


@transform.callback()
def _group() -> None:
    """Without this the one verb would take the group's place."""


_group.__doc__ = EXAMPLES


@transform.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Lua code, or a task's settings as TOML")],
    sample: Annotated[
        str | None, typer.Option("--sample", metavar="URL", help="try it on keys of this server, or of its /db")
    ] = None,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="of so many keys")] = 10,
    json: Annotated[bool, typer.Option("--json", help="one object on stdout")] = False,
) -> int:
    """Whether a script compiles, and what it makes of real keys.

    Keys are only read, and come as a snapshot brings them: of a long value the beginning alone. With settings as TOML
    the filter counts, too.

    \b
    Examples:
      keyferry transform check rename.lua --sample redis://old:6379/0
      keyferry transform check task.toml --sample redis://old:6379 --json

    \b
    Exit: 0 it compiles, and bears these keys; 2 it does not; 3 the server of --sample.
    """
    from sync_tasks.errors import UsageError
    from sync_tasks.spec import TaskSpec, load_toml
    from sync_tasks.transform.script import Script
    from sync_tasks.transform.setting import read_script

    if file.suffix == ".toml":
        spec = load_toml(file)
        script = spec.transform.script()
        if script is None:
            raise UsageError(f"{file} has no transform", code="transform", hint="give it a table [transform]")
    else:
        spec, script = TaskSpec(), Script(read_script(file))
    found = list(_tried(script, spec, sample, count)) if sample is not None else []
    if json:
        typer.echo(json_format.dumps({"compiles": True, "keys": [_as_dict(one) for one in found]}))
        return 0
    typer.echo(f"{file}: it compiles" + (f", and was tried on {len(found)} keys" if sample is not None else ""))
    for one in found:
        typer.echo("\n".join(_lines(one)))
    return 0


def _tried(script: Script, spec: Any, url: str, count: int) -> Iterator[Sample]:
    from sync_tasks.answers import classify
    from sync_tasks.endpoints import Endpoint
    from sync_tasks.errors import KeyferryError, Side, TransformError, UsageError
    from sync_tasks.settings import Settings
    from sync_tasks.transform.sample import dry_run, samples

    endpoint = Endpoint.parse(url, Side.SOURCE, Settings().password(Side.SOURCE))
    databases = None if endpoint.db is None else [endpoint.db]
    if endpoint.db is None and spec.databases is not None:
        databases = list(spec.databases)
    client = endpoint.connect(db=0)
    try:
        for one in samples(client, databases, count):
            if spec.filter.of(one.db).takes(one.key):
                yield dry_run(script, one)
    except TransformError as error:
        raise UsageError(error.message, code=error.code, hint="correct the script, and try it again") from error
    except KeyferryError:
        raise
    except Exception as error:
        raise classify(error, Side.SOURCE) from error
    finally:
        client.close()


def _lines(one: Sample) -> Iterator[str]:
    """One key for a person."""
    yield f"\n{one.type} {_text(one.key)} of database {one.db}"
    for before, after in zip(one.before, one.after, strict=True):
        yield f"  before  {_command(before)}"
        if after is None:
            yield "  after   the same"
        elif not after:
            yield "  after   dropped"
        for command in after or []:
            yield f"  after   {_result(command)}"


def _as_dict(one: Sample) -> dict[str, Any]:
    after = [
        None if made is None else [{"db": db, "command": [_text(word) for word in argv]} for db, argv in made]
        for made in one.after
    ]
    before = [[_text(word) for word in argv] for argv in one.before]
    return {"db": one.db, "key": _text(one.key), "type": one.type, "before": before, "after": after}


def _result(command: Command) -> str:
    db, argv = command
    return _command(argv) + ("" if db is None else f"  (to database {db})")


def _command(argv: list[bytes]) -> str:
    words = [_text(word) for word in argv]
    text = " ".join(json_format.dumps(word, ensure_ascii=False) if " " in word or not word else word for word in words)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _text(word: bytes) -> str:
    return word.decode(errors="backslashreplace")
