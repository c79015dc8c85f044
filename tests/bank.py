"""Accounts in two databases whose sum never changes: money moves in MULTI/EXEC alone.

Whoever sees another sum has seen half a transaction.
"""

from __future__ import annotations

import random
from typing import Any

import redis

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
    with client.pipeline(transaction=True) as pipe:
        for db in DBS:
            pipe.execute_command("SELECT", db)
            pipe.execute_command("MGET", *NAMES)
        pipe.execute_command("SELECT", 0)
        answers = pipe.execute()
    balances = [balance for part in answers[1 : 2 * len(DBS) : 2] for balance in part]
    return None if None in balances else sum(int(balance) for balance in balances)
