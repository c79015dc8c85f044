"""The beat of a lease, from a thread of its own: nothing that keeps its owner busy can make it seem dead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from sync_tasks.errors import ControlError, is_away

BEAT_S = 1.0


class Beat:
    """Renews once a second while its block runs. The block ends with what a renewal raised, whatever it raises itself.

    Args:
        renew: one beat, called in the thread; what it returns ends a `pause` if it is something new. Raises Fenced when
            the lease is another's.
        patient: a database that is away gives the lease to nobody else, and one that others can reach lets them write
            what we no longer can: what the target fences goes on meanwhile.
    """

    def __init__(self, renew: Callable[[], object], *, patient: bool = False) -> None:
        self._renew, self._patient = renew, patient
        self._over, self._news = threading.Event(), threading.Event()
        self._told: object = None  # by the last beat
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def check(self) -> None:
        """Raise what a renewal raised: there will be no further one. Call it wherever the work can end."""
        if self._error is not None:
            raise self._error

    def pause(self, seconds: float) -> None:
        """Sleep, but not through a beat that brings something new, or is the last."""
        if self._news.wait(seconds):
            self._news.clear()

    def _run(self) -> None:
        try:
            while not self._over.wait(BEAT_S):
                self._beat()
        except BaseException as error:  # noqa: BLE001 - for the owner of the lease, which ends with it
            self._error = error
            self._news.set()

    def _beat(self) -> None:
        try:
            told = self._renew()
        except ControlError as error:
            if not (self._patient and is_away(error)):
                raise
            return
        if told != self._told:
            self._told = told
            self._news.set()

    def __enter__(self) -> Beat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None and error is not self._error and (error is None or isinstance(error, Exception)):
            raise self._error from error
