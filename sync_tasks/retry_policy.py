"""Whether there is a next attempt, and how long to wait before it: pure functions."""

from __future__ import annotations

from random import Random

from sync_tasks.errors import CredentialsRefused, KeyferryError, Retry

FIRST_S = 0.2
LONGEST_S = 30.0


def pause(attempt: int, rng: Random) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1).

    Doubles from 0.2 s up to 30 s; jittered down by up to a half so that many workers do not knock at once.
    """
    full = min(LONGEST_S, FIRST_S * 2.0 ** min(attempt - 1, 16))
    return max(FIRST_S, full * rng.uniform(0.5, 1.0))


def is_final_at_once(error: KeyferryError) -> bool:
    """Whether somebody who has just asked for something is told now, instead of after some more attempts.

    While a task runs, refused credentials may only be those of a password that is being rotated. Whoever starts,
    restarts or releases one has given wrong ones.
    """
    return error.retry is Retry.FATAL or error.code == CredentialsRefused.code
