"""`python -m tests.picture`: docs/flower.png, Flower's page of jobs while three tasks run."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from sync_tasks import Client
from tests import browser
from tests.dataset import fill
from tests.run_up import Up
from tests.servers import Server, start
from tests.traffic import Traffic
from tests.waiting import until

FOLLOWED = ("orders-move", "sessions-eu")
LOADING = "catalogue"
KEYS = 1_500_000  # enough to be met while it loads
FILE = Path(__file__).parents[1] / "docs" / "flower.png"


def main() -> None:
    """Start all of it, wait for the moment, take the picture."""
    browser.needs_browser()
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "state"
        service = stack.enter_context(Up(state, "--flower", "--stream", "3"))
        service.wait_ready()
        client = stack.enter_context(Client(state))

        def begin(name: str, source: Server) -> int:
            target = stack.enter_context(start("valkey-9.1"))
            task = client.create(source.url(), target.url(), name=name)
            client.start(task)
            return task.id

        for name in FOLLOWED:
            source = stack.enter_context(start("valkey-9.1"))
            fill(source.client(), 1000)
            stack.enter_context(Traffic(source, clients=1, rate=200))
            task_id = begin(name, source)
            until(lambda task_id=task_id: client.progress(task_id).in_sync, f"{name} in sync")

        large = stack.enter_context(start("valkey-9.1"))
        large.client().execute_command("DEBUG", "POPULATE", KEYS, "item", 300)
        task_id = begin(LOADING, large)
        until(lambda: (client.progress(task_id).keys_done or 0) > KEYS / 4, "in the middle of the load")
        browser.picture(f"{service.flower_url_with_password()}/tasks", FILE, width=1700, height=1000)
        service.stop()
    print(FILE)


if __name__ == "__main__":
    main()
