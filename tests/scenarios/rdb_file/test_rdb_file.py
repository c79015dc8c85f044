"""An RDB file is copied to a server as the server that wrote it would be, and the task ends by itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.judge import equal, verified
from tests.servers import Server, StartServer
from tests.waiting import until

KINDS = ("valkey-9.1", "redis-7.0", "redis-6.2", "redis-8.2", "valkey-8.1")


def dump(source: Server, to: Path) -> Path:
    """The file of what a server holds."""
    source.client().save()
    to.write_bytes((source.dir / "dump.rdb").read_bytes())
    return to


@pytest.fixture
def load(tmp_path: Path) -> Iterator[object]:
    """Starts the command on a file, always on one state directory."""
    runs: list[Keyferry] = []

    def begin(file: str, target: Server, **kw: object) -> Keyferry:
        run = Keyferry(file, target.url(), tmp_path / "state", until="full", **kw)  # type: ignore[arg-type]
        runs.append(run)
        return run.start()

    yield begin
    for run in runs:
        print(run.report())
        run.kill_tree()


@pytest.mark.parametrize("kind", KINDS)
def test_what_each_server_writes(server: StartServer, load, tmp_path: Path, kind: str) -> None:
    source, target = server(kind), server(kind)
    fill(source.client(), 2000)
    file = dump(source, tmp_path / "dump.rdb")
    run = load(str(file), target)
    assert run.wait(60) == 0, run.report()
    assert run.lines[-1]["phase"] == "finished"
    source.client().set("later", "not in the file")
    source.client().delete("later")
    equal(source, target, extended_ms=0)
    again = load(str(file), target)
    assert again.wait(60) == 2
    assert "finished: it never writes to the target again" in again.errors


def test_killed_while_it_loads(server: StartServer, load, tmp_path: Path) -> None:
    """Each file of the tree may die: what is loaded is loaded once, and nothing is missing."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 60_000)
    file = dump(source, tmp_path / "dump.rdb")
    slow = "[throttle.full]\ntarget_rps = 15000\n"
    run = load(str(file), target, config=slow)
    until(lambda: target.client().dbsize() > 3000, "some of it is there")
    run.kill_tree()
    there = target.client().dbsize()
    run = load(str(file), target, config=slow)
    run.wait_for(lambda line: (line["keys_done"] or 0) > there, what="it goes on")
    run.kill("load worker", child=True)
    run.kill("stream worker", child=True)
    assert run.wait(90) == 0, run.report()
    verified(source, target, extended_ms=0)


def test_damaged_truncated_and_unknown(server: StartServer, load, tmp_path: Path) -> None:
    """Nothing of it reaches the target, and the place is named."""
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().mset({f"k:{n}": f"value {n}" for n in range(20_000)})
    whole = dump(source, tmp_path / "dump.rdb").read_bytes()
    at = len(whole) // 2
    cases = {
        "spoiled": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "truncated": whole[:at],
        "longer": whole + b"*1\r\n$4\r\nPING\r\n",
        "of the future": b"REDIS9999" + whole[9:],
    }
    for name, data in cases.items():
        file = tmp_path / f"{name}.rdb"
        file.write_bytes(data)
        run = Keyferry(str(file), target.url(), tmp_path / name, until="full").start()
        assert run.wait(60) == 3, (name, run.report())
        assert "at byte" in run.errors, (name, run.errors)
        assert [key for key in target.client().scan_iter() if not key.startswith(b"keyferry:")] == [], name


def test_no_rdb_at_all(server: StartServer, load, tmp_path: Path) -> None:
    target = server("redis-7.0")
    (tmp_path / "x.rdb").write_text("hello, world")
    run = load(str(tmp_path / "x.rdb"), target)
    assert run.wait(60) == 3
    assert "no RDB file" in run.errors
    assert "at byte 0" in run.errors
    run = load(str(tmp_path / "missing.rdb"), target)
    assert run.wait(60) == 2
    assert "no such file" in run.errors


def test_keys_whose_time_is_over_are_not_brought(server: StartServer, load, tmp_path: Path) -> None:
    """Nor those out of scope; the others go where they are sent."""
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    client.mset({f"stays:{n}": n for n in range(100)})
    client.set("out:of scope", 1)
    now = int(time.time() * 1000)
    with client.pipeline(transaction=False) as pipe:
        for n in range(500):
            pipe.set(f"over:{n}", n, pxat=now + 1000)
            pipe.set(f"soon:{n}", n, pxat=now + 5000)
            pipe.set(f"late:{n}", n, pxat=now + 3_600_000 + n)
        pipe.execute()
    file = dump(source, tmp_path / "dump.rdb")
    time.sleep(max(0.0, now / 1000 + 1.1 - time.time()))
    run = load(str(file), target, config='databases = {0 = 2}\n[filter]\nblock_prefixes = ["out:"]\n')
    assert run.wait(60) == 0, run.report()
    (said,) = [row["text"] for row in run.rows("SELECT text FROM event WHERE kind = 'expired'")]
    assert int(said.split()[0]) in (500, 1000), said  # where it took long to begin, the time of others was over, too
    time.sleep(max(0.0, now / 1000 + 5.1 - time.time()))
    two = target.client(db=2)
    there = {key for key in two.scan_iter() if not key.startswith(b"keyferry:")}
    assert there == {b"stays:%d" % n for n in range(100)} | {b"late:%d" % n for n in range(500)}
    assert two.pexpiretime("late:7") == now + 3_600_007


def test_standard_input(server: StartServer, tmp_path: Path) -> None:
    """It is kept first, so that the same command goes on without it."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 30_000)
    file = dump(source, tmp_path / "dump.rdb")
    (tmp_path / "slow.toml").write_text("[throttle.full]\ntarget_rps = 15000\n")
    words = [sys.executable, "-m", "sync_tasks.cli.main", "sync", "-", target.url(), "--until", "full", "--state"]
    words += [str(tmp_path / "state"), "--config", str(tmp_path / "slow.toml")]
    with file.open("rb") as piped:
        run = subprocess.Popen(words, stdin=piped, stderr=subprocess.PIPE, text=True)
        until(lambda: target.client().dbsize() > 3000, "some of it is there")
        run.terminate()
        assert run.wait(30) == 143
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    verified(source, target, extended_ms=0)
    nothing = subprocess.run(
        [*words[:-3], str(tmp_path / "other")], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert nothing.returncode == 2
    assert "standard input is empty" in nothing.stderr
