"""The client's verbs about accounts: roles that others may assume, policies, tokens, and who has asked for what."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from sync_tasks.access.documents import TrustPolicy, permission_policy, trust_policy, trusting
from sync_tasks.access.scopes import ADMIN, READ, needs
from sync_tasks.entry import Entry
from sync_tasks.errors import ControlError, UsageError
from sync_tasks.views import AccountView, AuditView, RoleView, TokenView


class Accounting(Entry):
    """A part of `Client`. `account`: whose it is; left out: the client's own."""


    @needs(ADMIN)
    def add_account(self, name: str, description: str = "") -> AccountView:
        """A new account: its instances, tasks, roles and tokens are kept apart from others'. Of the installation alone.

        Args:
            name: letters, digits, and hyphens between them, up to 64.

        Raises:
            UsageError: it is no name.
            ControlError: there is one of that name, or the client is an account's.
        """
        self._installation()
        return self._store.add_account(name, description)

    @needs(ADMIN)
    def accounts(self) -> builtins.list[AccountView]:
        """All of them. Raises ControlError if the client is an account's."""
        self._installation()
        return self._store.accounts()

    @needs(ADMIN)
    def remove_account(self, name: str) -> None:
        """Forget one, with its roles and tokens. Raises ControlError while it has instances, or tasks that go on."""
        self._installation()
        self._store.remove_account(name)

    @needs(ADMIN)
    def set_role(
        self,
        name: str,
        *,
        trust: str | TrustPolicy,
        policies: Sequence[str],
        description: str = "",
        account: str | None = None,
    ) -> RoleView:
        """A role by which another account may use instances of this one; new, or instead of the one of that name.

        Args:
            name: letters, digits and hyphens, 1 to 64.
            trust: who may assume it: an account's name, or a trust policy as JSON (docs/accounts.md).
            policies: what it may do: names such as `KeyferryReadSource`, `KeyferryWriteTarget`, or of own policies.

        Raises:
            UsageError: a name is none, or the document is not a trust policy: the place in it is named.
        """
        given = trust if isinstance(trust, TrustPolicy) else _trust(trust)
        return self._store.put_role(self._whose(account), name, given, policies, description)

    @needs(READ)
    def roles(self, account: str | None = None) -> builtins.list[RoleView]:
        """All of an account."""
        return self._store.roles(self._whose(account))

    @needs(ADMIN)
    def remove_role(self, name: str, account: str | None = None) -> None:
        """Forget one: tasks that have assumed it stop within 15 minutes. Raises ControlError if there is none."""
        self._store.remove_role(self._whose(account), name)

    @needs(ADMIN)
    def set_policy(self, name: str, document: str, account: str | None = None) -> None:
        """A policy of an account's own. Raises UsageError if the name is none, or the document no policy.

        Args:
            document: JSON (docs/accounts.md).
        """
        self._store.put_policy(self._whose(account), name, permission_policy(document))

    @needs(READ)
    def policies(self, account: str | None = None) -> dict[str, str]:
        """Name of each policy that roles may have, and its JSON."""
        found = self._store.policies(self._whose(account))
        return {name: policy.model_dump_json() for name, policy in found.items()}

    @needs(ADMIN)
    def make_token(
        self, name: str, scope: str = READ, days: float | None = 90.0, account: str | None = None
    ) -> tuple[str, TokenView]:
        """A token that lets a program in as an account (KEYFERRY_TOKEN, `Client(token=...)`). It is shown this once.

        Args:
            scope: `read`, `operate` (run tasks, too) or `admin`.
            days: until it ends; None: never.
        """
        return self._store.make_token(self._whose(account), name, scope, days)

    @needs(ADMIN)
    def tokens(self, account: str | None = None) -> builtins.list[TokenView]:
        """All of an account."""
        return self._store.tokens(self._whose(account))

    @needs(ADMIN)
    def revoke_token(self, token_id: int, account: str | None = None) -> None:
        """End one. Raises ControlError if the account has none of that id."""
        self._store.revoke_token(self._whose(account), token_id)

    @needs(READ)
    def audit(self, after: int = 0, account: str | None = None) -> builtins.list[AuditView]:
        """What others have asked of an account's instances, and what they were answered, oldest first.

        Args:
            after: id of the last entry known already.
        """
        return self._store.audit(self._whose(account), after)

    def _whose(self, account: str | None) -> str:
        """The account that is meant; another's than its own is nobody's to see."""
        if self._account and account not in (None, self._account):
            raise ControlError(f"there is no account {account}", hint="leave it out: it is your own", code="no-account")
        if not (found := account or self._account):
            raise UsageError("which account?", hint="name it: --account NAME, or KEYFERRY_ACCOUNT", code="account")
        return found

    def _installation(self) -> None:
        if self._account:
            raise ControlError(
                "accounts are the installation's", hint="ask whoever runs it, without an account", code="scope"
            )


def _trust(given: str) -> TrustPolicy:
    return trust_policy(given) if given.lstrip().startswith("{") else trusting(given)
