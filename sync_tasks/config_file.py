"""The installation's configuration file: TOML with the names of `Settings`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, TomlConfigSettingsSource

from sync_tasks.errors import UsageError

HERE = Path("keyferry.toml")
SYSTEM = Path("/etc/keyferry/keyferry.toml")


def find(given: str | None) -> Path | None:
    """The file that counts: the one given, else ./keyferry.toml, else /etc/keyferry/keyferry.toml, else none.

    Raises:
        UsageError: the one given is not there.
    """
    if given:
        path = Path(given)
        if not path.is_file():
            raise UsageError(
                f"the configuration file {path} is not there",
                code="config-file",
                hint="KEYFERRY_CONFIG must name a TOML file",
            )
        return path
    return next((path for path in (HERE, SYSTEM) if path.is_file()), None)


class ConfigFile(TomlConfigSettingsSource):
    """A source of settings that refuses names it does not know.

    Raises:
        UsageError: the file cannot be read, is not TOML, or holds an unknown name.
    """

    def __init__(self, settings: type[BaseSettings], path: Path) -> None:
        try:
            super().__init__(settings, toml_file=path)
        except OSError as error:
            raise UsageError(
                f"cannot read {path}: {error.strerror}", code="config-file", hint="check the path and its permissions"
            ) from error
        except ValueError as error:  # of TOML, or of UTF-8
            raise UsageError(f"{path} is not TOML: {error}", code="config-file", hint="name = value lines") from None
        _check_names(self.toml_data, settings.model_fields, path)


def _check_names(table: dict[str, Any], known: Iterable[str], path: Path) -> None:
    for name in table:
        if name in known:
            continue
        import difflib

        from sync_tasks.spec import UNBUILT, TaskSpec

        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        if name in TaskSpec.model_fields or name in UNBUILT:
            hint = "that is a setting of a task: keep it in a file of another name, and give that with --config"
        elif near:
            hint = f"did you mean {near[0]}?"
        else:
            hint = "known are: " + ", ".join(sorted(known))
        raise UsageError(f"{path}: unknown setting {name}", code="unknown-setting", hint=hint)
