"""Operations on a task that take a worker: it can reach the servers and the spool."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from sync_tasks.cutover import Asked
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Fenced, KeyferryError
from sync_tasks.extent import Extent
from sync_tasks.objects import ObjectStore
from sync_tasks.precheck.added import look
from sync_tasks.precheck.items import BY_ID, ITEMS
from sync_tasks.precheck.run import ask
from sync_tasks.precheck.scene import Route, Scene
from sync_tasks.spec import TaskSpec, mapping
from sync_tasks.states import OpKind
from sync_tasks.views import ChunkView, NodeView
from workers.beat import Beat
from workers.fence import fence, remove_keys
from workers.finish import Finish
from workers.finish_dry import DryFinish
from workers.finish_steps import Later
from workers.lanes import each
from workers.late import watch
from workers.ports import AnyPort, OpPort
from workers.task_verify import compare

BY_TURNS = (OpKind.FINISH, OpKind.LATE, OpKind.VERIFY)
"""What is taken, and given back, every few seconds: it asks for what it needs itself."""


def carry_out(
    port: AnyPort,
    ends: Callable[[], tuple[Endpoint, Endpoint]],
    nodes: list[NodeView],
    chunks: list[ChunkView],
    spool: Path,
    home: int,
    routes: Callable[[], tuple[Route, ...]],
    grants: Callable[[], int] = lambda: 0,
    store: ObjectStore | None = None,
) -> None:
    """Do what was asked for, once; every part may be done twice.

    Args:
        port: the claimed operation.
        ends: source and target, with credentials; may raise.
        nodes, chunks: of its task, all snapshots; not of what goes BY_TURNS.
        spool: the spool's directory; what another host's spool holds is swept there (`workers.spool.sweep`).
        home: database of Keyferry's keys on the target.
        routes: where other tasks copy from and to.
        grants: asks anew about the roles that the task assumes.
        store: where the spool's chunks are; None: in the spool.

    Raises:
        Fenced: the operation was taken away.
        KeyferryError: why it failed.
    """
    if port.op.kind in BY_TURNS:
        cut_over(port, ends)
        return
    with Beat(port.renew):
        if port.op.kind is OpKind.PRECHECK:
            _precheck(port, Scene(*ends(), port.task.spec, port.task.databases, spool, routes(), grants, store=store))
        elif port.op.kind is OpKind.MODIFY:
            _look_at_added(port, ends, spool, routes(), grants)
        else:
            _end(port, ends, nodes, chunks, home)
            shutil.rmtree(spool / port.task.uid, ignore_errors=True)
            if store is not None:
                with contextlib.suppress(KeyferryError):  # else each new process of a worker tries, too
                    store.remove(port.task.uid)
    port.done()


def cut_over(port: AnyPort, ends: Callable[[], tuple[Endpoint, Endpoint]]) -> None:
    """On with a cut-over, with watching the source behind it, or a comparison; given back if there is more to do.
    Raises as above."""
    try:
        with Beat(port.renew) as beat:
            if port.op.kind is OpKind.VERIFY:
                compare(port, beat, *ends())
            elif port.op.kind is OpKind.LATE:
                watch(port, ends()[0])
            elif Asked.of(port.op.options).dry_run:
                DryFinish(port, beat, ends()).turn()
            else:
                Finish(port, beat, ends()).turn()
    except Later as later:
        port.later(later.seconds)
        return
    port.done()


def _precheck(port: OpPort, scene: Scene) -> None:
    """Ask the items that are wanted, and those that were never asked; what they say is kept as it comes."""
    wanted = port.op.options.get("items")
    unasked = BY_ID.keys() - port.asked_items()
    items = [item for item in ITEMS if wanted is None or item.id in wanted or item.id in unasked]
    ask(scene, lambda _seconds: None, port.found, items)


def _look_at_added(
    port: OpPort, ends: Callable[[], tuple[Endpoint, Endpoint]], spool: Path, routes: tuple[Route, ...],
    grants: Callable[[], int],
) -> None:  # fmt: skip
    """Whether what other settings add to a task may be added. Raises what stands against it."""
    source, target = ends()
    spec = TaskSpec.model_validate(port.op.options["spec"])
    databases = mapping(spec.databases, source.db, target.db)
    before = [Extent.of(port.task.databases, port.task.spec.filter), *map(Extent.parse, port.task.former)]
    scene = Scene(source, target, spec, databases, spool, routes, grants)
    for text in look(scene, Extent.of(databases, spec.filter), before):
        port.event("warning", text)


def _end(
    port: OpPort,
    ends: Callable[[], tuple[Endpoint, Endpoint]],
    nodes: list[NodeView],
    chunks: list[ChunkView],
    home: int,
) -> None:
    begun = [node for node in nodes if node.gen or node.epoch]
    if not begun:
        return  # it never wrote anything
    try:
        _, target = ends()
        port.renew()  # raises when it was taken away: another run of the task may be at work
        places = each(port.task, target)
        for place, task in places:
            fence(place, task, begun, home)
            port.renew()
        numbers, removed = [node.number for node in begun], 0
        for place, task in places:
            removed += remove_keys(place, task, chunks, home, numbers)
            port.renew()
        port.event("keys-removed", f"{removed} keys of Keyferry's own were removed from the target")
    except Fenced:
        raise
    except KeyferryError as error:
        if not port.op.options.get("force"):
            raise
        port.event("keys-left", f"the target keeps keys that begin keyferry:{port.task.uid}: {error.line()}")
