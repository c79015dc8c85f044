"""`keyferry task`: what each verb prints, and how it ends."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sync_tasks import Client, TaskState
from sync_tasks.cli import plain, task_table, task_watch
from sync_tasks.cli.failures import guarded
from sync_tasks.cli.json_lines import blank
from sync_tasks.cli.main import dispatch
from sync_tasks.cli.signals import Interrupted
from sync_tasks.errors import ConnectionLost, KeyferryError, Side
from sync_tasks.progress import Progress
from tests.unit.cli.samples import RETRY, node, reading, task
from tests.unit.cli.test_config import keyferry
from tests.unit.cli.test_show import drawn
from tests.unit.client.conftest import SECRETS, SOURCE, TARGET
from tests.unit.client.worker import Worker

S = TaskState
DOWN = ConnectionLost("source.example:7000 refuses", side=Side.SOURCE, hint="start it")
FULL = KeyferryError("it is full", side=Side.TARGET)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and nothing of the machine's own settings."""
    for name in [name for name in os.environ if name.startswith("KEYFERRY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Said:
    """What one run printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `keyferry task ...` in this process."""

    def go(*words: object) -> Said:
        arguments = ["task", *map(str, words)]
        code = guarded(lambda: dispatch(arguments), arguments)
        out, err = capsys.readouterr()
        for secret in SECRETS:
            assert secret not in out + err
        return Said(code, out, err)

    return go


@pytest.fixture
def made(run: Run) -> int:
    """A task called a."""
    return int(run("create", "--json", "--name", "a", SOURCE, TARGET).json["id"])


@pytest.fixture
def worker(made: int, place: Path):  # type: ignore[no-untyped-def]
    with Worker(place / ".keyferry") as found:
        yield found


def follow(run: Run, *names: str) -> None:
    """Start tasks, and wait until they follow their sources."""
    assert run("start", *names).code == 0
    deadline = time.monotonic() + 10
    while {task["state"] for task in run("show", "--json", *names).json} != {"synchronizing"}:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_create_makes_a_task_and_says_how_to_start_it(run: Run, place: Path) -> None:
    said = run("create", "--name", "orders-move", SOURCE, TARGET)
    assert (said.code, said.out) == (0, "orders-move: task 1 is made; to start it: keyferry task start 1\n")
    (place / "all.toml").write_text('name = "filed"\n[retry]\nother_min = 3\n')
    sets = (
        "--set",
        "retry.connection_min=30",
        "--set",
        "conflict_mode = ignore-and-proceed",
        "--set",
        "databases={0=4}",
    )
    found = run("create", "--json", "--config", "all.toml", *sets, SOURCE, TARGET).json
    assert (found["name"], found["state"]) == ("filed", "not-started")
    assert found["settings"]["retry"] == {"connection_min": 30, "other_min": 3}
    assert found["settings"]["databases"] == {"0": 4}
    assert found["settings"]["conflict_mode"] == "ignore-and-proceed"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create", SOURCE), "the addresses are missing"),
        (("create", "http://x", TARGET), "source URL"),
        (("create", "--set", "extend_expiri_s=1", SOURCE, TARGET), "did you mean extend_expiry_s?"),
        (("create", "--set", "extend_expiry_s=-1", SOURCE, TARGET), "0..315360000 seconds"),
        (("create", "--set", "nothing", SOURCE, TARGET), "--set nothing cannot be read"),
        (("create", "--set", "=1", SOURCE, TARGET), "--set =1 cannot be read"),
        (("create", "--config", "none.toml", SOURCE, TARGET), "cannot read none.toml"),
        (("modify", "a", "--set", "nam=b"), "did you mean name?"),
        (("start",), "Missing argument"),
        (("stat", "a"), "No such command"),
        (("start", "a", "--wait", "-1"), "--wait"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(run: Run, made: int, words: tuple[str, ...], told: str) -> None:
    said = run(*words)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert said.err.startswith("keyferry: usage: ")
    assert told in said.err


def test_where_there_are_no_tasks_none_are_made_up(run: Run, place: Path) -> None:
    for words in (("list",), ("start", "1"), ("watch", "1", "--state", "elsewhere")):
        said = run(*words)
        assert said.code == 5
        assert "there are no tasks in" in said.err
    assert list(place.iterdir()) == []


def test_a_task_that_is_not_there(run: Run, made: int) -> None:
    said = run("suspend", "b")
    assert (said.code, said.err) == (
        5,
        "keyferry: control: b: there is no task b (give the id, the uid or the name of a task that exists)\n",
    )


def test_the_life_of_a_task(run: Run, worker: Worker) -> None:
    assert run("precheck", "a").out == "a: passed\n"
    follow(run, "a")
    assert run("suspend", "a").out == "a: suspended\n"
    assert run("resume", "a").out == "a: synchronizing\n"
    (found,) = run("modify", "a", "--set", "extend_expiry_s=7", "--json").json
    assert found["settings"]["extend_expiry_s"] == 7
    (again,) = run("restart", "a", "--json").json
    assert again["uid"] != found["uid"]
    assert run("finish", "a").out == "a: finished\n"
    assert run("start", "a").code == 5
    assert run("release", "a").out == "a: released\n"


def test_a_task_may_rest_in_two_ways(run: Run, worker: Worker) -> None:
    follow(run, "a")
    assert run("suspend", "a", "--limit", "2097152").out == "a: suspended\n"
    (found,) = run("show", "--json", "a").json
    (node,) = found["progress"]["nodes"]
    assert (node["receiving"], node["receive_bytes"]) == (True, 2 << 20)
    assert "on disk, receives up to 2.0 MiB" in run("list").out
    assert run("suspend", "a", "--stop").out == "a: suspended\n"
    assert "on disk" not in run("list").out
    said = run("suspend", "a", "--stop", "--limit", "2097152")
    assert (said.code, said.out) == (2, "")
    assert "no limit" in said.err


def test_create_and_start_in_one(run: Run, worker: Worker) -> None:
    said = run("create", "--start", "--name", "b", SOURCE, TARGET)
    assert said.code == 0
    assert said.out.splitlines()[0] == "b: task 2 is made"
    assert said.out.splitlines()[1] in ("b: initializing", "b: synchronizing")


def test_create_names_the_task_even_if_it_does_not_start(run: Run, worker: Worker) -> None:
    worker.wrong["precheck"] = DOWN
    said = run("create", "--start", "--json", SOURCE, TARGET)
    assert (said.code, said.json["id"], said.json["state"]) == (3, 2, "precheck-failed")
    assert said.json["error"] == {
        "code": "connection", "side": "source", "message": "source.example:7000 refuses", "hint": "start it",
    }  # fmt: skip


def test_several_at_once_as_one_array_in_their_order(run: Run, worker: Worker) -> None:
    for name in "bc":
        run("create", "--name", name, SOURCE, TARGET)
    follow(run, "a", "b", "c")
    found = run("start", "c", "1", "b", "--json").json
    assert [task["name"] for task in found] == ["c", "a", "b"]
    assert run("suspend", "a", "b", "c").out.split() == ["a:", "suspended", "b:", "suspended", "c:", "suspended"]


@pytest.mark.parametrize(("error", "code"), [(DOWN, 3), (FULL, 4)])
def test_the_exit_code_names_the_side(run: Run, worker: Worker, error: KeyferryError, code: int) -> None:
    worker.wrong["a"] = error
    said = run("start", "a")
    assert said.code == code
    assert said.err.startswith(f"keyferry: {error.side.value}: a: {error.message}")
    said = run("precheck", "a", "--json")
    assert (said.code, said.json[0]["passed"], said.json[0]["error"]["message"]) == (code, False, error.message)
    assert run("precheck", "a").out == "a: failed\n"
    assert run("watch", "a").code == code


def test_nobody_at_work_is_code_5_and_says_what_to_start(run: Run, made: int) -> None:
    said = run("start", "a", "--wait", "0.1")
    assert said.code == 5
    assert "no worker has taken its precheck" in said.err
    assert "keyferry up" in said.err
    said = run("start", "a", "--wait", "0")
    assert (said.code, said.out) == (0, "a: prechecking\n")
    assert run("precheck", "a", "--wait", "0").out == "a: asked for\n"


def test_a_cut_over_that_is_only_asked_for(run: Run, worker: Worker) -> None:
    follow(run, "a")
    worker.stuck = True
    worker._over.set()
    worker.join()
    assert run("finish", "a", "--wait", "0").out == "a: synchronizing, being finished\n"


def test_a_release_may_be_forced(run: Run, worker: Worker, place: Path) -> None:
    assert run("release", "a", "--force").code == 0
    with Client(place / ".keyferry") as client:
        assert client._store.ops(1)[-1].options["force"]


def test_list_is_a_table(run: Run, worker: Worker) -> None:
    follow(run, "a")
    run("create", "--name", "gone", SOURCE, TARGET)
    run("release", "gone")
    lines = run("list").out.splitlines()
    assert lines[0].split() == ["id", "name", "state", "loaded", "behind", "delay"]
    assert lines[1].startswith("1   a     ")
    assert "0 / 0 keys" in lines[1]
    assert len(lines) == 2, "what is released is over"
    assert [task["name"] for task in run("list", "--all", "--json").json] == ["a", "gone"]
    (found,) = run("list", "--json").json
    assert set(found["progress"]) == set(blank(S.NOT_STARTED))


def test_list_goes_on_until_it_is_stopped(run: Run, made: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise Interrupted(2)

    monkeypatch.setattr("sync_tasks.waiting.time.sleep", sleep)
    with pytest.raises(Interrupted) as caught:
        dispatch(["task", "list", "--watch", "--json"])
    assert caught.value.exit_code == 130
    assert pauses == [1.0] * 3


def test_show_tells_all_about_a_task(run: Run, worker: Worker) -> None:
    run("start", "a")
    said = run("show", "a").out
    for part in ("a: task 1, uid ", "mover:***@source.example:7000", "all databases", "retry 720 min", "created"):
        assert part in said, part
    (found,) = run("show", "1", "--json").json
    assert {"id", "uid", "name", "state", "settings", "progress", "retries", "events"} <= set(found)
    assert found["events"][0]["kind"] == "created"
    assert set(found["events"][0]) == {"id", "task_id", "at", "kind", "text"}


def test_show_tells_whose_retry_time_holds(run: Run, worker: Worker) -> None:
    """Another task that runs on the same servers shortens it, and lets go of it when it rests."""
    run("create", "--name", "brief", "--set", "retry.connection_min=30", SOURCE, TARGET)
    follow(run, "a")
    (alone,) = run("show", "--json", "a").json
    assert alone["connection_window"] == {"minutes": 720, "by": None, "by_name": None}
    follow(run, "brief")
    (shared,) = run("show", "--json", "a").json
    assert shared["connection_window"] == {"minutes": 30, "by": 2, "by_name": "brief"}
    assert shared["settings"]["retry"] == {"connection_min": 720, "other_min": 10}, "its own stay"
    said = run("show", "a").out
    assert "retry 30 min instead of 720, shortened by task 2, brief (connection), 10 min (other)" in said
    assert [task["connection_window"]["by"] for task in run("list", "--json").json] == [2, None]
    run("suspend", "brief")
    assert "retry 720 min (connection), 10 min (other)" in run("show", "a").out


def test_a_page_names_windows_what_is_held_and_the_error() -> None:
    held = {"code": "c", "side": "target", "message": "it broke", "hint": "mend it"}
    failed = task(state=S.RETRYING, error=held, databases={0: 1}, finishing=True)
    text = "\n".join(task_table.page(reading(node(held=12), task=failed, retries=(RETRY,)), []))
    for part in (
        "retrying, being finished",
        "databases 0 to 1",
        "40 / 40 keys, 3.9 KiB",
        "delay 12 ms, applied 200, received 250 of 300",
        "12 expiries held",
        "connection, retrying the source: source: connection refused (attempt 4, 33 s left)",
        "target: it broke",
        "mend it",
    ):
        assert part in text, part


def test_cells_show_what_is_known_and_of_use() -> None:
    assert task_table.cells(reading()) == ("1", "a move", "in sync", "40 / 40 keys", "100 B", "12 ms", "")
    unbegun = reading(node(keys_done=0, keys_total=None, delay_ms=None), task=task(state=S.NOT_STARTED))
    assert task_table.cells(unbegun) == ("1", "a move", "not-started", "", "", "", "")
    unknown = reading(node(keys_total=None, source_offset=None, in_sync=False), task=task(state=S.INITIALIZING))
    assert task_table.cells(unknown)[2:6] == ("initializing", "40 / ? keys", "?", "12 ms")
    assert "connection refused" in task_table.cells(reading(retries=(RETRY,)))[6]
    rested = reading(task=task(state=S.SUSPENDED))
    assert task_table.cells(rested)[3:] == ("40 / 40 keys", "", "", "")


def test_what_waits_on_disk_is_shown_of_a_task_that_rests() -> None:
    receives = reading(node(receive_bytes=5 << 30, applied_offset=50, in_sync=False), task=task(state=S.SUSPENDED))
    said = "200 B on disk, receives up to 5.0 GiB"
    assert task_table.cells(receives)[2:] == ("suspended", "40 / 40 keys", "250 B", "", said)
    assert f"waits     {said}" in "\n".join(task_table.page(receives, []))
    assert said in plain.status(receives)
    assert said in drawn(receives)
    over = reading(node(receive_bytes=200, wanted=False, applied_offset=50), task=task(state=S.SUSPENDED))
    assert task_table.cells(over)[4:] == ("", "", "200 B on disk, receives no more")
    unknown = reading(node(receive_bytes=200, applied_offset=None), task=task(state=S.SUSPENDED))
    assert "? on disk" in task_table.cells(unknown)[6]
    (found,) = Progress.of(receives).nodes
    assert (found.on_disk_bytes, found.receiving, found.receive_bytes) == (200, True, 5 << 30)


def test_a_table_on_a_terminal_keeps_names_that_look_like_markup() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    console.print(task_table.table([reading(task=task(name="[red]orders[/red]"))]))
    assert "[red]orders[/red]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_watch_prints_objects_until_the_tasks_have_ended(run: Run, worker: Worker, place: Path) -> None:
    run("create", "--name", "b", SOURCE, TARGET)
    run("start", "a", "b")

    def end() -> None:
        time.sleep(0.2)
        with Client(place / ".keyferry") as client:
            client.finish(["a", "b"], wait_s=0)

    thread = threading.Thread(target=end)
    thread.start()
    said = run("watch", "--json", "a", "b")
    thread.join()
    assert said.code == 0
    assert set(said.lines[0]) == {"id", "name", *blank(S.NOT_STARTED)}
    assert {(line["name"], line["phase"]) for line in said.lines[-2:]} == {("a", "finished"), ("b", "finished")}


def test_watch_says_a_line_when_something_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = task_watch.Lines()
    for _ in range(3):
        lines.show([reading()])
    lines.show([reading(task=task(state=S.FINISHED))])
    said = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in said] == ["keyferry: a move: following", "keyferry: a move: finished"]


def test_watch_draws_each_task_under_its_name() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    pictures = task_watch.Pictures(console)
    other = reading(task=task(id=2, name="another", state=S.RETRYING), retries=(replace(RETRY, attempts=9),))
    pictures.show([reading(), other])
    pictures.end()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("a move", "another", "40 / 40 keys", "attempt 9"):
        assert part in text, part


def test_events_in_the_order_in_which_they_happened(run: Run, worker: Worker) -> None:
    run("create", "--name", "b", SOURCE, TARGET)
    run("precheck", "a", "b")
    found = run("events", "b", "a", "--json").lines
    assert [event["id"] for event in found] == sorted(event["id"] for event in found)
    assert {event["task_id"] for event in found} == {1, 2}
    text = run("events", "b", "a").out.splitlines()
    assert len(text) == len(found)
    assert text[0].startswith("a  ")
    assert (
        run("events", "a")
        .out.splitlines()[0]
        .endswith("redis://***@source.example:7000 to redis://***@target.example:7001")
    )


def test_events_are_followed_without_a_repetition(
    run: Run, made: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, turns = Client(place / ".keyferry"), []

    def sleep(_: float) -> None:
        turns.append(1)
        if len(turns) == 2:
            client.modify("a", extend_expiry_s=1)
        if len(turns) == 4:
            raise KeyferryError("enough", side=Side.USAGE)

    monkeypatch.setattr("sync_tasks.waiting.time.sleep", sleep)
    said = run("events", "--follow", "--json", "a")
    assert [event["kind"] for event in said.lines] == ["created", "modified"]
    client.close()


def test_names_are_completed(run: Run, made: int, place: Path) -> None:
    run("create", "--name", "orders-move", SOURCE, TARGET)
    run("create", "--name", "two words", SOURCE, TARGET)
    for words, offered in (
        ("keyferry task start or", ["orders-move"]),
        ("keyferry task show ", ["a", "orders-move", "3"]),
    ):
        at = str(len(words.split(" ")) - 1)
        done = keyferry(cwd=place, COMP_WORDS=words, COMP_CWORD=at, _KEYFERRY_COMPLETE="complete_bash")
        assert (done.returncode, done.stdout.split()) == (0, offered), done.stderr


def test_completion_makes_nothing_and_never_fails(place: Path) -> None:
    for env in ({}, {"KEYFERRY_DATABASE_URL": "mysql://x"}):
        done = keyferry(
            cwd=place, COMP_WORDS="keyferry task show o", COMP_CWORD="3", _KEYFERRY_COMPLETE="complete_bash", **env
        )
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert list(place.iterdir()) == []


def test_every_verb_teaches_by_example(run: Run) -> None:
    listed = run("--help").out
    for verb in ("create", "precheck", "start", "list", "show", "watch", "events", "suspend", "resume", "modify",
                 "restart", "finish", "release"):  # fmt: skip
        assert f"  {verb} " in listed
        said = run(verb, "--help")
        assert said.code == 0
        assert f"  keyferry task {verb}" in said.out.partition("Examples:")[2], verb
        assert "--state" in said.out
        assert "--json" in said.out
