"""How a source is read: which readers go with which sources and settings."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import UsageError
from sync_tasks.spec import TaskSpec


def usual(source: Endpoint | None) -> TaskSpec:
    """The settings of whoever gives none: of a file, `rdb` and the full sync alone."""
    if source is not None and source.is_dump:
        return TaskSpec(reader="rdb", sync_types=("full",))
    return TaskSpec()


def check(spec: TaskSpec, source: Endpoint) -> None:
    """Raise UsageError if the setting `reader` does not go with the source, or with other settings."""
    if source.is_dump and spec.reader != "rdb":
        raise _wrong(
            f'the source {source.safe()} is a file, and reader is "{spec.reader}"',
            'leave reader out, or set it to "rdb"',
        )
    if spec.reader == "rdb":
        if not source.is_dump:
            raise _wrong(
                f'reader = "rdb" reads a file, and the source {source.address()} is a server',
                "name a file, file:///path, or a URL of object storage",
            )
        if spec.follows:
            raise _wrong(
                "nothing follows an RDB file: it can only be copied", 'set sync_types = ["full"], or leave it out'
            )
    if spec.reader == "scan":
        _scannable(spec)
        if spec.continues and source.is_cluster:
            raise _wrong(
                'scan_changes = "psync" is for a source that is one server',
                'set scan_changes = "notifications", or use reader = "psync"',
            )
    elif spec.throttle.full.source_qps > 0:
        raise _wrong(
            f'throttle.full.source_qps is for the reader "scan": "{spec.reader}" asks the source for no keys',
            "leave throttle.full.source_qps out; see throttle.full.target_rps and mb_per_s",
        )
    if spec.scan_changes != "notifications" and spec.reader != "scan":
        raise _wrong(
            f'scan_changes is for the reader "scan": "{spec.reader}" would not heed it',
            'set reader = "scan", or leave scan_changes out',
        )
    if spec.prefer_replica and spec.reader != "psync":
        raise _wrong(
            f'prefer_replica is for the reader "psync", not for "{spec.reader}"',
            "leave prefer_replica out; to read a replica by SCAN, name it as the source",
        )


def _scannable(spec: TaskSpec) -> None:
    if not spec.follows:
        return
    if not spec.loads:
        raise _wrong(
            'reader = "scan" cannot follow what it has not copied',
            'set sync_types = ["full", "incremental"] or ["full"], or use reader = "psync"',
        )
    if spec.continues and spec.transform.active:
        raise _wrong(
            'reader = "scan" follows by copying keys anew until all is in scope: no transform sees their commands',
            'set sync_types = ["full"], leave it out, or use reader = "psync"',
        )
    if spec.listens and (spec.transform.active or spec.filter.block_commands):
        raise _wrong(
            'reader = "scan" follows by copying keys anew: it sees no commands that a transform or'
            " filter.block_commands could change",
            'set sync_types = ["full"], leave these out, or use reader = "psync"',
        )


def _wrong(what: str, hint: str) -> UsageError:
    return UsageError(what, hint=hint, code="reader")
