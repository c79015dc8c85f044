"""The endpoint of metrics beside a real sync: what it says, what it outlives, and that it is the same for all hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_tasks import Client
from tests.dataset import fill
from tests.run_up import Up
from tests.scenarios.service_observed.test_logs_and_traces import for_a_user
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.unit.observe.conftest import Scraped
from tests.waiting import until


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state", "--metrics-port", "0", "--stream", "2") as made:
        yield made


def endpoint(service: Up) -> str:
    found = re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", service.wait_ready())
    assert found is not None
    return found[1]


def scrape(url: str) -> Scraped:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return Scraped(answer.read().decode())


def shown(service: Up, name: str) -> Any:
    """What `keyferry task show --json` says."""
    command = [sys.executable, "-m", "sync_tasks.cli.main", "task", "show", "--json", "--state", str(service.state)]
    done = subprocess.run([*command, name], capture_output=True, text=True, timeout=60, check=True)
    (found,) = json.loads(done.stdout)
    return found


def test_it_says_what_task_show_says_and_outlives_deaths(service: Up, server: StartServer) -> None:
    secret = "s3cret-of-the-source"
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    url = endpoint(service)
    with Client(service.state) as client:
        task = client.create(for_a_user(source, secret), target.url(), name="orders-move")
        client.start(task)
        with Traffic(source, clients=1, rate=200):
            until(lambda: client.progress(task).in_sync, "in sync")
            until(lambda: (scrape(url).of("keyferry_stream_beats_total") or 0) > 1, "beats")
        until(lambda: client.progress(task).in_sync, "in sync, at rest")

        of = {"task": "orders-move", "task_id": str(shown(service, "orders-move")["id"]), "node": "0"}

        def agree() -> bool:
            """Nothing has been reported between two looks, and a scrape between them says the same."""
            (before,) = client.progress(task).as_dict()["nodes"]
            now = scrape(url)
            (node,) = client.progress(task).as_dict()["nodes"]
            if node != before:
                return False
            pairs = {
                "keyferry_source_offset_bytes": node["source_offset"],
                "keyferry_received_offset_bytes": node["received_offset"],
                "keyferry_applied_offset_bytes": node["applied_offset"],
                "keyferry_unapplied_bytes": node["on_disk_bytes"],
                "keyferry_delay_seconds": node["delay_ms"] and node["delay_ms"] / 1000,
                "keyferry_held_expiries": node["held"],
                "keyferry_snapshot_keys": node["keys_total"],
                "keyferry_snapshot_loaded_keys": node["keys_done"],
                "keyferry_snapshot_bytes": node["bytes_total"],
                "keyferry_snapshot_loaded_bytes": node["bytes_done"],
                "keyferry_lease_changes_total": node["epoch"] % (1 << 20),
                "keyferry_in_sync": node["in_sync"],
            }
            assert {name: now.of(name, **of) for name in pairs} == pairs
            return True

        until(agree, "two looks that see the same", timeout=60)
        assert shown(service, "orders-move")["progress"]["nodes"][0]["keys_done"] == scrape(url).of(
            "keyferry_snapshot_loaded_keys", **of
        )
        now = scrape(url)
        assert now.of("keyferry_task_state", task="orders-move", state="synchronizing") == 1
        assert (now.of("keyferry_snapshot_loaded_keys") or 0) >= 1000
        assert now.of("keyferry_leader_owned") == 1
        assert (now.of("keyferry_windows_total") or 0) > 1
        assert (now.of("keyferry_spool_task_bytes") or 0) > 0
        assert secret not in now.text

        target.pause()
        until(lambda: scrape(url).of("keyferry_retry_windows_open") == 1, "the window", timeout=60)
        assert scrape(url).of("keyferry_task_state", state="retrying") == 1
        target.resume()
        until(lambda: scrape(url).of("keyferry_retry_windows_open") == 0, "healed", timeout=60)

        changes = scrape(url).of("keyferry_lease_changes_total")
        assert changes is not None
        service.kill("stream worker")
        until(lambda: (scrape(url).of("keyferry_lease_changes_total") or 0) > changes, "another owner")

        service.one("metrics").kill()
        until(lambda: _answers(url), "it is replaced at the same address")
        assert client.suspend(task, receive=False).state == "suspended"
        rests = scrape(url)
        assert (rests.of("keyferry_stream_wanted"), rests.of("keyferry_stream_owned")) == (0, 0)
        assert rests.of("keyferry_delay_seconds") is None
    assert service.stop() == 130


def _answers(url: str) -> bool:
    try:
        return scrape(url).of("keyferry_database_up") == 1
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_one_of_its_own_says_the_same_and_nothing_else_is_served(service: Up, tmp_path: Path) -> None:
    url = endpoint(service)
    for path in ("/", "/metricsx", "/../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url.removesuffix("/metrics") + path, timeout=10)
        assert refused.value.code == 404
    command = [sys.executable, "-m", "sync_tasks.cli.main", "metrics", "--port", "0", "--state", str(service.state)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as own:
        try:
            assert own.stderr is not None
            line = own.stderr.readline()
            assert line.startswith("keyferry: http://127.0.0.1:"), line
            there = scrape(line.split()[1])
            assert {family.name for family in there.families} == {family.name for family in scrape(url).families}
        finally:
            own.terminate()
    assert service.stop() == 130
