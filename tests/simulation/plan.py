"""What one seed has in store for a history."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

FAULTS = {
    "death": 6, "takeover": 6, "sleep": 4, "cut": 6, "loss of late bytes": 1, "failover": 4, "out of memory": 1,
    "no replicas": 1, "target away": 2, "promotion": 2, "torn log": 3, "another spool": 1,
    "flicker": 3, "broken snapshot": 4, "backlog": 2, "flush": 1, "restart": 1,
}  # fmt: skip
"""Fault to how often it is drawn."""
RARE = {"out of memory": 0.1, "no replicas": 0.04, "flicker": 0.1, "backlog": 0.25, "flush": 0.15, "restart": 0.15}
"""How many of the histories have it at all; the others half of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Args:
    loads: it begins with an empty target and a snapshot, else with a stream that goes on.
    writes: of the source while it is followed; before: of the source before.
    faults: how many, and of which kinds.
    whole: some writes are of whole databases.
    finishing: at the end it is cut over.
    window: so many commands are one.
    haste: of the source.
    release: somewhere in the middle an operator fences the task off.
    """

    loads: bool
    before: int
    writes: int
    faults: int
    kinds: tuple[str, ...]
    whole: bool
    finishing: bool
    window: int
    haste: float
    release: bool


FOCUS = {
    "load": ("death", "takeover", "sleep", "cut", "failover", "broken snapshot"),
    "memory": ("takeover", "cut", "flicker"),
    "claims": ("death", "takeover", "sleep", "cut"),
    "release": ("death", "takeover", "sleep", "cut"),
    "resync": ("death", "takeover", "sleep", "cut", "failover", "broken snapshot", "backlog", "flush", "restart"),
    "disk": ("death", "torn log", "another spool", "promotion"),
}
"""Some histories have these faults alone: together they are dangerous."""


def plan(random: Random, focus: str | None = None) -> Plan:
    """What a history will be like; `focus` is drawn, unless it is given."""
    focus = focus or random.choice((None, None, None, "load", "load", "memory", "claims", "disk", "resync"))
    if focus is None:
        loads = random.random() < 0.45
        kinds = tuple(kind for kind in FAULTS if random.random() < RARE.get(kind, 0.5))
    else:
        loads, kinds = focus == "load" or (focus in ("release", "resync") and random.random() < 0.5), FOCUS[focus]
    return Plan(
        loads=loads,
        before=random.randint(4 if focus else 0, 14) if loads else 0,
        writes=random.randint(2, 16),
        faults=random.randint(3 if focus else 1, 8) if kinds else 0,
        kinds=kinds,
        whole=random.random() < 0.15,
        finishing=random.random() < 0.15,
        window=random.choice((1, 1, 2, 3, 300)),
        haste=random.choice((0.05, 0.3)),
        release=random.random() < 0.1 or focus == "release",
    )
