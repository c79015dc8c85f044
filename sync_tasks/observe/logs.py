"""Lines for the log: for people as they always were, or one JSON object each, by structlog.

Both say what the process works at, and neither a secret. Lines of libraries (Celery, SQLAlchemy) go the same way. What
reads for people needs no structlog: the foreground command would wait for its import.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sync_tasks.observe import bound
from sync_tasks.observe.log_format import LogFormat
from sync_tasks.observe.redacting import Redactor
from sync_tasks.settings import Settings

if TYPE_CHECKING:
    from structlog.typing import EventDict

LINE = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def to_stderr(settings: Settings) -> None:
    """Send every line of this process there, as the settings say."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(settings.log_format, Redactor.of(settings)))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def formatter(kind: LogFormat, redactor: Redactor) -> logging.Formatter:
    """What makes lines of records."""
    return _json(redactor) if kind is LogFormat.JSON else Console(redactor)


def context(record: logging.LogRecord) -> dict[str, Any]:
    """What is bound to the process, and what the line brings by `extra`."""
    return {**bound.now(), **{name: value for name, value in vars(record).items() if name not in _USUAL}}


class Console(logging.Formatter):
    """For people: time, process, level, logger, message, then what the process works at."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(LINE)
        self._redactor = redactor

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, before a traceback."""
        said = " ".join(f"{name}={_word(value)}" for name, value in _shown(context(record)).items())
        return f"{super().formatMessage(record)} {said}".rstrip()

    def format(self, record: logging.LogRecord) -> str:
        """All of it."""
        return self._redactor.text(super().format(record))


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and name != "data"}


def _word(value: Any) -> str:
    text = str(value)
    return repr(text) if " " in text or "=" in text else text


def _json(redactor: Redactor) -> logging.Formatter:
    from structlog import processors, stdlib

    def described(_logger: Any, _method: str, event: EventDict) -> EventDict:
        record: logging.LogRecord = event["_record"]
        return {
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            **_shown(context(record)),
            **event,
        }

    def redacted(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {name: redactor(value) for name, value in event.items()}

    return stdlib.ProcessorFormatter(
        foreign_pre_chain=[described, processors.TimeStamper(fmt="iso", utc=True)],
        processors=[
            stdlib.ProcessorFormatter.remove_processors_meta,
            processors.format_exc_info,
            redacted,
            processors.JSONRenderer(ensure_ascii=False),
        ],
    )
