"""The mixed data set of the benchmarks, and native replication of it."""

from __future__ import annotations

import time

import redis

from tests.servers import Server

# Mixed keys, made by the server itself: ARGV first, last number.
MIXED = """
local value = string.rep('v', 100)
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local kind = i % 10
  if kind < 5 then redis.call('SET', 'string:' .. i, value .. i)
  elseif kind < 6 then redis.call('SET', 'volatile:' .. i, i, 'PX', 864000000 + i)
  elseif kind < 8 then redis.call('HSET', 'hash:' .. i, 'name', 'user ' .. i, 'visits', i, 'note', value)
  elseif kind < 9 then redis.call('ZADD', 'zset:' .. i, i, 'a', i / 3, 'b', -i, 'c')
  else redis.call('RPUSH', 'list:' .. i, i, 'a', value, i + 1) end
end
"""


def fill_mixed(server: Server, keys: int) -> None:
    """`keys` small keys of five types, a tenth of them with an expiry."""
    client = server.client(socket_timeout=600)
    script = client.register_script(MIXED)
    for at in range(0, keys, 50_000):
        script(args=[at, min(at + 50_000, keys) - 1])


def offset(server: Server) -> int:
    return int(server.client().info("replication")["master_repl_offset"])


def wait_quiet(server: Server) -> None:
    """Until the source has no replica left that would take part of its time."""
    while server.client().info("replication")["connected_slaves"]:
        time.sleep(0.1)


def wait_no_backlog(server: Server) -> None:
    """Until it no longer keeps what it executes for replicas, as one that was a replica itself does for a while."""
    while server.client().info("replication")["repl_backlog_active"]:
        time.sleep(0.1)


class Native:
    """A replica of the source, the measure of all things here."""

    def __init__(self, source: Server, target: Server) -> None:
        self.source, self.target = source, target
        self.client: redis.Redis = target.client(socket_timeout=600)

    def follow(self) -> None:
        self.client.execute_command("REPLICAOF", "127.0.0.1", self.source.port)
        while self.client.info("replication")["master_link_status"] != "up":
            time.sleep(0.02)

    def applied(self) -> int:
        return int(self.client.info("replication")["slave_repl_offset"])

    def leave(self) -> None:
        self.client.execute_command("REPLICAOF", "NO", "ONE")
        self.client.flushall()
