"""How long to wait before the next attempt: a pure function of the attempt."""

from __future__ import annotations

from random import Random

FIRST_S = 0.2
LONGEST_S = 30.0


def pause(attempt: int, rng: Random) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1).

    Doubles from 0.2 s up to 30 s; jittered down by up to a half so that many workers do not knock at once.
    """
    full = min(LONGEST_S, FIRST_S * 2.0 ** min(attempt - 1, 16))
    return max(FIRST_S, full * rng.uniform(0.5, 1.0))
