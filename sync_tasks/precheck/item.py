"""One thing that is looked at before a start: what it is, and what may be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from sync_tasks.errors import KeyferryError, Side

if TYPE_CHECKING:
    from sync_tasks.precheck.scene import Scene

BOTH = frozenset({Side.SOURCE, Side.TARGET})


class Finding(StrEnum):
    """What an item may say. WARNING alone can be ignored; SKIPPED could not be asked, or means nothing here."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Answer(NamedTuple):
    """What was found, and what to do about it, for people."""

    finding: Finding
    found: str
    repair: str = ""


def passed(found: str) -> Answer:
    """All is well."""
    return Answer(Finding.PASSED, found)


def warning(found: str, repair: str) -> Answer:
    """It may go wrong: whoever knows better may ignore it."""
    return Answer(Finding.WARNING, found, repair)


def skipped(found: str) -> Answer:
    """It could not be asked, or means nothing for these servers."""
    return Answer(Finding.SKIPPED, found)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to look at.

    Args:
        id: by which it is ignored or asked again.
        title: what must hold, in a few words.
        why: what happens if it does not.
        ask: looks; raises KeyferryError if it does not hold and nothing can be done about it but to mend it.
        needs: the servers that must have answered before.
        warns: whether what it finds may be a warning, which can be ignored.
    """

    id: str
    title: str
    why: str
    ask: Callable[[Scene], Answer]
    needs: frozenset[Side] = BOTH
    warns: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one item."""

    item: str  # its id
    finding: Finding
    found: str
    repair: str = ""
    error: KeyferryError | None = None  # of one that has failed

    @classmethod
    def of(cls, item: Item, answer: Answer) -> Result:
        """Of what an item said."""
        return cls(item.id, *answer)

    @classmethod
    def failed(cls, item: Item, error: KeyferryError) -> Result:
        """Of what an item raised."""
        return cls(item.id, Finding.FAILED, error.message, error.hint, error)
