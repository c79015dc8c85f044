"""Accounts in two databases whose sum never changes: money moves in MULTI/EXEC alone.

Whoever sees another sum has seen half a transaction.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import redis

from tests.servers import Server

DBS = (0, 3)
ACCOUNTS = 30  # in each of the databases
EACH = 1000  # opening balance
TOTAL = len(DBS) * ACCOUNTS * EACH
MOVES = (1, 1, 2, 5, 20, 150)  # of a transaction; the longest is more than Keyferry would take at a time
NAMES = [f"bank:{i}" for i in range(ACCOUNTS)]


def open_accounts(client: redis.Redis) -> None:
    """Give every account its opening balance, all at once."""
    with client.pipeline(transaction=True) as pipe:
        for db in DBS:
            pipe.execute_command("SELECT", db)
            for name in NAMES:
                pipe.execute_command("SET", name, EACH)
        pipe.execute_command("SELECT", 0)
        pipe.execute()


def transfer(pipe: Any, rng: random.Random) -> None:
    """Queue one transaction: 1 to 150 moves between accounts of either database. `pipe` is in database 0."""
    pipe.execute_command("MULTI")
    for _move in range(rng.choice(MOVES)):
        amount = rng.randrange(1, 100)
        pipe.execute_command("SELECT", rng.choice(DBS))
        pipe.execute_command("DECRBY", rng.choice(NAMES), amount)
        pipe.execute_command("SELECT", rng.choice(DBS))
        pipe.execute_command("INCRBY", rng.choice(NAMES), amount)
    pipe.execute_command("SELECT", 0)
    pipe.execute_command("EXEC")


def total(client: redis.Redis) -> int | None:
    """The sum over all accounts at one moment, or None while some are missing."""
    return total_at(client, b"none")[1]


def total_at(client: redis.Redis, checkpoint: bytes) -> tuple[bytes | None, int | None]:
    """The sum, and the state that Keyferry's checkpoint of this name had at the same moment."""
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("HGET", checkpoint, "state")
        for db in DBS:
            pipe.execute_command("SELECT", db)
            pipe.execute_command("MGET", *NAMES)
        pipe.execute_command("SELECT", 0)
        state, *answers = pipe.execute()
    balances = [balance for part in answers[1 : 2 * len(DBS) : 2] for balance in part]
    return state, None if None in balances else sum(int(balance) for balance in balances)


class Sums(threading.Thread):
    """Reads the sum of all accounts on the target, at one moment with the checkpoint, for as long as its block lasts.

    While the data set is loaded, accounts come from one snapshot or another; once it streams, no sum but one is right.
    """

    def __init__(self, target: Server) -> None:
        super().__init__(daemon=True)
        self.target, self.over = target, threading.Event()
        self.right, self.wrong = 0, Counter[int]()

    def run(self) -> None:
        while not self.over.wait(0.05):
            try:
                with self.target.client() as client:
                    self._read(client)
            except redis.RedisError:
                continue  # cut, as everybody's connections are

    def _read(self, client: redis.Redis) -> None:
        while not self.over.wait(0.02):
            for checkpoint in client.scan_iter("keyferry:*:ck", count=1000):
                state, total = total_at(client, checkpoint)
                if state == b"streaming" and total is not None:
                    if total == TOTAL:
                        self.right += 1
                    else:
                        self.wrong[total] += 1

    def __enter__(self) -> Sums:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join(60)
