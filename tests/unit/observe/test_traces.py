"""Spans of what the control plane does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from sync_tasks import Client, app, messages, names
from sync_tasks.broker_url import BrokerKind
from sync_tasks.errors import ControlError, SourceError, UsageError
from sync_tasks.observe import traces
from sync_tasks.settings import Settings
from sync_tasks.states import OpKind
from workers import tasks

SOURCE = "redis://mover:s3cret@source.example:7000"
TARGET = "redis://:hush@target.example:7001"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    traces.use(provider)
    yield found
    traces.use(None)


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(tmp_path) as made:
        yield made


def test_off_by_default_nothing_is_imported_nor_carried() -> None:
    code = (
        "import sys; from sync_tasks.observe import traces; from sync_tasks.settings import Settings;"
        "traces.configure(Settings())\n"
        "with traces.span('x', a=1): assert traces.carry() == {}\n"
        "traces.failed(ValueError()); sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


def test_without_opentelemetry_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    traces.check(Settings())
    with pytest.raises(ControlError) as caught:
        traces.check(Settings(traces_endpoint="http://127.0.0.1:1/v1/traces"))
    assert caught.value.hint == "pip install 'keyferry[traces]'"


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="http"):
        Settings(traces_endpoint="127.0.0.1:4318")


def test_who_asks_and_who_carries_it_out_are_one_trace(
    client: Client, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = client.create(SOURCE, TARGET, name="orders-move")
    client.precheck(task, wait_s=0)
    asked = spans(exporter)["client.precheck"]
    (op,) = [op for op in client._store.ops(task.id) if op.kind is OpKind.PRECHECK]

    def wrong(*_: object) -> None:
        raise SourceError("no server at redis://mover:s3cret@source.example", code="not-redis")

    monkeypatch.setattr(tasks, "carry_out", wrong)
    monkeypatch.setattr(tasks, "_store", lambda _app: client._store)
    door = SimpleNamespace(
        app=SimpleNamespace(keyferry_settings=Settings(state_dir=tmp_path)), name=names.OPS,
        request=SimpleNamespace(headers=None),
    )  # fmt: skip
    tasks.operate.run.__func__(door, op.id)
    done = spans(exporter)[names.OPS]
    assert done.context is not None
    assert asked.context is not None
    assert done.context.trace_id == asked.context.trace_id
    assert done.parent is not None
    assert done.parent.span_id == asked.context.span_id
    given = dict(done.attributes or {})
    assert given.pop("keyferry.task_id") == task.id
    assert given == {"keyferry.task": "orders-move", "keyferry.operation": "precheck", "keyferry.error": "not-redis"}
    assert done.status.status_code is StatusCode.ERROR
    everything = "".join(span.to_json() for span in exporter.get_finished_spans())
    for secret in ("s3cret", "mover", "hush"):
        assert secret not in everything


def test_looking_makes_no_span(client: Client, exporter: InMemorySpanExporter) -> None:
    task = client.create(SOURCE, TARGET)
    exporter.clear()
    client.list()
    client.progress(task)
    assert not exporter.get_finished_spans()


def test_a_message_carries_the_trace_of_who_sends_it(exporter: InMemorySpanExporter) -> None:
    sent: list[dict[str, Any]] = []
    broker = SimpleNamespace(
        keyferry_broker=BrokerKind.REDIS, send_task=lambda _name, **options: sent.append(options)
    )
    app.send(broker, messages.follow(7, "orders-move", 0, None))  # type: ignore[arg-type]
    with traces.span("scheduler.send", messages=1):
        app.send(broker, messages.follow(7, "orders-move", 0, None))  # type: ignore[arg-type]
    assert sent[0]["headers"] is None
    with traces.span(names.FOLLOW, sent[1]["headers"]):
        pass
    found = spans(exporter)
    parent = found[names.FOLLOW].parent
    assert parent is not None
    assert parent.span_id == found["scheduler.send"].context.span_id


def test_an_error_that_nobody_thought_of_is_told_by_its_name_alone(exporter: InMemorySpanExporter) -> None:
    def broken() -> None:
        with traces.span("x"):
            raise ValueError("redis://:hush@h")

    with pytest.raises(ValueError, match="hush"):
        broken()
    span = spans(exporter)["x"]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    assert not span.events
