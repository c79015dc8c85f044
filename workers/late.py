"""After a cut-over: whether anybody still writes to the old source. Nothing carries that any more, so it is told.

The count of the source's stream alone would not say it: keys go on to expire there, and replicas are pinged.
"""

from __future__ import annotations

import copy
import time
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError
from workers.finish_base import source_of
from workers.finish_steps import Later
from workers.hold import undo_left, writable
from workers.link import Link
from workers.ports import CutOverPort
from workers.writers import Look, Writers, in_words

LOOK_EVERY_S = 3.0
WATCH_S = 900.0
"""For so long behind the end of the pause."""


def watch(port: CutOverPort, source: Endpoint) -> None:
    """One look. Raises Later unless it was the last one; what the source answers only makes the next one later."""
    options: dict[str, Any] = copy.deepcopy(port.op.options)
    over = time.time() > options["held_until"] + WATCH_S
    nodes = {str(node.number): node for node in port.state()[1]}
    try:
        for number, baseline in options["baseline"].items():
            endpoint = writable(source_of(source, nodes[number]))
            if time.time() > options["held_until"] and number in options["held"]:
                left = options["held"].pop(number)
                if not left["pause"]:  # the other one is over by itself
                    undo_left(endpoint, left)
                    port.event("pause-over", "writes to the source are permitted again")
                port.keep(options)
            _look(port, options, number, Look(**baseline), endpoint)
    except KeyferryError:
        if not over:
            raise Later(LOOK_EVERY_S) from None
    if not over:
        raise Later(LOOK_EVERY_S)


def _look(port: CutOverPort, options: dict[str, Any], number: str, baseline: Look, endpoint: Endpoint) -> None:
    link = Link(endpoint, "keyferry-cut-over", 0)
    try:
        writers = Writers(link)
        now = writers.look()
        if now.run_id != baseline.run_id:
            return  # it was restarted: its counts begin anew, and so must we
        counts = writers.between(baseline, now)
        closed = options["offsets"][number]
        told = options.setdefault("told", {})
        if not counts or now.offset <= closed or told.get(number) == counts:
            return
        seen = writers.clients()
    finally:
        link.close()
    told[number] = counts
    written = options.setdefault("written", {})
    news = now.offset - closed >= 2 * written.get(number, 0)  # else one each few seconds
    options["late"] = (
        f"{now.offset - closed} bytes were written to the source after the cut-over, and are not on the target:"
        f" {in_words(counts, seen)} (node {number})"
    )
    if news:
        written[number] = now.offset - closed
    port.keep(options)
    if news:
        port.event("late-writes", options["late"])
