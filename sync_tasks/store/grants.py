"""Roles that tasks assume, to use instances of other accounts: checked, recorded, renewed, revoked."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.orm import Session

from sync_tasks.access.documents import ASSUME, READ, SYSTEM, WRITE, PermissionPolicy, TrustPolicy, allows
from sync_tasks.errors import ControlError, Side
from sync_tasks.models import Audit, Grant, Policy, Role, Task
from sync_tasks.states import RUNNING, TaskState
from sync_tasks.store.base import StoreBase
from sync_tasks.store.database import Rows
from sync_tasks.store.query import Query

GRANT_S = 900.0
"""A grant holds for so long; whoever still needs it then is asked about anew."""
ACTION = {Side.SOURCE: READ, Side.TARGET: WRITE}


class Grants(StoreBase):
    """Grants of tasks."""

    def may_use(self, owner: str, role: str, actor: str, side: Side, instance: str) -> None:
        """Whether an account may use another's instance now; the question is recorded. Raises ControlError."""
        with self.database.write() as session:
            denied = ask(session, owner, role, actor, side, instance)
        if denied is not None:
            raise denied

    def renew_grants(self, task_id: int) -> int:
        """Ask anew about all roles that a task assumes; how many there are.

        Raises:
            ControlError: one is denied: with the statement that is missing.
        """
        mine = Grant.task_id == task_id
        with self.database.read() as session:
            count = session.scalar(select(func.count()).select_from(Grant).where(mine)) or 0
        if not count:
            return 0
        with self._task(task_id) as (session, task):
            denied = renew(session, task, self._clock())
        if denied is not None:
            raise denied
        return count


def ask(session: Session, owner: str, role: str, actor: str, side: Side, instance: str) -> ControlError | None:
    """What stands against it, recorded in any case."""
    missing = _missing(session, owner, role, actor, ACTION[side], f"instance/{instance}")
    text = missing or f"by role {role}"
    subject = f"instance/{instance}"
    session.add(
        Audit(
            account=owner, actor=actor, action=ACTION[side].removeprefix("keyferry:"), subject=subject,
            allowed=missing is None, text=text,
        )
    )  # fmt: skip
    if missing is None:
        return None
    return ControlError(
        f"account {actor} may not use {subject} of account {owner}: {missing}",
        hint=f"have {owner} add it: keyferry role set --account {owner} {role} --trust {actor} ...",
        code="not-granted",
        side=Side.CONTROL,
    )


def renew(session: Session, task: Task, now: float) -> ControlError | None:
    """Prolong all grants of a task that is held; the first that is denied, if any is."""
    for grant in session.scalars(select(Grant).where(Grant.task_id == task.id).order_by(Grant.side)):
        denied = ask(session, grant.owner, grant.role, task.account, Side(grant.side), grant.instance)
        if denied is not None:
            return denied
        grant.until = now + GRANT_S
    return None


AT_WORK = [*RUNNING, TaskState.SUSPENDED]  # what rests may still receive
DUE = Query(
    select(Grant.task_id)
    .join(Task, Task.id == Grant.task_id)
    .where(Grant.until <= bindparam("now"), Task.state.in_(AT_WORK))
    .distinct()
)


def due(rows: Rows, now: float) -> list[int]:
    """Ids of tasks that run or rest, with a grant that is over."""
    return [task_id for (task_id,) in rows(DUE, now=now)]


def drop(session: Session, task_id: int) -> None:
    """A task that has ended needs none."""
    session.execute(delete(Grant).where(Grant.task_id == task_id))


def _missing(session: Session, owner: str, role: str, actor: str, action: str, resource: str) -> str | None:
    """Which statement there is not, in words; None: all is there."""
    row = session.get(Role, (owner, role))
    if row is None:
        return f"there is no role {role}"
    if not TrustPolicy.model_validate(row.trust).trusts(actor):
        return f"the trust policy of role {role} has no statement that allows {ASSUME} to acs:ram::{actor}:root"
    own = {
        policy.name: PermissionPolicy.model_validate(policy.document)
        for policy in session.scalars(select(Policy).where(Policy.account == owner, Policy.name.in_(row.policies)))
    }
    attached = [found for name in row.policies if (found := SYSTEM.get(name) or own.get(name)) is not None]
    if not allows(attached, action, resource):
        return f"no policy attached to role {role} allows {action} on {resource}"
    return None
