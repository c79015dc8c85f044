"""The scheduler process: owns time. It alone decides that an owner is dead or a deadline has passed."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType

from scheduler.clock import LivedClock
from scheduler.leader import Leader
from scheduler.tick import Ticker
from sync_tasks.errors import KeyferryError
from sync_tasks.messages import Message
from sync_tasks.observe import traces
from sync_tasks.settings import Settings
from sync_tasks.store import Store

log = logging.getLogger(__name__)

TICK_S = 0.25
CALM_TICK_S = 0.5
CALM_AFTER_S = 10.0
"""Nothing was due for so long: ticks are further apart."""
TROUBLED_S = 1.0
"""Pause after the database has failed."""


class Stopped(BaseException):
    """SIGTERM came while the broker kept us waiting."""


class Stop:
    """SIGTERM as a flag, and as an exception where a call may block."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._blocking = False

    def install(self) -> None:
        """Listen. Only the main thread may."""
        signal.signal(signal.SIGTERM, self._on_term)
        # Children of `sync` and `up` are in groups of their own, which Ctrl-C does not reach.
        signal.signal(signal.SIGINT, self._on_term)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, SIGTERM raises Stopped; the transport's retries would outlast our time to stop."""
        self._blocking = True
        try:
            if self.event.is_set():
                raise Stopped
            yield
        finally:
            self._blocking = False

    def _on_term(self, _signum: int, _frame: FrameType | None) -> None:
        self.event.set()
        if self._blocking:
            self._blocking = False
            raise Stopped


class CeleryBroker:
    """Sends by a Celery application of its own; connects at the first message."""

    def __init__(self, settings: Settings) -> None:
        from sync_tasks import app

        self._module = app
        self._app = app.make_app(settings)

    def send(self, message: Message) -> None:
        """Publish; raises what the transport raises."""
        self._module.send(self._app, message)

    def waiting(self, queue: str) -> int:
        """Messages of a queue not taken yet; raises what the transport raises."""
        return self._module.waiting(self._app, queue)


def _nothing() -> None:
    pass


def run(settings: Settings, turned: Callable[[], None] = _nothing) -> None:
    """Be the scheduler until SIGTERM; call it in the main thread of a process of its own.

    Args:
        settings: of the installation.
        turned: called about every tick, whatever database and broker do.

    Raises:
        ControlError: the settings are wrong. A database or broker that fails later is waited for.
    """
    stop = Stop()
    stop.install()
    traces.configure(settings)
    store = Store.of(settings)
    leader = Leader(store.database, settings.hostname)
    ticker = Ticker(
        store.database,
        CeleryBroker(settings),
        leader,
        time.time,
        Random(),  # noqa: S311 - jitter, no secret
        stop.interruptible,
    )
    try:
        loop(ticker.tick, LivedClock(time.monotonic), stop.event, turned)
    except Stopped:
        pass
    finally:
        _leave(leader, store)


def loop(
    tick: Callable[[float], bool], clock: LivedClock, stop: threading.Event, turned: Callable[[], None] = _nothing
) -> None:
    """Tick until stopped. No failure of the database ends it.

    Args:
        tick: whether anything was due.
        turned: called before each tick.
    """
    busy = 0.0
    while not stop.is_set():
        turned()
        try:
            now = clock.step()
            if tick(now):
                busy = now
            stop.wait(TICK_S if now - busy < CALM_AFTER_S else CALM_TICK_S)
        except KeyferryError as error:
            log.error("%s", error.line())
            stop.wait(TROUBLED_S)
            clock.skip()


def _leave(leader: Leader, store: Store) -> None:
    try:
        leader.resign()
    except KeyferryError as error:
        log.warning("the lease was not given back: %s", error.message)
    store.dispose()
