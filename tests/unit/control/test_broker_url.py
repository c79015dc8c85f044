"""URLs of brokers: what each says, and what is refused, without a word of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_tasks.broker_url import BrokerKind, read
from sync_tasks.errors import UsageError
from sync_tasks.observe.redacting import Redactor
from sync_tasks.settings import Settings

SECRET = "hush%2Fhush"


@pytest.mark.parametrize(
    ("url", "kind", "nodes", "rest"),
    [
        ("redis://h", BrokerKind.REDIS, [("h", 6379)], {"db": 0, "tls": False, "username": None, "password": None}),
        ("redis://:p%40@h:1/2", BrokerKind.REDIS, [("h", 1)], {"db": 2, "username": None, "password": "p@"}),
        ("rediss://u:p@[::1]:1", BrokerKind.REDIS, [("::1", 1)], {"tls": True, "username": "u", "password": "p"}),
        ("redis+sentinel://h,i:1/m", BrokerKind.SENTINEL, [("h", 26379), ("i", 1)], {"master": "m", "db": 0}),
        ("rediss+sentinel://h/m?db=3", BrokerKind.SENTINEL, [("h", 26379)], {"master": "m", "db": 3, "tls": True}),
        (
            "sentinel://u:p@h:1;sentinel://i:2/4?master_name=m", BrokerKind.SENTINEL, [("h", 1), ("i", 2)],
            {"master": "m", "db": 4, "username": "u", "password": "p"},
        ),
        ("amqp://h", BrokerKind.RABBITMQ, [("h", 5672)], {"vhost": "/", "username": None}),
        ("amqps://u:p@h,i:1/v%2Fw", BrokerKind.RABBITMQ, [("h", 5671), ("i", 1)], {"vhost": "v/w", "tls": True}),
        ("redis+socket:///a/b c@d", BrokerKind.SOCKET, [], {"path": "/a/b c@d", "db": 0}),
        ("redis+socket://u:p@/a?virtual_host=3", BrokerKind.SOCKET, [], {"path": "/a", "db": 3, "password": "p"}),
    ],
)  # fmt: skip
def test_what_it_says(url: str, kind: BrokerKind, nodes: list[tuple[str, int]], rest: dict[str, object]) -> None:
    found = read(url)
    assert (found.kind, list(found.nodes)) == (kind, nodes)
    assert {name: getattr(found, name) for name in rest} == rest


@pytest.mark.parametrize("names", [("ca", "cert", "key"), ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")])
def test_files_are_named_as_in_other_urls_or_as_by_the_libraries(
    names: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ca, cert, key = names
    found = read(f"amqps://h?{ca}=ca.pem&{cert}=/cert.pem&{key}=/key.pem&ssl_cert_reqs=required")
    assert (found.ca, found.cert, found.key) == (str(tmp_path / "ca.pem"), "/cert.pem", "/key.pem")


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        (f"valkey://:{SECRET}@h", "it must begin with redis://", "redis+sentinel://"),
        ("nonsense", "it must begin with redis://", ""),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs=none", "certificates not verified", "?ca=FILE"),
        ("rediss://h?ssl_cert_reqs=CERT_OPTIONAL", "certificates not verified", ""),
        ("amqps://h?ssl_check_hostname=false", "certificates not verified", ""),
        ("redis://h?ca=/f", "ca is for TLS alone", "rediss://"),
        ("rediss://h?key=/f", "key without cert", ""),
        ("rediss://h?cb=/f", "unknown setting", "did you mean ca?"),
        ("redis://h?socket_timeout=1", "unknown setting", "nothing stands there without TLS"),
        ("rediss://h?ca=", "ca is empty", ""),
        (f"redis://u:{SECRET}@h:x", "the port is not a number", ""),
        ("redis://h:70000", "the port is not a number", ""),
        ("redis://:1", "it has no host", ""),
        ("redis://h/x", "the database is not a number", ""),
        ("redis://h,i", "it names several servers", ""),
        ("redis://u@h", "a user without a password", ":password@"),
        ("amqp://u@h", "a user or a password alone", ""),
        (f"redis://:{SECRET}#@h", "a bare #", "%23"),
        ("redis+sentinel://h", "it names no master", "/master-name"),
        ("sentinel://h;sentinel://i", "it names no master", ""),
        ("sentinel://h;redis://i/m", "its parts begin differently", ""),
        ("amqp://h/v;amqp://i", "something stands behind an address", ""),
        ("redis+socket://h/a", "the absolute path of a socket", ""),
        ("redis+socket:///a?db=1", "unknown setting", "virtual_host"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(url: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(url)
    assert caught.value.code == "broker-url"
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "hush" not in caught.value.line()


def test_the_setting_is_named_and_the_hint_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFERRY_BROKER_URL", f"rediss://u:{SECRET}@h?ssl_cert_reqs=none")
    with pytest.raises(UsageError) as caught:
        Settings()
    assert caught.value.code == "broker-url"
    assert "broker_url (environment KEYFERRY_BROKER_URL)" in caught.value.message
    assert "?ca=FILE" in caught.value.hint
    assert "hush" not in caught.value.line()


@pytest.mark.parametrize(
    "url",
    ["amqps://u:{}@h,i/v", "redis+sentinel://u:{}@h,i/m", "sentinel://h;sentinel://u:{}@i/0?master_name=m", "redis://:{}@h"],
)
def test_its_password_is_shown_nowhere(url: str) -> None:
    text = url.format(SECRET)
    broker = read(text)
    assert "hush" not in f"{broker!r} {broker.title}"
    hide = Redactor.of(Settings(broker_url=text))
    assert "hush" not in hide.text(f"to {text} with hush/hush or {SECRET}")
