"""`python -m tests.pages`: the pages of docs/ that are made from the code, made anew; a test holds them to it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

from sync_tasks import errors
from sync_tasks.error_table import ANSWERS, ANYTHING_ELSE, CONNECTIONS, Kind
from sync_tasks.errors import EXIT_CODES, KeyferryError
from sync_tasks.precheck.items import ITEMS
from sync_tasks.settings import PREFIX, Settings
from sync_tasks.spec import MEANING, RANGES, TABLES
from sync_tasks.store.ops import LIVE
from tests import observed, sizing, versions

DOCS = Path(__file__).parents[1] / "docs"
AGAIN = {"fatal": "no", "connection": "for the connection window", "other": "for the other window"}
OTHER_NAMES = {
    "tls": "the TLS handshake fails",
    "unreachable": "no route, or another failure of the network",
    "MAXCLIENTS": "`max number of clients reached`",
    "UNKNOWN": "`unknown command`",
    "PAYLOAD": "`Bad data format`, `DUMP payload version or checksum are wrong`",
}


def settings() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings of an installation",
        "",
        f"Each is `{PREFIX}<NAME>` in the environment or `name = value` in a TOML file: the one that `{PREFIX}CONFIG`",
        "names, else `./keyferry.toml`, else `/etc/keyferry/keyferry.toml`. The environment counts more than the file,",
        "an option of the command line more than both. `keyferry config show` tells what counts, and from where.",
        "",
        "| setting | default | what it is |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{str(field.default).lower()}`"
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join([*lines, "", *_of_tasks(), ""])


def _of_tasks() -> list[str]:
    lines = [
        "# Settings of a task",
        "",
        "In TOML (`--config FILE.toml`), as `--set NAME=VALUE`, or as arguments of `Client.create` and `modify`. Those",
        "that a running task takes up *at once* are heard within two seconds and interrupt nothing; the others it",
        "takes up at its next checkpoint, or behind its load. What the filter does, and how `databases` and prefixes",
        "change while a task runs: [filters.md](filters.md); what a script can do: [transforms.md](transforms.md).",
        "",
        "| setting | default | it takes | | what it is |",
        "|---|---|---|---|---|",
    ]
    for name, meaning in MEANING.items():
        table, _, field = name.rpartition(".")
        default = TABLES[table].model_fields[field].default
        shown = f"`{json.dumps(default)}`" if default not in (None, "") else ""
        at_once = "at once" if name.partition(".")[0] in LIVE else ""
        lines.append(f"| `{name}` | {shown} | {RANGES[name]} | {at_once} | {meaning} |")
    return lines


def _classes(root: type[KeyferryError]) -> Iterator[type[KeyferryError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


def error_tree() -> str:
    """docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "Every error has a code, a side, and whether trying again can help; the command line prints it as one line and",
        "ends with the side's exit code. In Python they are exceptions of `sync_tasks.errors`, under one root. A code",
        "more precise than its class's (`disk-full`, `file-missing`, ...) and a hint what to do come with the error.",
        "",
        "| exception | code | side | exit code | tried again | what it means |",
        "|---|---|---|---|---|---|",
    ]
    for found in _classes(KeyferryError):
        if found.__module__ != errors.__name__:
            continue
        meaning = (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " ")
        lines.append(
            f"| `{found.__name__}` | `{found.code}` | {found.side} | {EXIT_CODES[found.side]} |"
            f" {AGAIN[found.retry]} | {meaning} |"
        )
    return "\n".join([*lines, *_table(), ""])


def _table() -> Iterator[str]:
    """What can go wrong with a server, row by row."""
    yield from [
        "",
        "## What is retried, and for how long",
        "",
        "A start ends at once by any of these. While a task runs, what a retry may heal opens a window: that for",
        "failed connections (`retry.connection_min`) or that for everything else (`retry.other_min`); see",
        "[architecture.md](architecture.md#retry-windows). Credentials that are refused in the middle of a run may be",
        "those of a password that is being rotated. Always final are also: one server as source and target, and a",
        "snapshot of a type that is not known.",
        "",
        "| what happens | side | tried again | what to do |",
        "|---|---|---|---|",
    ]
    for name, row in {**CONNECTIONS, **ANSWERS, "any other answer": ANYTHING_ELSE}.items():
        title = OTHER_NAMES.get(name) or row.message or (f"`{name}`" if name in ANSWERS else name)
        side = "control" if row.kind is Kind.DISK else "who was asked"
        differs = f"; of a source: {row.source_hint}" if row.source_hint else ""
        yield f"| {title} | {side} | {AGAIN[row.retry]} | {row.hint}{differs} |"


def precheck() -> str:
    """docs/precheck.md."""
    lines = [
        "# Precheck",
        "",
        "Before the first start, and whenever it is asked for, a worker looks at these items, side by side. An item",
        "has *passed*, gives a *warning*, has *failed*, or was *skipped*, since it could not be asked or means nothing",
        "for these servers. A start needs every item passed or skipped, or a warning that is ignored:",
        "",
        "```sh",
        "keyferry task precheck orders-move                  # all of them; on a terminal a table that fills",
        "keyferry task precheck --item eviction orders-move  # one again; the others keep what was found",
        "keyferry task ignore --item eviction orders-move    # recorded with the task; holds for later prechecks",
        "```",
        "",
        "Only warnings can be ignored. What was found comes with what to do about it, often the very command.",
        "In Python: `client.precheck(task, items=...)`, `client.precheck_items(task)`, `client.ignore(task, items)`.",
        "`keyferry sync` has no step between precheck and start: it says warnings on stderr, records them, and goes",
        "on. Nothing is written to either server.",
        "",
        "| item | what must hold | if it does not | a warning |",
        "|---|---|---|---|",
    ]
    for item in ITEMS:
        lines.append(f"| `{item.id}` | {item.title} | {item.why} | {'can be ignored' if item.warns else ''} |")
    return "\n".join([*lines, ""])


PAGES = {
    "precheck.md": precheck,
    "settings.md": settings,
    "errors.md": error_tree,
    "versions.md": versions.page,
    "observe.md": observed.page,
    "scaling.md": sizing.page,
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
