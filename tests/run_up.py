"""The real `keyferry up` as a test sees it: its one line, its processes, its end.

    with Up(state, "--flower") as service:
        service.wait_ready()
        service.kill("load worker")
"""

from __future__ import annotations

import base64
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.keyfile import FLOWER_FILE, service_key
from sync_tasks.secrets import SecretBox
from sync_tasks.settings import Settings
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from tests.run_keyferry import Keyferry, _title


class Up(Keyferry):
    """One run of `keyferry up`.

    Args:
        state: the state directory.
        options: of the command line.
        module: what runs instead of the command itself.
        env: more environment.
    """

    def __init__(
        self, state: Path, *options: str, module: str = "sync_tasks.cli.main", env: dict[str, str] | None = None
    ) -> None:
        super().__init__("", "", state, env={"KEYFERRY_FLOWER_PORT": "0", **(env or {})})
        self.flower_at, self.flower_user = "", "keyferry"
        self.command = [sys.executable, "-m", module, "up", "--state", str(state), *options]

    def wait_ready(self, timeout: float = 40.0) -> str:
        """The line that says that all is there."""
        deadline = time.monotonic() + timeout
        while "keyferry: up: " not in self.errors:
            assert self.alive, self.errors
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.05)
        self.processes()
        return next(line for line in self.errors.splitlines() if line.startswith("keyferry: up: "))

    def find(self, role: str, *, child: bool = False) -> list[psutil.Process]:
        if role in ("flower", "metrics"):
            return [process for process in self.processes() if _title(process) == f"keyferry: {role}"]
        return super().find(role, child=child)

    def settings(self) -> Settings:
        """Of its state directory."""
        return Settings(state_dir=self.state)

    def store(self) -> Store:
        """Its database, opened with its key. Dispose of it."""
        settings = self.settings()
        return Store(settings.database(), SecretBox(service_key(settings)))

    def add_task(self, source: str, target: str) -> int:
        """A task that has been started; its id."""
        store = self.store()
        try:
            made = store.create_task(
                TaskSpec(), Endpoint.parse(source, Side.SOURCE), Endpoint.parse(target, Side.TARGET)
            )
            store.transition(made.id, TaskState.PRECHECKING, "test")
            store.transition(made.id, TaskState.PRECHECK_PASSED, "test")
            store.start(made.id)
            return made.id
        finally:
            store.dispose()

    # -- Flower

    def flower_url(self) -> str:
        """Where it says that Flower is, or where else Flower was started."""
        return self.flower_at or next(word.rstrip(",;") for word in self.wait_ready().split() if word.startswith("http://"))

    def flower_url_with_password(self) -> str:
        """The same for a browser, which cannot be asked."""
        password = (self.state / FLOWER_FILE).read_text().strip()
        return self.flower_url().replace("//", f"//keyferry:{password}@", 1)

    def flower(self, path: str, password: str | None = None) -> Any:
        """An answer of Flower's API."""
        return json.loads(self.flower_page(path, password))

    def flower_page(self, path: str, password: str | None = None) -> str:
        """A page of Flower's."""
        password = password or (self.state / FLOWER_FILE).read_text().strip()
        token = base64.b64encode(f"{self.flower_user}:{password}".encode()).decode()
        request = urllib.request.Request(self.flower_url() + path, headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    def flower_post(self, path: str) -> None:
        """Ask Flower to do something."""
        token = base64.b64encode(f"keyferry:{(self.state / FLOWER_FILE).read_text().strip()}".encode()).decode()
        headers = {"Authorization": f"Basic {token}"}
        request = urllib.request.Request(self.flower_url() + path, data=b"", headers=headers, method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def flower_status(self, path: str, **headers: str) -> int:
        """The status with which Flower answers a stranger."""
        request = urllib.request.Request(self.flower_url() + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code
