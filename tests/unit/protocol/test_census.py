"""The list of the keys that were brought to the target, made anew from the source."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from sync_tasks.errors import CannotContinue, Side
from tests.servers import Server, start
from tests.unit.protocol.conftest import UID, endpoint, until
from tests.unit.protocol.test_resync import FOUND
from tests.unit.spool.test_known import REPLID, has, write
from workers import census, resync
from workers.census import Census
from workers.codec.resp_cy import encode
from workers.scope import Scope
from workers.source.ask import Position, Source
from workers.spool.hash_files import HashFiles
from workers.spool.known import Known
from workers.spool.log import Log
from workers.target.claim import LOADING, Checkpoint
from workers.target.link import TargetLink

AT = replace(FOUND, replid=REPLID, offset=100, gen=2)
MANY = 3000


@pytest.fixture
def source() -> Iterator[Server]:
    with start("redis-7.0") as server:
        yield server


class Made:
    """A census over a source, with the target at offset 100 of a log that begins there."""

    def __init__(self, directory: Path, source: Server, scope: Scope = Scope(None), epoch: int = 1) -> None:  # noqa: B008
        self.log = Log(directory / "log")
        if self.log.start is None:
            self.log.reset(REPLID, 100)
        self.known = Known(directory / "known", UID, epoch)
        self.found: Checkpoint | None = AT
        self.told: list[str] = []
        self.source = Source(endpoint(source, Side.SOURCE))
        self.source.position = lambda: Position(REPLID, self.log.end or 0)  # type: ignore[method-assign]
        self.census = Census(
            self.source, self.known, self.log, scope, lambda: self.found,
            lambda _, text: self.told.append(text),
        )  # fmt: skip

    def run(self, committed: int = 1 << 40) -> bool:
        """As many turns as it takes; whether the list is whole."""
        for _ in range(1000):
            self.census.turn(committed)
        return self.known.whole


def fill(source: Server) -> None:
    for db in (0, 3):
        source.client(db=db).mset({f"{db}:{i}": i for i in range(MANY)})
    source.client().function_load("#!lua name=lib\nredis.register_function('f', function() return 1 end)")


def test_what_the_source_has_and_what_the_log_names(
    source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "BATCH_BYTES", 10_000)
    fill(source)
    made = Made(tmp_path, source)
    write(made.log, "SET gone 1", "DEL gone", "SELECT 3", "RENAME 3:1 away")
    assert made.run()
    assert has(made.known, 0, "0:0", f"0:{MANY - 1}", "gone", "3:0") == ["0:0", f"0:{MANY - 1}", "gone"]
    assert has(made.known, 3, "3:0", f"3:{MANY - 1}", "away") == ["3:0", f"3:{MANY - 1}", "away"]
    assert made.known.libraries == {"lib"}
    assert set(made.known.gens) == {1, 2}
    assert "has 6000" in made.told[0]
    again = Known(tmp_path / "known", UID, 2)
    assert again.whole
    assert has(again, 3, "3:0", "away") == ["3:0", "away"]


def test_databases_out_of_scope_are_left_alone(source: Server, tmp_path: Path) -> None:
    fill(source)
    made = Made(tmp_path, source, Scope({3: 7}))
    assert made.run()
    assert made.known.databases() == [3]


def test_a_death_on_the_way_loses_nothing(source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the log named meanwhile is in, though the log is gone."""
    monkeypatch.setattr(census, "TURN_S", 0.0)
    fill(source)
    made = Made(tmp_path, source)
    made.census.turn(0)
    write(made.log, "SET gone 1")
    made.known.fold(made.log)
    assert not made.known.whole
    assert made.known.offset == made.log.end
    made.log.prune(made.log.end or 0)
    after = Made(tmp_path, source, epoch=2)
    assert not after.known.whole
    assert after.run()
    assert has(after.known, 0, "0:0", "gone") == ["0:0", "gone"]


def test_it_waits_for_the_target_to_come_as_far(source: Server, tmp_path: Path) -> None:
    """Only then are all swaps of the source's databases known."""
    fill(source)
    made = Made(tmp_path, source)
    assert not made.run(committed=-1)
    assert made.run()


def test_a_target_that_falls_back_to_before_has_keys_that_are_not_in_the_list(source: Server, tmp_path: Path) -> None:
    fill(source)
    made = Made(tmp_path, source)
    assert made.run()
    end = made.source.position().offset
    link = TargetLink(endpoint(source), "test", 0)
    for gen, offset, stops in ((2, end - 1, True), (1, end, True), (2, end, False), (3, 0, False)):
        with pytest.raises(CannotContinue, match="not in this spool") if stops else nullcontext():
            resync.check(link, replace(AT, gen=gen, offset=offset), made.known, False, 1, 1)
    for gen, stops in ((2, True), (3, False)):
        with pytest.raises(CannotContinue, match="not in this spool") if stops else nullcontext():
            # The load of that snapshot: over the stream of another source, whose offsets may be larger.
            resync.check(link, replace(AT, gen=gen, offset=1 << 60, state=LOADING), made.known, False, 1, 1)


