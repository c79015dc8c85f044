"""How children tell their parent that they are at work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable


class Ready:
    """A pipe that forked children inherit: a line for each one that takes work."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._names: set[str] = set()

    def teller(self, name: str) -> Callable[[], None]:
        """What the child of this name calls. Nobody listens to one that is started anew: a full pipe is no error."""

        def tell() -> None:
            with contextlib.suppress(OSError):
                os.write(self._writer, name.encode() + b"\n")

        return tell

    def told(self) -> set[str]:
        """Names of those that have told so far."""
        with contextlib.suppress(BlockingIOError):
            # Lines are far shorter than what a pipe writes at once, so none comes in pieces.
            self._names.update(os.read(self._reader, 65536).decode().splitlines())
        return self._names
