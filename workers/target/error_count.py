"""How many errors the target has answered: equal counts prove that no command was refused in between."""

from __future__ import annotations

import re

from workers.target.link import TargetLink

UNKNOWN = "?"


def error_count(link: TargetLink) -> str:
    """The run id of the target, and its count of error replies, those inside of EXEC too (`total_error_replies`, 6.2).

    Other clients' errors count as well, so a higher count proves nothing. Neither does one of another run, or of a
    server that does not count: see `unchanged`.
    """
    server, stats = link.ask_all([[b"INFO", b"server"], [b"INFO", b"stats"]])
    run = re.search(rb"run_id:(\w+)", server)
    count = re.search(rb"total_error_replies:(\d+)", stats)
    return f"{run[1].decode() if run else ''}:{count[1].decode() if count and run else UNKNOWN}"


def unchanged(before: str, now: str) -> bool:
    """Whether no error was answered between two counts."""
    return before == now and not now.endswith(UNKNOWN)
