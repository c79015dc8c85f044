"""The control plane's fixtures, and what a scrape of its database says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sync_tasks.observe.collector import Installation
from sync_tasks.observe.spooled import SpoolUse
from sync_tasks.store import Store
from tests.unit.control.conftest import (
    Wall,
    backend,
    outbox,
    postgresql_rows,
    rows,
    sqlite_rows,
    statements,
    store,
    task_id,
    wall,
)

__all__ = ["backend", "outbox", "postgresql_rows", "rows", "sqlite_rows", "statements", "store", "task_id", "wall"]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """Samples as Prometheus would read them: parsed from the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.samples: Samples = {}
        for family in self.families:
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"twice: {key}"
                self.samples[key] = sample.value

    def of(self, name: str, **labels: str) -> float | None:
        """The one sample with these labels, whatever others it has; None: there is none."""
        found = [v for (n, has), v in self.samples.items() if n == name and set(labels.items()) <= has]
        assert len(found) <= 1, f"{len(found)} samples of {name}"
        return found[0] if found else None

    def all(self, name: str) -> list[dict[str, str]]:
        """Labels of all its samples."""
        return [dict(labels) for (found, labels) in self.samples if found == name]


@pytest.fixture
def scrape(store: Store, wall: Wall, tmp_path: Path) -> Callable[[], Scraped]:
    registry = CollectorRegistry()
    registry.register(Installation(store.database, SpoolUse(tmp_path / "spool"), wall))
    return lambda: Scraped(generate_latest(registry).decode())
