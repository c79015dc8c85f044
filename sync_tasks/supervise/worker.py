"""One Celery worker, in the main thread of a process of its own. Only here the supervisor meets Celery."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType
from typing import Any

from sync_tasks import names
from sync_tasks.broker_url import BrokerKind
from sync_tasks.messages import Message
from sync_tasks.observe import traces
from sync_tasks.observe.logs import to_stderr
from sync_tasks.settings import Settings
from sync_tasks.spool import identity
from sync_tasks.supervise.draining import drain, release
from sync_tasks.supervise.post import EVENT, Post
from sync_tasks.supervise.process import die_with_parent
from sync_tasks.supervise.pulse import BEAT_S, Pulse, Turning

log = logging.getLogger(__name__)

DRAIN_WITHIN_S = 25
"""From SIGTERM to the end, whatever still runs: under the 30 s after which Kubernetes kills."""


class Kind(StrEnum):
    """What a worker does."""

    LOAD = "load"
    STREAM = "stream"


SHOWN = ("transport", "hostname", "port", "virtual_host", "userid", "heartbeat", "connect_timeout")
"""What people may know of a worker's connection to its broker: Sentinels' passwords stand among its options."""

TASKS = {Kind.LOAD: (names.LOAD, names.OPS), Kind.STREAM: (names.FOLLOW,)}


def queues(settings: Settings, kind: Kind) -> list[str]:
    """Names of the queues it reads: the common ones, and those of the spool that it sees, if not all see it.

    Raises:
        ControlError: the spool cannot be used.
    """
    return sorted({names.queue(task, spool) for task in TASKS[kind] for spool in (None, identity(settings))})


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Manner:
    """How a worker runs.

    Args:
        tag: parts nodes of one kind on one host that share a broker.
        beats: every 2 s an event by which Flower knows that it lives; costs 0.05 % of a core.
        drains: SIGTERM sends its streams to other workers; else whoever started it has stopped them before.
        ready: called once it takes work.
        pulse: tells probes that it does its work.
    """

    tag: str = ""
    beats: bool = False
    drains: bool = False
    ready: Callable[[], None] = _nothing
    pulse: Pulse | None = None


def title(kind: Kind) -> str:
    """As `ps` shows it."""
    return f"keyferry: {kind} worker"


def run(settings: Settings, kind: Kind, processes: int, manner: Manner) -> int:
    """Be a worker until SIGTERM, SIGINT or SIGHUP; the exit code, 0 if it was asked to end.

    A second signal, or DRAIN_WITHIN_S after the first, ends it and its processes at once.
    """
    from celery import signals
    from celery.exceptions import SecurityWarning

    from sync_tasks.app import make_app

    to_stderr(settings)
    traces.check(settings)
    # About being root: messages are JSON, which executes nothing.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    signals.worker_process_init.connect(lambda **_: _be_process(kind, settings), weak=False)
    read = queues(settings, kind)
    app = make_app(settings, read)
    app.keyferry_post = Post()
    worker = _quiet_worker()(
        app=app,
        hostname=f"{kind}{manner.tag}@{settings.hostname}",
        queues=read,
        concurrency=processes,
        pool="prefork",
        loglevel=logging.INFO,
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=not manner.beats,
        optimization="fair",
        consumer_cls=_consumer(app),
    )
    worker.keyferry = Ending(settings, kind, manner)
    worker.start()
    if manner.pulse is not None:
        manner.pulse.end()
    return int(worker.exitcode or 0)


class Ending:
    """How this process ends: once asked it drains; asked again, or too slow, it dies with all its processes."""

    def __init__(self, settings: Settings, kind: Kind, manner: Manner) -> None:
        self.kind = kind
        self.manner = manner
        self._settings = settings
        self._pid = os.getpid()
        self._asked = False
        self.bell = -1

    def install(self) -> None:
        """Listen to signals, and wake whoever reads `bell` at each. Only the main thread may."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGALRM, self._end)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # without a handler it would not be heard
        self.bell, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def begin(self) -> None:
        """The worker takes no more work; what it has is to come to an end."""
        signal.alarm(DRAIN_WITHIN_S)
        if self.manner.drains and self.kind is Kind.STREAM:
            # Not here: a database that somebody holds would keep the main thread, and with it a second signal, waiting.
            threading.Thread(target=drain, args=(self._settings, self._pid), name="drain", daemon=True).start()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        from celery.worker import state

        if os.getpid() != self._pid:
            os._exit(128 + number)  # a pool process that has not taken its own handlers yet
        if self._asked:
            self._end(number, frame)
        self._asked = True
        state.should_stop = 0  # the main loop, which the signal wakes, looks at it

    def _end(self, number: int, _frame: FrameType | None) -> None:
        import psutil

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)  # nothing below may keep us
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        release(self._settings, self._pid)
        os._exit(128 + number)


