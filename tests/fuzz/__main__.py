"""`make fuzz`: damaged snapshots for as long as asked; seeds are written by hand and by the servers that are here."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.fuzz.run import fuzz
from tests.servers import available, start
from tests.unit.codec.dataset import EXPECTED, fill


def _of_servers() -> list[bytes]:
    """A snapshot of each server that is here, of every type it has, its large values left out."""
    found = []
    for kind in sorted(set(available()) & set(EXPECTED)):
        with tempfile.TemporaryDirectory() as directory, start(kind, dir=Path(directory)) as server:
            client = server.client()
            fill(client, kind)
            for db in (0, 9):
                client.execute_command("SELECT", db)
                for key in client.execute_command("KEYS", "*"):
                    if (client.memory_usage(key) or 0) > 4096:
                        client.delete(key)
            client.save()
            found.append((Path(directory) / "dump.rdb").read_bytes())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, help="try this case alone")
    given = parser.parse_args()
    first, most = (0, None) if given.first is None else (given.first, 1)
    tally = fuzz(given.seconds, given.seed, first, most, _of_servers())
    refused = ", ".join(f"{name} {count}" for name, count in sorted(tally.refused.items()))
    print(f"{tally.cases} cases, refused of {refused}; nothing else was raised")


if __name__ == "__main__":
    main()
