"""Settings of a task as keyword arguments: the names of FILE.toml, laid over what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from sync_tasks.spec import TaskSpec, from_table, load_toml
from sync_tasks.throttle import Class
from sync_tasks.verify_spec import Mode


class RetryTable(TypedDict, total=False):
    """How long failures are retried, in minutes."""

    connection_min: int  # 10..1440
    other_min: int  # 1..1440, less than the above


class FullTable(TypedDict, total=False):
    """Of the load; -1: no limit."""

    source_qps: int  # commands a second on the source, of the reader `scan`
    target_rps: int  # commands a second on the target
    mb_per_s: float


class IncrementalTable(TypedDict, total=False):
    """Of the stream; -1: no limit."""

    rps: int  # commands a second on the target
    mb_per_s: float


class ThrottleTable(TypedDict, total=False):
    """How fast the task may go."""

    full: FullTable
    incremental: IncrementalTable


class KeyTable(TypedDict, total=False):
    """Beginnings of names, those that are no text as `hex:00ff`."""

    allow_prefixes: list[str]
    block_prefixes: list[str]


class FilterTable(KeyTable, total=False):
    """Which keys and commands travel."""

    block_commands: list[str]
    db: Mapping[int, KeyTable] | Mapping[str, KeyTable]  # rules of single source databases


class VerifyLimitsTable(TypedDict, total=False):
    """Of what each side is asked; -1: no limit."""

    rps: int  # commands a second
    mb_per_s: float


class VerifyTable(TypedDict, total=False):
    """Whether a task is compared by itself, and how closely, as by `keyferry verify`."""

    mode: Mode
    depth: Literal["value", "length", "key"]
    depth_above_bytes: int  # values that take no more memory are compared whole
    sample: float  # percent of the keys
    keys_per_s: int  # of full+incremental: what a stream writes, and is compared shortly after
    limits: VerifyLimitsTable


class TransformTable(TypedDict, total=False):
    """A script that sees each command; `lua` empty: none."""

    lua: str
    file: str  # the path of a file with it, read at once; counts more than `lua`


class SpecTable(TypedDict, total=False):
    """The settings of `TaskSpec`; what is left out stays as it is."""

    name: str
    environment: str | None
    resource_group: str | None
    conflict_mode: Literal["precheck-and-report", "ignore-and-proceed"]
    sync_types: list[Literal["full", "incremental"]]  # both, or one of them
    reader: Literal["psync", "scan", "rdb"]  # how the source is read
    scan_changes: Literal["notifications", "psync"]  # of the reader `scan`, how it follows
    reconcile_min: int  # of the reader `scan`, while it follows: all keys are compared after so many minutes
    databases: Mapping[int, int] | None  # source to target number; None: all, each to its own
    prefer_replica: bool  # read the source from a replica of it, where one is fit
    extend_expiry_s: int
    filter: FilterTable
    retry: RetryTable
    throttle: ThrottleTable
    instance_class: Class
    transform: TransformTable
    verify: VerifyTable


Config = str | Path | TaskSpec
"""A file of settings, or settings."""


def changed(spec: TaskSpec, config: Config | None, given: Mapping[str, Any], where: str) -> TaskSpec:
    """`spec` with what a file and then arguments change.

    Args:
        config: a file whose settings count more than `spec`.
        given: settings that count more than both.
        where: named in errors.

    Raises:
        UsageError: a name is unknown, a value not allowed, or the file cannot be read.
    """
    table = spec.model_dump()
    if config is not None:
        loaded = config if isinstance(config, TaskSpec) else load_toml(config)
        table = laid(table, loaded.model_dump(exclude_unset=True))
    return from_table(laid(table, given), where)


def laid(table: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A table of settings is merged; what maps databases is one value."""
    merged = dict(table)
    for key, value in over.items():
        name = str(key)  # of filter.db, which a program may number
        held = table.get(name)
        inner = isinstance(held, dict) and isinstance(value, Mapping) and name != "databases"
        merged[name] = laid(held or {}, value) if inner else dict(value) if isinstance(value, Mapping) else value
    return merged
