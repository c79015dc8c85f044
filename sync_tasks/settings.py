"""Settings of the installation; the only place that reads the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from sync_tasks.errors import Side


class Settings(BaseSettings):
    """Where state lives and how it is sealed; every field is also KEYFERRY_<NAME> in the environment."""

    model_config = SettingsConfigDict(env_prefix="KEYFERRY_", extra="ignore")

    state_dir: Path = Path(".keyferry")
    database_url: str | None = None
    broker_url: str | None = None
    secret_key: SecretStr | None = None
    source_password: SecretStr | None = None
    target_password: SecretStr | None = None
    require_core: bool = False  # refuse to run without the compiled core

    def database(self) -> str:
        """SQLAlchemy URL; by default a SQLite file in the state directory."""
        return self.database_url or f"sqlite:///{self.state_dir.absolute() / 'keyferry.db'}"

    def broker(self) -> str:
        """Celery broker URL; by default the embedded broker's unix socket in the state directory."""
        return self.broker_url or f"redis+socket://{self.state_dir.absolute() / 'broker.sock'}"

    @property
    def spool(self) -> Path:
        """Where chunks and logs live."""
        return self.state_dir.absolute() / "spool"

    def key(self) -> bytes | None:
        """The sealing key, if one is set."""
        return self.secret_key.get_secret_value().encode() if self.secret_key else None

    def password(self, side: Side) -> str | None:
        """The password of an endpoint that was given by the environment, if any."""
        given = {Side.SOURCE: self.source_password, Side.TARGET: self.target_password}.get(side)
        return given.get_secret_value() if given else None
