"""The prechecks of a run: made while the libraries are imported, when this is certainly its first start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_tasks.precheck.asked import Asked


class Prechecks:
    """Asks both servers once.

    Args:
        check: asks; is given what it calls with seconds while it waits.
        show: tells the user that they are being asked.
        pause: sleeps some seconds; raises to give up.
    """

    def __init__(
        self,
        check: Callable[[Callable[[float], None]], None],
        show: Callable[[], None],
        pause: Callable[[float], None],
    ) -> None:
        self._check, self._show, self._pause = check, show, pause
        self._asked: Asked | None = None

    def begin(self) -> None:
        """Ask now, in a thread."""
        # All it needs is imported before the thread starts: two threads importing in circles may see half a module.
        import redis.backoff
        import redis.retry  # noqa: F401

        import sync_tasks.precheck.run  # noqa: F401
        from sync_tasks.precheck.asked import Asked

        self._asked = Asked(lambda: self._check(lambda _seconds: None))
        self._asked.start()

    def tend(self) -> None:
        """Raise what has been found by now."""
        if self._asked is not None:
            self._show()
        self._pause(0.0)
        if self._asked is not None and self._asked.error is not None:
            raise self._asked.error

    def finish(self) -> None:
        """Until both servers have answered, if they were asked. No thread is left then, so that forking is safe."""
        if self._asked is None:
            return
        while self._asked.is_alive():
            self.tend()
            self._asked.join(0.01)
        self.tend()

    def make(self) -> None:
        """Ask, unless they were asked."""
        if self._asked is None:
            self._check(self._wait)

    def _wait(self, seconds: float) -> None:
        self._show()
        self._pause(seconds)
