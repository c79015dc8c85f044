"""What the parts of a verification have found, as one report; and how far they are."""

from __future__ import annotations

from typing import Any

from sync_tasks.slots import read
from sync_tasks.states import OpKind, OpState
from sync_tasks.verification import KINDS, MOST_KEPT
from sync_tasks.views import OpView
from workers.spool.ranges import Range
from workers.task_verify import _progress, _together
from workers.verify.findings import Pair
from workers.verify.parts import SOURCE, TARGET, Piece, Share


def key(name: str, kind: str = "value", **more: Any) -> dict[str, Any]:
    return {"db": 0, "key": name, "kind": kind, "field": None, **more}


def part(*keys: dict[str, Any], compared: int = 10, more: int = 0, **options: Any) -> OpView:
    """One that is over; `more`: values that differ and are not named."""
    counts = {kind: sum(one["kind"] == kind for one in keys) for kind in KINDS}
    counts["value"] += more
    repaired = {"repaired": sum(one["repaired"] for one in keys)} if any("repaired" in one for one in keys) else {}
    report = {"compared": compared, **counts, "in_flux": 1, "expired": 2, "left_out": 0, **repaired, "keys": [*keys]}
    options = {"done": 10, "piece": {"keys": 8}, "result": report, **options}
    return OpView(1, 1, OpKind.PART, OpState.DONE, options, 0, 1, None)


def test_counts_are_sums() -> None:
    found = _together([part(key("a")), part(key("b", "missing"), compared=5)], [], repair=False)
    assert (found["compared"], found["value"], found["missing"], found["extra"]) == (15, 1, 1, 0)
    assert (found["in_flux"], found["expired"], found["left_out"]) == (2, 4, 0)
    assert [one["key"] for one in found["keys"]] == ["a", "b"]
    assert "repaired" not in found


def test_a_key_that_two_have_seen_counts_once() -> None:
    """It was deleted while it was compared, and looked for on the target; and another was in both ranges."""
    gone = key("gone", "extra", repaired=True)
    both = [part(gone), part(gone, key("b", repaired=False))]
    found = _together(both, [], repair=True)
    assert (found["extra"], found["value"], found["repaired"]) == (1, 1, 1)
    assert [one["key"] for one in found["keys"]] == ["gone", "b"]


def test_libraries_count_and_no_more_are_named_than_are_kept() -> None:
    library = {"db": None, "key": "lib", "kind": "value", "field": "functions"}
    many = [key(f"k{number}") for number in range(MOST_KEPT)]
    found = _together([part(*many, more=7)], [library], repair=False)
    assert found["value"] == MOST_KEPT + 8
    assert len(found["keys"]) == MOST_KEPT
    assert found["keys"][0] == library
    assert found["left_out"] == 8


def test_nothing_at_all() -> None:
    found = _together([], [], repair=True)
    assert (found["compared"], found["repaired"], found["keys"]) == (0, 0, [])


def test_progress_is_that_of_all_and_has_a_pace(monkeypatch: Any) -> None:
    now = 1000.0
    monkeypatch.setattr("workers.task_verify.time.time", lambda: now)
    running = OpView(2, 1, OpKind.PART, OpState.RUNNING, {"done": 4, "piece": {"keys": 20}}, 0, 1, None)
    first = _progress({}, [part(), running])
    assert first["progress"] == ("compare", 14, 30)
    assert (first["parts"], first["keys_per_s"]) == ((1, 2), None)
    now = 1002.0
    running.options["done"] = 24  # more than were expected
    later = _progress(first, [part(), running])
    assert later["progress"] == ("compare", 34, 34)
    assert later["keys_per_s"] == 10.0
    now = 900.0  # the clock is set back
    assert _progress(later, [part(), running])["keys_per_s"] is None


def test_a_piece_is_written_and_read() -> None:
    for piece in (
        Piece(SOURCE, Pair(3, 5), Share(range=Range(2, 1, "a" * 40)), 7),
        Piece(TARGET, Pair(0, 0), Share(slots=read("0-5460,7000")), 0),
    ):
        assert Piece.of(piece.as_dict()) == piece
