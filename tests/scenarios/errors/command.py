"""The real command, run to its bad end, and what every bad end has in common."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.servers import Server

LINE = re.compile(r"keyferry: (usage|source|target|control): [^\n]+ \([^\n]+\)\n")
CODES = {"usage": 2, "source": 3, "target": 4, "control": 5}


@dataclass
class Ended:
    """What a run left: exit code, both outputs, seconds it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


def run(*arguments: str, timeout: float = 40.0, env: dict[str, str] | None = None, cwd: Path | None = None) -> Ended:
    """`keyferry` with these arguments, of the packages below `cwd`; nothing of it is left when it has ended."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "sync_tasks.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        cwd=cwd,
        start_new_session=True,  # so that what it leaves behind can be told by its session
    )
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        left = [other for other in psutil.process_iter() if _session(other) == process.pid]
        for other in left:
            other.kill()
    assert not left, left
    return Ended(process.returncode, out, err, time.monotonic() - begin)


def _session(process: psutil.Process) -> int:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return -1
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return -1
    return int(fields[3])


def refused(ended: Ended, side: str, *parts: str) -> None:
    """One line: side, cause and what to do; the side's exit code; no traceback."""
    assert "Traceback" not in ended.err + ended.out
    assert LINE.fullmatch(ended.err), ended.err
    assert ended.err.startswith(f"keyferry: {side}: "), ended.err
    for part in parts:
        assert part in ended.err, (part, ended.err)
    assert ended.code == CODES[side], ended


def untouched(server: Server, keys: int = 0, **kw: object) -> None:
    """The server holds what it held; nothing of ours."""
    with server.client(**kw) as client:
        assert client.dbsize() == keys
        assert client.keys("keyferry:*") == []


def no_secret(secret: str, ended: Ended, state: Path) -> None:
    """Neither output nor any file of the state directory shows it."""
    assert secret not in ended.out + ended.err
    for path in state.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
