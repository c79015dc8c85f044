"""What a user asks of a task: names, values and ranges of SPEC 3, as TOML or from the client."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from sync_tasks.errors import UsageError
from sync_tasks.keyfilter import FilterSpec, KeyFilter
from sync_tasks.nearest import nearest
from sync_tasks.strict import Strict
from sync_tasks.throttle import CLASSES, Class, FullThrottle, IncrementalThrottle, ThrottleSpec
from sync_tasks.transform.setting import TransformSpec, inlined
from sync_tasks.verify_spec import VerifyLimits, VerifySpec

TEN_YEARS_S = 10 * 365 * 86_400

SyncType = Literal["full", "incremental"]
Reader = Literal["psync", "scan", "rdb"]
ScanChanges = Literal["notifications", "psync"]
BOTH: tuple[SyncType, ...] = ("full", "incremental")
Tag = Annotated[StrictStr, Field(min_length=1, max_length=64)]
DbNumber = Annotated[int, Field(ge=0, le=255)]

RANGES = {
    "name": "text of 1 to 200 printable characters",
    "environment": "text of 1 to 64 printable characters",
    "resource_group": "text of 1 to 64 printable characters",
    "conflict_mode": '"precheck-and-report" or "ignore-and-proceed"',
    "sync_types": 'a list of "full" and "incremental", or of one of them',
    "reader": '"psync", "scan" or "rdb"',
    "scan_changes": '"notifications" or "psync"',
    "reconcile_min": "1..10080 minutes",
    "databases": "a table of source to target database, 0..255; several may go to one",
    "prefer_replica": "true or false",
    "extend_expiry_s": f"0..{TEN_YEARS_S} seconds",
    "filter": "a table",
    "filter.allow_prefixes": 'a list of beginnings of names; "hex:00ff" for bytes that are no text',
    "filter.block_prefixes": 'a list of beginnings of names; "hex:00ff" for bytes that are no text',
    "filter.block_commands": "a list of names of commands, none of DEL and UNLINK (by which a source tells that a key"
    " has expired), SELECT, MULTI, EXEC, PING, REPLCONF",
    "filter.db": "tables by number of the source database, 0..255, as in [filter.db.3]",
    "retry": "a table",
    "retry.connection_min": "10..1440 minutes",
    "retry.other_min": "1..1440 minutes and less than retry.connection_min",
    "throttle": "a table",
    "throttle.full": "a table",
    "throttle.full.source_qps": "1 and more commands a second, -1: no limit",
    "throttle.full.target_rps": "1 and more commands a second, -1: no limit",
    "throttle.full.mb_per_s": "more than 0 MB a second, -1: no limit",
    "throttle.incremental": "a table",
    "throttle.incremental.rps": "1 and more commands a second, -1: no limit",
    "throttle.incremental.mb_per_s": "more than 0 MB a second, -1: no limit",
    "instance_class": "one of " + ", ".join(CLASSES),
    "verify": "a table",
    "verify.mode": '"off", "full" or "full+incremental"',
    "verify.depth": '"value", "length" or "key"',
    "verify.depth_above_bytes": "0 bytes and more",
    "verify.sample": "more than 0, up to 100 percent",
    "verify.keys_per_s": "1..1000 keys a second",
    "verify.limits": "a table",
    "verify.limits.rps": "1 and more commands a second, -1: no limit",
    "verify.limits.mb_per_s": "more than 0 MB a second, -1: no limit",
    "transform": "a table",
    "transform.lua": "Lua code of at most 64 KB that defines transform(db, argv); empty: none",
    "transform.file": "the path of a file with such code, from where FILE.toml lies; it counts more than transform.lua",
}
"""What each setting takes, in a person's words."""

