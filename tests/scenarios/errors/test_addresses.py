"""Wrong password, port, scheme; something there that is no Redis, or that says nothing."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.errors.command import no_secret, refused, run, untouched
from tests.servers import Server, free_port, start

WRONG = "wr0ng-pass"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def web_server() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_wrong_password(side: str, source: Server, target: Server, state: Path) -> None:
    with start("redis-7.0", config={"requirepass": "the-right-one"}) as guarded:
        wrong = f"redis://:{WRONG}@127.0.0.1:{guarded.port}"
        urls = [wrong, target.url()] if side == "source" else [source.url(), wrong]
        ended = run("sync", *urls, "--state", str(state))
        untouched(guarded, password="the-right-one")
    refused(ended, side, f"127.0.0.1:{guarded.port}", "password")
    no_secret(WRONG, ended, state)
    untouched(source)
    untouched(target)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_missing_password(side: str, source: Server, target: Server, state: Path) -> None:
    with start("redis-7.0", config={"requirepass": "the-right-one"}) as guarded:
        urls = [guarded.url(), target.url()] if side == "source" else [source.url(), guarded.url()]
        ended = run("sync", *urls, "--state", str(state))
    refused(ended, side, f"127.0.0.1:{guarded.port}", "give a user and password")


def test_a_target_user_who_may_only_read(source: Server, state: Path) -> None:
    with start("redis-7.0") as server:
        server.client().execute_command(
            "ACL", "SETUSER", "reader", "on", f">{WRONG}", "+@read", "+info", "+multi", "~*"
        )
        url = f"redis://reader:{WRONG}@127.0.0.1:{server.port}"
        ended = run("sync", source.url(), url, "--state", str(state))
        untouched(server)
    refused(ended, "target", "permissions", "grant the user")
    no_secret(WRONG, ended, state)


def test_a_source_user_who_may_not_follow(target: Server, state: Path) -> None:
    with start("redis-7.0") as server:
        server.client().execute_command("ACL", "SETUSER", "reader", "on", f">{WRONG}", "+@all", "-psync", "~*", "&*")
        url = f"redis://reader:{WRONG}@127.0.0.1:{server.port}"
        ended = run("sync", url, target.url(), "--state", str(state))
    refused(ended, "source", "PSYNC", "+psync")
    untouched(target)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_port_where_nobody_listens(side: str, source: Server, target: Server, state: Path) -> None:
    port = free_port()
    wrong = f"redis://127.0.0.1:{port}"
    urls = [wrong, target.url()] if side == "source" else [source.url(), wrong]
    ended = run("sync", *urls, "--state", str(state))
    refused(ended, side, f"127.0.0.1:{port}", "connection refused")
    untouched(target)


def test_a_host_that_does_not_exist(target: Server, state: Path) -> None:
    ended = run("sync", "redis://no-such-host.invalid:6379", target.url(), "--state", str(state))
    refused(ended, "source", "no-such-host.invalid")
    assert ended.seconds < 20


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("htp://127.0.0.1:6379", "unknown scheme"),
        ("http://127.0.0.1:6379", "names no object"),
        ("redis+cluster://127.0.0.1:6379/3", "named without a database"),
        ("127.0.0.1:6379", "no scheme"),
        (f"redis://:{WRONG}@127.0.0.1:port", "port is not a number"),
        (f"redis://:{WRONG}/@127.0.0.1:6379", "port is not a number"),
        ("redis://127.0.0.1:99999", "port is not a number"),
    ],
)
def test_what_is_no_address(url: str, part: str, target: Server, state: Path) -> None:
    ended = run("sync", url, target.url(), "--state", str(state))
    refused(ended, "usage", part)
    assert not state.exists()
    assert WRONG not in ended.err


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_web_server(side: str, source: Server, target: Server, state: Path) -> None:
    with web_server() as port:
        wrong = f"redis://127.0.0.1:{port}"
        urls = [wrong, target.url()] if side == "source" else [source.url(), wrong]
        ended = run("sync", *urls, "--state", str(state))
    refused(ended, side, f"127.0.0.1:{port}", "Redis")
    assert ended.seconds < 20


def test_a_port_that_says_nothing(source: Server, state: Path) -> None:
    with silent_server() as port:
        ended = run("sync", source.url(), f"redis://127.0.0.1:{port}", "--state", str(state), "--json")
    refused(ended, "target", f"127.0.0.1:{port}", "no answer")
    assert ended.seconds < 20
    assert ended.lines[-1]["phase"] == "precheck-failed"
    assert ended.lines[-1]["error"]["side"] == "target"
    assert len(ended.lines) > 2 * (ended.seconds - 3), "two lines a second, while it waits too"


def test_a_tls_address_of_a_plain_server(source: Server, target: Server, state: Path) -> None:
    ended = run("sync", f"rediss://127.0.0.1:{source.port}", target.url(), "--state", str(state))
    refused(ended, "source", "TLS")
    untouched(target)
