"""The migration that README shows, run as it stands there: only the two addresses are others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from sync_tasks.names import is_gate
from tests.compare import same
from tests.dataset import fill
from tests.run_up import Up
from tests.servers import Server, StartServer, die_with_parent
from tests.traffic import Traffic

ROOT = Path(__file__).parents[3]
OLD, NEW = '"redis://old.example:6379"', '"redis://:password@new.example:6379"'
PROMPT = "Stop the writes to the old server, then press Enter: "
TIMEOUT_S = 120


def program(source: str, target: str) -> str:
    """The Python of README's section about the service."""
    section = (ROOT / "README.md").read_text().partition("\n## The service\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for shown, real in ((OLD, source), (NEW, target)):
        assert code.count(shown) == 1
        code = code.replace(shown, f'"{real}"')
    return code


def verified(source: Server, target: Server, place: Path) -> None:
    """`keyferry verify` finds them equal, expiries included: after a cut-over they are the source's own."""
    (place / "exact.toml").write_text("extend_expiry_s = 0\n")
    command = [sys.executable, "-m", "sync_tasks.cli.main", "verify", source.url(), target.url(), "--json"]
    done = subprocess.run(
        [*command, "--config", str(place / "exact.toml")], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["compared"] > 1000


def test_the_whole_migration(server: StartServer, tmp_path: Path) -> None:
    source, target = server("redis-7.0"), server("valkey-9.1")
    fill(source.client(), 2000)
    env = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH", "")]))

    with Up(tmp_path / ".keyferry", "--stream", "2") as service:
        service.wait_ready()
        code = program(source.url(), target.url())
        with Traffic(source, clients=2, rate=500):
            run = subprocess.Popen(
                [sys.executable, "-u", "-c", code], cwd=tmp_path, env=env, text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=die_with_parent,
            )  # fmt: skip
            watchdog = threading.Timer(TIMEOUT_S, run.kill)
            watchdog.daemon = True
            watchdog.start()
            assert run.stdout is not None
            said = ""
            while not said.endswith(PROMPT) and (letter := run.stdout.read(1)):
                said += letter
            assert said.endswith(PROMPT), said + service.report()
        # The writes have stopped: now it is told so.
        rest, _ = run.communicate("\n")
        watchdog.cancel()
        assert run.returncode == 0, said + rest + service.report()
        assert rest.splitlines()[-1] == "orders-move is finished"
        assert "synchronizing" in said

        same(source.url(), target.url(), shift_ms=0)
        verified(source, target, tmp_path)
        for db in range(16):
            left = {key: target.client(db=db).ttl(key) for key in target.client(db=db).scan_iter(b"keyferry:*")}
            assert all(is_gate(key) and 0 < ttl <= 86_400 for key, ttl in left.items()), left
        source.client().set("written after the cut-over", 1)
        assert service.stop() == 130
    assert target.client().get("written after the cut-over") is None
