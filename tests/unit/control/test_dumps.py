"""Sources that are files: what is understood, what is shown of it, and what goes with them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sync_tasks import dumps, reading
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Malformed, Side, SourceError, UsageError
from sync_tasks.spec import TaskSpec

RDB = b"REDIS0011\xff\0\0\0\0\0\0\0\0"


def parse(text: str) -> Endpoint:
    return Endpoint.parse(text, Side.SOURCE, files=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a dump.rdb"
    path.write_bytes(RDB)
    return path


def test_a_path_and_its_url_mean_the_same(file: Path) -> None:
    found = parse(str(file))
    assert (found.scheme, found.path, found.is_dump) == ("file", str(file), True)
    assert parse(found.url()) == found == Endpoint.stored(found.url(), Side.SOURCE)
    assert parse("file://" + str(file).replace(" ", "%20")) == found
    assert found.is_same_place(parse(found.safe()))
    assert found.identity() != parse_server("redis://h").identity()


def parse_server(text: str) -> Endpoint:
    return Endpoint.parse(text, Side.SOURCE)


def test_objects_hide_their_secrets() -> None:
    found = parse("https://bucket.example/path/dump.rdb?X-Amz-Signature=abc")
    assert found.url() == "https://bucket.example/path/dump.rdb?X-Amz-Signature=abc"
    assert found.safe() == str(found) == "https://bucket.example/path/dump.rdb?***"
    assert found.bare() == found.safe()
    assert "abc" not in repr(found)
    assert Endpoint.stored(found.url(), Side.SOURCE) == found
    assert parse("http://host:8080/dump.rdb").url() == "http://host:8080/dump.rdb"
    by_name = parse("sftp://user:pass@host/dir/dump.rdb")
    assert (by_name.username, by_name.password) == ("user", "pass")
    assert by_name.url() == "sftp://user:pass@host/dir/dump.rdb"
    assert by_name.safe() == "sftp://user:***@host/dir/dump.rdb"
    assert parse("s3://bucket/dump.rdb").address() == "s3://bucket/dump.rdb"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("missing.rdb", "no such file"),
        ("file://relative/dump.rdb", "not absolute"),
        ("s3://bucket", "names no object"),
        ("s4://bucket/dump.rdb", "unknown scheme"),
        ("localhost:6379", "no scheme"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(text)


def test_only_who_can_read_a_file_takes_one(file: Path) -> None:
    with pytest.raises(UsageError, match="unknown scheme"):
        parse_server(f"file://{file}")
    with pytest.raises(UsageError, match="is a file, and no server"):
        parse(str(file)).open_socket()
    with pytest.raises(UsageError):
        Endpoint.parse(str(file), Side.TARGET, files=True)


def test_what_it_is(file: Path) -> None:
    assert dumps.look(parse(str(file))) == f"an RDB file of Redis, version 11, {len(RDB)} bytes"
    file.write_bytes(b"VALKEY080" + RDB[9:])
    assert dumps.look(parse(str(file))) == f"an RDB file of Valkey, version 80, {len(RDB)} bytes"
    for other in (b"", b"REDIS", b"PK\3\4hello world", b"REDISabcd"):
        file.write_bytes(other)
        with pytest.raises(Malformed, match="at byte 0"):
            dumps.look(parse(str(file)))


def test_another_file_has_another_id(file: Path) -> None:
    with dumps.opened(parse(str(file))) as one, dumps.opened(parse(str(file))) as same:
        assert one.id == same.id
        assert len(one.id) == 40
    file.write_bytes(RDB + RDB)
    with dumps.opened(parse(str(file))) as other:
        assert other.id != one.id


def test_a_file_that_goes_is_waited_for(file: Path) -> None:
    endpoint = parse(str(file))
    file.unlink()
    with pytest.raises(SourceError) as caught, dumps.opened(endpoint):
        pass
    assert (caught.value.code, caught.value.retry.value) == ("file-missing", "other")


def test_without_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, and what installs it."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SourceError, match="s3:// cannot be opened here") as caught, dumps.opened(parse("s3://b/d.rdb")):
        pass
    assert "keyferry[objects]" in caught.value.hint
    assert "s3fs" in caught.value.hint


def test_by_fsspec(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        protocol = "oss"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("oss://").lstrip("/")

    fsspec.register_implementation("oss", Bucket, clobber=True)
    Bucket().pipe_file("/bucket/dump.rdb", RDB)
    endpoint = parse("oss://bucket/dump.rdb")
    with dumps.opened(endpoint) as dump:
        assert (b"".join(dump.blocks()), dump.size) == (RDB, len(RDB))
    with pytest.raises(SourceError, match="not there"), dumps.opened(parse("oss://bucket/other.rdb")):
        pass


CHOICES = [
    ("psync", ("full",), True, "is a file, and reader"),
    ("rdb", ("full", "incremental"), True, "nothing follows an RDB file"),
    ("rdb", ("full",), False, "reads a file, and the source"),
    ("scan", ("full",), True, "is a file, and reader"),
    ("scan", ("incremental",), False, "cannot follow what it has not copied"),
]


@pytest.mark.parametrize(("reader", "types", "is_file", "said"), CHOICES)
def test_what_does_not_go_together(file: Path, reader: str, types: tuple[str, ...], is_file: bool, said: str) -> None:
    source = parse(str(file)) if is_file else parse_server("redis://h")
    with pytest.raises(KeyferryError, match=said):
        reading.check(TaskSpec(reader=reader, sync_types=types), source)


def test_the_pace_of_questions_is_for_scan_alone() -> None:
    paced = TaskSpec(throttle={"full": {"source_qps": 5}})
    with pytest.raises(UsageError, match="source_qps is for the reader"):
        reading.check(paced, parse_server("redis://h"))
    reading.check(TaskSpec(reader="scan", sync_types=("full",), throttle=paced.throttle), parse_server("redis://h"))
    reading.check(TaskSpec(reader="scan", throttle=paced.throttle), parse_server("redis+cluster://h:1"))


def test_who_follows_by_notifications_sees_no_commands() -> None:
    for given in (TaskSpec(reader="scan"), TaskSpec(reader="scan", filter={"block_prefixes": ["tmp:"]})):
        reading.check(given, parse_server("redis://h"))
        assert given.listens
    for changes in ({"transform": {"lua": "function transform(db, argv) return argv end"}},
                    {"filter": {"block_commands": ["INCR"]}}):  # fmt: skip
        with pytest.raises(UsageError, match="sees no commands"):
            reading.check(TaskSpec(reader="scan", **changes), parse_server("redis://h"))
    assert not TaskSpec(reader="scan", sync_types=("full",)).listens


def test_who_follows_by_the_stream_sees_commands() -> None:
    for given in (TaskSpec(reader="scan", scan_changes="psync"),
                  TaskSpec(reader="scan", scan_changes="psync", filter={"block_commands": ["INCR"]})):  # fmt: skip
        reading.check(given, parse_server("redis://h"))
        assert given.continues
        assert not given.listens
    lua = {"lua": "function transform(db, argv) return argv end"}
    with pytest.raises(UsageError, match="no transform"):
        reading.check(TaskSpec(reader="scan", scan_changes="psync", transform=lua), parse_server("redis://h"))
    with pytest.raises(UsageError, match="a source that is one server"):
        reading.check(TaskSpec(reader="scan", scan_changes="psync"), parse_server("redis+cluster://h:1"))
    assert not TaskSpec(reader="scan", scan_changes="psync", sync_types=("full",)).continues
    with pytest.raises(UsageError, match='for the reader "scan"'):  # who wants no snapshot is to get none
        reading.check(TaskSpec(scan_changes="psync"), parse_server("redis://h"))


def test_what_goes_together(file: Path) -> None:
    for source in (parse(str(file)), parse_server("redis://h")):
        reading.check(reading.usual(source), source)
    assert reading.usual(parse(str(file))).sync_types == ("full",)
    with pytest.raises(KeyferryError, match="prefer_replica"):
        reading.check(reading.usual(parse(str(file))).model_copy(update={"prefer_replica": True}), parse(str(file)))
