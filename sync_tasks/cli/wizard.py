"""`keyferry task create` without addresses, on a terminal: asks for what a task needs, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from sync_tasks.cli.task_options import settings_of
from sync_tasks.errors import KeyferryError, Side

if TYPE_CHECKING:
    from sync_tasks.client import Client
    from sync_tasks.spec import TaskSpec

Ask = Callable[[str, str], str]
"""A question and the answer that counts when none is given; the answer."""
Say = Callable[[str], None]

QUESTIONS: tuple[tuple[str, str, str], ...] = (
    ("name", "Name of the task", "made from the addresses"),
    ("conflict_mode", "If the target holds keys: precheck-and-report or ignore-and-proceed", "precheck-and-report"),
    ("databases", 'Databases, as in { "0" = 0, "1" = 5 }', "all"),
    ("filter.allow_prefixes", 'Keys that begin so alone, as in ["orders:"]', "all"),
    ("filter.block_prefixes", "And none that begin so", "none"),
    ("filter.block_commands", 'Commands that do not travel, as in ["FLUSHALL"]', "none"),
)
MORE: tuple[tuple[str, str, str], ...] = (
    ("retry.connection_min", "Retry failed connections for so many minutes, 10 to 1440", "720"),
    ("retry.other_min", "And everything else, 1 to 1440", "10"),
    ("throttle.full.target_rps", "Commands a second of the full sync; -1: no limit", "-1"),
    ("throttle.full.mb_per_s", "Its MB a second; -1: no limit", "-1"),
    ("throttle.incremental.rps", "Commands a second of the stream; -1: no limit", "-1"),
    ("throttle.incremental.mb_per_s", "Its MB a second; -1: no limit", "-1"),
    ("prefer_replica", "Read the source from a replica of it, where one is fit: true or false", "false"),
    ("extend_expiry_s", "Seconds that keys live on for on the target, while it follows", "600"),
    ("instance_class", "Instance class: micro to 8xlarge, or unlimited", "unlimited"),
)
"""Each: setting, question, what is shown as the answer of whoever gives none."""


def ask(client: Client, question: Ask, say: Say) -> tuple[str, str, dict[str, Any]]:
    """Source, target and settings. What is wrong is told, and asked again.

    Raises:
        typer.Abort: Ctrl-C, or the input ends.
    """
    from sync_tasks.changes import changed

    if instances := client.instances():
        say("Registered: " + ", ".join(f"instance://{one.name}" for one in instances))
    source = _place(client, Side.SOURCE, question, say)
    target = _place(client, Side.TARGET, question, say)
    pairs: list[str] = []
    advanced = False
    for setting, text, usual in (*QUESTIONS, ("", "Advanced settings? yes or no", "no"), *MORE):
        if not setting:
            advanced = question(text, usual).strip().lower() in ("y", "yes")
        elif advanced or (setting, text, usual) in QUESTIONS:
            _settle(pairs, setting, text, usual, question, say)
    table = settings_of(pairs)
    changed(_usual(source), None, table, "settings")
    return source, target, table


def _usual(source: str) -> TaskSpec:
    """The settings of whoever gives none, for this source."""
    from sync_tasks import dumps
    from sync_tasks.endpoints import Endpoint
    from sync_tasks.reading import usual

    return usual(Endpoint(Side.SOURCE, **dumps.read(source)) if dumps.is_dump(source) else None)


def _place(client: Client, side: Side, question: Ask, say: Say) -> str:
    """An address that answers."""
    while True:
        what = "a URL, instance://NAME, or an RDB file" if side is Side.SOURCE else "a URL, or instance://NAME"
        given = question(f"{side.value.title()}: {what}", "").strip()
        try:
            say(f"  {client.connectivity(given, side).line()}")
        except KeyferryError as error:
            say(f"  {error.line()}")
            if question("Take it all the same? yes or no", "no").strip().lower() not in ("y", "yes"):
                continue
        return given


def _settle(pairs: list[str], setting: str, text: str, usual: str, question: Ask, say: Say) -> None:
    """One setting, alone and with those before it in its range."""
    from sync_tasks.changes import changed
    from sync_tasks.spec import TaskSpec

    while (answer := question(text, usual).strip()) not in ("", usual):
        pair = f"{setting}={answer}"
        try:
            changed(TaskSpec(), None, settings_of([*pairs, pair]), "settings")
        except KeyferryError as error:
            say(f"  {error.line()}")
            continue
        pairs.append(pair)
        return


def prompt(text: str, usual: str) -> str:
    """Ask on the terminal."""
    answer: str = typer.prompt(text, default=usual, show_default=bool(usual), err=True)
    return answer
