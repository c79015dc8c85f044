"""The whole command on real servers, with stand-ins for the data plane and the scheduler (see family.py)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.run_keyferry import ROLES, Keyferry
from tests.servers import Server, start

SECRET = "s3cret-pass-word"
CAUGHT_UP = {"in_sync": True, "settled": True, "delay_ms": 1.5, "source_offset": 9, "applied_offset": 9}


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Server, Server]]:
    with start("redis-7.0") as source, start("redis-7.0", config={"requirepass": SECRET}) as target:
        yield source, target


@pytest.fixture
def ferry(ends: tuple[Server, Server], tmp_path: Path) -> Iterator[Callable[..., Keyferry]]:
    """Makes runs on one state directory, all ended with the test."""
    source, target = ends
    with contextlib.ExitStack() as stack:

        def make(script: dict[str, Any] | None = None, **kw: Any) -> Keyferry:
            state = kw.pop("state", tmp_path / "state")
            state.mkdir(parents=True, exist_ok=True)
            (state / "script.json").write_text(json.dumps(script or {}))
            url = kw.pop("target", f"redis://:{SECRET}@127.0.0.1:{target.port}")
            run = Keyferry(kw.pop("source", source.url()), url, state, **kw)
            run.command[2] = "tests.unit.cli.family"
            return stack.enter_context(run)

        yield make


def tell(state: Path, script: dict[str, Any]) -> None:
    """Change what the stand-in reports, whole or not at all."""
    (state / "next.json").write_text(json.dumps(script))
    (state / "next.json").replace(state / "script.json")


def whole(run: Keyferry) -> list[psutil.Process]:
    """The command, broker, scheduler, and two workers with their one and two processes, once all are there."""
    deadline = time.monotonic() + 10
    while len(found := run.processes()) < 8:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def epoch(line: dict[str, Any]) -> int:
    return line["nodes"][0]["epoch"] if line["nodes"] else 0


def test_until_in_sync_ends_with_0_and_a_last_line_that_says_so(ferry: Callable[..., Keyferry]) -> None:
    run = ferry({"begun": True, "progress": CAUGHT_UP}, until="in-sync")
    assert run.wait() == 0
    assert run.last["in_sync"] is True
    assert run.last["phase"] == "suspended"
    assert (run.last["source_offset"], run.last["applied_offset"], run.last["error"]) == (9, 9, None)
    assert run.errors == ""


def test_until_full_ends_with_0(ferry: Callable[..., Keyferry]) -> None:
    run = ferry({"begun": True, "progress": {"settled": True}}, until="full")
    assert run.wait() == 0


def test_at_least_two_lines_a_second_from_the_first_to_the_last(ferry: Callable[..., Keyferry]) -> None:
    run = ferry()
    run.wait_phase("initializing")
    time.sleep(3)
    run.stop()
    gaps = [later - earlier for earlier, later in zip(run.times, run.times[1:], strict=False)]
    assert len(run.lines) > 6
    # A loaded machine may hold back a few lines; a display that is too slow would hold back most.
    assert statistics.median(gaps) < 0.6, gaps


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_and_it_goes_on_later(
    ferry: Callable[..., Keyferry], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = ferry()
    first = epoch(run.wait_for(lambda line: epoch(line) > 0, what="a stream job"))
    assert run.stop(number, timeout=12) == code
    assert run.errors.count("\n") == 1
    assert "to go on, run the same command again" in run.errors
    assert run.last["phase"] == "suspended"
    again = ferry({"begun": True, "progress": CAUGHT_UP}, until="in-sync")
    assert again.wait() == 0
    assert epoch(again.last) > first
    with sqlite3.connect(tmp_path / "state" / "keyferry.db") as database:
        assert database.execute("SELECT count(*) FROM task").fetchone() == (1,)


def test_what_the_last_run_found_in_sync_does_not_end_the_next(ferry: Callable[..., Keyferry]) -> None:
    assert ferry({"begun": True, "progress": CAUGHT_UP}, until="in-sync").wait() == 0
    run = ferry({"begun": True}, until="in-sync")
    run.wait_for(lambda line: epoch(line) > 1, what="a new stream job")
    time.sleep(1)
    assert run.alive


def test_the_death_of_the_parent_ends_everything_and_the_next_run_goes_on(
    ferry: Callable[..., Keyferry],
) -> None:
    run = ferry()
    first = epoch(run.wait_for(lambda line: epoch(line) > 0, what="a stream job"))
    family = whole(run)[1:]
    os.kill(run.process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=3)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    again = ferry()
    # The stand-in of the scheduler never takes a lease away: the start itself has freed it.
    again.wait_for(lambda line: epoch(line) > first, 10, what="a new stream job")
    assert again.stop() == 130


def test_every_child_that_is_killed_is_replaced(ferry: Callable[..., Keyferry]) -> None:
    run = ferry()
    first = epoch(run.wait_for(lambda line: epoch(line) > 0, what="a stream job"))
    for role in ROLES:
        pid = run.kill(role)
        deadline = time.monotonic() + 10
        while not [process for process in run.find(role) if process.pid != pid]:
            assert time.monotonic() < deadline, f"{role} was not replaced"
            time.sleep(0.05)
    run.wait_for(lambda line: epoch(line) > first, 10, what="a new stream job")
    assert run.stop() == 130


def test_a_stopped_stream_process_does_not_keep_ctrl_c_waiting(ferry: Callable[..., Keyferry]) -> None:
    run = ferry()
    run.wait_for(lambda line: epoch(line) > 0, what="a stream job")
    run.one("stream worker", child=True).suspend()
    begin = time.monotonic()
    assert run.stop(timeout=15) == 130
    assert time.monotonic() - begin < 10


def test_a_second_ctrl_c_ends_it_at_once(ferry: Callable[..., Keyferry]) -> None:
    run = ferry()
    run.wait_for(lambda line: epoch(line) > 0, what="a stream job")
    run.one("stream worker", child=True).suspend()
    run.processes()
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    begin = time.monotonic()
    assert run.stop() == 130
    assert time.monotonic() - begin < 4  # patience would end after much longer


def test_no_password_is_readable_anywhere(ferry: Callable[..., Keyferry], tmp_path: Path) -> None:
    run = ferry({"begun": True, "progress": CAUGHT_UP}, env={"KEYFERRY_TARGET_PASSWORD": SECRET})
    run.wait_in_sync()
    seen = 0
    for process in whole(run):
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{process.pid}/{name}").read_bytes(), (process, name)
            seen += 1
    assert seen == 16
    run.stop()
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"keyferry.db", "stream-worker.log"}
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in run.errors + json.dumps(run.lines)


def test_the_password_can_come_from_the_environment(
    ferry: Callable[..., Keyferry], ends: tuple[Server, Server]
) -> None:
    run = ferry(
        {"begun": True, "progress": CAUGHT_UP},
        until="in-sync",
        target=ends[1].url(),
        env={"KEYFERRY_TARGET_PASSWORD": SECRET},
    )
    assert run.wait() == 0


def test_a_failed_task_ends_with_its_sides_code_and_is_tried_again(ferry: Callable[..., Keyferry]) -> None:
    error = {
        "message": "it is out of memory",
        "hint": "give it some",
        "code": "target-refuses",
        "side": "target",
    }
    run = ferry({"fail": error})
    assert run.wait() == 4
    assert run.errors == "keyferry: target: it is out of memory (give it some)\n"
    assert run.last["phase"] == "failed"
    assert run.last["error"] == error
    again = ferry({"begun": True, "progress": CAUGHT_UP}, until="in-sync")
    assert again.wait() == 0


def test_a_task_that_failed_for_good_is_not_tried_again(ferry: Callable[..., Keyferry]) -> None:
    error = {"message": "what it was", "hint": "h", "code": "cannot-continue", "side": "target"}
    assert ferry({"fail": error}).wait() == 4
    again = ferry()
    assert again.wait() == 4
    assert again.errors.startswith("keyferry: target: it failed for good: what it was (")
    assert "--state" in again.errors


def test_another_task_on_the_same_directory_is_refused(ferry: Callable[..., Keyferry], tmp_path: Path) -> None:
    ferry({"begun": True, "progress": CAUGHT_UP}, until="in-sync").wait()
    other = ferry(source="redis://127.0.0.1:1")
    assert other.wait() == 2
    assert "belongs to another source" in other.errors
    narrower = ferry(config="[databases]\n0 = 3\n")
    assert narrower.wait() == 2
    assert "databases cannot be changed" in narrower.errors


def test_settings_of_a_later_run_take_effect(ferry: Callable[..., Keyferry], tmp_path: Path) -> None:
    script = {"begun": True, "progress": CAUGHT_UP}
    ferry(script, until="in-sync").wait()
    assert ferry(script, until="in-sync", config="extend_expiry_s = 7\n").wait() == 0
    with sqlite3.connect(tmp_path / "state" / "keyferry.db") as database:
        assert json.loads(database.execute("SELECT spec FROM task").fetchone()[0])["extend_expiry_s"] == 7


def test_once_it_has_begun_an_unreachable_source_is_no_error_of_the_start(
    ferry: Callable[..., Keyferry],
) -> None:
    with start("redis-7.0") as source:
        script = {"begun": True, "progress": CAUGHT_UP}
        assert ferry(script, until="in-sync", source=source.url()).wait() == 0
        url = source.url()
    run = ferry(script, source=url)
    run.wait_for(lambda line: epoch(line) > 1, what="a new stream job")
    assert run.stop() == 130


def test_two_at_once_on_one_directory(ferry: Callable[..., Keyferry]) -> None:
    run = ferry()
    run.wait_phase("initializing")
    second = ferry()
    assert second.wait() == 5
    assert second.errors.startswith("keyferry: control: the state directory ")
    assert f"in use by process {run.process.pid}" in second.errors
    assert run.alive
    assert run.stop() == 130


def test_a_state_directory_with_a_long_path(ferry: Callable[..., Keyferry], tmp_path: Path) -> None:
    state = tmp_path / ("x" * 100) / "state"
    run = ferry({"begun": True, "progress": CAUGHT_UP}, until="in-sync", state=state)
    assert run.wait() == 0


def test_a_reader_that_goes_away_ends_it_quietly(ferry: Callable[..., Keyferry]) -> None:
    run = ferry()
    run.kill_tree()
    process = subprocess.Popen(run.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=run.env, text=True)
    assert json.loads(process.stdout.readline())
    tree = psutil.Process(process.pid)
    deadline = time.monotonic() + 10
    while len(tree.children(recursive=True)) < 7:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = tree.children(recursive=True)
    process.stdout.close()
    assert process.wait(15) == 141
    assert "Traceback" not in process.stderr.read()
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_full_disk_is_shown_while_it_waits(
    ferry: Callable[..., Keyferry], ends: tuple[Server, Server], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", small]).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("a small file system cannot be mounted here")
        pytest.skip("needs the right to mount a small file system")
    try:
        run = ferry(state=small / "state")
        run.wait_phase("initializing")
        with (small / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(1 << 16))
        line = run.wait_for(lambda line: line["error"], 10, what="an error")
        assert (line["error"]["code"], line["error"]["side"]) == ("disk-full", "control")
        assert run.alive
        (small / "ballast").unlink()
        run.wait_for(lambda line: line["error"] is None, 10, what="no error")
        assert run.stop() == 130
        again = ferry(state=small / "other")
        again.kill_tree()
        shutil.rmtree(small / "other")
        with (small / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(1 << 16))
        assert again.start().wait() == 5
        assert "disk is full" in again.errors
        assert again.errors.count("\n") == 1
    finally:
        run.kill_tree()
        subprocess.run(["umount", "-l", small], check=True)


def test_without_a_terminal_there_is_a_line_now_and_then_and_one_summary(
    ferry: Callable[..., Keyferry], ends: tuple[Server, Server]
) -> None:
    run = ferry({"begun": True, "progress": CAUGHT_UP}, until="in-sync")
    run.kill_tree()
    command = [word for word in run.command if word != "--json"]
    done = subprocess.run(command, env=run.env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "nothing behind" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert all(line.startswith("keyferry: ") for line in done.stderr.splitlines())


def test_on_a_terminal_there_are_bars(ferry: Callable[..., Keyferry]) -> None:
    import pty

    run = ferry({"begun": True, "progress": CAUGHT_UP}, until="in-sync")
    run.kill_tree()
    command = [word for word in run.command if word != "--json"]
    master, slave = pty.openpty()
    env = {**run.env, "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(master, 65536):
            shown += part
    os.close(master)
    assert process.wait(10) == 0
    text = shown.decode()
    assert "in sync" in text
    assert "keys loaded" in text
    assert "Traceback" not in text
    assert SECRET not in text


def test_the_command_as_a_module_and_its_version() -> None:
    for module in ("sync_tasks.cli", "sync_tasks.cli.main"):
        done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0
        assert done.stdout.startswith("keyferry ")
