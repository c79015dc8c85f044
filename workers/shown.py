"""A line of text beside a running Celery task, for people who watch it in Flower.

`update_state` never reaches Flower. An event `task-STARTED`, in capitals, with a result leaves the task STARTED, shows
the text, and lets it still become REVOKED; measured with Celery 5.7 and Flower 2.2, held by a test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PAUSE_S = 1.0


class Line:
    """The newest text, sent from a thread of its own: a broker that hangs holds whoever sends for half a minute."""

    def __init__(self, task: Any) -> None:
        self._app, self._hostname, self._id = task.app, task.request.hostname, task.request.id
        self._text: str | None = None
        self._over = False
        self._changed = threading.Condition()

    def say(self, text: str) -> None:
        """Show this; never waits."""
        with self._changed:
            self._text = text
            self._changed.notify()

    def end(self) -> None:
        """No more of it."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def run(self) -> None:
        """Send until the end. No failure of the broker matters: nobody sees the line then."""
        while not self._over:
            try:
                with self._app.events.default_dispatcher(hostname=self._hostname) as dispatcher:
                    while (text := self._next()) is not None:
                        dispatcher.send("task-STARTED", uuid=self._id, result=text, retry=False)
            except Exception:  # noqa: BLE001 - any transport, any failure of it
                with self._changed:
                    self._changed.wait_for(lambda: self._over, PAUSE_S)

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._text is not None)
            text, self._text = self._text, None
            return None if self._over else text


@contextmanager
def shown(task: Any) -> Iterator[Callable[[str], None]]:
    """What to call with the text, from any thread.

    Args:
        task: a bound Celery task, while it runs.
    """
    line = Line(task)
    threading.Thread(target=line.run, name="shown", daemon=True).start()
    try:
        yield line.say
    finally:
        line.end()
