"""Clients of a cluster that write to keys of all its slots, and follow it wherever these go."""

from __future__ import annotations

import random
import threading
import time
from types import TracebackType
from typing import Any

import redis

from tests.clusters import Cluster

KEYS = 400
PAUSE_S = 0.001


class Writers:
    """Commands that count twice if they are executed twice; a client whose node has gone asks the others.

    Args:
        cluster: where to.
        clients: how many threads.
    """

    def __init__(self, cluster: Cluster, clients: int = 3) -> None:
        self._cluster, self._stop = cluster, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in range(clients)]
        self.written = 0

    def _run(self, seed: int) -> None:
        rng, client = random.Random(seed), self._cluster.client()
        while not self._stop.is_set():
            try:
                self._write(rng, client)
                self.written += 1
            except (redis.RedisError, IndexError, OSError):
                time.sleep(0.05)
            time.sleep(PAUSE_S)

    @staticmethod
    def _write(rng: random.Random, client: Any) -> None:
        number, what = rng.randrange(KEYS), rng.randrange(7)
        if what == 0:
            client.incr(f"n{number}")
        elif what == 1:
            client.lpush(f"l{number}", rng.randrange(10))
        elif what == 2:
            client.append(f"a{number}", "x")
        elif what == 3:
            client.set(f"t{number}", rng.random(), px=100_000 + number)
        elif what == 4:
            client.delete(f"{rng.choice('nlat')}{number}")
        elif what == 5:
            client.rpoplpush(f"{{m{number}}}list", f"{{m{number}}}other")
        else:
            with client.pipeline(transaction=True) as pipe:
                pipe.incr(f"{{m{number}}}1")
                pipe.lpush(f"{{m{number}}}list", "x")
                pipe.execute()

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
