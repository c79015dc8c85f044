"""Tables. The database is the truth of the control plane: messages only say what to look at."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names, so that migrations can drop them on every database."""

Big = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in columns called INTEGER; they hold 64 bits all the same."""


class Utc(TypeDecorator[datetime]):
    """A moment, always aware: SQLite gives it back without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utcnow() -> datetime:
    """The present time, aware, for columns that people read."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Root of the tables."""

    metadata = MetaData(naming_convention=NAMING)


class Task(Base):
    """One copying of a source to a target. `source`, `target`: sealed URLs; `*_safe`: for showing."""

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(Big, primary_key=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True)
    name: Mapped[str] = mapped_column(String(300))
    state: Mapped[str] = mapped_column(String(32))
    source: Mapped[bytes] = mapped_column(LargeBinary)
    target: Mapped[bytes] = mapped_column(LargeBinary)
    source_safe: Mapped[str] = mapped_column(Text)
    target_safe: Mapped[str] = mapped_column(Text)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    source_db: Mapped[int | None] = mapped_column(Integer)  # the URLs' /db, part of the mapping
    target_db: Mapped[int | None] = mapped_column(Integer)
    account: Mapped[str] = mapped_column(String(64), default="", server_default="")  # whose it is; "": nobody's alone
    source_instance: Mapped[str | None] = mapped_column(String(100))  # that it was made of
    source_owner: Mapped[str | None] = mapped_column(String(64))  # the account of that
    target_instance: Mapped[str | None] = mapped_column(String(100))
    target_owner: Mapped[str | None] = mapped_column(String(64))
    source_server: Mapped[str | None] = mapped_column(String(32))  # of `server_identity`: who shares it is found by it
    target_server: Mapped[str | None] = mapped_column(String(32))
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(Utc, default=utcnow)
    finishing: Mapped[bool] = mapped_column(default=False, server_default=false())  # the cut-over was asked for
    cutover: Mapped[str | None] = mapped_column(String(16))  # its stage (`states.Stage`); None: none is under way
    extents: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # see `store.extents`; None: one
    lanes: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))  # of a target that is a cluster


class Instance(Base):
    """A server that is known by a name. `url`: sealed; `safe`: for showing."""

    __tablename__ = "instance"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)  # "": the installation's own
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    url: Mapped[bytes] = mapped_column(LargeBinary)
    safe: Mapped[str] = mapped_column(Text)
    server: Mapped[str] = mapped_column(String(32))  # of `server_identity`
    created_at: Mapped[datetime] = mapped_column(Utc, default=utcnow)


class Account(Base):
    """Whose instances, tasks and roles are kept apart from others'."""

    __tablename__ = "account"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Utc, default=utcnow)