def swapping(made: Made, source: Server, behind: bytes = b"") -> list[int]:
    """The application swaps two databases while the walk is between them, each time if `behind` is empty."""
    real, swaps = made.source.scan, list[int]()

    def scan(db: int, cursor: int, count: int) -> tuple[int, list[bytes]]:
        if db == 3 and cursor == 0 and len(swaps) < (1 if behind else 2):
            source.client().execute_command("SWAPDB", 0, 3)
            swap = encode([b"SWAPDB", b"0", b"3"])
            swaps.append((made.log.end or 0) + len(swap))
            made.log.append(swap + behind, 1)
        return real(db, cursor, count)

    made.source.scan = scan  # type: ignore[method-assign]
    return swaps


def test_a_pair_of_databases_may_be_swapped_again(source: Server, tmp_path: Path) -> None:
    fill(source)
    made = Made(tmp_path, source)
    swaps = swapping(made, source)
    assert made.run()
    assert len(swaps) == 2
    assert has(made.known, 0, "0:0", "3:0") == ["0:0", "3:0"]


def test_a_swap_in_a_block_of_which_the_target_has_a_part(source: Server, tmp_path: Path) -> None:
    fill(source)
    made = Made(tmp_path, source)
    swaps = swapping(made, source, encode([b"SET", b"behind", b"1"]))
    made.source.position = lambda: Position(REPLID, swaps[-1] if swaps else 100)  # type: ignore[method-assign]
    for _ in range(1000):
        made.census.turn(swaps[-1] if swaps else 100)
    assert made.known.whole
    assert has(made.known, 0, "0:0", "3:0") == ["0:0", "3:0"]


def test_what_came_to_nothing_is_soon_tried_again(
    source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up where databases are swapped all the time, and that is not to keep the list away for minutes."""
    monkeypatch.setattr(census, "ROUNDS", 1)
    fill(source)
    made = Made(tmp_path, source)
    swapping(made, source)
    assert not made.run()
    assert until(made.run, 30)


def test_a_library_that_is_deleted_while_the_target_is_on_its_way(source: Server, tmp_path: Path) -> None:
    fill(source)
    made = Made(tmp_path, source)
    assert not made.run(committed=-1)
    source.client().function_delete("lib")
    assert made.run()
    assert made.known.libraries == {"lib"}


def test_a_replica_hides_keys(source: Server, tmp_path: Path) -> None:
    """Whose time has passed: the target has them still."""
    with start("redis-7.0") as replica:
        replica.client().execute_command("REPLICAOF", "127.0.0.1", source.port)
        assert not Made(tmp_path, replica).run()


def test_a_list_that_cannot_be_written_is_begun_anew_later(
    source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "REST_S", 0.0)
    fill(source)
    made = Made(tmp_path, source)

    def append(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as full:
        full.setattr(HashFiles, "append", append)
        made.census.turn(1 << 40)
    assert not made.known.whole
    assert made.run()
    assert has(made.known, 3, "3:0") == ["3:0"]


@pytest.mark.parametrize("found", [None, replace(AT, state=LOADING)])
def test_without_a_stream_there_is_nothing_to_go_by(
    source: Server, tmp_path: Path, found: Checkpoint | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "REST_S", 0.0)
    made = Made(tmp_path, source)
    made.found = found
    assert not made.run()
    made.found = AT
    assert made.run()


def test_a_source_that_is_away_is_asked_again(
    source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "REST_S", 0.0)
    fill(source)
    made = Made(tmp_path, source)
    source.stop(save=True)
    assert not made.run()
    source.start()
    assert made.run()
    assert has(made.known, 3, "3:0") == ["3:0"]


def test_a_list_that_is_whole_costs_nothing(source: Server, tmp_path: Path) -> None:
    made = Made(tmp_path, source)
    made.known.create()
    made.found = None
    assert made.run()
    assert source.client().info("commandstats").get("cmdstat_scan") is None


def test_a_server_without_functions(tmp_path: Path) -> None:
    with start("redis-6.2") as source:
        source.client().set("a", 1)
        made = Made(tmp_path, source)
        assert made.run()
        assert has(made.known, 0, "a") == ["a"]
        assert made.known.libraries == set()
