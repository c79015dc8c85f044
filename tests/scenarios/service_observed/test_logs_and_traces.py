"""Logs as JSON and traces of a real service: what each job was at, who asked for it, and no secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sync_tasks import Client
from tests.dataset import fill
from tests.run_up import Up
from tests.servers import Server, StartServer
from tests.waiting import until

SECRETS = ("s3cret-of-the-source", "s3cret-of-the-target")


class Collector:
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.raw = b""
        self.spans: list[Any] = []

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def named(self, name: str, **values: str) -> list[Any]:
        return [span for span in self.spans if span.name == name and values.items() <= attributes(span).items()]


def attributes(span: Any) -> dict[str, str]:
    return {one.key.removeprefix("keyferry."): one.value.string_value for one in span.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            found.take(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def for_a_user(server: Server, secret: str) -> str:
    """Its URL for a user with this password."""
    server.client().execute_command("ACL", "SETUSER", "mover", "on", f">{secret}", "~*", "&*", "+@all")
    return f"redis://mover:{secret}@127.0.0.1:{server.port}"


def test_each_line_says_what_it_is_about_and_a_trace_goes_from_who_asks_to_who_does(
    server: StartServer, tmp_path: Path
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    urls = [for_a_user(one, secret) for one, secret in zip((source, target), SECRETS, strict=True)]
    fill(source.client(), 200)
    with collecting() as collector:
        env = {"KEYFERRY_TRACES_ENDPOINT": collector.url}
        with Up(tmp_path / "state", "--log-format", "json", "--stream", "2", env=env) as service:
            service.wait_ready()
            command = [sys.executable, "-m", "sync_tasks.cli.main", "task", "create", "--state", str(service.state)]
            asked = subprocess.run(
                [*command, "--start", "--name", "orders-move", *urls],
                env={**os.environ, **env}, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert asked.returncode == 0, asked.stderr
            with Client(service.state) as client:
                task = client.get("orders-move")
                until(lambda: client.progress(task).in_sync, "in sync")
                target.stop()
                until(lambda: client.get(task).state == "retrying", "the target's absence", timeout=60)
                client.suspend(task, receive=False)
                client.release(task, wait_s=0)
            until(lambda: collector.named("load.chunk"), "spans of the load", timeout=30)
            until(lambda: collector.named("ops.run", operation="precheck"), "a span of the operation", timeout=30)
            until(lambda: collector.named("stream.follow"), "a span of the stream that was ended", timeout=30)
            until(lambda: about(service.state, "orders-move"), "a line about the target's absence", timeout=30)
            assert service.stop() == 130
        lines, said = objects(service.state), about(service.state, "orders-move")

    (start,) = collector.named("client.start")
    (precheck,) = collector.named("ops.run", operation="precheck")
    assert precheck.trace_id == start.trace_id
    assert precheck.parent_span_id == start.span_id
    assert attributes(precheck)["task"] == "orders-move"
    assert all(span.parent_span_id for span in collector.named("stream.follow")), "the scheduler sent it"

    assert {"level": "warning", "task_id": task.id, "operation": "release"}.items() <= said[0].items()
    assert "target: " in said[0]["event"]
    everything = "\n".join(map(json.dumps, lines)) + collector.raw.decode(errors="replace")
    assert not any(secret in everything for secret in SECRETS)


def objects(state: Path) -> list[dict[str, Any]]:
    """Every line of every log; the broker's is its own."""
    logs = [path for path in (state / "logs").glob("*.log") if path.name != "broker.log"]
    return [json.loads(line) for path in logs for line in path.read_text().splitlines()]


def about(state: Path, task: str) -> list[dict[str, Any]]:
    """Those that name a task."""
    return [line for line in objects(state) if line.get("task") == task]
