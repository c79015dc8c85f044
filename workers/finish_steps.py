"""What has come of the steps of a cut-over, kept where whoever goes on finds it."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sync_tasks.errors import KeyferryError
from workers.ports import CutOverPort


class Later(Exception):
    """Nothing can be done now: somebody goes on with it after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Outcome:
    """Of the step that goes on."""

    def __init__(self) -> None:
        self.text, self.state = "", "passed"

    def skip(self, why: str) -> None:
        """It is not done."""
        self.text, self.state = why, "skipped"

    def fail(self, what: str) -> None:
        """Of a dry run: the cut-over would end here."""
        self.text, self.state = what, "failed"

    def warn(self, what: str) -> None:
        """It goes on all the same."""
        self.text, self.state = what, "warning"


class Steps:
    """Of one operation.

    Args:
        port: the claimed operation.
    """

    def __init__(self, port: CutOverPort) -> None:
        self._port = port
        self._options: dict[str, Any] = copy.deepcopy(port.op.options)

    @property
    def kept(self) -> dict[str, Any]:
        """What else is to be remembered: change it, then `save`."""
        return self._options["kept"]  # type: ignore[no-any-return]

    def save(self) -> None:
        """Raises Fenced when the operation was taken away."""
        self._port.keep(copy.deepcopy(self._options))

    def mark(self, name: str, value: str) -> str:
        """Remember that something is done that must not be done twice; the value."""
        self._options[name] = value
        return value

    def anew(self) -> None:
        """They begin again."""
        self._options["steps"] = []

    def over(self, name: str) -> bool:
        """Whether a step has been done."""
        return any(step["name"] == name for step in self._options["steps"])

    @contextmanager
    def step(self, name: str) -> Iterator[Outcome]:
        """One step: timed, from when it was first tried on, and told; also what makes it fail."""
        began = self.kept.setdefault("began", {}).setdefault(name, time.time())
        outcome = Outcome()
        try:
            yield outcome
        except Later:
            self.save()
            raise
        except KeyferryError as error:
            outcome.fail(error.message)
            self._told(name, outcome, began)
            raise
        self._told(name, outcome, began)

    def _told(self, name: str, outcome: Outcome, began: float) -> None:
        seconds = round(max(0.0, time.time() - began), 3)
        self._options["steps"].append(
            {"name": name, "state": outcome.state, "text": outcome.text, "seconds": seconds}
        )
        self.kept["began"].pop(name, None)
        self.save()
