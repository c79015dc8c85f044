"""Accounts with their roles, policies and tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from sync_tasks.access.documents import ACCOUNT, ROLE, SYSTEM, PermissionPolicy, TrustPolicy
from sync_tasks.access.scopes import SCOPES
from sync_tasks.errors import ControlError, UsageError
from sync_tasks.models import Account, Audit, Instance, Policy, Role, Task, Token, utcnow
from sync_tasks.nearest import nearest
from sync_tasks.states import ENDED
from sync_tasks.store.base import StoreBase
from sync_tasks.views import AccountView, AuditView, RoleView, TokenView

TOKEN = "kf_"  # noqa: S105 - what a token begins with, so that it is found where it should not be


class Accounts(StoreBase):
    """Accounts, and what belongs to them alone."""

    def add_account(self, name: str, description: str = "") -> AccountView:
        """A new account. Raises UsageError if it is no name, ControlError if there is one of that name."""
        _check(ACCOUNT, name, "account", "letters, digits, and hyphens between them, up to 64")
        with self.database.write() as session:
            if session.get(Account, name) is not None:
                raise ControlError(f"there is an account {name}", hint="choose another name", code="exists")
            row = Account(name=name, description=description)
            session.add(row)
            session.flush()
            return AccountView(row.name, row.description, row.created_at)

    def accounts(self) -> list[AccountView]:
        """All of them, by name."""
        with self.database.read() as session:
            rows = session.scalars(select(Account).order_by(Account.name))
            return [AccountView(row.name, row.description, row.created_at) for row in rows]

    def remove_account(self, name: str) -> None:
        """Forget one, with its roles and tokens. Raises ControlError while it has instances, or tasks that go on."""
        with self.database.write() as session:
            account = found(session, name)
            mine = select(Instance.name).where(Instance.account == name).limit(1)
            its = or_(Task.account == name, Task.source_owner == name, Task.target_owner == name)
            running = select(Task.name).where(its, Task.state.not_in(ENDED))
            if what := session.scalar(mine) or session.scalar(running.limit(1)):
                raise ControlError(f"{name} has {what}", hint="remove its instances, release its tasks", code="in-use")
            session.delete(account)

    # -- roles

    def put_role(
        self, account: str, name: str, trust: TrustPolicy, policies: Sequence[str], description: str = ""
    ) -> RoleView:
        """A role of an account, new or instead of the one of that name.

        Raises:
            UsageError: it is no name, or there is no such policy.
            ControlError: there is no such account.
        """
        _check(ROLE, name, "role", "letters, digits and hyphens, 1 to 64")
        with self.database.write() as session:
            found(session, account)
            own = session.scalars(select(Policy.name).where(Policy.account == account)).all()
            for policy in policies:
                if policy not in SYSTEM and policy not in own:
                    hint = nearest(policy, [*SYSTEM, *own])
                    raise UsageError(f"{account} has no policy {policy}", hint=hint, code="no-policy")
            row = session.get(Role, (account, name)) or Role(account=account, name=name)
            row.description, row.policies = description, sorted(set(policies))
            row.trust = trust.model_dump(mode="json")
            session.add(row)
            return _role(row)

    def roles(self, account: str) -> list[RoleView]:
        """All of an account, by name."""
        with self.database.read() as session:
            return [_role(r) for r in session.scalars(select(Role).where(Role.account == account).order_by(Role.name))]

    def remove_role(self, account: str, name: str) -> None:
        """Forget one: tasks that have assumed it end at their next renewal. Raises ControlError if there is none."""
        with self.database.write() as session:
            row = session.get(Role, (account, name))
            if row is None:
                raise ControlError(f"{account} has no role {name}", hint="see keyferry role list", code="no-role")
            session.delete(row)

    def put_policy(self, account: str, name: str, document: PermissionPolicy) -> None:
        """A policy of an account's own. Raises UsageError if it is no name, or that of one that all have."""
        _check(ROLE, name, "policy", "letters, digits and hyphens, 1 to 64")
        if name in SYSTEM:
            raise UsageError(f"{name} is a policy that all accounts have", hint="choose another name", code="name")
        with self.database.write() as session:
            found(session, account)
            row = session.get(Policy, (account, name)) or Policy(account=account, name=name)
            row.document = document.model_dump(mode="json")
            session.add(row)

    def policies(self, account: str) -> dict[str, PermissionPolicy]:
        """Those that all accounts have, and its own."""
        with self.database.read() as session:
            own = session.scalars(select(Policy).where(Policy.account == account).order_by(Policy.name))
            return SYSTEM | {row.name: PermissionPolicy.model_validate(row.document) for row in own}

    # -- tokens

    def make_token(self, account: str, name: str, scope: str, days: float | None) -> tuple[str, TokenView]:
        """A new token; it is shown this once. Raises UsageError if there is no such scope."""
        if scope not in SCOPES:
            raise UsageError(f"there is no scope {scope}", hint=nearest(scope, SCOPES), code="scope")
        text = TOKEN + secrets.token_urlsafe(32)
        with self.database.write() as session:
            found(session, account)
            until = None if days is None else utcnow() + timedelta(days=days)
            row = Token(account=account, name=name, hash=_hash(text), scope=scope, expires_at=until)
            session.add(row)
            session.flush()
            return text, _token(row)

    def tokens(self, account: str) -> list[TokenView]:
        """All of an account, oldest first."""
        query = select(Token).where(Token.account == account).order_by(Token.id)
        with self.database.read() as session:
            return [_token(row) for row in session.scalars(query)]

    def revoke_token(self, account: str, token_id: int) -> None:
        """End one. Raises ControlError if the account has none of that id."""
        with self.database.write() as session:
            row = session.get(Token, token_id)
            if row is None or row.account != account:
                hint = "see keyferry token list"
                raise ControlError(f"{account} has no token {token_id}", hint=hint, code="no-token")
            session.delete(row)

    def token(self, text: str) -> TokenView:
        """Whose token it is. Raises ControlError if it is none, or not any more."""
        with self.database.read() as session:
            row = session.scalar(select(Token).where(Token.hash == _hash(text)))
            if row is None or (row.expires_at is not None and row.expires_at <= utcnow()):
                raise ControlError("the token is not known, or has expired", hint="have one made", code="token")
            return _token(row)

    def audit(self, account: str, after: int = 0) -> list[AuditView]:
        """What others have asked of an account's instances since an entry, oldest first."""
        query = select(Audit).where(Audit.account == account, Audit.id > after).order_by(Audit.id)
        with self.database.read() as session:
            return [
                AuditView(row.id, row.at, row.actor, row.action, row.subject, row.allowed, row.text)
                for row in session.scalars(query)
            ]


def found(session: Session, account: str) -> Account:
    """An account. Raises ControlError if there is none."""
    row = session.get(Account, account)
    if row is None:
        known = session.scalars(select(Account.name)).all()
        hint = nearest(account, known) if known else "make one: keyferry account add NAME"
        raise ControlError(f"there is no account {account}", hint=hint, code="no-account")
    return row


def _check(form: str, name: str, what: str, rule: str) -> None:
    if not re.fullmatch(form, name):
        raise UsageError(f"{name!r} is no name of a {what}", hint=f"use {rule}", code="name")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _role(row: Role) -> RoleView:
    return RoleView(row.account, row.name, row.description, tuple(row.policies), TrustPolicy.model_validate(row.trust))


def _token(row: Token) -> TokenView:
    return TokenView(row.id, row.account, row.name, row.scope, row.expires_at, row.created_at)
