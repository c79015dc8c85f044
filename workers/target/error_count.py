"""How many errors the target has answered: equal counts prove that no command was refused in between."""

from __future__ import annotations

import re

from workers.target.link import TargetLink

UNKNOWN = "?"


def error_count(link: TargetLink, ck: bytes) -> str:
    """Of the target: its run id, how many error replies it has given, those inside of EXEC too
    (`total_error_replies`, since 6.2), and how many commands it has executed.

    Other clients' errors count as well, so a higher count proves nothing: see `unchanged`. What a script's commands
    have answered, the script itself counts in the checkpoint, `ck` (`workers.target.scripted`).
    """
    server, stats = link.ask_all([[b"INFO", b"server"], [b"INFO", b"stats"]])
    run = re.search(rb"run_id:(\w+)", server)
    if link.scripted and run is not None:
        return f"{run[1].decode()}:{int(link.ask(b'HGET', ck, b'refused') or 0)}:0"
    errors = re.search(rb"total_error_replies:(\d+)", stats)
    done = re.search(rb"total_commands_processed:(\d+)", stats)
    if not (run and errors and done):
        return UNKNOWN
    return b":".join(found[1] for found in (run, errors, done)).decode()


def unchanged(before: str, now: str) -> bool:
    """Whether no error was answered between two counts. CONFIG RESETSTAT sets both numbers back."""
    if UNKNOWN in (before, now):
        return False
    (*errors, done), (*errors_now, done_now) = before.split(":"), now.split(":")
    return errors == errors_now and int(done_now) >= int(done)
