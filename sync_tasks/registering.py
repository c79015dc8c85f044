"""The client's verbs about servers that are known by a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_tasks.access.scopes import ADMIN, READ, needs
from sync_tasks.endpoints import Endpoint
from sync_tasks.entry import Entry
from sync_tasks.errors import ControlError, Side, UsageError
from sync_tasks.places import named
from sync_tasks.views import InstanceView as Instance

if TYPE_CHECKING:
    from sync_tasks.precheck.connectivity import Connectivity


class Registering(Entry):
    """A part of `Client`."""


    @needs(ADMIN)
    def add_instance(self, name: str, url: str) -> Instance:
        """Register a server: tasks may then name it as `instance://NAME[/db]`. It is sealed, and never readable back.
        One that is registered gets other credentials, for its tasks too.

        Args:
            name: letters, digits, dots and hyphens.
            url: as for `create`, without a database.

        Raises:
            UsageError: the name or the URL is not allowed.
            ControlError: `in-use`: a task uses it, and the URL is of another server; or the secret key is missing.
        """
        try:
            endpoint = Endpoint.parse(url, Side.SOURCE)
        except UsageError as error:
            error.message = error.message.replace("source URL", "URL")
            error.args = (error.message,)
            raise
        return self._sealing().put_instance(self._account, name, endpoint)

    @needs(READ)
    def instances(self) -> list[Instance]:
        """All of them, by name."""
        return self._store.instances(self._account)

    @needs(ADMIN)
    def remove_instance(self, name: str) -> None:
        """Forget a server. Raises ControlError if there is none, or a task uses it that has not ended."""
        self._store.remove_instance(self._account, name)

    @needs(ADMIN)
    def reseal(self) -> int:
        """Seal all addresses anew by the first of the installation's secret keys; how many there are.

        To change the key: set the new one and the old one (with a space between) everywhere, reseal, drop the old one.

        Raises:
            ControlError: some are opened by none of the keys; nothing is changed then.
        """
        if self._account:
            raise ControlError("the key is the installation's", hint="ask whoever runs it", code="scope")
        return self._sealing().reseal()

    @needs(READ)
    def connectivity(self, where: str, side: Side = Side.SOURCE) -> Connectivity:
        """Ask a server whether it lets us in, what it is, and how far away.

        Args:
            where: URL, or `instance://NAME`.

        Raises:
            SourceError, TargetError, UsageError: why it cannot be used.
            ControlError: there is no such instance.
        """
        from sync_tasks.precheck.connectivity import probe

        return probe(self._end(where, side, files=True))

    def _end(self, text: str, side: Side, files: bool = False) -> Endpoint:
        if (one := named(text, side)) is not None:
            owner = one.account or self._account
            if owner != self._account:
                self._store.may_use(owner, one.role or "", self._account, side, one.name)
            return self._sealing().instance(owner, one.name, side, one.db)
        return Endpoint.parse(text, side, self._settings.password(side), files=files)
