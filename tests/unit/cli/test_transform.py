"""`keyferry transform check`: what it says of scripts, alone and on real keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sync_tasks.cli.failures import guarded
from sync_tasks.cli.main import dispatch
from tests.dataset import fill, sibling
from tests.servers import free_port, start

RENAME = "function transform(db, argv) argv[2] = 'n:' .. argv[2] argv.db = db + 1 return argv end"


def run(capsys: pytest.CaptureFixture[str], verb: str, *words: object) -> tuple[int, str, str]:
    arguments = [verb, *map(str, words)]
    code = guarded(lambda: dispatch(arguments), arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_whether_it_compiles(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    right, wrong, settings = tmp_path / "right.lua", tmp_path / "wrong.lua", tmp_path / "task.toml"
    right.write_text(RENAME)
    wrong.write_text("function transform(db, argv)\n  return argv[\nend")
    settings.write_text('[transform]\nfile = "right.lua"')
    assert run(capsys, "transform", "check", right) == (0, f"{right}: it compiles\n", "")
    assert run(capsys, "transform", "check", settings)[0] == 0
    code, _, err = run(capsys, "transform", "check", wrong)
    assert (code, "line 3 of the transform" in err) == (2, True)
    settings.write_text("")
    code, _, err = run(capsys, "transform", "check", settings)
    assert (code, "has no transform" in err) == (2, True)
    assert run(capsys, "transform", "check", tmp_path / "none.lua")[0] == 2


def test_what_becomes_of_real_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script, settings = tmp_path / "x.lua", tmp_path / "x.toml"
    script.write_text(RENAME)
    settings.write_text('databases = {0 = 0}\n[transform]\nfile = "x.lua"\n[filter]\nallow_prefixes = ["a"]')
    with start("valkey-9.1") as server:
        client = server.client()
        client.set("a", "one two", px=3_600_000)
        client.hset("b", "f", "v")
        sibling(client, 3).rpush("c", 1, 2)
        code, out, _ = run(capsys, "transform", "check", script, "--sample", server.url())
        assert code == 0
        assert "tried on 3 keys" in out
        assert '\nstring a of database 0\n  before  SET a "one two" PXAT ' in out
        after = "  after   DEL n:b  (to database 1)\n  before  HSET b f v\n  after   HSET n:b f v  (to database 1)"
        assert after in out
        assert "list c of database 3" in out
        out = run(capsys, "transform", "check", script, "--sample", server.url() + "/0")[1]
        assert "database 3" not in out
        sibling(client, 3).set("apart", 1)
        code, out, _ = run(capsys, "transform", "check", settings, "--sample", server.url(), "--json")
        (found,) = json.loads(out)["keys"]
        assert (found["db"], found["key"], found["type"]) == (0, "a", "string")
        assert found["after"] == [[{"db": 1, "command": ["SET", "n:a", *found["before"][0][2:]]}]]
        assert client.dbsize() == 2, "nothing is written"
        script.write_text("function transform(db, argv) if argv[1] == 'HSET' then error('no') end return false end")
        code, out, err = run(capsys, "transform", "check", script, "--sample", server.url())
        assert (code, out) == (2, "")
        assert "line 1 of the transform, at HSET b: no" in err
        fill(client, 50)
        script.write_text("function transform() end")
        _, out, _ = run(capsys, "transform", "check", script, "--sample", f"{server.url()}/0", "--count", 40)
        assert "tried on 40 keys" in out
    assert run(capsys, "transform", "check", script, "--sample", f"redis://127.0.0.1:{free_port()}")[0] == 3


def test_verify_does_not_compare_what_is_not_meant_to_be_equal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = tmp_path / "x.toml"
    settings.write_text(f'[transform]\nlua = "{RENAME}"')
    code, _, err = run(capsys, "verify", "redis://a", "redis://b", "--config", settings)
    assert (code, "cannot be compared" in err) == (2, True)
