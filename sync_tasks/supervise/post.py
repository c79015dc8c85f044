"""What the processes of a pool have to say to the broker, by way of the worker's main process.

A connection to the broker takes a process 6 MB, and whoever uses it waits for half a minute when the broker hangs.

`update_state` never reaches Flower. An event `task-STARTED`, in capitals, with a result leaves the task STARTED, shows
the text, and lets it still become REVOKED; measured with Celery 5.7 and Flower 2.2, held by a test.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from sync_tasks.messages import Message

EVENT = "task-STARTED"
LONGEST_TEXT = 500
"""Characters of a line that is shown."""


@dataclass(frozen=True, slots=True)
class Line:
    """A text to be shown beside a Celery task, for people who watch it in Flower."""

    task_id: str
    text: str


class Post:
    """A pipe, made before the pool is forked. Never waits: what finds it full raises BlockingIOError."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._rest = b""

    def fileno(self) -> int:
        """Where it arrives."""
        return self._reader

    def say(self, task_id: str, text: str) -> None:
        """Show this beside a task. It may be lost: the next text is newer anyway."""
        with contextlib.suppress(BlockingIOError):
            self._put({"task_id": task_id, "text": text[:LONGEST_TEXT]})

    def send(self, message: Message) -> None:
        """Have a message published."""
        self._put(asdict(message))

    def _put(self, what: dict[str, object]) -> None:
        line = json.dumps(what).encode() + b"\n"
        if len(line) > select.PIPE_BUF:
            raise BlockingIOError("a line too long to arrive in one piece")
        os.write(self._writer, line)

    def arrived(self) -> Iterator[Line | Message]:
        """What has come since the last call."""
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self._reader, 1 << 16)
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            what = json.loads(line)
            yield Line(**what) if "text" in what else Message(**{**what, "says": tuple(what["says"])})

    def close(self) -> None:
        """Nobody says anything any more."""
        os.close(self._reader)
        os.close(self._writer)
