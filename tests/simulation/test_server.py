"""The model server answers as a real one does: random commands over several connections, reply by reply."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import Random

import pytest

from tests.servers import Server as RealServer
from tests.servers import start
from tests.simulation.server import Connection, Server
from workers.codec.resp_cy import encode, parse

SEQUENCES = 400
STEPS = 60
CONNECTIONS = 3
KEYS = [b"a", b"b", b"c"]
FIELDS = [b"1", b"2", b"3"]
PATTERNS: list[list[bytes]] = [
    line.encode().split()
    for line in (
        "WATCH K", "WATCH K K", "UNWATCH", "MULTI", "MULTI", "EXEC", "EXEC", "EXEC", "DISCARD", "SELECT D", "SELECT 99",
        "SET K V", "SET K V XX", "SET K V NX", "SET K V PXAT 99999999999999", "GET K", "INCR K", "APPEND K V",
        "RPUSH K V V", "LPOP K", "LRANGE K 0 -1", "HSET K F V", "HSET K F V F V", "HSET K F", "HSETNX K F V",
        "HSETNX K F V", "HINCRBY K F 2", "HDEL K F F", "HGET K F", "HMGET K F F", "HGETALL K", "HKEYS K", "HEXISTS K F",
        "DEL K", "DEL K K", "UNLINK K", "EXISTS K K", "RENAME K K", "PEXPIREAT K 99999999999999", "EXPIRE K 10000000",
        "FLUSHDB", "FLUSHALL", "SWAPDB 0 1", "PING", "NOSUCH K", "GET", "SET K",
    )
]  # fmt: skip
SWITCHES = {"maxmemory": "no_memory", "min-replicas-to-write": "no_replicas"}


class Pair:
    """One connection to each of the two."""

    def __init__(self, real: RealServer, model: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", real.port), 5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._model: Connection = model.connect()

    def ask(self, argv: list[bytes]) -> tuple[bytes, bytes]:
        data = encode(argv)
        self._socket.sendall(data)
        said = self._socket.recv(1 << 16)
        while parse(said, 0)[1] < 0:
            said += self._socket.recv(1 << 16)
        return said, self._model.feed(data)

    def close(self) -> None:
        self._socket.close()
        self._model.close()


@pytest.fixture(scope="module")
def real() -> Iterator[RealServer]:
    with start("valkey-9.1") as server:
        yield server


def made(pattern: list[bytes], random: Random) -> list[bytes]:
    """A command after a pattern."""
    choices = {b"K": KEYS, b"F": FIELDS, b"V": [b"1", b"7", b"x"], b"D": [b"0", b"1"]}
    return [random.choice(choices.get(word, [word])) for word in pattern]


@pytest.mark.parametrize("part", range(4))
def test_the_model_answers_as_a_real_server(real: RealServer, part: int) -> None:
    random = Random(part)
    with real.client() as client:
        for _ in range(SEQUENCES // 4):
            client.flushall()
            model = Server()
            pairs = [Pair(real, model) for _ in range(CONNECTIONS)]
            trace: list[str] = []
            for _ in range(STEPS):
                if random.random() < 0.06:
                    setting, switch = random.choice(list(SWITCHES.items()))
                    on = random.random() < 0.4
                    client.config_set(setting, int(on))
                    setattr(model, switch, on)
                    trace.append(f"{setting} {on}")
                    continue
                who = random.randrange(CONNECTIONS)
                argv = made(random.choice(PATTERNS), random)
                said, ours = pairs[who].ask(argv)
                trace.append(f"{who} {b' '.join(argv).decode()} -> {said!r}")
                assert ours == said, "\n".join([*trace, f"the model: {ours!r}"])
            for setting in SWITCHES:
                client.config_set(setting, 0)
            for pair in pairs:
                pair.close()
