"""Commands on keys of many slots as one command: a transaction on a cluster may name keys of one slot only.

The transaction stays what it is, with our own keys, which share a slot; in the place of the commands stands one script
that executes them, on whatever keys its node serves. What a command answers, errors too, is an element of what the
script answers. A script is executed as a whole and replicated as a transaction; it travels with its text each time,
for a server that has forgotten it would execute the rest of the transaction without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sync_tasks.errors import ConnectionLost, Side
from workers.codec.flat_cy import Flat
from workers.codec.resp_cy import encode

MOST_ARGUMENTS = 4000
"""That Lua's stack takes in one call, with room to spare (LUAI_MAXCSTACK is 8000)."""

TEXT = b"""\
if redis.replicate_commands then redis.replicate_commands() end
local wide = {RPUSH = 1, LPUSH = 1, SADD = 1, SREM = 1, ZREM = 1, HDEL = 1, PFADD = 1, HSET = 2, HMSET = 2, ZADD = 2}
local function call(at, count)
  if count <= %(most)d then return redis.pcall(unpack(ARGV, at + 1, at + count)) end
  local name = string.upper(ARGV[at + 1])
  local step = wide[name]
  if not step or (name == 'ZADD' and not tonumber(ARGV[at + 3])) then
    return {err = 'ERR more arguments than a script passes on'}
  end
  local last
  for from = at + 3, at + count, %(most)d do
    local part = {name, ARGV[at + 2]}
    for i = from, math.min(from + %(most)d - 1, at + count) do part[#part + 1] = ARGV[i] end
    last = redis.pcall(unpack(part))
    if type(last) == 'table' and last.err then return last end
  end
  return last
end
local out, at, refused = {}, 1, 0
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local answer = call(at, count)
  if type(answer) == 'table' and answer.err then refused = refused + 1 end
  out[#out + 1] = answer
  at = at + count + 1
end
if refused > 0 and KEYS[1] then redis.call('HINCRBY', KEYS[1], 'refused', refused) end
return out
""" % {b"most": MOST_ARGUMENTS}


def raise_away(line: bytes, scripted: bool = True) -> None:
    """Raise ConnectionLost for such an answer, of a script: a resharding may take hours."""
    if scripted and AWAY.search(line):
        said = line.decode(errors="replace").lstrip("-")
        hint = "it goes on once the slot has arrived"
        what = f"a slot of the target cluster is on its way: {said}"
        raise ConnectionLost(what, side=Side.TARGET, code="slot-moving", hint=hint)


def script_head(arguments: int, counting: bytes = b"") -> bytes:
    """The command's beginning; so many arguments follow, as `Flat` makes them.

    Args:
        counting: a hash, in whose field `refused` the script counts the errors that commands have answered.
    """
    keys = [b"1", counting] if counting else [b"0"]
    given = encode([b"EVAL", TEXT, *keys])
    return b"*%d\r\n" % (2 + len(keys) + arguments) + given[given.index(b"\r\n") + 2 :]


def scripted(body: bytes | bytearray, counting: bytes = b"") -> bytes:
    """Whole commands as one; nothing is nothing."""
    if not body:
        return b""
    flat = Flat()
    given = flat.feed(bytes(body))
    assert flat.whole
    return script_head(flat.count, counting) + given


AWAY = re.compile(rb"non local key|slot not served|cluster is down|^-?(MOVED|ASK|TRYAGAIN|CLUSTERDOWN)", re.IGNORECASE)
"""What a command answers in a script whose node does not serve its key."""
Pieces = Iterator[bytes | bytearray]


def scripted_pieces(pieces: Pieces, again: Pieces, counting: bytes) -> Iterator[bytes]:
    """The same of commands that are not held in memory.

    Args:
        pieces, again: they, twice: the number of arguments stands first.
    """
    flat = Flat()
    for piece in pieces:
        flat.feed(bytes(piece))
    assert flat.whole
    yield script_head(flat.count, counting)
    flat = Flat()
    for piece in again:
        yield flat.feed(bytes(piece))