MEANING = {
    "name": "for people; left out: made from the addresses",
    "environment": "a tag such as normal or online, by which tasks are listed",
    "resource_group": "another, for whoever runs or pays them",
    "conflict_mode": "whether a target database in scope that holds keys stops the precheck, or same-named keys are"
    " overwritten",
    "sync_types": "full alone: what is there is copied, then the target is closed to the task; incremental alone:"
    " what is there is not copied, and writes are followed from the start of the task on",
    "reader": "psync: as a replica does, snapshot and stream; scan: by ordinary commands, where that is forbidden;"
    " rdb: a file. See [readers.md](readers.md)",
    "scan_changes": "of the reader `scan`, how it follows: by keyspace notifications, or by the stream, which the"
    " source's backlog must keep: no snapshot is taken",
    "reconcile_min": "of the reader `scan`, while it follows by notifications: so often all keys are compared, for what"
    " they do not tell",
    "databases": "which go where; left out: all, each to its own number",
    "prefer_replica": "whether snapshot and stream are read from a replica of the source, where one is fit",
    "extend_expiry_s": "so much later keys expire on the target than at the source, while the task follows",
    "filter.allow_prefixes": "keys whose names begin so are in scope; left out: all",
    "filter.block_prefixes": "keys whose names begin so are not, whatever is allowed",
    "filter.block_commands": "writes of the stream that do not travel; a snapshot has what they did before",
    "filter.db": "allow_prefixes and block_prefixes of one source database, instead of the general ones",
    "retry.connection_min": "how long failed connections are tried again; the shortest counts among running tasks that"
    " share a server",
    "retry.other_min": "how long everything else is",
    "throttle.full.source_qps": "of the reader `scan`, all workers together: what the source is asked while it is read",
    "throttle.full.target_rps": "of the load, all workers together",
    "throttle.full.mb_per_s": "of the load, all workers together",
    "throttle.incremental.rps": "of the stream",
    "throttle.incremental.mb_per_s": "of the stream",
    "verify.mode": "full: a task of the service is compared by itself, once it is in sync; full+incremental: what its"
    " streams write is compared shortly after, too, a sample of it",
    "verify.depth": "of any comparison: all of a value, its length, or that the key is there, its type, its expiry",
    "verify.depth_above_bytes": "values that take no more memory are compared whole",
    "verify.sample": "how many of the keys are compared: the same ones in each run",
    "verify.keys_per_s": "of each stream, how many of the keys that it writes are compared shortly after, at most",
    "verify.limits.rps": "of what each side is asked",
    "verify.limits.mb_per_s": "of what each side answers",
    "transform.lua": "sees each command, and entries of snapshots as commands: drops, rewrites, splits or routes it",
    "transform.file": "read once, when the setting is given: it is transform.lua from then on",
    "instance_class": "commands a second of the stream: " + ", ".join(f"{k} {v}" for k, v in CLASSES.items() if v > 0),
}
"""What each setting, but for tables, is for."""

OF_ONE_DB = r"^filter\.db\.\d+\."

UNBUILT: dict[str, Any] = {}
"""Settings that exist but are not built yet, with the one value that means the same as leaving them out."""


class RetrySpec(Strict):
    """How long failures are retried, in minutes."""

    connection_min: Annotated[StrictInt, Field(ge=10, le=1440)] = 720
    other_min: Annotated[StrictInt, Field(ge=1, le=1440)] = 10

    @model_validator(mode="after")
    def _other_is_smaller(self) -> Self:
        if self.other_min >= self.connection_min:
            raise ValueError("retry.other_min must be less than retry.connection_min")
        return self


