"""What a target reads and which of the newer commands it knows: asked of itself, once a connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.codec.reads import Reads
from workers.target.link import TargetLink, lost

ASKED = (b"FUNCTION", b"HGETDEL", b"HPEXPIREAT", b"HSETEX")


@dataclass(frozen=True, slots=True)
class Knows:
    """A target as the stream meets it.

    Args:
        reads: which forms of values it takes.
        commands: those of ASKED that it has.
        learned: names of commands that it has refused as unknown.
    """

    reads: Reads = field(default_factory=lambda: Reads(80))
    commands: frozenset[bytes] = frozenset(ASKED)
    learned: frozenset[bytes] = frozenset()


def ask(link: TargetLink, key: bytes, learned: frozenset[bytes] = frozenset()) -> Knows:
    """Of the target that the link goes to. Raises what that raises.

    Args:
        key: one of our own in the link's database.
    """
    payload, told = link.ask_all([[b"DUMP", key], [b"COMMAND", b"INFO", *ASKED]])
    known = frozenset(name for name, one in zip(ASKED, told, strict=True) if one)
    return Knows(reads_of(payload), known, learned)


def reads_of(payload: bytes | None) -> Reads:
    """As the target's DUMP of a key of ours shows; None: it was just lost."""
    if not isinstance(payload, bytes):
        raise lost("the target has lost a key of ours in this moment")
    return Reads(int.from_bytes(payload[-10:-8], "little"))
