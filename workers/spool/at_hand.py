"""A chunk of the object store on the disk of whoever loads it, for as long as that takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from workers.beat import Beat
from workers.ports import ChunkPort
from workers.spool.files import disk_error
from workers.spool.stored import FETCHED, Stored, no_store

LATE_ATTEMPTS = 5
"""At a chunk, some seconds: so long a store may be behind with what it was given before another snapshot is taken."""


@contextmanager
def at_hand(stored: Stored | None, port: ChunkPort) -> Iterator[None]:
    """Within the block `port.chunk` names a file of this host that is what was recorded, the snapshot's tables beside.

    Args:
        stored: None: there is no object store.
    Raises ControlError: it cannot be had; StoreAway, SpoolFull, Fenced.
    """
    recorded = port.chunk.path
    if not port.chunk.is_stored:
        yield
        return
    with _desk(stored, port) as (there, directory):
        with Beat(lambda: port.renew(0), patient=True) as beat:
            there.fetch_tables(recorded, directory, late=_is_late(port))
            path = there.fetch(recorded, directory, port.chunk.bytes, beat.check, late=_is_late(port))
        port.chunk = replace(port.chunk, path=str(path))
        yield


@contextmanager
def to_be_read(stored: Stored | None, port: ChunkPort) -> Iterator[Callable[[Path], str]]:
    """Within the block the port's chunk, a range of the source, is to be read into files of this host; what is given
    tells how a row names one, and puts it into the object store if the range's place is there. Raises as `at_hand`."""
    recorded = port.chunk.path
    if not port.chunk.is_stored:
        yield str
        return
    with _desk(stored, port) as (there, directory):
        with Beat(lambda: port.renew(0), patient=True):
            there.fetch_tables(recorded, directory, late=_is_late(port))
        port.chunk = replace(port.chunk, path=str(directory / Path(recorded).name))
        place = there.here(recorded).parent

        def keep(path: Path) -> str:
            there.store.put(path, (place / path.name).relative_to(there.spool).as_posix())
            path.unlink()
            return there.recorded(place / path.name)

        yield keep


def _is_late(port: ChunkPort) -> bool:
    return port.chunk.attempts < LATE_ATTEMPTS


@contextmanager
def _desk(stored: Stored | None, port: ChunkPort) -> Iterator[tuple[Stored, Path]]:
    """A directory for one attempt; what a killed one has left of this chunk goes, the rest with the run.

    Not that of a later attempt: this one may have been asleep, and would have that one find a damaged snapshot.
    """
    recorded = port.chunk.path
    if stored is None:
        raise no_store(recorded)
    here = stored.here(recorded)
    place = stored.spool / port.task.uid / FETCHED
    directory = place / f"{port.chunk.id}-{port.chunk.epoch}" / here.parent.name
    try:
        for old in place.glob(f"{port.chunk.id}-*"):
            if int(old.name.partition("-")[2]) < port.chunk.epoch:
                shutil.rmtree(old, ignore_errors=True)
        directory.mkdir(parents=True)
    except OSError as e:
        raise disk_error(e) from e
    try:
        yield stored, directory
    finally:
        shutil.rmtree(directory.parent, ignore_errors=True)
