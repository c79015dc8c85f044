"""Connect to both ends at the same time, within one deadline whatever either of them does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side

WITHIN_S = 15.0
"""Seconds for everything that is asked of a server before the start: SPEC 7 allows 20 with all the rest."""

T = TypeVar("T")


class Asked(threading.Thread):
    """One question in a thread. A name server or a silent port may hold it longer than anybody waits."""

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


def ask_both(
    source: tuple[Endpoint, Callable[[], T]],
    target: tuple[Endpoint, Callable[[], T]],
    pause: Callable[[float], None],
    within_s: float = WITHIN_S,
) -> tuple[T, T]:
    """Both answers. All threads have ended when it returns, so that the caller may fork.

    Args:
        source, target: the endpoint, for the error, and the question.
        pause: sleeps some seconds; may raise to give up.

    Raises:
        KeyferryError: of the source first, if both fail.
    """
    deadline = time.monotonic() + within_s
    pairs = [(endpoint, Asked(question)) for endpoint, question in (source, target)]
    for _, thread in pairs:
        thread.start()
    threads = [thread for _, thread in pairs]
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        if any(thread.error for thread in threads):
            break
        pairs[0][1].join(0.005)
        pairs[1][1].join(0.005)
        pause(0.0)
    for thread in threads:
        if thread.error is not None:
            raise thread.error
    for endpoint, thread in pairs:
        if thread.is_alive():
            raise _silent(endpoint, within_s)
    return pairs[0][1].answer, pairs[1][1].answer


def _silent(endpoint: Endpoint, within_s: float) -> KeyferryError:
    return ConnectionLost(
        f"{endpoint.address()}: no answer within {within_s:.0f} s",
        hint="check host and port, the network between, and that the server is not stopped",
        side=endpoint.side if endpoint.side in (Side.SOURCE, Side.TARGET) else Side.CONTROL,
    )
