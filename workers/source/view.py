"""What the receiver asks the source over an ordinary connection."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class SourceView(Protocol):
    """The part of `ask.Source` that it needs."""

    def offset(self) -> int: ...

    def keys(self, databases: Collection[int] | None = None) -> int | None: ...
