"""Addresses: what is understood, and that no secret is ever shown."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side, UsageError
from tests.unit.control.tls import Authority


def parse(url: str, password: str | None = None) -> Endpoint:
    return Endpoint.parse(url, Side.SOURCE, password)


GOOD = [
    ("redis://h", ("h", 6379, None, None, None)),
    ("redis://h:7000/3", ("h", 7000, None, None, 3)),
    ("redis://h/0", ("h", 6379, None, None, 0)),
    ("redis://user:pass@h", ("h", 6379, "user", "pass", None)),
    ("redis://:pass@h", ("h", 6379, None, "pass", None)),
    ("redis://pass@h", ("h", 6379, None, "pass", None)),
    ("redis://account:p%40%3A%2Fw@h:1", ("h", 1, "account", "p@:/w", None)),
    ("redis://:acct%3Apw@h", ("h", 6379, None, "acct:pw", None)),
    ("redis://u%3A1:x@h", ("h", 6379, "u:1", "x", None)),
    ("redis://u:a:b@h", ("h", 6379, "u", "a:b", None)),
    ("redis://u:a@b@h", ("h", 6379, "u", "a@b", None)),
    ("redis://[::1]:7001/2", ("::1", 7001, None, None, 2)),
    ("redis://:p@[fe80::1]", ("fe80::1", 6379, None, "p", None)),
    ("rediss://h", ("h", 6379, None, None, None)),
]


@pytest.mark.parametrize(("url", "parts"), GOOD, ids=[row[0] for row in GOOD])
def test_urls(url: str, parts: tuple[object, ...]) -> None:
    found = parse(url)
    assert (found.host, found.port, found.username, found.password, found.db) == parts
    assert found.tls == url.startswith("rediss")
    assert parse(found.url()) == found, "the full URL means the same"


def test_a_unix_socket() -> None:
    found = parse("unix://u:p@/run/my%20redis.sock?db=4")
    assert (found.path, found.db, found.username, found.password) == ("/run/my redis.sock", 4, "u", "p")
    assert parse(found.url()) == found
    assert found.connection_kwargs()["unix_socket_path"] == "/run/my redis.sock"
    assert found.address() == "/run/my redis.sock"


MANY = [
    ("redis+cluster://h:1,[::1]:2,k", (("h", 1), ("::1", 2), ("k", 6379)), "", None, False),
    ("rediss+cluster://u:p@h:1,h:1", (("h", 1),), "", None, True),
    ("redis+sentinel://:p%2C%2F@h,k:2/my-master?db=3", (("h", 26379), ("k", 2)), "my-master", 3, False),
    ("rediss+sentinel://h:1/a%20b?sentinel_username=s", (("h", 1),), "a b", None, True),
]


@pytest.mark.parametrize(("url", "nodes", "master", "db", "tls"), MANY, ids=[row[0] for row in MANY])
def test_urls_of_several_servers(url: str, nodes: object, master: str, db: int | None, tls: bool) -> None:
    found = parse(url)
    assert (found.nodes, found.master, found.db, found.tls) == (nodes, master, db, tls)
    assert (found.is_cluster, found.is_sentinel) == (not master, bool(master))
    assert parse(found.url()) == found, "the full URL means the same"
    assert found.password is None or found.password not in found.safe()
    one = found.at("x", 9)
    assert (one.address(), one.nodes, one.password, one.tls) == ("x:9", (), found.password, tls)


BAD = [
    ("localhost:6379", "no scheme"),
    ("http://h", "unknown scheme 'http'"),
    ("redis+sentinel://h:1", "names no master"),
    ("redis+sentinel://h:1/m/1", "names no master"),
    ("redis+cluster://h:1/3", "without a database"),
    ("redis+cluster://h:1,", "no host"),
    ("redis+cluster://h:1,k:0", "port"),
    ("redis+cluster://h?sentinel_username=x", "unknown setting"),
    ("redis+cluster://h?ca=x", "TLS"),
    ("redis://h:0", "port"),
    ("redis://h:65536", "port"),
    ("redis://h:port", "port"),
    ("redis://", "no host"),
    ("redis://:1", "no host"),
    ("redis://h/x", "database"),
    ("redis://h/-1", "database"),
    ("redis://h/1/2", "database"),
    ("redis://[::1", "cannot be read"),
    ("redis://h?ca=x", "TLS"),
    ("redis://h?passwordfile=x", "unknown setting"),
    ("redis://h?db=1", "unknown setting"),
    ("redis://h?password_file=", "empty"),
    ("rediss://h?ca=/no/such/file", "no such file"),
    ("rediss://h?key=/dev/null", "key without cert"),
    ("redis://h?password_file=/no/such/file", "No such file"),
    ("unix://host/path", "absolute path"),
    ("unix:///", "absolute path"),
]


@pytest.mark.parametrize(("url", "says"), BAD, ids=[row[0] for row in BAD])
def test_wrong_urls_say_what_is_wrong(url: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url)
    assert says in caught.value.message
    assert caught.value.message.startswith("source URL: ")
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hush/hush@h:1",
        "redis://user:hush#hush@h:1",
        "redis://user:hush?hush=hush@h:1",
        "redis://user:hush@h:99999",
        "redis://user:hush@h/x",
        "user:hush@h",
        "redis://user:hush@h?hush=1",
        "redis://:hush@[::1",
        "redis+cluster://user:hush@h,h:hush",
        "redis+cluster://user:hush/hush@h:1",
    ],
)
def test_a_password_in_a_wrong_url_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url)
    assert "hush" not in caught.value.line()


def test_showing_hides_the_password() -> None:
    found = parse("rediss://user:hush@h:7000/2?sni=name")
    for text in (repr(found), str(found), found.safe(), f"{found}"):
        assert "hush" not in text
        assert "user" in text
    assert found.safe() == "rediss://user:***@h:7000/2?sni=name"
    assert parse("redis://h").safe() == "redis://h:6379"


def test_a_password_file_is_read_at_each_use(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    found = parse(f"redis://user@h?password_file={file}", "from the environment")
    assert found.username == "user"
    assert found.secret() == "first"
    file.write_text("second\r\nnot this line\n")
    assert found.auth_commands() == [(b"AUTH", b"user", b"second")]
    assert found.connection_kwargs()["password"] == "second"
    assert "second" not in found.url()
    file.unlink()
    with pytest.raises(UsageError, match="password_file"):
        found.secret()


def test_an_empty_password_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    with pytest.raises(UsageError, match="empty"):
        parse(f"redis://h?password_file={tmp_path}/password")


def test_the_environments_password_is_the_last_resort() -> None:
    assert parse("redis://h", "env").auth_commands() == [(b"AUTH", b"env")]
    assert parse("redis://user@h", "env").auth_commands() == [(b"AUTH", b"user", b"env")]
    assert parse("redis://:own@h", "env").auth_commands() == [(b"AUTH", b"own")]
    assert parse("redis://h").auth_commands() == []
    assert parse("redis://h", "e@v").url() == "redis://:e%40v@h:6379"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_raw_socket_sends_at_once_and_notices_dead_peers(listener: socket.socket) -> None:
    with parse(f"redis://127.0.0.1:{listener.getsockname()[1]}").open_socket(2.0) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.gettimeout() == 2.0


def test_a_refused_connection_is_typed(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(ConnectionLost, match="connection refused") as caught:
        parse(f"redis://127.0.0.1:{port}").open_socket(2.0)
    assert caught.value.side is Side.SOURCE


def test_a_unix_socket_that_is_missing_is_typed(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost):
        parse(f"unix://{tmp_path}/none.sock").open_socket(2.0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_port(authority: Authority) -> Iterator[int]:
    """A server for `redis.test` that answers +PONG to anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert, authority.key)

    def serve(server: socket.socket) -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(5)
                try:
                    with context.wrap_socket(peer, server_side=True) as secured:
                        while secured.recv(4096):
                            secured.sendall(b"+PONG\r\n")
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_tls_is_verified_against_the_given_authority_and_name(tls_port: int, authority: Authority) -> None:
    found = parse(f"rediss://127.0.0.1:{tls_port}?ca={authority.ca}&sni=redis.test")
    with found.open_socket(5.0) as sock:
        sock.sendall(b"PING\r\n")
        assert sock.recv(100) == b"+PONG\r\n"
    with found.connect() as client:
        assert client.ping()


@pytest.mark.parametrize("query", ["?sni=redis.test", "?ca={ca}", "?ca={ca}&sni=other.test"])
def test_tls_that_cannot_be_verified_is_refused(tls_port: int, authority: Authority, query: str) -> None:
    found = parse(f"rediss://127.0.0.1:{tls_port}{query.format(ca=authority.ca)}")
    with pytest.raises(ConnectionLost, match=r"^TLS: ") as caught:
        found.open_socket(5.0)
    assert caught.value.code == "tls"
