"""What deploy/observe holds: of metrics that exist, in PromQL that Prometheus reads, with alerts that go off."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.observe.families import FAMILIES
from tests.pages import DOCS

OBSERVE = Path(__file__).parents[3] / "deploy" / "observe"
ALERTS = OBSERVE / "alerts.yml"
DASHBOARD = OBSERVE / "grafana" / "dashboards" / "keyferry.json"
METRIC = re.compile(r"\bkeyferry_[a-z_]+")
LABELS = {family.name: family.labels for family in FAMILIES}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> list[str]:
    """Every expression of the dashboard, as Grafana would send it."""
    raw = [target["expr"] for panel in panels() for target in panel["targets"]]
    values = {"$account": ".*", "$task": "orders.*", "$__rate_interval": "1m"}
    for name, value in values.items():
        raw = [text.replace(name, value) for text in raw]
    return raw


@pytest.mark.parametrize("path", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_every_metric_that_is_named_exists(path: Path) -> None:
    named = set(METRIC.findall(path.read_text()))
    assert len(named) > 10
    assert named <= set(LABELS), named - set(LABELS)


def test_every_label_that_is_matched_exists() -> None:
    for text in [*queries(), ALERTS.read_text()]:
        for metric, matched in re.findall(r"(keyferry_[a-z_]+)\{([^}]*)\}", text):
            assert set(re.findall(r"(\w+)\s*(?:=|!)", matched)) <= {*LABELS[metric], "instance"}, (metric, matched)


def test_panels_have_ids_units_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels()) > 10
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_every_alert_is_in_the_docs_and_has_a_test() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    documented = re.findall(r"\| `(Keyferry\w+)` \|", (DOCS / "observe.md").read_text())
    assert documented == sorted(documented, key=documented.index)
    assert set(documented) == set(alerts)
    expected = re.findall(r"alertname: (\w+)\n\s+exp_alerts:\s*(?:#.*)?\n", TESTS.read_text())
    assert set(expected) == set(alerts), "each goes off in a test"


TESTS = Path(__file__).parent / "alerts_test.yml"


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing: it comes with Debian's package prometheus")
        pytest.skip("promtool is not installed")
    return found


def check(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_its_configuration_and_the_rules(promtool: str) -> None:
    check(promtool, "check", "config", str(OBSERVE / "prometheus.yml"))


def test_alerts_go_off_when_they_should(promtool: str) -> None:
    check(promtool, "test", "rules", str(TESTS))


def test_prometheus_reads_the_queries_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"of_the_dashboard:{number}", "expr": text} for number, text in enumerate(queries())]
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    check(promtool, "check", "rules", str(path))


def test_the_names_are_what_prometheus_would_have(promtool: str) -> None:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    from sync_tasks.observe.collector import Sheet

    class Everything:
        def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
            sheet = Sheet()
            for family in FAMILIES:
                sheet.put(family, tuple("x" for _ in family.labels), 1)
            return list(sheet.metrics())  # type: ignore[arg-type]

    registry = CollectorRegistry()
    registry.register(Everything())  # type: ignore[arg-type]
    done = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(registry), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
