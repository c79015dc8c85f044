"""What is watched behind a cut-over: the old source, each node of it."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.states import Stage, TaskState
from workers.finish import Finish
from workers.target.claim import FINISHED
from workers.writers import Look

BEFORE, NOW = Look("a" * 40, 100, "before", {}), Look("a" * 40, 900, "now", {})
FIRST, SECOND = (SimpleNamespace(number=number, applied_offset=None) for number in (0, 1))


class Port:
    """Of a task that is being closed. A second shard was added to its source when it is looked at once more."""

    def __init__(self, kept: dict[str, Any], steps: tuple[str, ...] = ()) -> None:
        said = [{"name": name, "state": "passed", "text": "", "seconds": 0.0} for name in steps]
        self.op = SimpleNamespace(options={"asked": {}, "kept": kept, "steps": said})
        self.looks = 0
        self.watched: dict[str, Any] = {}

    def state(self) -> Any:
        self.looks += 1
        state = TaskState.SYNCHRONIZING if self.looks < 3 else TaskState.FINISHED
        return SimpleNamespace(cutover=Stage.CLOSE, state=state), [FIRST] if self.looks < 2 else [FIRST, SECOND]

    def keep(self, options: Any) -> None:
        pass

    def watch(self, options: dict[str, Any]) -> None:
        self.watched = options


def finish(monkeypatch: pytest.MonkeyPatch, port: Port, *, answers: bool = True) -> None:
    ends = iter([False])  # the first stream has not when it is looked at first

    def checkpoint(_: Finish, node: Any) -> Any:
        state = FINISHED if next(ends, True) else "streaming"
        return SimpleNamespace(state=state, offset=500 + node.number)

    def writers(_: Finish, node: Any) -> Any:
        if not answers:
            raise ConnectionLost("away", side=Side.SOURCE)
        return SimpleNamespace(look=lambda: NOW)

    monkeypatch.setattr(Finish, "_checkpoint", checkpoint)
    monkeypatch.setattr(Finish, "_writers", writers)
    beat: Any = SimpleNamespace(check=lambda: None)
    source: Any = None
    Finish(port, beat, (source, source)).turn()  # type: ignore[arg-type]


@pytest.mark.parametrize("answers", [True, False])
def test_a_shard_that_comes_while_the_target_is_closed_ends_no_cut_over(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """Nobody has counted what was written to it before."""
    port = Port({"baseline": {"0": asdict(BEFORE)}})
    finish(monkeypatch, port, answers=answers)
    assert port.watched["offsets"] == {"0": 500, "1": 501}
    known = {"0": asdict(BEFORE)}
    assert port.watched["baseline"] == (known | {"1": asdict(NOW)} if answers else known)


def test_one_that_an_earlier_version_has_closed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    port = Port({"baseline": {"0": asdict(BEFORE)}, "offsets": [500]}, ("close",))
    finish(monkeypatch, port)
    assert port.watched["offsets"] == {"0": 500}
    assert port.watched["baseline"] == {"0": asdict(BEFORE)}
