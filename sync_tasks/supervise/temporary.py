"""Where children put temporary files: they are killed in the end, and only their parent is left to tidy up."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable


class Temporary:
    """A directory below the system's one for temporary files; made when first needed."""

    def __init__(self) -> None:
        self._path: str | None = None

    def within(self, run: Callable[[], None]) -> Callable[[], None]:
        """`run`, for a child: its pool of processes makes a directory and leaves it behind."""
        if self._path is None:
            with contextlib.suppress(OSError):  # the child may still do without
                self._path = tempfile.mkdtemp(prefix="keyferry-")
        path = self._path

        def inside() -> None:
            tempfile.tempdir = path
            run()

        return inside

    def remove(self) -> None:
        """No child is left."""
        path, self._path = self._path, None
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
