"""Writers for the benchmarks, processes of their own: `python -m tests.benchmarks.storm PORT KIND WRITES RATE`.

set   SETs of 100 bytes
long  SETs of 4000 bytes
mix   INCR, LPUSH with LTRIM, HINCRBY, XADD with MAXLEN, ZINCRBY, and transactions of them
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from tests.servers import Server, die_with_parent
from workers.codec.resp_cy import encode

SIZE = 100  # bytes of a value
BATCH = 1000
BATCHES = 200
SPREAD = 1_000_000  # different keys of the SETs
FLYING = 4  # batches under way
END = b"+PONG\r\n"
STEP_S = 0.005

VALUE = b"x" * SIZE


def sets(rng: random.Random) -> list[list[bytes]]:
    return [[b"SET", b"storm:%07d" % rng.randrange(SPREAD), VALUE]]


def longer(rng: random.Random) -> list[list[bytes]]:
    return [[b"SET", b"long:%04d" % rng.randrange(10_000), VALUE * 40]]


def mix(rng: random.Random) -> list[list[bytes]]:
    """One write, or a transaction of four."""
    if rng.random() < 0.05:
        return [[b"MULTI"], *(_one(rng) for _ in range(4)), [b"EXEC"]]
    return [_one(rng)]


def _one(rng: random.Random) -> list[bytes]:
    n = b"%d" % rng.randrange(100_000)
    return [
        [b"INCR", b"counter:" + n],
        [b"LPUSH", b"list:" + n, VALUE],
        [b"HINCRBY", b"hash:" + n, b"field:%d" % rng.randrange(20), b"3"],
        [b"XADD", b"stream:%d" % rng.randrange(1000), b"MAXLEN", b"~", b"100", b"*", b"n", n],
        [b"ZINCRBY", b"zset:" + n, b"1.5", b"member:%d" % rng.randrange(20)],
    ][rng.randrange(5)]


KINDS: dict[str, Callable[[random.Random], list[list[bytes]]]] = {"set": sets, "long": longer, "mix": mix}


def batches(kind: str, size: int, count: int) -> list[bytes]:
    """So many batches of so many writes each, and a PING at the end of each."""
    rng = random.Random(size * count)
    out = []
    for _ in range(count):
        commands: list[list[bytes]] = []
        while len(commands) < size:
            commands += KINDS[kind](rng)
        out.append(b"".join(map(encode, commands)) + encode([b"PING"]))
    return out


class Line:
    """A connection on which batches are under way."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._tail = b""
        self.flying = 0

    def send(self, batch: bytes) -> None:
        self._socket.sendall(batch)
        self.flying += 1

    def wait(self, most: int) -> None:
        """Until no more than so many are under way."""
        while self.flying > most:
            data = self._tail + self._socket.recv(1 << 18)
            self.flying -= data.count(END)
            self._tail = data[1 - len(END) :]


def storm(port: int, kind: str, writes: int, rate: int) -> None:
    """Write as fast as the server answers, or so many a second."""
    line = Line(port)
    size = max(1, round(rate * STEP_S)) if rate else BATCH
    parts = batches(kind, size, BATCHES)
    began = time.monotonic()
    for number in range(writes // size):
        if rate:
            time.sleep(max(0.0, began + number * size / rate - time.monotonic()))
        line.send(parts[number % len(parts)])
        line.wait(FLYING)
    line.wait(0)


def start_storm(server: Server, kind: str, writes: int, rate: int = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.benchmarks.storm", str(server.port), kind, str(writes), str(rate)]
    return subprocess.Popen(command, preexec_fn=die_with_parent)


if __name__ == "__main__":
    storm(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
