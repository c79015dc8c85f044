"""What the benchmarks write: a mixed data set, and a storm of SETs from one process."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time

import redis

from tests.servers import Server, die_with_parent

SIZE = 100  # bytes of a value
BATCH = 1000
SPREAD = 1_000_000  # different keys of the storm

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


def storm(port: int, writes: int) -> None:
    """Write as fast as the server answers, with a handful of batches under way."""
    rng = random.Random(writes)
    value = b"x" * SIZE
    parts = []
    for _batch in range(200):
        names = (b"storm:%07d" % rng.randrange(SPREAD) for _ in range(BATCH))
        parts.append(b"".join(b"*3\r\n$3\r\nSET\r\n$13\r\n%b\r\n$100\r\n%b\r\n" % (n, value) for n in names))
    with socket.create_connection(("127.0.0.1", port)) as link:
        flying = 0
        for batch in range(writes // BATCH):
            link.sendall(parts[batch % len(parts)])
            flying += BATCH * len(b"+OK\r\n")
            while flying > 4 * BATCH * len(b"+OK\r\n"):
                flying -= len(link.recv(1 << 16))
        while flying:
            flying -= len(link.recv(1 << 16))


def start_storm(server: Server, writes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.benchmarks.load", str(server.port), str(writes)]
    return subprocess.Popen(command, preexec_fn=die_with_parent)


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


if __name__ == "__main__":
    storm(int(sys.argv[1]), int(sys.argv[2]))
