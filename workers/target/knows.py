"""What a target reads and which of the newer commands it knows: asked of itself, once a connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workers.codec.reads import Reads
from workers.crossing import Places
from workers.target.link import TargetLink, lost

ASKED = (b"FUNCTION", b"HGETDEL", b"HPEXPIREAT", b"HSETEX")


@dataclass(frozen=True, slots=True)
class Knows:
    """A target as the stream meets it.

    Args:
        reads: which forms of values it takes.
        commands: those of ASKED that it has.
        learned: names of commands that it has refused as unknown.
        places: where commands have their keys, if that was asked.
    """

    reads: Reads = field(default_factory=lambda: Reads(80))
    commands: frozenset[bytes] = frozenset(ASKED)
    learned: frozenset[bytes] = frozenset()
    places: Places = field(default_factory=dict)


def ask(link: TargetLink, key: bytes, learned: frozenset[bytes] = frozenset(), *, filtered: bool = False) -> Knows:
    """Of the target that the link goes to. Raises what that raises.

    Args:
        key: one of our own in the link's database.
        filtered: where commands have their keys is asked, too.
    """
    payload, told = link.ask_all([[b"DUMP", key], [b"COMMAND", b"INFO", *ASKED]])
    known = frozenset(name for name, one in zip(ASKED, told, strict=True) if one)
    return Knows(reads_of(payload), known, learned, _places(link.ask(b"COMMAND")) if filtered else {})


def _places(commands: list[list[Any]]) -> Places:
    """Without those whose keys are not at fixed places, or depend on a subcommand."""
    found = {}
    for name, _, flags, first, last, step, *more in commands:
        nested = bool(more[3]) if len(more) > 3 else False
        if b"movablekeys" not in flags and not nested:
            found[name.upper()] = (first, last, max(1, step))
    return found


def reads_of(payload: bytes | None) -> Reads:
    """As the target's DUMP of a key of ours shows; None: it was just lost."""
    if not isinstance(payload, bytes):
        raise lost("the target has lost a key of ours in this moment")
    return Reads(int.from_bytes(payload[-10:-8], "little"))