class Role(Base):
    """What another account may be, to use instances of this one. `trust`: as in `access.documents`."""

    __tablename__ = "role"

    account: Mapped[str] = mapped_column(ForeignKey("account.name", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    trust: Mapped[dict[str, Any]] = mapped_column(JSON)
    policies: Mapped[list[str]] = mapped_column(JSON)  # names


class Policy(Base):
    """An account's own policy; those that all have stand in `access.documents`."""

    __tablename__ = "policy"

    account: Mapped[str] = mapped_column(ForeignKey("account.name", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


class Grant(Base):
    """A role that a task has assumed, for one of its ends, until some moment."""

    __tablename__ = "grant_of_role"

    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"), primary_key=True)
    side: Mapped[str] = mapped_column(String(16), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(64))
    instance: Mapped[str] = mapped_column(String(100))
    until: Mapped[float] = mapped_column(Float(53))  # Unix seconds


class Token(Base):
    """What lets a program in as an account. `hash`: SHA-256 of the token, which is not kept."""

    __tablename__ = "token"

    id: Mapped[int] = mapped_column(Big, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("account.name", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(16))
    expires_at: Mapped[datetime | None] = mapped_column(Utc)
    created_at: Mapped[datetime] = mapped_column(Utc, default=utcnow)


class Audit(Base):
    """What was asked of an account's instances by others, and what was answered."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_account_id", "account", "id"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True)
    at: Mapped[datetime] = mapped_column(Utc, default=utcnow)
    account: Mapped[str] = mapped_column(String(64))  # whose instance it is
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(Text)
    allowed: Mapped[bool] = mapped_column()
    text: Mapped[str] = mapped_column(Text)


class Node(Base):
    """One replication stream of a task; columns as in `views.NodeView`."""

    __tablename__ = "node"
    __table_args__ = (Index("uq_node_task_id_number", "task_id", "number", unique=True),)

    id: Mapped[int] = mapped_column(Big, primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    wanted: Mapped[bool] = mapped_column(default=False)
    fresh: Mapped[bool] = mapped_column(default=False)
    begun: Mapped[bool] = mapped_column(default=False)
    gen: Mapped[int] = mapped_column(Integer, default=0)
    replid: Mapped[str | None] = mapped_column(String(64))
    snapshot_offset: Mapped[int | None] = mapped_column(Big)
    stream_db: Mapped[int] = mapped_column(Integer, default=0)
    snapshot_done: Mapped[bool] = mapped_column(default=False)
    received_offset: Mapped[int | None] = mapped_column(Big)
    applied_offset: Mapped[int | None] = mapped_column(Big)
    source_offset: Mapped[int | None] = mapped_column(Big)
    delay_ms: Mapped[float | None] = mapped_column(Float)
    windows: Mapped[int | None] = mapped_column(Big)  # that the present owner of its stream has committed
    in_sync: Mapped[bool] = mapped_column(default=False)
    settled: Mapped[bool] = mapped_column(default=False)
    held: Mapped[int | None] = mapped_column(Big)
    keys_total: Mapped[int | None] = mapped_column(Big)
    bytes_total: Mapped[int | None] = mapped_column(Big)
    dispatched_at: Mapped[float | None] = mapped_column(Float(53))  # Unix seconds of the last message
    next_at: Mapped[float | None] = mapped_column(Float(53))  # not sent before: a retry's pause
    spool: Mapped[str | None] = mapped_column(String(32))  # where its log lies; None: where all workers look
    turn: Mapped[bool] = mapped_column(default=False, server_default=false())  # the present shift ends
    finished: Mapped[bool] = mapped_column(default=False, server_default=false())  # cut over: the target is closed
    receive_bytes: Mapped[int | None] = mapped_column(Big)  # it only receives, until so much waits on disk; None: both
    resting: Mapped[bool] = mapped_column(default=False, server_default=false())  # its owner has ended at a checkpoint
    shard: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # of a cluster: see `store.shards`
    unextended: Mapped[bool] = mapped_column(default=False, server_default=false())  # every expiry is the source's own
    changed_offset: Mapped[int | None] = mapped_column(Big)  # behind the last command in scope
    changed_by: Mapped[str | None] = mapped_column(String(64))  # its name, when a cut-over asks
    way_back: Mapped[str | None] = mapped_column(String(100))  # `point.Point` of the target when it was closed
    begins_at: Mapped[str | None] = mapped_column(String(100))  # of the source: it begins there, not where that stands
    spoiled: Mapped[str | None] = mapped_column(String(40))  # a snapshot in the object store: see `views.NodeView`


class Chunk(Base):
    """One piece of a snapshot, loaded by one load worker; columns as in `views.ChunkView`."""

    __tablename__ = "chunk"
    __table_args__ = (
        Index("uq_chunk_node_id_gen_seq", "node_id", "gen", "seq", unique=True),
        Index("ix_chunk_state_dispatched_at", "state", "dispatched_at"),
    )

    id: Mapped[int] = mapped_column(Big, primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"))
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    gen: Mapped[int] = mapped_column(Integer)
    seq: Mapped[int] = mapped_column(Integer)
    db: Mapped[int] = mapped_column(Integer)
    shard: Mapped[int] = mapped_column(Integer)
    huge: Mapped[bool] = mapped_column(default=False)
    path: Mapped[str] = mapped_column(Text)
    keys: Mapped[int] = mapped_column(Big)
    bytes: Mapped[int] = mapped_column(Big)
    keys_done: Mapped[int] = mapped_column(Big, default=0)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    owner: Mapped[str | None] = mapped_column(String(200))
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    beat: Mapped[int] = mapped_column(Big, default=0)
    dispatched_at: Mapped[float | None] = mapped_column(Float(53))
    next_at: Mapped[float | None] = mapped_column(Float(53))
    spool: Mapped[str | None] = mapped_column(String(32))  # where its file lies; None: where all workers look


class Op(Base):
    """An operation on a task that a worker carries out: it reaches the servers, the asker need not."""

    __tablename__ = "op"
    __table_args__ = (Index("ix_op_state", "state"), Index("ix_op_task_id", "task_id"))

    id: Mapped[int] = mapped_column(Big, primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    owner: Mapped[str | None] = mapped_column(String(200))
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    beat: Mapped[int] = mapped_column(Big, default=0)
    dispatched_at: Mapped[float | None] = mapped_column(Float(53))
    next_at: Mapped[float | None] = mapped_column(Float(53))
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(Utc, default=utcnow)


class Touched(Base):
    """What was found of the keys that a node's stream writes: see `verification.Touched`."""

    __tablename__ = "touched"

    node_id: Mapped[int] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"), primary_key=True)
    found: Mapped[dict[str, Any]] = mapped_column(JSON)


class PrecheckItem(Base):
    """What was found of one item the last time; columns as in `views.PrecheckItemView`."""

    __tablename__ = "precheck_item"

    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"), primary_key=True)
    item: Mapped[str] = mapped_column(String(40), primary_key=True)
    finding: Mapped[str | None] = mapped_column(String(16))
    found: Mapped[str] = mapped_column(Text)
    repair: Mapped[str] = mapped_column(Text)
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    ignored: Mapped[bool] = mapped_column(default=False, server_default=false())
    at: Mapped[datetime | None] = mapped_column(Utc)


class Lease(Base):
    """The right to be the one owner of a job. No clock stands here: see `scheduler.leases`."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    owner: Mapped[str | None] = mapped_column(String(200))
    epoch: Mapped[int] = mapped_column(Big, default=0)  # an operator's start takes 2^20 of them
    beat: Mapped[int] = mapped_column(Big, default=0)


class EndedRun(Base):
    """The `uid` of a run that is over for good, by a restart or release: its files are of no more use anywhere."""

    __tablename__ = "ended_run"

    uid: Mapped[str] = mapped_column(String(16), primary_key=True)


class RetryWindow(Base):
    """An open retry window of (task, kind, side); closed ones are deleted and live on as events.

    `origin` is "stream" or "load": who opened it. `wall_from` and `seen_s` are those of `retry_window.Window`; how long
    it is follows the settings as they are when it is asked, see `store.sharing`.
    """

    __tablename__ = "retry_window"
    __table_args__ = (Index("uq_retry_window_task_id_kind_side", "task_id", "kind", "side", unique=True),)

    id: Mapped[int] = mapped_column(Big, primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    side: Mapped[str] = mapped_column(String(16))
    origin: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer, default=1)
    opened_at: Mapped[datetime] = mapped_column(Utc, default=utcnow)
    wall_from: Mapped[float] = mapped_column(Float(53), server_default="0")  # Unix seconds
    seen_s: Mapped[float] = mapped_column(Float(53), default=0.0)
    error: Mapped[dict[str, str]] = mapped_column(JSON)


class Event(Base):
    """What happened to a task, for people."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_task_id_id", "task_id", "id"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(Utc, default=utcnow)
    kind: Mapped[str] = mapped_column(String(40))
    text: Mapped[str] = mapped_column(Text)
