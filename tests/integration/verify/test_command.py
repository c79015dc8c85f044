"""`keyferry verify` as a user runs it: exit codes, JSON, words, and no secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.dataset import sibling
from tests.servers import Server, StartServer, free_port

COMMAND = [sys.executable, "-m", "sync_tasks.cli.main", "verify"]


def keyferry(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **env})


def pair(server: StartServer) -> tuple[Server, Server]:
    source, target = server("redis-7.0"), server("redis-7.0")
    for one, moment in ((source, 4_000_000_000_000), (target, 4_000_000_600_000)):
        one.client().set("a", 1, pxat=moment)
        one.client().hset("h", mapping={"f": 1, "g": 2})
    return source, target


def test_equal(server: StartServer) -> None:
    source, target = pair(server)

    done = keyferry(source.url(), target.url())

    assert (done.returncode, done.stdout, done.stderr) == (0, "2 keys compared: equal\n", "")


def test_different_as_json(server: StartServer) -> None:
    source, target = pair(server)
    target.client().hset("h", "g", 3)
    target.client().set(b"\xff", 1)
    target.client().pexpireat("a", 4_000_000_600_001)

    began = time.monotonic()
    done = keyferry(source.url(), target.url(), "--json")

    assert done.returncode == 1
    assert time.monotonic() - began > 5, "a difference counts only after some seconds"
    assert done.stderr == ""
    keys = sorted(json.loads(done.stdout).pop("keys"), key=lambda item: str(item["key"]))
    assert keys == [
        {"db": 0, "key": "a", "kind": "expiry", "field": None},
        {"db": 0, "key": "h", "kind": "value", "field": "g"},
        {"db": 0, "key": "hex:ff", "kind": "extra", "field": None},
    ]
    counts = {name: count for name, count in json.loads(done.stdout).items() if name != "keys"}
    assert counts == {
        "compared": 2,
        "missing": 0,
        "extra": 1,
        "type": 0,
        "value": 1,
        "expiry": 1,
        "in_flux": 0,
        "expired": 0,
        "left_out": 0,
    }


def test_different_in_words(server: StartServer) -> None:
    source, target = pair(server)
    target.client().delete("a")
    target.client().mset({f"extra {i}": i for i in range(30)})

    done = keyferry(source.url(), target.url())

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "2 keys compared: 1 missing, 30 extra"
    assert "  missing db 0 a" in lines
    assert lines[-1] == "  and 11 more; --json names them"


def test_settings_and_databases(server: StartServer, tmp_path: Path) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    sibling(source.client(), 1).set("a", 1, pxat=4_000_000_000_000)
    sibling(target.client(), 5).set("a", 1, pxat=4_000_000_007_000)
    file = tmp_path / "move.toml"
    file.write_text("extend_expiry_s = 7\n")

    assert keyferry(source.url(1), target.url(5), "--config", str(file)).returncode == 0
    file.write_text("extend_expiry_s = 7\n[databases]\n1 = 5\n")
    assert keyferry(source.url(), target.url(), "--config", str(file)).returncode == 0
    file.write_text("extend_expiry_s = 8\n[databases]\n1 = 5\n")
    assert keyferry(source.url(), target.url(), "--config", str(file)).returncode == 1


def test_errors_are_one_line_with_the_exit_code_of_their_side(server: StartServer, tmp_path: Path) -> None:
    running, nowhere = server("redis-7.0").url(), f"redis://127.0.0.1:{free_port()}"
    locked = server("redis-7.0", config={"requirepass": "very-secret"})
    wrong = f"redis://:wrong-guess@127.0.0.1:{locked.port}"
    cases = [
        ([nowhere, running], 3, "source: connection refused"),
        ([running, nowhere], 4, "target: connection refused"),
        ([running, wrong], 4, "target: "),
        ([wrong, running], 3, "source: "),
        (["http://127.0.0.1", running], 2, "usage: "),
        ([running, running, "--config", str(tmp_path / "none.toml")], 2, "usage: cannot read"),
        ([running + "/1", running, "--repare"], 2, "usage: "),
    ]
    for arguments, code, begins in cases:
        done = keyferry(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith(f"keyferry: {begins}"), done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
        assert "wrong-guess" not in done.stderr


def test_what_is_no_redis_is_named(tmp_path: Path, server: StartServer) -> None:
    """Python's web server answers whatever it is sent."""
    port = free_port()
    web = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        for _ in range(100):
            done = keyferry(f"redis://127.0.0.1:{port}", server("redis-7.0").url())
            if "refused" not in done.stderr:
                break
            time.sleep(0.1)
    finally:
        web.kill()
        web.wait()
    assert done.returncode == 3
    assert "does not speak the Redis protocol" in done.stderr


