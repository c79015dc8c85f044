"""Commands on keys of many slots as one command: a transaction on a cluster may name keys of one slot only.

The transaction stays what it is, with our own keys, which share a slot; in the place of the commands stands one script
that executes them, on whatever keys its node serves. What a command answers, errors too, is an element of what the
script answers. A script is executed as a whole and replicated as a transaction; it travels with its text each time,
for a server that has forgotten it would execute the rest of the transaction without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sync_tasks.errors import ConnectionLost, Retry, Side, TargetError
from workers.codec.flat_cy import Flat
from workers.codec.resp_cy import encode

MOST_ARGUMENTS = 4000
"""That Lua's stack takes in one call, with room to spare (LUAI_MAXCSTACK is 8000)."""

ALONE = b"KEYFERRY.ALONE"
"""Before a command on all that a node has, and behind it slots as CLUSTER NODES writes them, with commas: it is
executed only if the node serves these, no others, and none is on its way. What it empties is its own slots' then."""

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
local function serves()
  for line in string.gmatch(redis.call('CLUSTER', 'NODES'), '[^\\n]+') do
    local found, at, mine = {}, 0, false
    for word in string.gmatch(line, '%%S+') do
      at = at + 1
      if at == 3 then mine = string.find(word, 'myself', 1, true) end
      if at > 8 then found[#found + 1] = word end
    end
    if mine then return table.concat(found, ',') end
  end
end
local function alone(at, count)
  if serves() ~= ARGV[at + 2] then return {err = 'ERR the node serves other slots by now'} end
  if string.upper(ARGV[at + 3]) == 'FLUSHALL' then redis.call('SELECT', ARGV[1]) end
  local before = KEYS[1] and redis.call('HGET', KEYS[1], 'refused')
  local answer = redis.pcall(unpack(ARGV, at + 3, at + count))
  if before then redis.call('HSET', KEYS[1], 'refused', before) end
  return answer
end
local out, at, refused = {}, 2, 0
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local answer
  if ARGV[at + 1] == '%(alone)s' then answer = alone(at, count) else answer = call(at, count) end
  if type(answer) == 'table' and answer.err then refused = refused + 1 end
  out[#out + 1] = answer
  at = at + count + 1
end
if KEYS[1] and refused ~= 1 then
  redis.call('SELECT', ARGV[1])
  redis.call('HINCRBY', KEYS[1], 'refused', refused - 1)
end
return out
""" % {b"most": MOST_ARGUMENTS, b"alone": ALONE}


def raise_away(line: bytes, scripted: bool = True) -> None:
    """Raise ConnectionLost for such an answer, of a script: a resharding may take hours."""
    if scripted and AWAY.search(line):
        said = line.decode(errors="replace").lstrip("-")
        hint = "it goes on once the slot has arrived"
        what = f"a slot of the target cluster is on its way: {said}"
        raise ConnectionLost(what, side=Side.TARGET, code="slot-moving", hint=hint)


def counted(ck: bytes) -> bytes:
    """For behind a script that counts in this hash: one error, which the script takes off at its end. So it is counted
    when the script itself has failed (SCRIPT KILL, a right that was taken away), and the rest of the transaction not.
    """
    return encode([b"HINCRBY", ck, b"refused", b"1"])


def ended(line: bytes) -> TargetError:
    """What is told of a script that has failed as a whole; nothing that it was to do is taken for done."""
    return TargetError(
        f"a script of Keyferry's was ended on the target: {line.decode(errors='replace').lstrip('-')}",
        code="script-ended",
        hint="do not end its scripts (SCRIPT KILL): see lua-time-limit there, and the target's own log; it tries again",
        retry=Retry.OTHER,
    )


def check_alone(nodes: bytes, slots: str) -> None:
    """Raise ConnectionLost unless a node serves just these slots, and none is on its way.

    Args:
        nodes: what it has answered to CLUSTER NODES.
        slots: as `slots.written` gives them.
    """
    mine = next(line.split() for line in nodes.decode().splitlines() if "myself" in line.split()[2])
    if ",".join(mine[8:]) != slots:
        raise ConnectionLost(
            "slots of the target cluster are on their way, and a command empties a whole node",
            side=Side.TARGET,
            code="slot-moving",
            hint="it goes on once the slots have arrived",
        )


def script_head(arguments: int, counting: bytes = b"", home: int = 0) -> bytes:
    """The command's beginning; so many arguments follow, as `Flat` makes them.

    Args:
        counting: a hash, in whose field `refused` the script counts the errors that commands have answered, less the
            one of `counted`.
        home: database of that hash.
    """
    before = [b"1", counting, b"%d" % home] if counting else [b"0", b"%d" % home]
    given = encode([b"EVAL", TEXT, *before])
    return b"*%d\r\n" % (2 + len(before) + arguments) + given[given.index(b"\r\n") + 2 :]


def scripted(body: bytes | bytearray, counting: bytes = b"", home: int = 0) -> bytes:
    """Whole commands as one; nothing is nothing."""
    if not body:
        return b""
    flat = Flat()
    given = flat.feed(bytes(body))
    assert flat.whole
    return script_head(flat.count, counting, home) + given


AWAY = re.compile(rb"non local key|slot not served|cluster is down|^-?(MOVED|ASK|TRYAGAIN|CLUSTERDOWN)", re.IGNORECASE)
"""What a command answers in a script whose node does not serve its key."""
Pieces = Iterator[bytes | bytearray]


def scripted_pieces(pieces: Pieces, again: Pieces, counting: bytes, home: int = 0) -> Iterator[bytes]:
    """The same of commands that are not held in memory.

    Args:
        pieces, again: they, twice: the number of arguments stands first.
    """
    flat = Flat()
    for piece in pieces:
        flat.feed(bytes(piece))
    assert flat.whole
    yield script_head(flat.count, counting, home)
    flat = Flat()
    for piece in again:
        yield flat.feed(bytes(piece))
