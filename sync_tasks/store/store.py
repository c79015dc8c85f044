"""The store: what the rest of Keyferry may ask of the database and do to it."""

from __future__ import annotations

from sync_tasks.secrets import SecretBox
from sync_tasks.settings import Settings
from sync_tasks.store.accounts import Accounts
from sync_tasks.store.base import Sender
from sync_tasks.store.cutovers import CutOvers
from sync_tasks.store.database import Database
from sync_tasks.store.instances import Instances
from sync_tasks.store.jobs import Jobs
from sync_tasks.store.migrate import bring
from sync_tasks.store.ops import Ops
from sync_tasks.store.owners import Owners
from sync_tasks.store.progress import Progress
from sync_tasks.store.runs import Runs
from sync_tasks.store.seen import Seen
from sync_tasks.store.tasks import Tasks
from sync_tasks.store.touched import TouchedReading
from sync_tasks.store.verbs import Verbs
from sync_tasks.store.verifications import Verifications


class Store(
    Tasks, Accounts, Instances, Runs, Verbs, CutOvers, Verifications, TouchedReading, Ops, Jobs, Owners, Progress, Seen
):
    """One database of tasks. Opens it at first use, in each process anew; see `StoreBase` for the arguments.

    Raises:
        ControlError: each method, if the database cannot be used.
    """

    @classmethod
    def of(cls, settings: Settings, sender: Sender | None = None, database: Database | None = None) -> Store:
        """The store of an installation. Without a secret key, sealed addresses die with the process."""
        return cls(database or settings.database(), SecretBox(settings.key()), sender)

    def __repr__(self) -> str:
        return "Store()"

    def migrate(self) -> None:
        """Bring the database to the tables of this version; see `store.migrate`."""
        bring(self.database)

    def dispose(self) -> None:
        """Close all connections; the next call opens new ones."""
        self.database.dispose()
