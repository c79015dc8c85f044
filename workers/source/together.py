"""Questions to a node of a cluster about keys of several slots, all answered at one moment.

A transaction may name keys of one slot only. A script may read whatever its node serves, and is executed as a whole; it
writes nothing, so nothing of it enters the stream. Source: Redis documentation, "Scripting with Lua", on keys that are
not declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TEXT = b"""\
local out, at = {}, 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  out[#out + 1] = redis.pcall(unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
return out
"""
KEYLESS = frozenset((b"FUNCTION",))
"""What a script may not ask, and a transaction may: it names no keys."""


def together(commands: Iterable[Sequence[bytes | int]]) -> tuple[bytes | int, ...]:
    """One command; its answer is an array of what the commands answer, errors among them."""
    given: list[bytes | int] = []
    for command in commands:
        given += [len(command), *command]
    return (b"EVAL", TEXT, 0, *given)
