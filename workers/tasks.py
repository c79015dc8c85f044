"""The Celery tasks: doors from a message with an id into plain functions. Only this file knows Celery."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import psutil
from billiard.exceptions import WorkerLostError
from celery import Celery, shared_task
from celery.signals import celeryd_after_setup, task_failure, task_revoked

from sync_tasks import names
from sync_tasks.errors import ControlError, Fenced, KeyferryError, Retry, TaskRests
from sync_tasks.keyfile import service_key
from sync_tasks.objects import ObjectStore
from sync_tasks.observe import bound, traces
from sync_tasks.observe.traces import CARRIED
from sync_tasks.settings import Settings
from sync_tasks.spool import identity
from sync_tasks.store import Database, Store, rehearse
from sync_tasks.store.chunk import ChunkHandle
from sync_tasks.store.ops import OpHandle
from sync_tasks.store.stream import StreamHandle
from workers.full import load_chunk
from workers.lanes import aim
from workers.load_lanes import load_lanes
from workers.ops import BY_TURNS, carry_out
from workers.read_range import read_range
from workers.shown import shown
from workers.spool import sealing
from workers.spool.at_hand import at_hand, to_be_read
from workers.spool.removing import sweep_store
from workers.spool.sealing import Seal
from workers.spool.stored import Stored
from workers.spool.sweep import sweep
from workers.stream import StreamJob
from workers.task_part import compare_part

log = logging.getLogger("keyferry.tasks")

MANY = 8
"""Processes of a worker from which on a rehearsal, which takes 0.2 s, pays."""

_stores: dict[int, Store] = {}
_databases: dict[str, Database] = {}  # that processes forked from here may use, with connections of their own


@celeryd_after_setup.connect
def _before_forks(instance: Any, **_: Any) -> None:
    """In the worker's main process: what all its processes would have to work out is there before they are."""
    if instance.concurrency >= MANY:
        url = instance.app.keyferry_settings.database()
        _databases[url] = Database(url)
        rehearse(_databases[url])


def _store(app: Celery, *, forks: bool = False) -> Store:
    """The store of this process; a forked child makes its own.

    Args:
        forks: it is a worker's main process. It may have no thread that imports: a child forked meanwhile would find
            the module locked by nobody, and wait for ever.
    """
    store = _stores.get(os.getpid())
    if store is None:
        _stores.clear()
        settings: Settings = app.keyferry_settings
        shared = _databases.get(settings.database())
        store = _stores[os.getpid()] = Store.of(settings, app.keyferry_post.send, shared)
        key = service_key(settings) if settings.spool_encrypt else settings.key()
        sealing.use(Seal(key) if key else None, settings.spool_encrypt)
        if not forks:
            _sweep(store, app)
    return store


def _sweep(store: Store, app: Celery) -> None:
    """Files of runs that ended while nobody here could be told. Each new process looks once."""
    settings: Settings = app.keyferry_settings
    with contextlib.suppress(KeyferryError):
        sweep(settings.spool, store.ended)
    if (objects := _object_store(settings)) is not None:
        sweep_store(objects, store.ended)


@cache
def _objects(url: str) -> ObjectStore:
    return ObjectStore(url)


def _object_store(settings: Settings) -> ObjectStore | None:
    """Where chunks are, if not in the spool itself; its connections are kept from task to task."""
    return None if settings.spool_url is None else _objects(settings.spool_url)


def _stored(settings: Settings) -> Stored | None:
    objects = _object_store(settings)
    return None if objects is None else Stored(objects, settings.spool)


def _owner(app: Celery) -> str:
    """<host>:<worker's main process>:<this process>:<random>; the first two let a supervisor free what died."""
    return f"{app.keyferry_settings.hostname}:{os.getppid()}:{os.getpid()}:{secrets.token_hex(4)}"


