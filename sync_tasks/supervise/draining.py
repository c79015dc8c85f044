"""What workers hold in the database, when their processes come to an end."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sync_tasks.errors import KeyferryError
from sync_tasks.settings import Settings

if TYPE_CHECKING:
    from sync_tasks.store import Store

log = logging.getLogger(__name__)

SETTLE_S = 0.5  # after the last job is given back


def owner_prefix(settings: Settings, pid: int) -> str:
    """How the names of all owners begin that belong to the worker with this main process."""
    return f"{settings.hostname}:{pid}:"


def drain(settings: Settings, pid: int) -> None:
    """Let the streams of a worker end at a checkpoint; other workers go on with them."""
    with _store(settings) as store:
        store.drain(owner_prefix(settings, pid))


def release(settings: Settings, pid: int) -> None:
    """Free what a worker held whose processes are dead."""
    with _store(settings) as store:
        store.release_owner(owner_prefix(settings, pid))


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    """A store for one deed. No failure of it is a reason not to end."""
    from sync_tasks.store import Store

    store = Store.of(settings)
    try:
        yield store
    except KeyferryError as error:
        log.warning("what is held is not given back: %s", error.line())
    except Exception:
        log.exception("what is held is not given back")
    finally:
        store.dispose()


class Idle:
    """Whether nothing has been held for SETTLE_S."""

    def __init__(self, held: Callable[[], bool]) -> None:
        self._held = held
        self._since: float | None = None

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._held():
            self._since = None
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since >= SETTLE_S


def free_dead(store: Store, host: str) -> None:
    """Free what processes of this machine held that are gone, as after a power cut."""
    for owner in {":".join(owner.split(":")[:2]) for owner in store.owners(f"{host}:", ops=True)}:
        pid = owner.rpartition(":")[2]
        if pid.isdigit() and not _exists(int(pid)):
            store.release_owner(owner)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
