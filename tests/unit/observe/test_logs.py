"""Lines of the log: what they hold, and what they hide."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.observe import bound, logs
from sync_tasks.observe.log_format import LogFormat
from sync_tasks.observe.redacting import Redactor
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.settings import Settings

Written = Callable[[], list[str]]
KEY = "hGk3l-the-key-of-this-installation-0123456789a="


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("keyferry.of_a_test")


@pytest.fixture(params=list(LogFormat))
def kind(request: pytest.FixtureRequest) -> LogFormat:
    found: LogFormat = request.param
    return found


@pytest.fixture
def written(kind: LogFormat, log: logging.Logger) -> Iterator[Written]:
    """The lines of this logger so far."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.formatter(kind, Redactor([KEY])))
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO)
    yield lambda: out.getvalue().splitlines()
    log.removeHandler(handler)
    log.propagate = True


def only_json(written: Written) -> dict[str, Any]:
    (line,) = written()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("kind", [LogFormat.CONSOLE])
def test_for_people_a_line_is_as_it_always_was(log: logging.Logger, written: Written) -> None:
    log.warning("chunk %d could not be sent", 7)
    (line,) = written()
    assert line.endswith(" WARNING keyferry.of_a_test: chunk 7 could not be sent")


@pytest.mark.parametrize("kind", [LogFormat.CONSOLE])
def test_for_people_what_is_bound_stands_behind(log: logging.Logger, written: Written) -> None:
    with bound.job(task="orders move", task_id=3):
        bound.note(node=0, offset=12)
        log.warning("it ended", extra={"lease": "node:5"})
    log.warning("and that is over")
    first, last = written()
    assert first.endswith("it ended task='orders move' task_id=3 node=0 offset=12 lease=node:5")
    assert last.endswith("and that is over")


@pytest.mark.parametrize("kind", [LogFormat.JSON])
def test_for_programs_each_line_is_an_object(log: logging.Logger, written: Written) -> None:
    with bound.job(task="orders-move", task_id=3):
        bound.note(node=0, offset=12)
        thread = threading.Thread(target=log.warning, args=("said %s by a thread\nin two lines", "this"))
        thread.start()
        thread.join()
    found = only_json(written)
    assert found.pop("timestamp").endswith("Z")
    assert found.pop("process") > 1
    assert found == {
        "level": "warning", "logger": "keyferry.of_a_test", "task": "orders-move", "task_id": 3, "node": 0,
        "offset": 12, "event": "said this by a thread\nin two lines",
    }  # fmt: skip


@pytest.mark.parametrize("kind", [LogFormat.JSON])
def test_for_programs_a_traceback_is_a_value(log: logging.Logger, written: Written) -> None:
    try:
        raise RuntimeError("redis://:hush@h:1 is no server")
    except RuntimeError:
        log.exception("it broke")
    found = only_json(written)
    assert found["event"] == "it broke"
    assert found["exception"].endswith("RuntimeError: redis://***@h:1 is no server")


def test_a_secret_is_not_written_whatever_it_comes_as(log: logging.Logger, written: Written) -> None:
    source = Endpoint.parse("redis://mover:s3cret-1@h:1", Side.SOURCE)
    log.warning("%s %r %s", source, source, SecretStr("s3cret-2"))
    log.warning("asked for", extra={"endpoint": source, "key": SecretStr("s3cret-3"), "box": SecretBox(new_key())})
    log.warning("at redis://u:s3cret-4/with@at@h:1 and rediss://h?password=s3cret-5&db=1")
    log.warning("nested", extra={"many": [{"a": SecretStr("s3cret-6")}, ("redis://:s3cret-7@h",)]})
    log.warning("the key is %s, as %r", KEY, {"key": KEY})
    try:
        raise ValueError(f"no such thing: {KEY} at postgresql://k:s3cret-8@db/k")
    except ValueError:
        log.exception("broken")
    text = "\n".join(written())
    assert "s3cret" not in text, text
    assert KEY not in text
    assert "***" in text
    assert "h:1" in text, "what is no secret is still told"


def test_passwords_of_the_settings_are_known(tmp_path: Path) -> None:
    settings = Settings(
        state_dir=tmp_path, secret_key=SecretStr(f"{KEY}\nolder-key"), flower_password=SecretStr("of-flower"),
        database_url="postgresql+psycopg://k:of%2Fdatabase@db/k", broker_url="redis://:of-broker@b:6379",
    )  # fmt: skip
    hide = Redactor.of(settings)
    for secret in (KEY, "older-key", "of-flower", "of%2Fdatabase", "of/database", "of-broker"):
        assert hide(f"see {secret}!") == "see ***!"
    assert "of-broker" not in repr(hide)
    assert hide({"n": 1, "x": None, "t": True, "f": 0.5}) == {"n": 1, "x": None, "t": True, "f": 0.5}


def test_the_password_of_sentinels_is_hidden_whole(tmp_path: Path) -> None:
    """As older versions of redis-py show it when no master is found."""
    (tmp_path / "password").write_text("one&of-the-sentinels\n")
    settings = Settings(broker_url=f"redis+sentinel://a:1/m?sentinel_password_file={tmp_path / 'password'}")
    said = "No master found for 'm' : <Redis(<Connection(username=x,password=one&of-the-sentinels,port=1)>)> - Error"
    assert "of-the-sentinels" not in Redactor.of(settings).text(said)
    (tmp_path / "password").unlink()
    Redactor.of(settings)


def test_lines_for_people_need_no_structlog() -> None:
    """It takes a tenth of a second to import: the foreground command would wait for it."""
    code = (
        "import sys; from sync_tasks.observe import logs; from sync_tasks.settings import Settings;"
        "logs.to_stderr(Settings()); sys.exit('structlog' in sys.modules)"
    )
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
