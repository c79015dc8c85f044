"""A stream port without a database, a target, and an applier whose log is written by hand."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Fenced, KeyferryError, Retry, Side
from sync_tasks.slots import Ranges
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.views import LoadState, NodeView, Orders, TaskView
from tests.servers import Server, start
from workers.apply import Applier
from workers.clock import Clock
from workers.codec.resp_cy import encode
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.source.ask import Position, Source
from workers.spool.known import Known
from workers.spool.log import Log
from workers.target.claim import STREAMING, Checkpoint, Claim, claim
from workers.target.link import TargetLink
from workers.target.windows import Chain, Run, Window
from workers.translate import Translator

UID = "0123456789abcdef"
REPLID = "a" * 40

TASK = TaskView(1, UID, "t", TaskState.SYNCHRONIZING, "s", "t", TaskSpec(extend_expiry_s=0), None, None)
NODE = NodeView(
    1, 1, 0, True, False, True, 1, REPLID, 0, 0, True, 0, None, None, None, False, False, None, 0, 0, 0, 0, 1,
)  # fmt: skip


def known(directory: Path) -> Known:
    """Of a node whose spool is `directory`."""
    made = Known(directory / "known", UID, 1)
    made.create()
    return made


def never(*_: Any) -> None:
    """In place of what must not be called."""
    raise AssertionError("a full sync in place was begun")


class Port:
    """A claimed job whose lease is ours until `lost`; remembers failures and which windows are open."""

    def __init__(self, task: TaskView = TASK, node: NodeView = NODE, epoch: int = 1) -> None:
        self.task, self.epoch, self.view, self.lost = task, epoch, node, False
        self.failures: list[KeyferryError] = []
        self.open: set[str] = set()
        self.opened = 0
        self.events: list[str] = []
        self.moved = False
        self.rest: list[int] = []  # numbers of the other source nodes

    def node(self) -> NodeView:
        return self.view

    def renew(self) -> Orders:
        if self.lost:
            raise Fenced("lost")
        return Orders()

    def raise_epoch(self, epoch: int) -> None:
        self.epoch, self.view = epoch, replace(self.view, fresh=False)

    def begin_snapshot(self, *args: Any) -> int:
        gen = args[5] if len(args) > 5 else self.view.gen + 1
        self.view = replace(self.view, gen=gen, snapshot_done=False, begun=False)
        return self.view.gen

    def add_chunk(self, **_: Any) -> int:
        return 1

    def end_snapshot(self, *_: Any) -> None:
        self.view = replace(self.view, snapshot_done=True)

    def load_state(self, _: int) -> LoadState:
        return LoadState(0, 0, 0, 0)

    def chunks(self, _: int, *, every: bool = False) -> list[Any]:
        return []

    def reload(self, _: list[int]) -> None: ...

    def void_chunks(self, _: int) -> None: ...

    def begin_stream(self) -> None: ...

    def took_up(self) -> None: ...

    def finished(self) -> None: ...

    def rests(self) -> None: ...

    def receive_no_more(self, why: str) -> None: ...

    def reread(self) -> None: ...

    def holds(self, _: Any) -> None: ...

    def stand(self, _: int | None) -> bool:
        return True

    def others(self) -> list[int]:
        return self.rest

    def untaken(self) -> Ranges:
        return ()

    def fail(self, error: KeyferryError) -> None:
        raise error

    def moved_in(self) -> None: ...

    def progress(self, _: Any) -> None: ...

    def failing(self, error: KeyferryError) -> float:
        self.failures.append(error)
        if error.retry is Retry.FATAL:
            raise error
        self.opened += error.side not in self.open
        self.open.add(error.side)
        return 0.05

    def healed(self, side: str, quiet_s: float = 0.0) -> None:
        self.open.discard(side)

    def event(self, kind: str, text: str) -> None:
        self.events.append(f"{kind}: {text}")


def endpoint(server: Server, side: Side = Side.TARGET) -> Endpoint:
    return Endpoint.parse(server.url(), side)


class Chained:
    """A claimed chain on a server."""

    def __init__(self, server: Server, epoch: int = 1, nonce: str | None = None, begin: bool = True) -> None:
        self.link = TargetLink(endpoint(server), "test", 0)
        self.claim: Claim = claim(self.link, UID, 0, epoch, nonce or secrets.token_hex(8))
        self.chain = Chain(self.link, self.claim, UID, 0, 0, epoch, 1)
        if begin and self.claim.found is None:
            self.push(0)
            self.drain()

    def window(self, end: int, *commands: list[bytes]) -> Window:
        window = Window(start=max(0, end - 1), end=end, replid=REPLID, first=0, selected=0)
        for command in commands:
            window.runs.append(Run(window.commands, len(window.body), window.start, False, db=window.selected))
            window.body += encode(command)
            window.commands += 1
        return window

    def push(self, end: int, *commands: list[bytes]) -> None:
        self.chain.push(self.window(end, *commands))

    def drain(self) -> list[Window]:
        done: list[Window] = []
        while self.chain.flying:
            done += self.chain.pump(1.0)
        return done


@pytest.fixture(scope="module")
def target7() -> Iterator[Server]:
    with start("redis-7.0") as server:
        yield server


@pytest.fixture
def target(target7: Server) -> Server:
    with target7.client() as client:
        client.config_set("maxmemory", 0)
        client.flushall()
    return target7


class Followed:
    """An applier on a claimed stream, fed by hand: `write` is the source's stream."""

    def __init__(
        self, target: Server, source: Server, directory: Path, task: TaskView = TASK, held: bool = False
    ) -> None:
        begun = Chained(target, begin=False)
        begun.chain.held = held
        begun.push(0)
        begun.drain()
        begun.link.close()
        self.log = Log(directory / "log")
        self.log.reset(REPLID, 0)
        self.port = Port(task, epoch=2)
        self.source = Source(endpoint(source, Side.SOURCE))
        self.applier = Applier(
            endpoint(target), self.port, self.log, self.source, directory, Scope(task.databases), 0, known(directory),  # type: ignore[arg-type]
        )  # fmt: skip
        self.applier.start()

    def write(self, *commands: list[bytes]) -> int:
        for command in commands:
            self.log.append(encode(command), time.time_ns() // 1_000_000)
        assert self.log.end is not None
        return self.log.end

    def close(self) -> None:
        self.applier.stop_event.set()
        self.applier.loaded.set()
        self.applier.join(10)
        self.log.close()


@pytest.fixture(scope="module")
def source() -> Iterator[Server]:
    with start("redis-7.0") as server:
        yield server


@pytest.fixture
def follow(tmp_path: Path, source: Server) -> Iterator[Callable[..., Followed]]:
    made: list[Followed] = []

    def make(target: Server, **kw: Any) -> Followed:
        stream = Followed(target, source, tmp_path, **kw)
        made.append(stream)
        stream.source.offset = lambda: 0  # type: ignore[method-assign]
        stream.source.position = lambda: Position(REPLID, stream.log.end or 0)  # type: ignore[method-assign]
        return stream

    yield make
    for one in made:
        one.close()


def until(true: Callable[[], Any], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.01)
    return bool(true())


def translator(
    databases: dict[int, int] | None = None,
    *,
    clock: Clock | None = None,
    db: int = 0,
    offset: int = 0,
    own: Callable[[list[int]], list[list[bytes]]] = lambda _: [],
    touched: Callable[[int, bytes, int, bool], None] = lambda *_: None,
    swapped: Callable[..., None] = lambda *_: None,
) -> Translator:
    return Translator(offset, db, Rewriter(Scope(databases), clock or Clock(0), 0, own, touched, swapped))


__all__ = ["NODE", "REPLID", "STREAMING", "TASK", "UID", "Chained", "Checkpoint", "Followed", "Port"]
