"""docs/cli.md, held to the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sync_tasks.cli.json_lines import blank
from sync_tasks.cli.sync_command import EXAMPLES
from sync_tasks.states import TaskState

OPTION = re.compile(r"(?<!\S)--[a-z-]+")
TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


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


def test_every_json_field_is_documented() -> None:
    for field in blank(TaskState.NOT_STARTED):
        assert f"`{field}`" in TEXT, field
