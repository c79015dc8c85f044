"""One question in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Asked(threading.Thread):
    """A name server or a silent port may hold it longer than anybody waits."""

    def __init__(self, question: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._question = question
        self.answer: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        """Ask."""
        try:
            self.answer = self._question()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            self.error = error
