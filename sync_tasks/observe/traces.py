"""Spans of what the control plane does: verbs of clients, what the scheduler sends, jobs of workers.

Off unless a collector is named; then nothing is imported, and a span is a block like any other. A client's verb, the
operation that it asks for, and the worker that carries it out are one trace: how it goes on stands in the operation's
row, since a message may be lost. Spans hold names and ids, no address and no secret.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sync_tasks.errors import ControlError, KeyferryError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

    from sync_tasks.settings import Settings

PREFIX = "keyferry."
"""Of the names of attributes."""
CARRIED = ("traceparent", "tracestate")
"""Fields of W3C Trace Context, by which a trace goes on elsewhere."""
PARTS = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
SEND_WITHIN_S = 2
"""A command that ends waits no longer for a collector that is away."""

_tracer: Tracer | None = None
_made_by = 0


def check(settings: Settings) -> None:
    """Raise ControlError (`no-traces`) if traces are wanted, and OpenTelemetry is not installed."""
    if settings.traces_endpoint is not None and not all(map(_is_there, PARTS)):
        raise ControlError("OpenTelemetry is not installed", code="no-traces", hint="pip install 'keyferry[traces]'")


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor what it is a part of
        return False


def configure(settings: Settings) -> None:
    """Send this process's spans to where the settings say. Call it behind the fork: a thread sends them. Raises as
    `check` does."""
    if settings.traces_endpoint is None or _made_by == os.getpid():
        return
    check(settings)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    who = {"service.name": "keyferry", "service.instance.id": f"{settings.hostname}:{os.getpid()}"}
    provider = TracerProvider(resource=Resource.create(who))
    exporter = OTLPSpanExporter(endpoint=settings.traces_endpoint, timeout=SEND_WITHIN_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider)


def use(provider: TracerProvider | None) -> None:
    """Have this one make the spans; None: none are made any more."""
    global _tracer, _made_by
    _tracer = provider.get_tracer("keyferry") if provider is not None else None
    _made_by = os.getpid() if provider is not None else 0


@contextmanager
def span(name: str, carried: Mapping[str, Any] | None = None, **values: Any) -> Iterator[None]:
    """Within the block something is done.

    Args:
        name: of few values: what belongs to one case is an attribute.
        carried: what `carry` gave where it was asked for; None: it begins here, or in the span around it.
        values: attributes; None is left out.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry import propagate

    context = propagate.extract(carried) if carried and carried.get(CARRIED[0]) else None
    given = {PREFIX + key: value for key, value in values.items() if value is not None}
    with _tracer.start_as_current_span(
        name, context=context, attributes=given, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield
        except Exception as error:
            failed(error)
            raise


def failed(error: Exception) -> None:
    """What the present span is about did not come off."""
    if _tracer is None:
        return
    from opentelemetry.trace import StatusCode, get_current_span

    from sync_tasks.observe.redacting import Redactor

    # Of an error that nobody thought of the text may hold anything.
    what = Redactor().text(error.line()) if isinstance(error, KeyferryError) else type(error).__name__
    current = get_current_span()
    current.set_status(StatusCode.ERROR, what)
    if isinstance(error, KeyferryError):
        current.set_attribute(f"{PREFIX}error", error.code)


def carry() -> dict[str, str]:
    """By what the present span's trace goes on elsewhere; empty if there is none."""
    if _tracer is None:
        return {}
    from opentelemetry import propagate

    found: dict[str, str] = {}
    propagate.inject(found)
    return {name: value for name, value in found.items() if name in CARRIED}
