"""What a second review found broken in the way of the data; each test failed before its find was mended.

See test_load, test_anew, test_job and test_sweep, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue, ConnectionLost, KeyferryError, Retry, Side, UsageError
from sync_tasks.views import NodeView
from tests.servers import Server, start
from tests.unit.protocol.conftest import REPLID, TASK, Port, endpoint, known, never, translator, until
from tests.unit.protocol.faulty import LOADED, NEW
from workers import translate
from workers.apply import Applier
from workers.codec.resp_cy import encode
from workers.receive import Receiver
from workers.scope import Scope
from workers.source.ask import Source
from workers.spool.log import Block, Log
from workers.spool.tables import write_tables

# --- a window that never passes


@pytest.fixture
def closing(source: Server, tmp_path: Path) -> Iterator[Callable[..., Applier]]:
    """Starts an applier on a load; its log is there."""
    made: list[Applier] = []

    def begin(target: Server, node: NodeView, failed: KeyferryError | None = None) -> Applier:
        log = Log(tmp_path / "log")
        log.reset(REPLID, 0)
        asks = Source(endpoint(source, Side.SOURCE))
        port = Port(TASK, node)
        if failed is not None:
            port.failing(failed)
        made.append(Applier(endpoint(target), port, log, asks, tmp_path, Scope(None), 0, known(tmp_path)))
        made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        one.stop_event.set()
        one.loaded.set()
        one.join(10)


def test_a_first_window_that_never_passes_keeps_its_retry_window_open(
    closing: Callable[..., Applier], tmp_path: Path
) -> None:
    """Each claim succeeds, and the window behind it ends the connection: the deadline must come all the same."""
    (tmp_path / "gen-1").mkdir()
    write_tables(tmp_path / "gen-1", 10, [], [b"return '%b'" % (b"x" * 3_000_000)])
    with start("redis-7.0", config={"maxmemory-clients": "1mb"}) as target:
        applier = closing(target, LOADED)
        applier.loaded.set()
        port: Any = applier.port
        assert until(lambda: len(port.failures) > 5)
        assert port.opened == 1


def test_a_claim_during_the_load_closes_the_retry_window_of_the_target(
    target: Server, closing: Callable[..., Applier]
) -> None:
    """Nothing else is written there before the load is in, and past its deadline the window would fail the task."""
    port: Any = closing(target, NEW, ConnectionLost("restarted", side=Side.TARGET)).port
    assert until(lambda: not port.open)


def test_a_load_is_not_closed_over_a_log_that_is_not_there(
    target: Server, closing: Callable[..., Applier]
) -> None:
    applier = closing(target, replace(LOADED, snapshot_offset=0))
    applier.log.reset(REPLID, 500)
    applier.loaded.set()
    assert until(lambda: applier.log.wanted == (REPLID, 0, 0))
    assert applier.chain is None
    applier.log.reset(REPLID, 0)
    applier.log.append(encode([b"SELECT", b"0"]), 1)
    applier.loaded.set()
    (applier.directory / "gen-1").mkdir()
    write_tables(applier.directory / "gen-1", 10, [], [])
    assert until(lambda: applier.progress.streaming), applier.error


# --- a transaction without end


@pytest.mark.parametrize("command", [[b"SETEX", b"k", b"100", b"v"], [b"PEXPIREAT", b"k", b"99999999999999"]])
def test_a_transaction_of_timed_commands_alone_has_a_limit(
    monkeypatch: pytest.MonkeyPatch, command: list[bytes]
) -> None:
    monkeypatch.setattr(translate, "LARGEST_TRANSACTION", 20_000)
    made = translator()
    data = encode([b"SELECT", b"0"]) + encode([b"MULTI"]) + encode(command) * 1000
    with pytest.raises(CannotContinue, match="a transaction of the source"):
        made.feed(Block(0, 1, 0, REPLID, data))


# --- files of addresses


def test_a_file_that_is_being_replaced_is_waited_for(tmp_path: Path) -> None:
    """At the first look it is a mistake; once it was in order, the retry window decides."""
    password = tmp_path / "password"
    url = f"redis://h?password_file={password}"
    with pytest.raises(UsageError) as first:
        Endpoint.parse(url, Side.SOURCE)
    assert (first.value.side, first.value.retry) == (Side.USAGE, Retry.FATAL)
    password.write_text("hush")
    found = Endpoint.parse(url, Side.SOURCE)
    for text in (None, "", "\n"):
        password.unlink() if text is None else password.write_text(text)
        with pytest.raises(UsageError) as later:
            found.auth_commands()
        assert (later.value.side, later.value.retry) == (Side.SOURCE, Retry.OTHER)
        again = Endpoint.stored(found.url(), Side.SOURCE)
        assert again == found
    password.write_text("new")
    assert again.auth_commands() == [(b"AUTH", b"new")]


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_certificate_that_is_being_replaced_is_waited_for(tmp_path: Path, text: str | None) -> None:
    cert = tmp_path / "cert.pem"
    cert.touch()
    for query in (f"ca={cert}", f"cert={cert}"):
        found = Endpoint.parse(f"rediss://h?{query}", Side.TARGET)
        cert.unlink() if text is None else cert.write_text(text)
        with pytest.raises(UsageError, match=r"cert\.pem") as caught:
            found.tls_context()
        assert (caught.value.side, caught.value.retry) == (Side.TARGET, Retry.OTHER)
        cert.touch()


def test_a_receiver_outlives_the_rotation_of_its_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hush")
    with start("redis-7.0", config={"requirepass": "hush"}) as server:
        at = Endpoint.parse(f"{server.url()}?password_file={password}", Side.SOURCE)
        port = Port(TASK, NEW)
        receiver = Receiver(
            at, port, Log(tmp_path / "log"), tmp_path, Source(at),
            lambda: None, lambda _: None, lambda: None, threading.Lock(), never, known(tmp_path),
        )  # fmt: skip
        receiver.start()
        try:
            assert until(lambda: receiver.connected)
            password.write_text("")
            with server.client(password="hush") as client:
                client.client_kill_filter(_type="replica")
            assert until(lambda: any(failure.code == "file-missing" for failure in port.failures))
            assert receiver.error is None
            password.write_text("hush")
            assert until(lambda: receiver.connected)
            assert until(lambda: port.open == set())
        finally:
            receiver.stop_event.set()
            receiver.join(10)
