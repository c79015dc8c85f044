"""The command with stand-ins for the data plane and the scheduler: `python -m tests.unit.cli.family sync ...`.

The parent, broker, workers, store and signals are the real ones. The stream job claims its node, reads
DIR/script.json on each beat and reports what stands there; so a test decides what the command sees.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
import types
from typing import Any

from celery import current_app as any_app
from celery import shared_task
from sqlalchemy import text

from sync_tasks import names
from sync_tasks.errors import Fenced, KeyferryError, Side
from sync_tasks.settings import Settings

BEAT_S = 0.1


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getppid()}:{os.getpid()}:{secrets.token_hex(4)}"


def _script(settings: Settings) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((settings.state_dir / "script.json").read_text())
    except FileNotFoundError:
        found = {}
    return found


@shared_task(name=names.FOLLOW)
def follow(node_id: int) -> None:
    from sync_tasks.store import Store

    settings = any_app.keyferry_settings
    store = Store.of(settings)
    port = store.claim_node(node_id, _owner())
    if port is None:
        return
    store.endpoints(port.task.id)  # raises unless the key came along
    try:
        while (asked := port.renew()).wanted and not asked.turn:
            script = _script(settings)
            if script.get("fail"):
                store.fail(port.task.id, KeyferryError(**{**script["fail"], "side": Side(script["fail"]["side"])}))
            if script.get("hold"):
                with store.database.write() as session:
                    session.execute(text("SELECT 1"))  # only a statement begins it
                    (settings.state_dir / "held").touch()
                    time.sleep(600)
            if script.get("begun") and not port.node().begun:
                gen = port.begin_snapshot("r" * 40, 0, 0, 0, 0)
                port.end_snapshot(gen, 0, 0)
                port.begin_stream()
            if script.get("progress"):
                port.progress(script["progress"])
            time.sleep(BEAT_S)
    except Fenced:
        return
    store.release_node(node_id, port.epoch)


@shared_task(name=names.LOAD)
def load(chunk_id: int) -> None:
    raise NotImplementedError(chunk_id)


def schedule(settings: Settings, *_told: object) -> None:
    from sync_tasks import messages
    from sync_tasks.app import make_app, send
    from sync_tasks.store import Store

    app = make_app(settings)
    store = Store.of(settings)
    while True:
        for task in store.tasks():
            for node in store.nodes(task.id):
                if node.wanted:
                    send(app, messages.follow(node.id, task.name, node.number, None))
        time.sleep(0.3)


def install() -> None:
    """Put the stand-ins where the command looks for the real ones."""
    here = sys.modules[__name__]
    for name, attributes in (("workers.tasks", {}), ("scheduler.main", {"run": here.schedule})):
        module = types.ModuleType(name)
        module.__dict__.update(attributes)
        sys.modules[name] = module
        parent, _, child = name.partition(".")
        setattr(__import__(parent), child, module)


if __name__ == "__main__":
    install()
    # Celery imports its task modules by name: it finds the stand-in, and these tasks are shared ones.
    from sync_tasks.cli.main import run

    run()
