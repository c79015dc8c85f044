"""docs/cutover.md's runbook, run as it stands there: only the addresses, and how long the pause lasts, are others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.compare import same
from tests.dataset import fill
from tests.run_up import Up
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until

ROOT = Path(__file__).parents[3]
OLD, NEW = "redis://old.example:6379", "redis://:password@new.example:6379"
PAUSE = "--pause-limit 60"
TIMEOUT_S = 120


def commands() -> list[str]:
    section = (ROOT / "docs" / "cutover.md").read_text().partition("\n## The runbook\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return found


def test_the_runbook(server: StartServer, tmp_path: Path) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    target.client().config_set("repl-backlog-size", 64 << 20)
    fill(source.client(), 500)
    create, rehearse, finish, watch, reverse, back, release = commands()
    assert (OLD in create, NEW in create, PAUSE in finish) == (True, True, True)

    with Up(tmp_path / "state", "--stream", "2") as service:
        service.wait_ready()
        env = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
        env |= {"PYTHONPATH": str(ROOT), "KEYFERRY_STATE_DIR": str(service.state)}

        def run(script: str) -> str:
            script = script.replace(OLD, source.url()).replace(NEW, target.url()).replace(PAUSE, "--pause-limit 6")
            known = f'keyferry() {{ "{sys.executable}" -m sync_tasks.cli.main "$@"; }}\nset -e\n'
            done = subprocess.run(
                ["bash", "-c", known + script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S
            )
            assert done.returncode == 0, script + done.stdout + done.stderr + service.report()
            return done.stdout

        with Traffic(source, clients=2, rate=500):
            run(create)
            until(lambda: "synchronizing" in run(create.splitlines()[-1]), "it follows", 60)
            assert "writers    warning" in run(rehearse)
        said = run(finish)
        assert "orders-move: finished; writes were paused for" in said
        target.client().set("written to", "the new one")
        source.client().set("left", "behind")
        until(lambda: "late-writes" in run(watch), "who was left behind is told", 30)
        source.client().delete("left")
        with Traffic(target, clients=1, rate=300):
            assert "orders-move-back: task 2 is made and started" in run(reverse)
            until(lambda: source.client().get("written to"), "it comes back", 30)
        assert "finished" in run(back)
        same(source.url(), target.url(), shift_ms=0)
        assert run(release).count("released") == 2
