"""What goes from a spool, and what must not."""

from __future__ import annotations

from pathlib import Path

from workers.spool.sweep import sweep

OVER, RUNS, UNKNOWN = "0" * 16, "1" * 16, "2" * 16


def test_ended_runs_go_and_nothing_else(tmp_path: Path) -> None:
    for name in (OVER, RUNS, UNKNOWN, "somebody's"):
        (tmp_path / name / "0" / "log").mkdir(parents=True)
        (tmp_path / name / "0" / "log" / "segment").write_bytes(b"x")
    (tmp_path / "id").write_text("0123456789ab\n")
    asked: list[set[str]] = []

    def ended(uids: object) -> set[str]:
        asked.append(set(uids))  # type: ignore[call-overload]
        return {OVER}

    sweep(tmp_path, ended)
    assert asked == [{OVER, RUNS, UNKNOWN}]
    assert {path.name for path in tmp_path.iterdir()} == {RUNS, UNKNOWN, "somebody's", "id"}
    assert (tmp_path / RUNS / "0" / "log" / "segment").exists()


def test_a_spool_that_is_not_there_yet(tmp_path: Path) -> None:
    sweep(tmp_path / "new", lambda _: {"never asked"})
    assert not (tmp_path / "new").exists()
