"""Function libraries and scripts of a snapshot, kept beside its chunks until they are on the target."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path

from workers.spool.files import disk_error

_NAME = "tables.json"


def write_tables(directory: Path, version: int, functions: list[bytes], scripts: list[bytes]) -> None:
    """Replace the file. `version` is the RDB version of the snapshot. Raises SpoolFull, ControlError."""
    text = json.dumps(
        {
            "version": version,
            "functions": [b64encode(f).decode() for f in functions],
            "scripts": [b64encode(s).decode() for s in scripts],
        }
    )
    try:
        part = directory / (_NAME + ".part")
        part.write_text(text)
        part.replace(directory / _NAME)
    except OSError as e:
        raise disk_error(e) from e


def read_tables(directory: Path) -> tuple[int, list[bytes], list[bytes]]:
    """(RDB version, function libraries' code, scripts); zero and empty when there was no snapshot."""
    path = directory / _NAME
    if not path.exists():
        return 0, [], []
    data = json.loads(path.read_text())
    return data["version"], [b64decode(f) for f in data["functions"]], [b64decode(s) for s in data["scripts"]]
