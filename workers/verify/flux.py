"""Whether a difference lasts, or is only live traffic on its way.

A difference counts when it outlived several re-checks spread over some seconds and the source did not change
between the last two. What changes without a pause is never seen equal, since the target is always a few
milliseconds late: it is sampled, and holds when the target shows states that the source had shown before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.2)  # before each re-check: most pass at once, few last
SAMPLE_S = 3.0  # longest time that one group in flux is sampled
SAMPLE_GROUP = 32  # things sampled together
LEAST_READS = 32  # reads of one sampling round from each side
MOST_READS = 1024
QUICK_ROUND_S = 0.1  # a round as short as this may be twice as large: it must span the target's delay
SLOW_ROUND_S = 0.5
LEAST_ROUNDS = 5
LAST_PAUSES = 2  # are never left out: between them the source must not change
COMMON_STATES = 2  # a target stuck in one state that the source returns to has only one

Thing = TypeVar("Thing", bound=Hashable)
Token = bytes | None
Read = Callable[[Sequence[Thing]], list[Token]]
"""Reads the present state of each thing: short bytes that are equal only for equal states; None: absent."""


@dataclass(slots=True)
class Patience:
    """Tells lasting differences from passing ones.

    Args:
        pauses: seconds before each re-check.
        sleep, clock: of time, in seconds.
        samples: whether what changes without a pause is sampled; else it is taken for what the target follows.
    """

    pauses: Sequence[float] = PAUSES_S
    sample_s: float = SAMPLE_S
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    samples: bool = True
    rechecked: int = 0  # things that differed at first
    in_flux: int = 0  # those of them that sampling explained

    def lasting(self, things: Sequence[Thing], source: Read[Thing], target: Read[Thing]) -> list[Thing]:
        """Those of `things` that stay different."""
        left = list(things)
        self.rechecked += len(left)
        before: dict[Thing, Token] = {}
        now: dict[Thing, Token] = {}
        took = 0.0
        for place, pause in enumerate(self.pauses):
            if not left:
                return []
            if pause < took and place < len(self.pauses) - LAST_PAUSES:
                continue  # reading so many things is a pause by itself
            self.sleep(pause)
            began = self.clock()
            before = now
            tokens = zip(left, source(left), target(left), strict=True)
            now = {thing: ours for thing, ours, theirs in tokens if ours != theirs}
            left = list(now)
            took = self.clock() - began
        steady = [thing for thing in left if thing in before and before[thing] == now[thing]]
        known = set(steady)
        moving = [thing for thing in left if thing not in known]
        if not self.samples:
            self.in_flux += len(moving)
            return steady
        for start in range(0, len(moving), SAMPLE_GROUP):
            steady += self._sample(moving[start : start + SAMPLE_GROUP], source, target)
        return steady

    def _sample(self, things: list[Thing], source: Read[Thing], target: Read[Thing]) -> list[Thing]:
        """Those that the target is not seen to follow."""
        deadline = self.clock() + self.sample_s
        shown: dict[Thing, set[Token]] = {thing: set() for thing in things}
        common: dict[Thing, set[Token]] = {thing: set() for thing in things}
        left, reads, rounds = things, LEAST_READS, 0
        while left and (self.clock() < deadline or rounds < LEAST_ROUNDS):
            many = left * max(1, reads // len(left))
            began = self.clock()
            ours, theirs = _together(many, source, target)
            took = self.clock() - began
            reads = min(MOST_READS, reads * 2) if took < QUICK_ROUND_S else reads
            reads = max(LEAST_READS, reads // 2) if took > SLOW_ROUND_S else reads
            rounds += 1
            for thing, token in zip(many, ours, strict=True):
                shown[thing].add(token)
            for thing, token in zip(many, theirs, strict=True):
                if token in shown[thing]:
                    common[thing].add(token)
            left = [thing for thing in left if len(common[thing]) < COMMON_STATES]
        if left:
            tokens = zip(left, source(left), target(left), strict=True)
            left = [thing for thing, ours, theirs in tokens if ours != theirs]
        self.in_flux += len(things) - len(left)
        return left


def _together(things: Sequence[Thing], source: Read[Thing], target: Read[Thing]) -> tuple[list[Token], list[Token]]:
    """Read both sides at once: were the target read later, it would have left all those states behind."""
    with ThreadPoolExecutor(1) as other:
        theirs = other.submit(target, things)
        return source(things), theirs.result()