@contextmanager
def _at_work(self: Any, asked: Mapping[str, Any] | None = None, **values: Any) -> Iterator[None]:
    """Within the block this process works at that: its lines say so, and it is a span of the trace of who asked.

    Args:
        asked: what the row holds of that trace; else the message may.
    """
    headers = self.request.headers or {}
    with bound.job(**values), traces.span(self.name, asked if asked and CARRIED[0] in asked else headers, **values):
        yield


@shared_task(name=names.FOLLOW, bind=True)
def follow(self: Any, node_id: int) -> None:
    """Follow one source node for as long as it is wanted."""
    store = _store(self.app)
    settings: Settings = self.app.keyferry_settings
    port = store.claim_node(node_id, _owner(self.app), identity(settings))
    if port is not None:
        with _at_work(self, task=port.task.name, task_id=port.task.id, node_id=node_id):
            _follow(self, store, port)


def _follow(self: Any, store: Store, port: StreamHandle) -> None:
    settings: Settings = self.app.keyferry_settings
    node_id = port.node_id
    try:
        source, target = store.endpoints(port.task.id)
        spool, stored = settings.spool, _stored(settings)
        job = StreamJob(port, source, target, spool, port.task.home, settings.stream_shift_s, shown(self), stored)
        bound.note(node=job.node.number)
        job.run()
    except TaskRests as error:
        log.info("stream of node %s: %s", node_id, error.message)
    except Fenced as error:
        # Our lease was given away: nothing to do. If not, another copy drives the target: the task must stop.
        _fail(port, error)
    except KeyferryError as error:
        if error.retry is Retry.FATAL:
            _fail(port, error)
        else:
            log.warning("stream of node %s ended: %s", node_id, error.line())
            _retry(port, error)
    except Exception:
        log.exception("stream of node %s ended", node_id)
        _retry(port, _unexpected())
    finally:
        store.release_node(node_id, port.epoch)


def _retry(port: Any, error: KeyferryError) -> None:
    """Open the window: the scheduler sends the job again after a pause, and fails the task past the deadline."""
    traces.failed(error)
    with contextlib.suppress(KeyferryError):
        port.failing(error)


def _fail(port: StreamHandle, error: KeyferryError) -> None:
    """End the task; if its lease was given away meanwhile, another owner goes on with it."""
    traces.failed(error)
    try:
        port.fail(error)
    except Fenced:
        log.info("lease lost: %s", error.line())


@shared_task(name=names.LOAD, bind=True)
def load(self: Any, chunk_id: int) -> str | None:
    """Load one chunk of a snapshot. What it returns goes no further than to people who watch."""
    store = _store(self.app)
    port = store.claim_chunk(chunk_id, _owner(self.app))
    if port is None:
        return "nothing to do"
    chunk = f"{port.chunk.gen}/{port.chunk.seq}"
    with _at_work(self, task=port.task.name, task_id=port.task.id, node=port.node_number, chunk=chunk):
        return _load(self, store, port)


def _load(self: Any, store: Store, port: ChunkHandle) -> str | None:
    chunk_id, databases = port.chunk.id, port.task.databases
    goal = port.chunk.db if databases is None else databases.get(port.chunk.db)
    try:
        source, target = store.endpoints(port.task.id)
        if goal is None:
            port.done(0)
            return "out of scope"
        port.say = shown(self)
        stored = _stored(self.app.keyferry_settings)
        if port.chunk.is_range:
            with to_be_read(stored, port) as keep:
                read_range(port, source, keep)
        with at_hand(stored, port):
            if port.task.lanes and port.task.spec.transform.active:
                load_lanes(port, target, port.task.home, goal)
            else:
                load_chunk(port, aim(port, target), port.task.home, goal)
        return f"{port.chunk.keys} keys"
    except Fenced as error:
        log.info("chunk %s: %s", chunk_id, error.line())
    except KeyferryError as error:
        log.warning("chunk %s: %s", chunk_id, error.line())
        traces.failed(error)
        store.chunk_failed(chunk_id, port.chunk.epoch, error)
    except Exception:
        log.exception("chunk %s", chunk_id)
        traces.failed(_unexpected())
        store.chunk_failed(chunk_id, port.chunk.epoch, _unexpected())
    return None


