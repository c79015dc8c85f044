"""An application that writes to a server or cluster, in a process of its own: it can be gone at once, and what it waits
for in a pause is never executed."""

from __future__ import annotations

import multiprocessing
import random
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster

from tests.clusters import Cluster
from tests.scenarios.cluster_source.writers import PAUSE_S, Writers
from tests.servers import Server

Place = Server | Cluster


def ports(place: Place) -> list[int]:
    """Of its masters."""
    return [node.port for node in place.masters] if isinstance(place, Cluster) else [place.port]


def _write(at: list[int], cluster: bool, seed: int, written: Any) -> None:
    nodes = [ClusterNode("127.0.0.1", port) for port in at]
    client: Any = RedisCluster(startup_nodes=nodes, protocol=2) if cluster else redis.Redis(port=at[0], protocol=2)
    rng = random.Random(seed)
    while True:
        with suppress(redis.RedisError, OSError, IndexError):
            Writers._write(rng, client)
            written.value += 1
        time.sleep(PAUSE_S)


class Application:
    """Commands that count twice if they are executed twice.

    Args:
        place: where to.
        seed: same seed, same commands.
    """

    def __init__(self, place: Place, seed: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._written = context.Value("q", 0)
        self._process = context.Process(
            target=_write, args=(ports(place), isinstance(place, Cluster), seed, self._written), daemon=True
        )

    @property
    def written(self) -> int:
        """Commands that were answered."""
        return int(self._written.value)

    def gone(self) -> None:
        """At once."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join(30)

    def __enter__(self) -> Application:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.gone()
