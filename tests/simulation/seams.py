"""Where the model takes the place of what is outside the protocol: sockets, clocks, names drawn by lot, threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.simulation.history import History
from tests.simulation.network import ModelWire
from tests.simulation.world import World
from workers import codec, translate

TIMED = (
    "workers.pump", "workers.receive", "workers.settle", "workers.inquire", "workers.spool.room",
    "workers.target.expiries", "workers.target.replicas", "workers.repair", "workers.reach",
    "workers.suspects",
)  # fmt: skip
"""Modules that ask for the time."""
NAMING = ("workers.target.claim", "workers.full", "workers.apply", "workers.fence")
"""Modules that draw names by lot."""


class _Here:
    """The history that runs now."""

    world: World

    @classmethod
    def begin(cls, history: History) -> None:
        """Everything is of this history from now on."""
        cls.world = history.world
        translate.WINDOW_COMMANDS = history.plan.window


class InlineBeat:
    """In place of `workers.beat.Beat`: it beats whenever it is looked at."""

    def __init__(self, renew: Callable[[], object], *, patient: bool = False) -> None:
        self.check = renew

    def __enter__(self) -> InlineBeat:
        return self

    def __exit__(self, *_: object) -> None: ...


class InlinePublisher:
    """In place of `workers.spool.publish.Publisher`: it records at once."""

    error = None

    def __init__(self, record: Callable[[Any], None], *_: object) -> None:
        self.put = record

    def end(self, last: Callable[[], None]) -> None:
        last()

    def wait(self) -> None: ...

    def abandon(self) -> None: ...


def small_pieces(read: Any, kind: int, block: int, most: int, hold: int) -> Any:
    """A long value is sent in pieces of three elements."""
    return codec.pieces(read, kind, block, 3, hold)


@contextmanager
def seams() -> Iterator[type[_Here]]:
    """Everything in place; each history then says which world it is of."""
    time = SimpleNamespace(
        monotonic=lambda: _Here.world.now,
        sleep=lambda seconds: _Here.world.pause(seconds),
    )
    lots = SimpleNamespace(token_hex=lambda size: _Here.world.token(size))
    places: dict[str, Any] = {f"{module}.time": time for module in TIMED}
    places |= {f"{module}.secrets": lots for module in NAMING}
    places |= {f"{module}.now_ms": lambda: _Here.world.now_ms() for module in MOMENTS}
    places |= {
        "workers.link.Wire": ModelWire,
        "workers.full.Beat": InlineBeat,
        "workers.receive.Publisher": InlinePublisher,
        "workers.huge.pieces": small_pieces,
        "workers.spool.hash_files.make_durable": lambda _: None,
        "workers.translate.WINDOW_COMMANDS": translate.WINDOW_COMMANDS,
        "workers.full.BATCH_KEYS": 2,
        "workers.snapshot.SHARDS": 2,
        "workers.snapshot.HUGE_BYTES": 12,
        "workers.spool.chunks.make_durable": lambda _: None,
        "workers.spool.tables.make_durable": lambda _: None,
    }
    patches = [patch(name, new) for name, new in places.items()]
    for one in patches:
        one.start()
    try:
        yield _Here
    finally:
        for one in patches:
            one.stop()


MOMENTS = ("workers.pump", "workers.receive", "workers.target.measure", "workers.target.expiries")
"""Modules that ask for the wall clock."""
