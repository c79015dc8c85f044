"""Function libraries and scripts of a snapshot, kept beside its chunks until they are on the target."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from zlib_ng.zlib_ng import crc32

from workers.spool.damage import damaged
from workers.spool.files import disk_error, make_durable
from workers.spool.sealing import unwrapped, wrapped

TABLES = "tables.json"


def write_tables(directory: Path, version: int, functions: list[bytes], scripts: list[bytes]) -> None:
    """Replace the file. `version` is the RDB version of the snapshot. Raises SpoolFull, ControlError."""
    data = {
        "version": version,
        "functions": [b64encode(f).decode() for f in functions],
        "scripts": [b64encode(s).decode() for s in scripts],
    }
    text = json.dumps({**data, "crc": _crc(data)})
    part = directory / (TABLES + ".part")
    try:
        part.write_bytes(wrapped(text.encode()))
        make_durable(part)  # else the new name could outlive a power cut without what it names
        part.replace(directory / TABLES)
    except OSError as e:
        raise disk_error(e) from e
    make_durable(directory / TABLES)


def read_tables(directory: Path) -> tuple[int, list[bytes], list[bytes]]:
    """(RDB version, function libraries' code, scripts). Raises ControlError, the snapshot marked, if it cannot."""
    path = directory / TABLES
    try:
        data = json.loads(unwrapped(path.read_bytes()))
        if data.pop("crc", None) not in (None, _crc(data)):  # an older version has told none
            raise ValueError("the checksum is another one")
        return data["version"], [b64decode(f) for f in data["functions"]], [b64decode(s) for s in data["scripts"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise damaged(path, "cannot be read") from e


def _crc(data: dict[str, Any]) -> int:
    return int(crc32(json.dumps(data, sort_keys=True).encode()))
