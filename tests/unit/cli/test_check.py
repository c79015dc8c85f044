"""`keyferry task check`: servers that answer, servers that do not, and what users must be allowed."""

from __future__ import annotations

import json

import pytest

from sync_tasks.cli.failures import guarded
from sync_tasks.cli.main import dispatch
from sync_tasks.errors import Side
from sync_tasks.precheck.grants import line
from tests.sentinels import Sentinels
from tests.servers import free_port, start

Said = tuple[int, str, str]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Said:
    arguments = ["task", "check", *words]
    code = guarded(lambda: dispatch(arguments), arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert [text.strip() for text in out.splitlines()[1::2]] == [
        line(Side.SOURCE), line(Side.SOURCE, (6, 2)), line(Side.SOURCE, continued=True),
        line(Side.SOURCE, (6, 2), continued=True), line(Side.TARGET),
    ]  # fmt: skip
    assert json.loads(run(capsys, "--json")[1])["target"] == line(Side.TARGET)


def test_servers_are_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with start("redis-7.0", config={"requirepass": "s3cret"}) as one, start("valkey-9.1") as two:
        two.client().execute_command("REPLICAOF", "127.0.0.1", 1)
        two_url, one_url = two.url(), f"redis://:s3cret@127.0.0.1:{one.port}"
        code, out, _ = run(capsys, "--source", two_url, "--target", one_url)
        assert code == 0
        assert f"source 127.0.0.1:{two.port}: Valkey 9.1, replica of 127.0.0.1:1, which it has lost; 0 keys" in out
        assert f"target 127.0.0.1:{one.port}: Redis 7.0, master; " in out
        found = json.loads(run(capsys, "--json", "--target", one_url)[1])["target"]
        assert (found["version"], found["topology"], found["tls"]) == ("Redis 7.0", "master", False)
        assert 0 < found["round_trip_ms"] < 1000
        code, out, err = run(capsys, "--source", f"redis://:wr0ng@127.0.0.1:{one.port}", "--target", one_url)
        assert code == 3
        assert "target 127.0.0.1" in out, "the other one is asked all the same"
        assert "wr0ng" not in out + err
    code, out, err = run(capsys, "--json", "--target", f"redis://127.0.0.1:{free_port()}")
    assert (code, json.loads(out)) == (4, {"target": None})
    assert "refused" in err


def test_sentinels_are_asked_for_the_master(capsys: pytest.CaptureFixture[str]) -> None:
    with Sentinels("redis-7.0", "orders") as sentinels:
        url = sentinels["orders"].url()
        code, out, _ = run(capsys, "--source", url)
        assert (code, out.partition(": ")[2].partition(";")[0]) == (0, "Redis 7.0, master orders of Sentinels")
        code, _, err = run(capsys, "--source", url.replace("/orders", "/bills"))
        assert code == 3
        assert "knows no master bills" in err
        code, _, err = run(capsys, "--target", url.replace("redis", "rediss"))
        assert code == 4
        assert "TLS was asked for" in err
        assert "write redis+sentinel://" in err
        code, _, err = run(capsys, "--target", f"redis://127.0.0.1:{sentinels.ports[0]}")
        assert code == 4
        assert "is a Sentinel" in err
