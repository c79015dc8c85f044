"""The Python client: tasks are made, started, watched and ended by way of the database alone.

    with Client("/var/lib/keyferry") as client:
        task = client.create("redis://old:6379", "redis://:password@new:6379", name="orders-move")
        client.start(task)

Workers and a scheduler do the work: `keyferry up` starts both. From asyncio, call it in a thread:
`await asyncio.to_thread(client.start, task)`.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, Unpack, overload

from sqlalchemy.engine import make_url

from sync_tasks import reading, waiting
from sync_tasks.access.scopes import ADMIN, OPERATE, READ, needs
from sync_tasks.accounting import Accounting
from sync_tasks.asking import Ask, each
from sync_tasks.changes import Config, SpecTable, changed
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side, UsageError
from sync_tasks.finishing import Finishing
from sync_tasks.places import named
from sync_tasks.prechecking import Prechecking
from sync_tasks.preview import Preview
from sync_tasks.progress import Progress
from sync_tasks.registering import Registering
from sync_tasks.states import ENDED, RUNNING, UNBEGUN, OpKind, TaskState
from sync_tasks.store.overview import overview
from sync_tasks.supervise.outcome import Reading
from sync_tasks.supervise.reading import read
from sync_tasks.task import Event, One, Task, tagged, which
from sync_tasks.verifying import Verifying
from sync_tasks.views import OpView, TaskView
from sync_tasks.waiting import Check

Tasks = builtins.list[Task]
WAIT_S = 30.0


class Client(Registering, Accounting, Prechecking, Finishing, Verifying):
    """An installation of Keyferry, by its database. Safe to use from several threads, and after a fork.

    Every verb that changes a task takes one (its id, uid, name, or a `Task`) or several (any iterable of those; the
    result is a list in their order). Of several, all are tried; the first error is raised then and names the others.

    Args:
        where: a state directory, or the URL of a database (sqlite:///..., postgresql+psycopg://...); None: as the
            environment and the configuration file say, like the command line. Passwords and keys come from there
            in any case. A state directory that holds nothing yet is set up.
        account: whose tasks and instances are meant, and no others seen; None: as the setting `account` says, by
            default the whole installation's.
        token: of an account: what it allows; None: as the setting `token` says.

    Raises:
        UsageError: the settings cannot be read.
        ControlError: the database cannot be used, or is of another version (`keyferry db upgrade`).
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        url = make_url(self._settings.database())
        return f"Client({url.get_backend_name()}: {url.host or ''}/{(url.database or '').lstrip('/')})"

    # -- looking

    @needs(READ)
    def list(self, state: str | None = None, **tags: str | None) -> Tasks:
        """All tasks, oldest first; or those in one state, and with these settings `environment`, `resource_group`.

        Raises:
            UsageError: there is no such state.
        """
        wanted = None if state is None else _state(state)
        found = [view for view in self._store.tasks() if wanted in (None, view.state)]
        return [Task.of(view) for view in found if tagged(view, tags)]

    @needs(READ)
    def get(self, task: One) -> Task:
        """One task as it is now. Raises ControlError if there is none, UsageError if a name fits several."""
        return Task.of(which(self._store, task))

    @needs(READ)
    def events(self, task: One, after: int = 0) -> builtins.list[Event]:
        """What has happened to a task, oldest first; `after`: the id of the last event known already."""
        return self._store.events(which(self._store, task).id, after)

    @needs(READ)
    def progress(self, task: One) -> Progress:
        """How far a task is: offsets in bytes, the delay in milliseconds; what is not known is None."""
        return Progress.of(self.reading(task))

    @needs(READ)
    def watch(self, task: One, every_s: float = 0.5) -> Iterator[Progress]:
        """The progress again and again, until the task has ended or failed; the last one says how.

        It only looks: to stop looking (Ctrl-C, `break`) changes nothing.

        Args:
            every_s: seconds between two looks.

        Raises:
            ControlError: the database cannot be read for a minute.
        """
        task_id = which(self._store, task).id
        for progress in waiting.looks(lambda: self.progress(task_id), every_s):
            yield progress
            if progress.phase in ENDED | {TaskState.FAILED, TaskState.PRECHECK_FAILED}:
                return

    @needs(READ)
    def reading(self, task: One) -> Reading:
        """All that one look at the database says, for displays."""
        return read(self._store, which(self._store, task).id)

    @needs(READ)
    def readings(self, *, released: bool = False, **tags: str | None) -> builtins.list[Reading]:
        """The same of all tasks, without what is known of single databases; with those that are released, too.

        Args:
            tags: only those whose settings `environment` and `resource_group` are these; None: whatever they are.
        """
        found = [Reading(task, tuple(nodes), tuple(retries)) for task, nodes, retries in overview(self._store.database)]
        mine = [one for one in found if self._account in ("", one.task.account) and tagged(one.task, tags)]
        return [one for one in mine if released or one.task.state is not TaskState.RELEASED]

    # -- making and changing

    @needs(ADMIN)
    def create(self, source: str, target: str, *, config: Config | None = None, **settings: Unpack[SpecTable]) -> Task:
        """A new task; it is not started.

        Args:
            source: `instance://NAME[/db]`, or a URL, as in `redis://[user:password@]host:port[/db]`, rediss:// or
                unix:///path; or an RDB file that the workers see, or its URL. A password may come from
                `?password_file=` (a path on the workers' machines too) or KEYFERRY_SOURCE_PASSWORD.
            target: the same, with KEYFERRY_TARGET_PASSWORD.
            config: a file of settings (TOML), or a `TaskSpec`.
            settings: by the names of that file; they count more than it.

        Raises:
            UsageError: a URL or a setting is not allowed; an unknown name is told with the nearest known one.
            ControlError: the secret key that seals the addresses is missing.
        """
        ends = self._end(source, Side.SOURCE, files=True), self._end(target, Side.TARGET)
        spec = changed(reading.usual(ends[0]), config, settings, "create")
        names = named(source, Side.SOURCE), named(target, Side.TARGET)
        return Task.of(self._sealing().create_task(spec, *ends, self._account, names))

    @needs(READ)
    def preview(self, task: One) -> Preview:
        """What would make the same task: a command for a shell, and Python code, without passwords."""
        view = which(self._store, task)
        ends = Endpoint.stored(view.source, Side.SOURCE), Endpoint.stored(view.target, Side.TARGET)
        return Preview.of(*ends, Task.of(view).settings)

    @overload
    def modify(  # type: ignore[overload-overlap]
        self, task: One, *, config: Config | None = ..., wait_s: float | None = ..., **settings: Unpack[SpecTable]
    ) -> Task: ...
    @overload
    def modify(
        self,
        task: Iterable[One],
        *,
        config: Config | None = ...,
        wait_s: float | None = ...,
        **settings: Unpack[SpecTable],
    ) -> Tasks: ...
    @needs(ADMIN)
    def modify(
        self,
        task: One | Iterable[One],
        *,
        config: Config | None = None,
        wait_s: float | None = WAIT_S,
        **settings: Unpack[SpecTable],
    ) -> Task | Tasks:
        """Change settings, by the names of `create`; what is left out stays. A stream takes them up at its next
        checkpoint; one that still loads, with its next shift.

        Databases and keys that are added to a task that streams are loaded while it goes on: `Progress.in_sync` is
        False until they are in. First a worker looks at both servers: whatever stands against it changes nothing.

        Args:
            wait_s: seconds to wait for that look; 0: only ask; None: as long as it takes. All else needs no worker.

        Raises:
            UsageError: a setting is not allowed.
            SourceError, TargetError, UsageError: what stands against what is added (`target-not-empty`,
                `shared-keys`, `loop`, ...).
            ControlError: the task has ended, or is being prechecked, restarted, released or modified right now;
                `loading`: databases and keys cannot change while a snapshot is loaded; `no-worker` or `timeout`: it
                was not looked at within `wait_s`, and stays asked for.
        """

        def ask(view: TaskView) -> Check | None:
            op = self._store.change(view.id, lambda spec: changed(spec, config, settings, "modify"))
            return None if op is None else waiting.carried_out(self._store, op)

        return self._tasks(task, ask, wait_s)

    # -- running

    @overload
    def start(self, task: One, wait_s: float | None = ...) -> Task: ...  # type: ignore[overload-overlap]
    @overload
    def start(self, task: Iterable[One], wait_s: float | None = ...) -> Tasks: ...
    @needs(OPERATE)
    def start(self, task: One | Iterable[One], wait_s: float | None = WAIT_S) -> Task | Tasks:
        """Start a task, or let it go on. One that has not begun is prechecked by a worker first; one that is
        suspended or has failed goes on from its checkpoint; one that runs is left alone.

        Args:
            wait_s: seconds to wait until a worker has it; 0: only ask; None: as long as it takes.

        Raises:
            SourceError, TargetError, UsageError: what the precheck found wrong.
            ControlError: `no-worker` or `timeout`: it does not run within `wait_s`, and stays asked for;
                `transition`: it has ended; or it failed for a reason that only `restart` heals.
        """
        return self._tasks(task, self._start, wait_s)

    @overload
    def resume(self, task: One, wait_s: float | None = ...) -> Task: ...  # type: ignore[overload-overlap]
    @overload
    def resume(self, task: Iterable[One], wait_s: float | None = ...) -> Tasks: ...
    @needs(OPERATE)
    def resume(self, task: One | Iterable[One], wait_s: float | None = WAIT_S) -> Task | Tasks:
        """Let a suspended or failed task go on from its checkpoint. Arguments and errors as for `start`."""
        return self._tasks(task, self._resume, wait_s)

    @overload
    def suspend(  # type: ignore[overload-overlap]
        self, task: One, wait_s: float | None = ..., *, receive: bool = ..., limit_bytes: int | None = ...
    ) -> Task: ...
    @overload
    def suspend(
        self, task: Iterable[One], wait_s: float | None = ..., *, receive: bool = ..., limit_bytes: int | None = ...
    ) -> Tasks: ...
    @needs(OPERATE)
    def suspend(
        self,
        task: One | Iterable[One],
        wait_s: float | None = WAIT_S,
        *,
        receive: bool = True,
        limit_bytes: int | None = None,
    ) -> Task | Tasks:
        """Let a running task rest: nothing is written to its target until `resume`. What the source writes meanwhile
        is received to disk up to a limit; then the link to the source is closed. A task that still copies stops.

        Of one that is suspended already, it changes what is received.

        Args:
            wait_s: seconds to wait until its streams have ended at a checkpoint; 0: only ask; None: for ever.
            receive: False: the streams stop, and a resumption depends on the source's backlog from the start.
            limit_bytes: bytes of each source node's stream that may wait on disk, 2^20 to 2^50; None: as the
                installation's setting `suspend_bytes` says.

        Raises:
            ControlError: `transition`: it does not run; `timeout`: they have not ended within `wait_s`.
            UsageError: `limit_bytes` is out of its range, or given with `receive=False`.
        """
        limit = self._settings.suspend_limit(receive, limit_bytes)

        def ask(view: TaskView) -> Check:
            self._store.halt(view.id, receive_bytes=limit)
            return waiting.at_rest(self._store, view.id)

        return self._tasks(task, ask, wait_s)

    @overload
    def restart(self, task: One, wait_s: float | None = ...) -> Task: ...  # type: ignore[overload-overlap]
    @overload
    def restart(self, task: Iterable[One], wait_s: float | None = ...) -> Tasks: ...
    @needs(OPERATE)
    def restart(self, task: One | Iterable[One], wait_s: float | None = WAIT_S) -> Task | Tasks:
        """Begin anew: what the task knows is given up, the target is closed to its earlier run, and after a precheck
        everything is copied again.

        The precheck asks for an empty target, as at the first start: empty it before. With `ignore-and-proceed` what
        is there is overwritten, and keys that the source has deleted since stay.

        Args:
            wait_s: seconds to wait until it runs again; 0: only ask; None: as long as it takes.

        Raises:
            KeyferryError: as `start`; `transition`: the task never ran, or has ended.
        """

        def ask(view: TaskView) -> Check:
            before = waiting.epochs(self._store, view.id)
            op = self._store.request(view.id, OpKind.RESTART)
            return self._runs(view, op, before)

        return self._tasks(task, ask, wait_s)

    # -- ending

    @overload
    def release(self, task: One, force: bool = ..., wait_s: float | None = ...) -> Task: ...  # type: ignore[overload-overlap]
    @overload
    def release(self, task: Iterable[One], force: bool = ..., wait_s: float | None = ...) -> Tasks: ...
    @needs(ADMIN)
    def release(self, task: One | Iterable[One], force: bool = False, wait_s: float | None = WAIT_S) -> Task | Tasks:
        """Give up a task that does not run: a worker fences it, and removes its own keys from the target and its
        files; its addresses are forgotten. What was copied stays; the keys that keep latecomers out expire a day later.
        One that is released is left alone.

        Args:
            force: even if the target cannot be reached: its keys that begin with keyferry: then stay there.
            wait_s: seconds to wait for that; 0: only ask; None: as long as it takes.

        Raises:
            KeyferryError: why it failed; `transition`: the task runs; `no-worker` or `timeout`: it is not done
                within `wait_s`, and stays asked for.
        """

        def ask(view: TaskView) -> Check | None:
            if view.state is TaskState.RELEASED:
                return None
            return waiting.carried_out(self._store, self._store.request(view.id, OpKind.RELEASE, force=force))

        return self._tasks(task, ask, wait_s)

    # -- inside

    def _start(self, view: TaskView) -> Check | None:
        if view.state not in UNBEGUN:
            return self._resume(view)
        before = waiting.epochs(self._store, view.id)
        return self._runs(view, self._store.request(view.id, OpKind.PRECHECK, start=True), before)

    def _resume(self, view: TaskView) -> Check | None:
        before = waiting.epochs(self._store, view.id)
        self._store.resume(view.id)
        return None if view.state in RUNNING else waiting.running(self._store, view.id, before)

    def _runs(self, view: TaskView, op: OpView, before: dict[int, int]) -> Check:
        carried_out = waiting.carried_out(self._store, op)
        return waiting.both(carried_out, waiting.running(self._store, view.id, before))

    def _tasks(self, given: One | Iterable[One], ask: Ask, wait_s: float | None) -> Task | Tasks:
        return each(self._store, given, ask, wait_s, Task.of)


def _state(text: str) -> TaskState:
    try:
        return TaskState(text)
    except ValueError:
        known = ", ".join(state.value for state in TaskState)
        raise UsageError(f"there is no state {text}", hint=f"states are: {known}", code="state") from None
