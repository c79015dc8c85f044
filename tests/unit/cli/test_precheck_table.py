"""What prechecks have found, as it is shown."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sync_tasks import Client
from sync_tasks.cli import precheck_table
from sync_tasks.cli.main import dispatch
from sync_tasks.precheck.item import Finding, Result
from sync_tasks.task import PrecheckItem
from tests.unit.client.worker import Worker

ITEMS = (
    PrecheckItem("source-connection", "t", "w", "passed", "it answers", "", False, False),
    PrecheckItem("eviction", "t", "w", "warning", "it evicts", "CONFIG SET maxmemory-policy noeviction", True, False),
    PrecheckItem("modules", "t", "w", "warning", "it lacks one", "load it", True, True),
    PrecheckItem("target-empty", "t", "w", "failed", "it holds keys", "empty it", False, False),
    PrecheckItem("clocks", "t", "w", None, "", "", True, False),
)


def test_lines_say_what_stands_against_it_and_what_to_do() -> None:
    assert [" ".join(line.split()) for line in precheck_table.lines(ITEMS)] == [
        "passed source-connection it answers",
        "warning eviction it evicts; CONFIG SET maxmemory-policy noeviction",
        "warning, ignored modules it lacks one",
        "failed target-empty it holds keys; empty it",
    ]


def test_a_table_is_drawn_as_answers_come() -> None:
    out = io.StringIO()
    with precheck_table.Board(Console(file=out, force_terminal=True, width=120)) as board:
        board.show([("orders-move", ITEMS[4:])])
        board.show([("orders-move", ITEMS)])
    text = out.getvalue()
    assert "orders-move" in text
    assert "it evicts; CONFIG SET maxmemory-policy noeviction" in text
    assert "..." in text


@pytest.mark.parametrize("terminal", [False, True])
def test_the_command(
    tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    with Client(state) as client:
        client.create("redis://a", "redis://b", name="orders-move")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    words = ["task", "precheck", "orders-move", "--state", str(state)]
    with Worker(state) as worker:
        worker.results = [Result("eviction", Finding.WARNING, "it evicts", "stop that")]
        with pytest.raises(Exception, match="eviction: it evicts"):
            dispatch(words)
        said = capsys.readouterr()
        assert "it evicts; stop that" in (said.err if terminal else said.out)
        assert dispatch(["task", "ignore", "orders-move", "--item", "eviction", "--state", str(state)]) == 0
        assert "goes on in spite of eviction" in capsys.readouterr().out
        assert dispatch([*words, "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["error"]) == (True, None)
    (item,) = [item for item in found["items"] if item["state"]]
    assert (item["id"], item["state"], item["ignorable"], item["ignored"]) == ("eviction", "warning", True, True)
