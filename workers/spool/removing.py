"""Chunks that are of no more use go from the object store, in a thread of its own: nobody waits for that."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

from sync_tasks.errors import KeyferryError
from sync_tasks.objects import ObjectStore
from workers.spool.sweep import RUN

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
GEN = "gen-"


def remove_snapshots(store: ObjectStore, place: str, gen: int) -> threading.Thread:
    """Remove a node's snapshots up to number `gen`, tried until it is done; what is left goes with the run.

    Args:
        place: the node's, in the store.
    """

    def remove() -> None:
        for name in store.below(place):
            if name.startswith(GEN) and name[len(GEN) :].isdigit() and int(name[len(GEN) :]) <= gen:
                store.remove(f"{place}/{name}")

    return _in_peace(remove)


def sweep_store(store: ObjectStore, ended: Callable[[Collection[str]], set[str]]) -> threading.Thread:
    """Remove what ended runs have left there, as `workers.spool.sweep` does on disk."""

    def sweep() -> None:
        found = [name for name in store.below() if RUN.fullmatch(name)]
        for uid in ended(found) if found else ():
            log.info("object store: what is left of run %s is removed", uid)
            store.remove(uid)

    return _in_peace(sweep)


def _in_peace(step: Callable[[], None]) -> threading.Thread:
    over = threading.Event()  # never set: a process that ends takes the thread along

    def run() -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                step()
                return
            except KeyferryError as error:
                log.warning("object store: %s", error.line())
            over.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    thread = threading.Thread(target=run, name="object store", daemon=True)
    thread.start()
    return thread
