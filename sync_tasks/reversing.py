"""The settings of a task that goes back: from the new master to the old one, what was written since the cut-over."""

from __future__ import annotations

from sync_tasks.errors import UsageError
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.names import KEY_PREFIX
from sync_tasks.spec import TaskSpec

OWN = KEY_PREFIX.decode()
"""Keys that begin so are Keyferry's own: the task before has left some on the new master."""


def reversed_spec(spec: TaskSpec, name: str) -> TaskSpec:
    """The same settings the other way round, without a load.

    Raises:
        UsageError: several databases were merged into one, or a transform has changed what came.
    """
    if spec.transform.active:
        raise _impossible("what its transform has made of the source's commands cannot be turned back")
    full = spec.throttle.full.model_copy(update={"source_qps": -1})  # it is the reader `scan` that asks
    return spec.model_copy(
        update={
            "name": f"{name}-back"[:200],
            "sync_types": ("incremental",),
            "reader": "psync",
            "scan_changes": "notifications",
            "throttle": spec.throttle.model_copy(update={"full": full}),
            "databases": _inverted(spec.databases),
            "filter": _back(spec),
        }
    )


def _inverted(databases: dict[int, int] | None) -> dict[int, int] | None:
    if databases is None:
        return None
    back = {to: db for db, to in databases.items()}
    if len(back) < len(databases):
        twice = sorted({to for to in databases.values() if list(databases.values()).count(to) > 1})
        raise _impossible(f"several databases were merged into {', '.join(map(str, twice))} of the target")
    return back


def _back(spec: TaskSpec) -> FilterSpec:
    """By prefixes of names, which are the same on both sides; rules of single databases go by the target's numbers."""
    to = spec.databases
    own = {str(db if to is None else to.get(int(db), db)): rules for db, rules in spec.filter.db.items()}
    own = {db: rules.model_copy(update={"block_prefixes": [*rules.block_prefixes, OWN]}) for db, rules in own.items()}
    return spec.filter.model_copy(update={"block_prefixes": [*spec.filter.block_prefixes, OWN], "db": own})


def _impossible(why: str) -> UsageError:
    return UsageError(
        f"there is no way back: {why}",
        code="no-way-back",
        hint="make a task with its own settings from the new master to the old one, which copies everything",
    )
