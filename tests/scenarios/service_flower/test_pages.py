"""Flower's pages as a person sees them, rendered by a real browser during a sync."""

from __future__ import annotations

import re
from pathlib import Path

from sync_tasks import Client
from tests import browser
from tests.dataset import fill
from tests.run_up import Up
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until


def test_workers_jobs_and_progress_stand_on_the_pages(server: StartServer, tmp_path: Path) -> None:
    browser.needs_browser()
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    with Up(tmp_path / "state", "--flower", "--stream", "2") as service, Client(tmp_path / "state") as client:
        service.wait_ready()
        task = client.create(source.url(), target.url(), name="orders-move")
        client.start(task)
        with Traffic(source, clients=1, rate=200):
            until(lambda: client.progress(task).in_sync, "in sync")
            pages = service.flower_url_with_password()
            workers = until(lambda: shows(f"{pages}/workers", "Online workers 2"), "both workers on the page")
            assert "load@" in workers
            assert "stream@" in workers, workers

            follows = until(lambda: shows(f"{pages}/tasks?name=stream.follow", "in sync"), "the stream's progress")
            assert "stream.follow ('orders-move', 'node 0') STARTED" in follows
            loads = browser.text(f"{pages}/tasks?name=load.chunk")
            what = r"\('orders-move', 'node 0', 'db \d+', 'shard \d+', 'chunk \d+( of \d+)?'\)"
            assert re.search(rf"load\.chunk {what} SUCCESS '\d+ keys'", loads), loads
            browser.picture(f"{pages}/tasks", tmp_path / "tasks.png")
        assert service.stop() == 130


def shows(url: str, words: str) -> str | None:
    """The page's text, once these words are in it."""
    text = browser.text(url)
    return text if words in text else None
