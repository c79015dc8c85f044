"""Settings of the installation; the only place that reads the environment."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sync_tasks import broker_url, config_file
from sync_tasks.errors import ControlError, Side, UsageError
from sync_tasks.observe.log_format import LogFormat

PREFIX = "KEYFERRY_"
FOUR_HOURS_S = 4 * 3600.0
GIB = 1 << 30
SUSPEND_BYTES = (1 << 20, 1 << 50)
"""Range of `suspend_bytes`: 1 MiB to 1 PiB."""


def _broker(url: str) -> str:
    # Celery would take an unknown scheme for a RabbitMQ's host, and try that for ever.
    try:
        broker_url.read(url)
    except UsageError as error:
        raise PydanticCustomError(error.code, "{what}", {"what": error.message, "hint": error.hint}) from None
    return url


def _http(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise PydanticCustomError("http", "it must begin with http:// or https://")
    return url


def _store(url: str) -> str:
    scheme, found, place = url.partition("://")
    if not scheme or not found or not place.strip("/"):
        raise PydanticCustomError("store", "it must be a URL that fsspec opens, such as s3://bucket/prefix")
    if ":" in place.rpartition("@")[0] or "?" in place:  # a secret may hold a slash
        raise PydanticCustomError("store", "credentials do not belong there: they come from the environment")
    return url


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise PydanticCustomError("address", "it must be an IPv4 or IPv6 address of this machine") from None


class Settings(BaseSettings):
    """Where state lives, how it is sealed, and how this machine takes part.

    Every field is also KEYFERRY_<NAME> in the environment, which counts more than the configuration file: the
    one that KEYFERRY_CONFIG names, else ./keyferry.toml, else /etc/keyferry/keyferry.toml.

    Raises:
        UsageError: a value is not allowed, or the file cannot be read or holds an unknown name.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")

    state_dir: Path = Field(Path(".keyferry"), description="holds everything that has no place of its own")
    database_url: str | None = Field(None, description="SQLite or PostgreSQL; left out: a file in the state directory")
    broker_url: Annotated[str, AfterValidator(_broker)] | None = Field(
        None,
        description="Redis, Valkey, those behind Sentinels, or RabbitMQ: see [deploy.md](deploy.md#brokers); left out: "
        "an embedded one in the state directory",
    )
    secret_key: SecretStr | None = Field(None, description="seals addresses; see `keyferry config new-key`")
    secret_key_file: Path | None = Field(None, description="a file that holds it")
    account: str | None = Field(None, description="whose tasks and instances are meant; left out: the installation's")
    token: SecretStr | None = Field(None, description="lets a client in as an account; see `keyferry token make`")
    spool_dir: Path | None = Field(None, description="chunks and logs; left out: `spool` in the state directory")
    spool_shared: bool = Field(False, description="every host sees the same files there")
    spool_url: Annotated[str, AfterValidator(_store)] | None = Field(
        None,
        description="chunks go to this object store, as s3://bucket/prefix; credentials come from the environment: "
        "see [deploy.md](deploy.md#spools)",
    )
    spool_encrypt: bool = Field(
        False, description="seal what is written to the spool and its object store, by a key made of `secret_key`"
    )
    # Of owners and nodes, so free of the characters that part those.
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] | None = Field(
        None, description="name of this machine in Flower; left out: what the machine says"
    )
    stream_shift_s: Annotated[float, Field(gt=0)] = Field(
        FOUR_HOURS_S, description="a stream job ends at a checkpoint after so long; another goes on"
    )
    suspend_bytes: Annotated[int, Field(ge=SUSPEND_BYTES[0], le=SUSPEND_BYTES[1])] = Field(
        GIB,
        description="so many bytes of a suspended task's stream, of each source node, are received to disk at most; "
        "1048576 (1 MiB) or more",
    )
    flower_address: str = Field(
        "127.0.0.1", description="where Flower listens; beyond this machine put a proxy with TLS before it"
    )
    flower_port: Annotated[int, Field(ge=0, le=65535)] = Field(5555, description="0: any that is free")
    flower_user: Annotated[str, Field(pattern=r"^[^:]+$")] = Field("keyferry", description="who may see Flower")
    flower_password: SecretStr | None = Field(None, description="left out: made once, in `flower.password`")
    log_format: LogFormat = Field(LogFormat.CONSOLE, description="console: for people, json: an object a line")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="where Prometheus scrapes this host, 0: any that is free; left out: `keyferry up` serves none"
    )
    metrics_address: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1", description="on which that listens, without a password; see [observe.md](observe.md)"
    )
    traces_endpoint: Annotated[str, AfterValidator(_http)] | None = Field(
        None, description="OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; left out: no traces are made"
    )
    source_password: SecretStr | None = Field(None, description="of a source, where a URL is given that has none")
    target_password: SecretStr | None = Field(None, description="of a target, likewise")
    require_core: bool = Field(False, description="refuse to run without the compiled core")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _explain(error) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        path = config_file.find(os.environ.get(f"{PREFIX}CONFIG"))
        if path is None:
            return init_settings, env_settings
        return init_settings, env_settings, config_file.ConfigFile(settings_cls, path)

    @classmethod
    def origins(cls) -> dict[str, str]:
        """Where each value comes from: "environment KEYFERRY_X", "file PATH" or "default". Raises UsageError."""
        path = config_file.find(os.environ.get(f"{PREFIX}CONFIG"))
        filed = config_file.ConfigFile(cls, path).toml_data if path is not None else {}
        given = {name.upper() for name, value in os.environ.items() if value}
        found = dict.fromkeys(cls.model_fields, "default")
        found |= dict.fromkeys(filed, f"file {path}")
        return found | {name: f"environment {_variable(name)}" for name in found if _variable(name) in given}

    def database(self) -> str:
        """SQLAlchemy URL; by default a SQLite file in the state directory."""
        return self.database_url or f"sqlite:///{self.state_dir.absolute() / 'keyferry.db'}"

    def broker(self) -> str:
        """Celery broker URL; by default the embedded broker's unix socket in the state directory."""
        return self.broker_url or f"redis+socket://{self.state_dir.absolute() / 'broker.sock'}"

    @property
    def spool(self) -> Path:
        """Where chunks and logs live."""
        return (self.spool_dir or self.state_dir / "spool").absolute()

    @property
    def hostname(self) -> str:
        """How this machine is called in owners of leases and in Flower."""
        return self.host or socket.gethostname()

    def key(self) -> bytes | None:
        """The sealing key, if one is set: itself, or in its file. Raises ControlError if that cannot be read."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value().encode()
        if self.secret_key_file is None:
            return None
        try:
            return self.secret_key_file.read_bytes().strip()
        except OSError as error:
            raise ControlError(
                f"cannot read the secret key file {self.secret_key_file}: {error.strerror}",
                code="secret-key",
                hint=f"{PREFIX}SECRET_KEY_FILE must name a file that this user may read",
            ) from error

    def suspend_limit(self, receive: bool, limit_bytes: int | None) -> int | None:
        """Bytes that a suspended task's stream may take on disk; None: it stops. Raises UsageError."""
        if not receive and limit_bytes is not None:
            raise UsageError("a stream that stops has no limit", hint="leave one of the two out", code="usage")
        if not receive:
            return None
        limit = self.suspend_bytes if limit_bytes is None else limit_bytes
        least, most = SUSPEND_BYTES
        if not least <= limit <= most:
            raise UsageError(
                f"a limit of {limit} bytes is out of range", hint=f"give {least} to {most}", code="setting-range"
            )
        return limit

    def password(self, side: Side) -> str | None:
        """The password of an endpoint that was given by the environment, if any."""
        given = {Side.SOURCE: self.source_password, Side.TARGET: self.target_password}.get(side)
        return given.get_secret_value() if given else None


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _explain(error: ValidationError) -> UsageError:
    """The first of pydantic's findings; the value itself may be a secret and is not shown."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    place = Settings.origins().get(name, "default")
    where = f"the setting {name}" if place == "default" else f"the setting {name} ({place})"
    hint = first.get("ctx", {}).get("hint")
    return UsageError(
        f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}",
        code=first["type"] if hint else "setting-range",
        hint=hint or "correct it there, or leave it out",
    )
