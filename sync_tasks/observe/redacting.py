"""What may stand in a log: secrets are known by their type, by the URL that they stand in, and by what is set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretBytes, SecretStr

from sync_tasks import broker_url
from sync_tasks.endpoints import Endpoint
from sync_tasks.secrets import SecretBox
from sync_tasks.settings import Settings

HIDDEN = "***"
SHORTEST = 3
"""Characters; a shorter secret would maim ordinary words, and gives nothing away."""
_USER = re.compile(r"(?<=://)\S*@")
_NAMED = re.compile(r"(?i)((?:pass|pwd|secret|token|signature|credential)[\w-]*=)[^&\s'\"]+")


class Redactor:
    """Makes values fit to be shown.

    Args:
        secrets: to be hidden wherever they stand.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({one for one in secrets if len(one) >= SHORTEST}, key=len, reverse=True)

    @classmethod
    def of(cls, settings: Settings) -> Redactor:
        """Of all that the settings hold."""
        values = [getattr(settings, name) for name in type(settings).model_fields]
        keys = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        # Of a broker several addresses may be given, each with a user of its own.
        given = [value for value in values if isinstance(value, str) and "://" in value]
        urls = [one for value in given for one in (value, *value.split(";"))]
        found = [*(part for key in keys for part in key.split()), *filter(None, map(_password, urls))]
        found += _of_sentinels(settings.broker_url)
        return cls([*found, *map(unquote, found)])

    def __repr__(self) -> str:
        return "Redactor()"

    def __call__(self, value: Any) -> Any:
        """The same without secrets: numbers as they are, containers item by item, all else as text."""
        if isinstance(value, SecretStr | SecretBytes | SecretBox):
            return HIDDEN
        if isinstance(value, Endpoint):
            return value.safe()
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self(key): self(found) for key, found in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self(found) for found in value]
        return self.text(str(value))

    def text(self, text: str) -> str:
        """Text without user parts of URLs, without what is named like a secret, and without what is known to be one."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return _NAMED.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def _of_sentinels(url: str | None) -> list[str]:
    """In a file that the broker's URL names: older versions of redis-py describe clients in errors by all they have."""
    path = None if url is None else broker_url.read(url).sentinel_password_file
    try:
        return [] if path is None else [Path(path).read_text(encoding="utf-8").partition("\n")[0]]
    except (OSError, UnicodeDecodeError):
        return []  # whoever opens a connection says what is wrong with it


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