@shared_task(name=names.OPS, bind=True)
def operate(self: Any, op_id: int) -> None:
    """Carry out one operation on a task."""
    store = _store(self.app)
    port = store.claim_op(op_id, _owner(self.app))
    if port is not None:
        kind = port.op.kind.value
        with _at_work(self, port.op.options, task=port.task.name, task_id=port.task.id, operation=kind):
            _operate(self, store, port)


def _operate(self: Any, store: Store, port: OpHandle) -> None:
    op_id, task = port.op.id, port.task
    try:
        turns = port.op.kind in BY_TURNS
        nodes, chunks = ([], []) if turns else (store.nodes(task.id), store.chunks(task.id))
        settings: Settings = self.app.keyferry_settings
        carry_out(
            port, lambda: store.endpoints(task.id), nodes, chunks, settings.spool, task.home,
            lambda: store.routes(task.id), lambda: store.renew_grants(task.id), _object_store(settings),
        )  # fmt: skip
    except Fenced as error:
        log.info("operation %s: %s", op_id, error.line())
    except KeyferryError as error:
        log.warning("operation %s: %s", op_id, error.line())
        _op_failed(port, error)
    except Exception:
        log.exception("operation %s", op_id)
        _op_failed(port, _unexpected())


@shared_task(name=names.PART, bind=True)
def verify_part(self: Any, op_id: int) -> None:
    """Compare one part of a task's two sides."""
    store = _store(self.app)
    port = store.claim_op(op_id, _owner(self.app))
    if port is None:
        return
    try:
        compare_part(port, *store.endpoints(port.task.id))
    except Fenced as error:
        log.info("part %s: %s", op_id, error.line())
    except KeyferryError as error:
        log.warning("part %s: %s", op_id, error.line())
        _op_failed(port, error)
    except Exception:
        log.exception("part %s", op_id)
        _op_failed(port, _unexpected())


@shared_task(name=names.SWEEP, bind=True)
def sweep_spool(self: Any, op_id: int) -> None:
    """An operation has ended a run: remove what this worker's spool holds of it."""
    _sweep(_store(self.app), self.app)


def _op_failed(port: OpHandle, error: KeyferryError) -> None:
    """Whoever has taken it since tries for himself; a database that is away now frees it by and by."""
    traces.failed(error)
    with contextlib.suppress(KeyferryError):
        port.failed(error)


def _unexpected() -> ControlError:
    return ControlError("an internal error", hint="see the worker's log; please report it", retry=Retry.OTHER)


@task_failure.connect
def _died(sender: Any, exception: BaseException | None = None, **_: Any) -> None:
    """In the worker's main process: a pool child was killed; what it held can go to others at once."""
    if not isinstance(exception, WorkerLostError):
        return
    prefix = f"{sender.app.keyferry_settings.hostname}:{os.getpid()}:"
    alive = {str(child.pid) for child in psutil.Process().children(recursive=True)}
    store = _store(sender.app, forks=True)
    for owner in store.owners(prefix, ops=True):
        pid = owner.removeprefix(prefix).split(":")[0]
        if pid not in alive:
            store.release_owner(f"{prefix}{pid}")


@task_revoked.connect
def _revoked(sender: Any, request: Any, expired: bool = False, **_: Any) -> None:
    """In the worker's main process: somebody revoked it, in Flower. The task rests, and nobody sends it again.

    A message that has expired in its queue counts as revoked for Celery; the scheduler has sent another.
    """
    if not expired and request.args:
        with contextlib.suppress(KeyferryError):
            _store(sender.app, forks=True).revoked(sender.name, int(request.args[0]))
