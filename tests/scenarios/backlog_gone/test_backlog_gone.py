"""The source wrote more than its backlog holds while nobody followed: a full sync in place."""

from __future__ import annotations

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic

WRITTEN = 5 << 20  # bytes
BLOCK = 1 << 16
SMALL = {"repl-backlog-size": "256kb"}


def overrun(source: Server) -> None:
    """Write more than the backlog holds, on one key."""
    client = source.client()
    for number in range(WRITTEN // BLOCK):
        client.set("block", bytes(BLOCK) + b"%d" % number)


def test_the_snapshot_goes_over_what_is_there(server: StartServer, ferry: StartFerry) -> None:
    """What was deleted meanwhile goes, whether the snapshot or the log had brought it; the target's own stays."""
    source, target = server("redis-7.0", config=SMALL), server("redis-7.0")
    fill(source.client(), 300)
    here, there = source.client(db=2), target.client(db=2)
    here.mset({f"old:{i}": i for i in range(500)})
    run = ferry(source, target)
    run.wait_in_sync()
    here.mset({f"new:{i}": i for i in range(500)})
    here.rpush("list", *range(100))
    here.rename("new:499", "renamed")
    here.copy("new:498", "copied", destination_db=3)
    run.wait_in_sync()
    there.mset({f"own:{i}": i for i in range(100)})
    run.kill_tree()
    here.delete(*(f"old:{i}" for i in range(0, 500, 2)), *(f"new:{i}" for i in range(0, 400, 2)), "renamed")
    source.client(db=3).delete("copied")
    here.rpush("list", "last")
    overrun(source)

    with Traffic(source, clients=4, rate=500):
        run = ferry(source, target)
        run.wait_phase("initializing")
        run.wait_in_sync()
    run.settle(source)

    assert there.delete(*(f"own:{i}" for i in range(100))) == 100
    assert there.llen("list") == 101
    equal(source, target)
    assert snapshots(source) == 2
    assert run.rows("SELECT text FROM event WHERE kind = 'sweep'")


def test_in_mid_run(server: StartServer, ferry: StartFerry) -> None:
    """The link is cut, and the source writes more than its backlog holds before it is there again; twice."""
    source, target = server("valkey-9.1", config=SMALL), server("valkey-9.1")
    fill(source.client(), 300)
    with Traffic(source, clients=4, rate=500):
        run = ferry(source, target)
        for _ in range(2):
            run.wait_in_sync()
            with source.client().pipeline(transaction=True) as cut:
                cut.client_kill_filter(_type="replica")
                for number in range(WRITTEN // BLOCK):
                    cut.set("block", bytes(BLOCK) + b"%d" % number)
                cut.execute()
            run.wait_phase("initializing")
            run.wait_phase("synchronizing")
    run.settle(source)

    equal(source, target)
    assert snapshots(source) >= 3, "the second may have been cut, too"


def test_a_source_that_has_lost_its_data_empties_nothing(server: StartServer, ferry: StartFerry) -> None:
    """It was restarted without its data: the target keeps what it has, until the source has it again."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    run = ferry(source, target)
    run.wait_in_sync()
    source.stop(save=True)
    dump = source.dir / "dump.rdb"
    aside = dump.rename(dump.with_suffix(".aside"))
    before = target.client().dbsize()
    source.start()
    run.wait_for(lambda line: line["retry"] and "was restarted" in line["retry"]["last_error"], what="it is told")
    assert target.client().dbsize() == before
    source.kill()
    aside.rename(dump)
    source.start()
    run.wait_for(lambda line: line["retry"] is None, 45, what="no retry window")
    run.settle(source)
    equal(source, target)
