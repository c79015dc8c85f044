"""What a person reads: lines, bars, summary."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from sync_tasks.cli import core, main, plain, progress, words
from sync_tasks.cli.progress import Bars, Picture, Rate
from sync_tasks.errors import ControlError
from sync_tasks.secrets import new_key
from sync_tasks.states import ChunkState, TaskState
from sync_tasks.store import migrate
from sync_tasks.supervise.outcome import Outcome, Reading
from tests.unit.cli.samples import LOAD, RETRY, node, reading, task


@pytest.mark.parametrize(
    ("count", "text"), [(None, "?"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
)
def test_sizes(count: int | None, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (59.9, "59 s"), (61, "1 min 1 s"), (3600 * 11 + 60 * 59, "11 h 59 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_a_status_line_names_what_is_retried() -> None:
    text = plain.status(reading(task=task(state=TaskState.RETRYING), retries=(RETRY,)))
    assert text.startswith("retrying, 40 of 40 keys")
    assert "100 B behind" in text
    assert "retrying the source: source: connection refused (attempt 4, 33 s left)" in text


def test_what_is_behind_is_unknown_while_one_node_is() -> None:
    assert words.behind(reading(node(), node(id=8, source_offset=None))) is None
    assert words.behind(reading(node(), node(id=8, source_offset=250))) == 150


def test_the_summary_says_what_is_still_held() -> None:
    assert "no expiry held" in plain.summary(reading(node(source_offset=200)), 61)
    assert "nothing behind" in plain.summary(reading(node(source_offset=200)), 61)
    assert "12 expiries still held" in plain.summary(reading(node(held=12, settled=False)), 61)


def test_a_rate_is_the_mean_of_the_last_seconds_and_starts_anew_with_a_new_count() -> None:
    rate = Rate()
    assert rate.add(0.0, 0) is None
    assert rate.add(1.0, 100) == 100
    assert rate.add(2.0, 300) == 150
    assert rate.add(3.0, 10) is None


def drawn(*readings) -> str:  # type: ignore[no-untyped-def]
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    bars = Bars(console)
    for one in readings:
        bars.show(one)
    bars.end(readings[-1], Outcome(0))
    return console.file.getvalue()


def test_bars_show_each_database_the_stream_and_the_retry() -> None:
    loads = (LOAD, dataclasses.replace(LOAD, db=3, keys=10, keys_done=5))
    text = drawn(reading(node(in_sync=False), loads=loads, retries=(RETRY,)))
    for part in (
        "db 0",
        "db 3",
        "5 / 10 keys",
        "40 / 40 keys",
        "delay 12 ms",
        "applied 200",
        "connection refused",
    ):
        assert part in text, part


def test_bars_of_an_unknown_total_and_of_an_empty_source() -> None:
    assert "40 / ? keys" in drawn(reading(node(keys_total=None, snapshot_done=False)))
    assert "0 / 0 keys" in drawn(reading(node(keys_total=0, keys_done=0), loads=()))


def drawn_a_second_apart(*readings: Reading) -> str:
    console = Console(file=io.StringIO(), width=160)
    picture = Picture()
    for now, one in enumerate(readings):
        console.file = io.StringIO()
        console.print(picture.draw(one, float(now)))
    return console.file.getvalue()


def test_a_load_shows_its_rate_and_the_time_left() -> None:
    def loading(keys: int, size: int) -> Reading:
        load = dataclasses.replace(LOAD, chunks={ChunkState.READY: 1}, keys_done=keys)
        one = node(begun=False, keys_done=keys, keys_total=12_000, bytes_done=size, snapshot_done=False)
        return reading(one, task=task(state=TaskState.INITIALIZING), loads=(load,))

    first = drawn_a_second_apart(loading(1000, 4096))
    assert "keys/s" not in first
    assert "left" not in first
    text = drawn_a_second_apart(loading(1000, 4096), loading(3000, 4096 + 2048))
    assert "3 000 / 12 000 keys" in text
    assert "2 000 keys/s 2.0 KiB/s" in text
    assert "4 s left" in text


def test_a_load_that_is_over_shows_neither() -> None:
    text = drawn_a_second_apart(reading(node(keys_done=10)), reading(node(keys_done=40)))
    assert "keys/s" not in text
    assert "left" not in text


def test_a_stream_shows_its_rate_and_the_time_left() -> None:
    behind = node(in_sync=False, applied_offset=1000, source_offset=10_000)
    text = drawn_a_second_apart(reading(behind), reading(dataclasses.replace(behind, applied_offset=3048)))
    assert "2.0 KiB/s" in text
    assert "3 s left" in text


def test_bars_start_no_thread_since_the_caller_forks() -> None:
    import threading

    before = threading.active_count()
    console = Console(file=io.StringIO(), force_terminal=True)
    bars = Bars(console)
    bars.show(reading())
    assert threading.active_count() == before
    bars.end(None, Outcome(0))


def test_bars_draw_what_is_new_at_once_and_the_same_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bars = Bars(Console(file=io.StringIO(), force_terminal=True))
    drawn: list[Reading] = []
    monkeypatch.setattr(bars._picture, "draw", lambda reading, _now: drawn.append(reading) or "")
    first, second = reading(), reading()
    for now[0], shown, count in (
        (1.0, first, 1), (1.4, first, 1), (1.9, first, 1), (2.0, first, 2), (2.1, second, 3), (2.2, first, 4),
    ):  # fmt: skip
        bars.show(shown)
        assert len(drawn) == count, f"at {now[0]} s"
    bars.end(None, Outcome(0))


def test_a_plain_core_says_that_it_is_slow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("workers.codec.core", lambda: "python")
    core.check(False)
    assert "slow" in capsys.readouterr().err
    core.check(False, quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", [("up",), ("worker", "--load", "1"), ("sync", "redis://a", "redis://b")])
def test_a_core_that_is_required_and_missing_ends_every_command_that_moves_data(
    verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path}/keyferry.db"
    migrate(database)
    for name, value in {"REQUIRE_CORE": "1", "DATABASE_URL": database, "SECRET_KEY": new_key().decode()}.items():
        monkeypatch.setenv(f"KEYFERRY_{name}", value)
    monkeypatch.setattr("workers.codec._modules", lambda: {"crc64_cy": Path("crc64_cy.py")})
    with pytest.raises(ControlError, match="compiled core is missing"):
        main.dispatch([*verb, "--state", str(tmp_path / "state")])
