"""A task is compared while it runs, when nothing is behind: cut into parts, which load workers compare side by side.

Whoever has the operation only cuts it, looks how the parts do, and puts together what they have found: it is held for
a moment every now and then, and whoever holds it may die at any.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, ControlError, KeyferryError, Side
from sync_tasks.progress import Problem
from sync_tasks.states import OpState
from sync_tasks.verification import KINDS, MOST_KEPT
from sync_tasks.views import OpView
from workers.beat import Beat
from workers.finish_steps import Later
from workers.ports import PartPort
from workers.scope import Scope
from workers.task_part import check_runs, compared
from workers.verify.findings import Pair
from workers.verify.libraries import differing_libraries
from workers.verify.link import restarted
from workers.verify.parts import SOURCE, Piece, cut
from workers.verify.run import ROUNDS, opened
from workers.verify.sides import Sides

WAIT_S = 2.0
"""Until it is asked again whether the task is in sync, and how the parts do; the last part calls at once."""
ALSO = ("compared", "in_flux", "expired", "repaired")
"""Counts of a report beside those of kinds."""


def compare(port: PartPort, beat: Beat, source: Endpoint, target: Endpoint) -> None:
    """On with a verification; what all its parts have found is kept, once they are over.

    Raises:
        Later: there is nothing to do now.
        ControlError: `verify-stopped`: the task does not run any more; what made a part fail.
        ConnectionLost: `restarted`: a side was, and all is to be cut anew.
        KeyferryError: what a side answers.
    """
    task, nodes = port.state()
    check_runs(task, port.task)
    options, parts = port.op.options, port.parts()
    what = repr(compared(port.task))
    if options.get("cut") is None:
        if not all(node.in_sync and node.settled for node in nodes):
            raise Later(WAIT_S)
    else:
        try:
            _check(parts, source.side, changed=options["cut"] != what)
        except KeyferryError:
            port.anew()
            raise
    if any(part.state in (OpState.READY, OpState.RUNNING) for part in parts):
        port.keep({**options, **_progress(options, parts)})
        raise Later(WAIT_S)
    with opened(source, target, task.spec.extend_expiry_s, task.spec.verify) as sides:
        pieces = _more(port, sides, parts)
        beat.check()
        if pieces:
            port.divide(pieces, {**options, "cut": what, **_progress(options, parts, pieces)})
            raise Later(WAIT_S)
        found = _together(parts, [one.as_dict() for one in differing_libraries(sides)], port.op.options["repair"])
    port.keep({**options, **_progress(options, parts), "result": found})


def _check(parts: Sequence[OpView], side: Side, *, changed: bool) -> None:
    """Raise what makes all that the parts have found, or will, void.

    Args:
        side: the source.
        changed: the task's scope was.
    """
    if changed:
        raise ConnectionLost("the task was given another scope while it was compared", side=side, code="changed")
    for part in parts:
        if part.options["anew"]:
            raise restarted(Side(part.options["anew"]))
        if part.state is OpState.FAILED:
            failed = Problem.held(part.error) or Problem.of(ControlError("a part of it failed", code="verify-part"))
            raise failed.exception()


def _more(port: PartPort, sides: Sides, parts: Sequence[OpView]) -> list[dict[str, Any]]:
    """Parts of databases that none is of yet: at first all of them."""
    task = port.task
    before = {Pair(*part.options["piece"]["pair"]) for part in parts}
    rounds = len({part.options["round"] for part in parts})
    if rounds >= ROUNDS:
        return []
    # The target may hold keys of its own there: they are no differences.
    extra = task.spec.conflict_mode != "ignore-and-proceed"
    pieces = cut(sides, Scope(task.databases, task.spec.filter), before, extra=extra)
    return [
        {"piece": one.as_dict(), "round": rounds, "says": f"{_says(one)}, part {number} of {len(pieces)}"}
        for number, one in enumerate(pieces, 1)
    ]


def _says(piece: Piece) -> str:
    """For people."""
    if piece.side == SOURCE:
        return f"compare db {piece.pair.source} to {piece.pair.target}"
    return f"look for extra keys in db {piece.pair.target}"


def _progress(
    options: dict[str, Any], parts: Sequence[OpView], pieces: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """How far all of them are, and how fast: keys, and parts."""
    done = sum(part.options["done"] for part in parts)
    total = sum(max(part.options["done"], _expected(part)) for part in parts)
    total += sum(piece["piece"]["keys"] for piece in pieces)
    over = sum(part.state is OpState.DONE for part in parts)
    now, (before, at) = time.time(), options.get("paced") or (0, None)
    rate = (done - before) / (now - at) if at is not None and now > at and done >= before else None
    return {
        "progress": ("compare", done, total),
        "paced": (done, now),
        "keys_per_s": rate,
        "parts": (over, len(parts) + len(pieces)),
    }


def _expected(part: OpView) -> int:
    """Keys of a part that is over are those that it had."""
    return 0 if part.state is OpState.DONE else int(part.options["piece"]["keys"])


def _together(parts: Sequence[OpView], libraries: list[dict[str, Any]], repair: bool) -> dict[str, Any]:
    """One report of what all have found. A key that two parts have seen, since the table of its server was made
    smaller, or since it was deleted while it was compared, counts once."""
    reports: list[dict[str, Any]] = [part.options["result"] for part in parts]
    sums = Counter({name: sum(report.get(name, 0) for report in reports) for name in (*KINDS, *ALSO)})
    keys: dict[Any, dict[str, Any]] = {}
    for key in [key for report in reports for key in report["keys"]]:
        same = (key["db"], key["key"], key["kind"], key["field"])
        if same in keys:
            sums[key["kind"]] -= 1
            sums["repaired"] -= bool(key.get("repaired"))
        else:
            keys[same] = key
    sums["value"] += len(libraries)
    named = [*libraries, *keys.values()]
    found = {name: sums[name] for name in (*KINDS, *ALSO) if name != "repaired" or repair}
    left_out = sum(sums[name] for name in KINDS) - len(named[:MOST_KEPT])
    return {**found, "left_out": left_out, "keys": named[:MOST_KEPT]}
