"""docs/cli.md, held to the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.main import get_command

from sync_tasks.cli.json_lines import blank
from sync_tasks.cli.main import VERBS
from sync_tasks.cli.sync_command import EXAMPLES
from sync_tasks.cli.task_command import EXAMPLES as TASK_HELP
from sync_tasks.cli.task_command import task
from sync_tasks.cli.task_views import _detail, _event
from sync_tasks.progress import NodeProgress
from sync_tasks.states import TaskState
from sync_tasks.task import Event, Precheck, Task
from tests.pages import DOCS, PAGES
from tests.unit.cli.samples import TASK, reading

OPTION = re.compile(r"(?<!\S)--[a-z-]+")
EVENT = Event(id=1, task_id=1, at=datetime(2026, 1, 1, tzinfo=UTC), kind="created", text="")
ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "cli.md").read_text()


def test_the_help_in_the_docs_is_what_the_command_says() -> None:
    env = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
    command = [sys.executable, "-m", "sync_tasks.cli.main", "sync", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, env=env, timeout=20, check=True).stdout
    documented = TEXT.partition("```text\n")[2].partition("\n```")[0]
    # Layout and the words for types differ between versions of the library; these do not.
    assert set(OPTION.findall(documented)) == set(OPTION.findall(said))
    ours = " ".join(EXAMPLES.replace("\b\n", "").split())
    assert ours in " ".join(documented.split())
    assert ours in " ".join(said.split())


def test_the_verbs_of_tasks_in_the_docs_are_those_of_the_command() -> None:
    section = TEXT.partition("## `keyferry task`")[2].partition("### ")[0]
    assert " ".join(TASK_HELP.replace("\b\n", "").split()) in " ".join(section.split())
    documented = {verb: set(re.findall("--[a-z-]+", row)) for verb, row in re.findall(r"\| `([a-z]+)(.*)", section)}
    everywhere = {"--json", "--state"}
    there = {
        verb: {
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option[:2] == "--"
        }
        - everywhere
        for verb, command in get_command(task).commands.items()  # type: ignore[attr-defined]
    }
    assert documented == there


def test_every_command_is_in_the_docs() -> None:
    overview = TEXT.partition("## ")[0]
    assert {verb for verb in VERBS if f"`keyferry {verb}`" not in overview} == set()


def test_every_json_field_of_a_task_is_documented() -> None:
    section = TEXT.partition("### JSON of tasks")[2]
    with_progress = {**Task.of(TASK).as_dict(), **_detail(reading(), [])}
    for field in [*with_progress, *_event(EVENT), *Precheck(Task.of(TASK), True, None).as_dict()]:
        assert f"`{field}`" in section, field
    for state in set(TaskState) - {TaskState.NOT_CONFIGURED}:
        assert f"`{state.value}`" in section, state


def test_every_json_field_of_a_source_node_is_documented() -> None:
    (row,) = re.findall(r"^\| `nodes` \|(.*)$", TEXT.partition("## JSON of `keyferry sync`")[2], re.M)
    for field in fields(NodeProgress):
        assert f"`{field.name}`" in row, field.name


def test_every_json_field_is_documented() -> None:
    for field in blank(TaskState.NOT_STARTED):
        assert f"`{field}`" in TEXT, field


@pytest.mark.parametrize("name", PAGES)
def test_pages_that_are_made_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "make them: python -m tests.pages"


def test_the_guarantees_name_scenarios_that_exist_and_leave_none_out() -> None:
    said = (ROOT / "docs" / "guarantees.md").read_text().split("## Which test shows it")[1].split("## Not")[0]
    named = {name for row in re.findall(r"\| ([a-z_, ]+) \|$", said, re.M) for name in row.split(", ")} - {"test"}
    folders = {path.parent.name for path in (ROOT / "tests" / "scenarios").glob("*/test_*.py")}
    no_faults = {"full", "follow", "many_tasks", "demo", "readme", "life", "cutover", "memory", "plain_core", "shifts"}
    no_faults |= {"service_flower", "service_observed"}
    elsewhere = {"backpressure", "spools_swept"}
    assert folders - no_faults - elsewhere == named
