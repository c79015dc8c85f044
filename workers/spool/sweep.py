"""Removing from a spool what is over. Only what the database says is over goes: a spool may be shared with others."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

log = logging.getLogger(__name__)

RUN = re.compile(r"[0-9a-f]{16}")  # a run's directory is named by its uid


def sweep(spool: Path, ended: Callable[[Collection[str]], set[str]]) -> None:
    """Remove the directories of ended runs.

    Args:
        spool: the spool's directory; nothing happens if there is none.
        ended: which of these uids are over.
    """
    if not spool.is_dir():
        return
    found = [path.name for path in spool.iterdir() if RUN.fullmatch(path.name)]
    for uid in ended(found) if found else ():
        log.info("spool: what is left of run %s is removed", uid)
        shutil.rmtree(spool / uid, ignore_errors=True)