class TaskSpec(Strict):
    """The settings of one task. `databases` None: all, each to its own number."""

    name: Annotated[StrictStr, Field(min_length=1, max_length=200)] | None = None
    environment: Tag | None = None
    resource_group: Tag | None = None
    conflict_mode: Literal["precheck-and-report", "ignore-and-proceed"] = "precheck-and-report"
    sync_types: Annotated[tuple[SyncType, ...], Field(min_length=1)] = BOTH
    reader: Reader = "psync"
    scan_changes: ScanChanges = "notifications"
    reconcile_min: Annotated[StrictInt, Field(ge=1, le=10_080)] = 60
    databases: dict[DbNumber, DbNumber] | None = None
    prefer_replica: StrictBool = False
    extend_expiry_s: Annotated[StrictInt, Field(ge=0, le=TEN_YEARS_S)] = 600
    retry: RetrySpec = RetrySpec()
    filter: FilterSpec = FilterSpec()
    throttle: ThrottleSpec = ThrottleSpec()
    instance_class: Class = "unlimited"
    verify: VerifySpec = VerifySpec()
    transform: TransformSpec = TransformSpec()

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        if self.verify.mode != "off" and (self.transform.active or self.sync_types != BOTH):
            raise ValueError("verify.mode must be off with a transform, and where sync_types are not both")
        return self

    @field_validator("name", "environment", "resource_group")
    @classmethod
    def _printable(cls, text: str | None) -> str | None:
        if text is not None and not text.isprintable():
            raise ValueError("not printable")
        return text

    @field_validator("databases", mode="before")
    @classmethod
    def _plain_numbers(cls, given: Any) -> Any:
        """TOML keys are text; but true, 1.0 and " 1" are no database numbers."""
        if not isinstance(given, dict):
            return given
        keys = [int(k) if isinstance(k, str) and k.isascii() and k.isdigit() else k for k in given]
        if not all(type(n) is int for n in (*keys, *given.values())):
            raise ValueError("not a number")
        return dict(zip(keys, given.values(), strict=True))

    @field_validator("sync_types", mode="before")
    @classmethod
    def _each_once(cls, given: Any) -> Any:
        if not isinstance(given, (list, tuple)):
            return given
        if not all(isinstance(one, str) for one in given) or len(set(given)) < len(given):
            raise ValueError("twice")
        return tuple(sorted(given))

    @property
    def loads(self) -> bool:
        """Whether what is there is copied."""
        return "full" in self.sync_types

    @property
    def follows(self) -> bool:
        """Whether it goes on with every write; else it ends once all is copied."""
        return "incremental" in self.sync_types

    @property
    def listens(self) -> bool:
        """Whether it goes on by the source's keyspace notifications, and not by its stream."""
        return self.reader == "scan" and self.follows and self.scan_changes == "notifications"

    @property
    def continues(self) -> bool:
        """Whether it goes on by the source's stream, which is continued without a snapshot."""
        return self.reader == "scan" and self.follows and self.scan_changes == "psync"

    @field_validator("databases")
    @classmethod
    def _not_empty(cls, given: dict[int, int] | None) -> dict[int, int] | None:
        if given is not None and not given:
            raise ValueError("empty")
        return given


TABLES: dict[str, type[BaseModel]] = {
    "": TaskSpec,
    "filter": FilterSpec,
    "retry": RetrySpec,
    "throttle": ThrottleSpec,
    "throttle.full": FullThrottle,
    "throttle.incremental": IncrementalThrottle,
    "verify": VerifySpec,
    "verify.limits": VerifyLimits,
    "transform": TransformSpec,
}
"""Name of each table of settings to its model."""


def load_toml(path: Path | str) -> TaskSpec:
    """The settings of a file.

    Raises:
        UsageError: the file cannot be read, or a setting is unknown, out of its range, or not built yet.
    """
    return from_table(_read(Path(path)), str(path), Path(path).parent)


def from_table(table: dict[str, Any], where: str, base: Path = Path()) -> TaskSpec:
    """The settings of a table with the names of FILE.toml; `where` is named in errors.

    Args:
        base: where the paths of files in it begin.
    """
    built = dict(table)
    if "transform" in built:
        built["transform"] = inlined(built["transform"], base)
    for name, default in UNBUILT.items():
        if name in built:
            _refuse_unbuilt(name, built.pop(name), default, where)
    try:
        spec = TaskSpec.model_validate(built)
    except ValidationError as error:
        raise _explain(error, where) from None
    spec.transform.script()
    return spec


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}",
            hint="give --config the path of a TOML file",
            code="config-file",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not TOML: {error}", hint="see docs for an example of the file", code="config-file"
        ) from error


