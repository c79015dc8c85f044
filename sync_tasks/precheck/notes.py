"""What stands against nothing, but people should know before they start."""

from __future__ import annotations

from dataclasses import dataclass

LACKING = "lacking"
WARNING = "warning"
KINDS = frozenset((LACKING, WARNING))
"""Kinds of the events in which it is recorded."""


@dataclass(frozen=True, slots=True)
class Note:
    """One of these: the kind of its event, and what was found and can be done."""

    kind: str
    text: str
