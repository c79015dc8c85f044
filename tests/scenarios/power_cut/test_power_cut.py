"""After a power cut files are shorter than they were, or full of zeros: no key and no write may be missing silently."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic

KEYS = 50_000


def torn(path: Path, how: str) -> None:
    """What a disk may leave of a file whose last bytes it had not written."""
    data = path.read_bytes()
    kept = len(data) // 2
    left = {
        "empty": b"",
        "short": data[:kept],
        "zeros": data[:kept] + bytes(len(data) - kept),
        "flipped": data[:kept] + bytes([data[kept] ^ 1]) + data[kept + 1 :],  # no power cut: a bit that has decayed
    }
    path.write_bytes(left[how])


@pytest.mark.parametrize("how", ["empty", "short", "zeros", "flipped"])
def test_chunk_files_are_torn(how: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 1000)
    bulk(source, KEYS)
    with Traffic(source, clients=2, rate=500):
        with slowed(target):
            run = ferry(source, target)
            run.wait_for(lambda line: line["bytes_total"], what="a whole snapshot on disk")
            run.kill_tree()
        # Of one that was loaded in part nobody could tell any more which keys the source has deleted since.
        left = [Path(chunk["path"]) for chunk in run.chunks() if chunk["state"] == "ready" and not chunk["epoch"]]
        assert left, "the load was over already"
        for path in left:
            torn(path, how)
        before = snapshots(source)
        run = ferry(source, target)
        run.wait_phase("synchronizing", timeout=120)
    line = run.settle(source)

    assert line["retry"] is None
    assert snapshots(source) == before + 1
    told = [row["text"] for row in run.rows("SELECT text FROM event")]
    assert any(Path(path).name in event for path in left for event in told), "the file is named"
    equal(source, target)


@pytest.mark.parametrize("how", ["short", "zeros", "flipped"])
def test_the_log_is_torn(how: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    run = ferry(source, target)
    run.wait_in_sync()
    with Traffic(source, clients=2, rate=2000):
        target.pause()
        at = run.last["source_offset"] or 0
        run.wait_for(lambda line: (line["source_offset"] or 0) > at + 200_000, what="a log that grows")
        run.kill_tree()
        target.resume()
        (segment,) = list(run.state.glob("spool/*/0/log/*.seg"))
        torn(segment, how)
        run = ferry(source, target)
        run.wait_phase("synchronizing")
    run.settle(source)

    assert snapshots(source) == 1, "what was lost came from the backlog"
    equal(source, target)
