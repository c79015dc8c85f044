"""A place in a server's stream from which a task can begin: with the database that the stream acts on there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

FORM = re.compile(r"([0-9A-Za-z]{40}):(\d{1,18}):(\d{1,3})")


@dataclass(frozen=True, slots=True)
class Point:
    """Behind the byte `offset` of the stream `replid`; what follows acts on `db`, unless it says otherwise first."""

    replid: str
    offset: int
    db: int

    def __str__(self) -> str:
        return f"{self.replid}:{self.offset}:{self.db}"

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """What `str` has written; None: there is none, or it is nothing of the kind."""
        found = FORM.fullmatch(text or "")
        return cls(found[1], int(found[2]), int(found[3])) if found else None