def test_passwords_by_environment(server: StartServer) -> None:
    source, target = pair(server)
    target.client().config_set("requirepass", "very-secret")

    done = keyferry(source.url(), target.url(), KEYFERRY_TARGET_PASSWORD="very-secret")

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_without_a_word(server: StartServer, number: int, code: int) -> None:
    source, target = pair(server)
    target.client().set("b", 1)  # its re-checks take seconds
    process = subprocess.Popen(
        [*COMMAND, source.url(), target.url()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(2.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)

    assert process.returncode == code
    assert (out, err) == ("", "")


def test_a_bar_on_a_terminal(server: StartServer) -> None:
    source, target = pair(server)
    source.client().execute_command("DEBUG", "POPULATE", 3000, "key", 10)
    target.client().execute_command("DEBUG", "POPULATE", 3000, "key", 10)
    reader, writer = os.openpty()
    process = subprocess.Popen([*COMMAND, source.url(), target.url()], stdout=subprocess.PIPE, stderr=writer, text=True)
    os.close(writer)
    shown = b""
    while True:
        try:
            shown += os.read(reader, 65536)
        except OSError:
            break
    assert process.wait(20) == 0
    assert process.stdout
    assert process.stdout.read() == "3,002 keys compared: equal\n"
    assert b"look for extra keys" in shown


def test_what_is_equal_is_found_so_at_once(server: StartServer) -> None:
    """Nothing to wait for in an empty pair, a small one, and one whose keys have expired on the source alone."""
    source, target = server("redis-7.0"), server("redis-7.0")
    for filled in (False, True):
        if filled:
            source.client().set("a", 1)
            target.client().set("a", 1)
            target.client().set("over on the source", 1, px=600_000)
        began = time.monotonic()
        done = keyferry(source.url(), target.url())
        assert time.monotonic() - began < 4, "start-up takes some tenths of a second; on a busy machine a little more"
        assert done.returncode == 0
    assert done.stdout == (
        "1 keys compared: equal\n1 keys, or fields of them, have expired on the source; the target still extends them\n"
    )


def test_options_over_the_settings(server: StartServer, tmp_path: Path) -> None:
    source, target = pair(server)
    target.client().hset("h", "g", 3)
    settings = tmp_path / "task.toml"
    settings.write_text('[verify]\ndepth = "key"\n')
    assert keyferry(source.url(), target.url(), "--config", str(settings)).returncode == 0
    assert keyferry(source.url(), target.url(), "--config", str(settings), "--depth", "value").returncode == 1
    done = keyferry(source.url(), target.url(), "--depth", "deep")
    assert (done.returncode, done.stderr) == (
        2, 'keyferry: usage: keyferry verify: verify.depth = "deep" is not allowed (verify.depth takes "value",'
        ' "length" or "key")\n',
    )  # fmt: skip


def test_a_report_in_a_file_and_a_repair(server: StartServer, tmp_path: Path) -> None:
    source, target = pair(server)
    target.client().hset("h", "g", 3)
    target.client().set("a,b", 1)
    report = tmp_path / "found.csv"
    kept = keyferry(source.url(), target.url(), "--repair", "--keep-extra", "--report", str(report))
    assert kept.returncode == 1
    lines = ["1 repaired, 1 still differ", "  extra   db 0 a,b", "  value   db 0 h (g), repaired"]
    assert kept.stdout.splitlines()[1:] == lines
    assert sorted(report.read_text().splitlines()) == ['0,"a,b",extra,', "0,h,value,g", "db,key,kind,field"]
    assert target.client().exists("a,b")
    again = keyferry(source.url(), target.url(), "--repair")
    assert again.returncode == 0
    assert again.stdout.splitlines()[1] == "1 repaired"
    assert not target.client().exists("a,b")
    assert not target.client().keys("keyferry:*")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--report", "found.txt"], "the name says no format (end it with .csv or .jsonl)"),
        (["--report", "no/where.csv"], "No such file or directory"),
        (["--keep-extra"], "give --repair, too"),
    ],
)
def test_options_that_make_no_sense(options: list[str], said: str) -> None:
    done = keyferry("redis://localhost:1", "redis://localhost:2", *options)
    assert done.returncode == 2
    assert said in done.stderr
