"""What the parts of the client share: the store, and as whom they come to it."""

from __future__ import annotations

from sync_tasks.access.scopes import SCOPES
from sync_tasks.connect import Where, entered, opened, settings_of
from sync_tasks.errors import ControlError
from sync_tasks.keyfile import service_key
from sync_tasks.observe import traces
from sync_tasks.store import Store


class Entry:
    """An installation's store, for an account or for all. Arguments and errors: see `Client`."""

    def __init__(self, where: Where = None, *, account: str | None = None, token: str | None = None) -> None:
        self._settings = settings_of(where)
        traces.configure(self._settings)
        self._store = opened(self._settings)
        self._keyed: Store | None = None
        self._account, self._scope = entered(self._store, self._settings, account, token)
        self._store.account = self._account

    def close(self) -> None:
        """Close the connections to the database; the next call opens new ones."""
        for store in (self._store, self._keyed):
            if store is not None:
                store.dispose()

    def _may(self, scope: str) -> None:
        """Raise ControlError unless the token allows so much."""
        if SCOPES.index(self._scope) < SCOPES.index(scope):
            hint = f"have one made of scope {scope}"
            raise ControlError(f"the token allows to {self._scope} alone", hint=hint, code="scope")

    def _sealing(self) -> Store:
        """The store with the key; who only looks on needs none."""
        if self._keyed is None:  # of two threads that come at once, each may make one
            self._keyed = opened(self._settings, service_key(self._settings))
            self._keyed.account = self._account
        return self._keyed
