"""`--report FILE`: every difference of a verification, a line each, as soon as it is known."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sync_tasks.errors import UsageError

FIELDS = ("db", "key", "kind", "field")
ENDS = (".csv", ".jsonl")


@contextmanager
def differences(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None] | None]:
    """What takes differences for a file; None: there is no file.

    Raises UsageError for a name that says no format, and for a file that cannot be written.
    """
    if path is None:
        yield None
        return
    if path.suffix not in ENDS:
        raise UsageError(
            f"--report {path}: the name says no format", hint=f"end it with {' or '.join(ENDS)}", code="report-file"
        )
    try:
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}",
            hint="give --report a path that can be written",
            code="report-file",
        ) from error
    with file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            yield writer.writerow
        else:
            yield lambda found: print(json.dumps(found), file=file)