def _be_process(kind: Kind, settings: Settings) -> None:
    """One of the pool, just forked: its signals are not the worker's."""
    signal.set_wakeup_fd(-1)
    traces.configure(settings)
    _set_title(f"{title(kind)} process")


def _set_title(text: str) -> None:
    import setproctitle

    setproctitle.setproctitle(text)


def _consumer(app: Any) -> type[Any] | None:
    """What takes messages from the broker; None: Celery's own, which can leave to a Redis what nobody is free for."""
    if app.keyferry_broker is not BrokerKind.RABBITMQ:
        return None
    from sync_tasks.supervise.sparing import SparingConsumer

    return SparingConsumer


def _quiet_worker() -> type[Any]:
    """The class, made when Celery is there."""
    from celery import platforms
    from celery.apps.worker import Worker
    from celery.worker import state

    from sync_tasks.app import send

    class QuietWorker(Worker):  # type: ignore[misc]
        """Keeps our title, which Celery would replace by one with the command line in it, our way to end, and
        secrets."""

        keyferry: Ending
        turning: Turning | None = None

        def set_process_status(self, info: str) -> None:
            _set_title(title(self.keyferry.kind))

        def emit_banner(self) -> None:
            """Nobody reads it."""

        def stats(self) -> Any:
            """What Flower shows of a worker. Celery tells all of the connection but one password of it."""
            found = super().stats()
            if isinstance(broker := found.get("broker"), dict):
                found["broker"] = {name: broker[name] for name in SHOWN if name in broker}
            return found

        def on_start(self) -> None:
            super().on_start()
            # Celery's own way to the same system call parses C, in each process anew: 6 MB and 0.1 s.
            platforms.set_pdeathsig = lambda _signal: die_with_parent()
            # The pool is forked next. A collection writes to every object that it looks at, and so would give each
            # process a copy of all that is shared: 38 MB each instead of 13.
            gc.freeze()

        def install_platform_tweaks(self, worker: Any) -> None:
            super().install_platform_tweaks(worker)
            self.keyferry.install()

        def on_consumer_ready(self, consumer: Any) -> None:
            super().on_consumer_ready(consumer)
            if consumer.hub is not None:
                # Here, not once: a lost connection to the broker takes all of them with it.
                consumer.hub.add_reader(self.keyferry.bell, self._bury)
                consumer.hub.add_reader(self.app.keyferry_post, self._deliver, consumer)
            self._live(consumer)
            self.keyferry.manner.ready()

        def _live(self, consumer: Any) -> None:
            """Let probes know. Only now: whoever forks the pool has no second thread yet."""
            pulse = self.keyferry.manner.pulse
            if pulse is None or consumer.hub is None:
                return
            if self.turning is None:
                self.turning = turning = Turning()
                pulse.keep(lambda: turning.ready(getattr(self.consumer, "connection", None) is not None))
            self.turning.turn()
            consumer.hub.call_repeatedly(BEAT_S, self.turning.turn)

        def _bury(self) -> None:
            """A signal came: a process of the pool may have died. Celery looks when one closes its files, which may be
            just before it can be waited for, and then every 5 s: for as long, nobody would know that its job is free.
            """
            with contextlib.suppress(BlockingIOError):
                os.read(self.keyferry.bell, 4096)
            self.pool.maintain_pool()

        def _deliver(self, consumer: Any) -> None:
            """Pass on what the processes have to say."""
            for what in self.app.keyferry_post.arrived():
                if isinstance(what, Message):
                    self._send(what)
                elif what.task_id in state.requests and consumer.event_dispatcher is not None:
                    # Only of tasks at work: a later line would hide the result.
                    consumer.event_dispatcher.send(EVENT, uuid=what.task_id, result=what.text)

        def _send(self, message: Message) -> None:
            try:
                send(self.app, message)
            except Exception as error:  # noqa: BLE001 - any transport, any failure of it
                log.warning("%s %d is left to the scheduler: %s", message.name, message.id, type(error).__name__)

        def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
            self.keyferry.begin()
            super().stop(in_sighandler=in_sighandler, exitcode=exitcode)

    return QuietWorker