def _refuse_unbuilt(name: str, value: Any, default: Any, where: str) -> None:
    """Let pass what equals the default; name everything else."""
    if value == default and type(value) is type(default):
        return
    if isinstance(default, dict) and isinstance(value, dict):
        for key, inner in value.items():
            if key not in default:
                raise _unknown(f"{name}.{key}", [f"{name}.{k}" for k in default], where)
            _refuse_unbuilt(f"{name}.{key}", inner, default[key], where)
        return
    usual = "" if default is None else f" or set it to {_toml(default)}"
    raise UsageError(
        f"{where}: {name} = {_toml(value)} is not supported yet",
        hint=f"leave {name} out{usual}",
        code="not-supported",
    )


def _explain(error: ValidationError, where: str) -> UsageError:
    """The first of pydantic's findings in our words."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    known, table = _place(path)
    name = ".".join(known)
    if first["type"] == "extra_forbidden":
        peers = [".".join([*known[:-1], peer]) for peer in table.model_fields]
        return _unknown(name, peers if len(known) > 1 else [*peers, *UNBUILT], where)
    if not known and first["type"] == "value_error":
        said = str(first["ctx"]["error"])
        hint = "leave verify.mode out: the two sides are not to be equal, or nothing is compared before the end"
        return UsageError(f"{where}: {said}", hint=hint, code="setting-range")
    if known == ["retry"] and first["type"] == "value_error":
        name = "retry.other_min"
        return UsageError(
            f"{where}: {name} = {first['input'].get('other_min', 10)} is out of range",
            hint=f"{name} takes {RANGES[name]}",
            code="setting-range",
        )
    return UsageError(
        f"{where}: {name} = {_toml(first['input'])} is not allowed",
        hint=f"{name} takes {RANGES[re.sub(OF_ONE_DB, 'filter.', name)]}",
        code="setting-range",
    )


def _place(path: list[str]) -> tuple[list[str], type[BaseModel]]:
    """The setting's name, without what union and dict validators add behind it, and the table that it stands in."""
    if path[:2] == ["filter", "db"] and len(path) > 3 and path[3] != "[key]":
        return path[:4], KeyFilter
    depth = 1
    while ".".join(path[:depth]) in TABLES and len(path) > depth:
        depth += 1
    return path[:depth], TABLES[".".join(path[: depth - 1])]


def _unknown(name: str, known: list[str], where: str) -> UsageError:
    return UsageError(f"{where}: unknown setting {name}", hint=nearest(name, known), code="unknown-setting")


def _toml(value: Any) -> str:
    """A value as a person would have written it, cut to a line."""
    if isinstance(value, bool):
        return str(value).lower()
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def mapping(databases: dict[int, int] | None, source_db: int | None, target_db: int | None) -> dict[int, int] | None:
    """Which source database goes where, of the setting and the URLs' /db; None: all, each to its own number.

    Raises:
        UsageError: they contradict each other.
    """
    if source_db is None:
        if target_db is None:
            return databases
        if databases is not None and list(databases.values()) == [target_db]:
            return databases
        raise UsageError(
            "the target URL names a database, but the source URL does not say which goes there",
            hint="end the source URL with /db too, or use the setting databases",
            code="databases",
        )
    if databases is None:
        return {source_db: source_db if target_db is None else target_db}
    place = databases.get(source_db)
    if place is None or target_db not in (None, place):
        raise UsageError(
            "the URLs and the setting databases name different databases",
            hint="name them in one place only",
            code="databases",
        )
    return {source_db: place}
